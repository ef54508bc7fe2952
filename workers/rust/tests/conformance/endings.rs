//! How a worker ends: by drain, and by losing its master.

use crate::checks::each;
use crate::master::{eventually, unread};
use crate::setup::Setup;

#[test]
fn drain_finishes_what_is_open_and_ends_with_zero() {
    each(Setup::default(), |master, speaks| {
        let mut handed = master.hand();
        speaks.begin(&mut handed.client);
        assert!(master.ack(handed.seq));
        eventually("the worker has read the first half", || unread(&handed.copy) == 0);
        drop(handed.copy);
        master.send(b"{\"type\":\"drain\"}\n");
        master.assert_stays();
        speaks.finish(&mut handed.client);
        drop(handed.client);
        let status = master.exit();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn connections_handed_before_drain_are_not_lost() {
    each(Setup::default(), |master, speaks| {
        let mut handed: Vec<_> = (0..8).map(|_| master.hand()).collect();
        handed.iter_mut().for_each(|one| speaks.begin(&mut one.client));
        master.send(b"{\"type\":\"drain\"}\n");
        for one in handed {
            let (seq, mut client) = (one.seq, one.client);
            assert!(master.ack(seq), "connection {seq} came before drain");
            drop(one.copy);
            speaks.finish(&mut client);
        }
        let status = master.exit();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn a_draining_worker_refuses_what_still_comes() {
    each(Setup::default(), |master, speaks| {
        let mut kept = master.hand();
        speaks.begin(&mut kept.client);
        assert!(master.ack(kept.seq));
        eventually("the worker has read the first half", || unread(&kept.copy) == 0);
        master.send(b"{\"type\":\"drain\"}\n");
        let late = master.hand();
        assert!(!master.ack(late.seq), "taken while draining");
        drop(kept.copy);
        speaks.finish(&mut kept.client);
        drop(kept.client);
        let status = master.exit();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn an_idle_worker_that_loses_its_master_ends_with_zero() {
    each(Setup::default(), |master, _| {
        master.hang_up();
        let status = master.exit();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn a_worker_that_loses_its_master_finishes_first() {
    each(Setup::default(), |master, speaks| {
        let mut handed = master.hand();
        speaks.begin(&mut handed.client);
        assert!(master.ack(handed.seq));
        eventually("the worker has read the first half", || unread(&handed.copy) == 0);
        drop(handed.copy);
        master.hang_up();
        master.assert_stays();
        speaks.finish(&mut handed.client);
        drop(handed.client);
        let status = master.exit();
        assert!(status.success(), "{status}");
    });
}
