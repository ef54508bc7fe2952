//! Who gets nothing for a while although it lives, and when that ends.

use super::super::*;
use super::table::Do::*;
use super::table::check;
use crate::policy::Duty;

#[test]
fn stalled_worker_gets_nothing_until_it_beats_again() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 1), ""),
        (Stall(1, Stalled::Yes), ""),
        (Admit(1, 1), "t1>w2"),
        (Admit(1, 2), "queued"),
        (Stall(1, Stalled::No), "t2>w1"),
    ]);
}

#[test]
fn ejected_worker_gets_nothing_until_its_time_is_over() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 1), ""),
        (Eject(1, 300), ""),
        (Admit(1, 1), "t1>w2"),
        (Admit(1, 2), "queued"),
        (Deadline, "300"),
        (At(299), ""),
        (Expire, ""),
        (At(300), ""),
        (Expire, "t2>w1"),
    ]);
}

#[test]
fn when_more_than_half_are_out_all_get_work_those_in_order_first() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 1), ""),
        (Join(3, 2), ""),
        (Stall(1, Stalled::Yes), ""),
        (Admit(1, 1), "t1>w2"),
        (Admit(1, 2), "t2>w3"),
        (Eject(2, 900), ""),
        (Admit(1, 3), "t3>w3"),
        (Admit(1, 4), "t4>w1"),
        (Release(2), ""),
        (Admit(1, 5), "t5>w2"),
        (Admit(1, 6), "queued"),
        // One of three is no more than half.
        (At(900), ""),
        (Expire, ""),
        (Release(1), ""),
        (Release(3), "t6>w3"),
    ]);
}

#[test]
fn a_worker_alone_is_never_out() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 2), ""),
        (Stall(1, Stalled::Yes), ""),
        (Admit(1, 1), "t1>w1"),
    ]);
}

#[test]
fn spare_gets_nothing_until_it_is_to_serve_and_then_what_waits() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Add(2, 1), ""),
        (Assign(2, Duty::Spare), ""),
        (Ready(2), ""),
        (Serve(2, 1), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "queued"),
        (OpenStream(1, Wish::Only(WorkerId(2))), "w1"),
        (Assign(2, Duty::Serve), "t2>w2"),
    ]);
}

#[test]
fn worker_that_becomes_a_spare_keeps_what_it_holds_and_others_serve_who_waited_for_it() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 2), ""),
        (AdmitAs(1, 1, Wish::Only(WorkerId(1))), "t1>w1"),
        (AdmitAs(1, 2, Wish::Only(WorkerId(1))), "queued"),
        (Assign(1, Duty::Spare), "t2>w2"),
        (Counts(1), "1/0/0"),
        (Release(1), ""),
        (Admit(1, 3), "t3>w2"),
        (Admit(1, 4), "queued"),
    ]);
}

#[test]
fn spares_do_not_count_among_those_of_whom_half_may_be_out() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 1), ""),
        (Assign(2, Duty::Spare), ""),
        // The only one that serves: without a panic the pool would stand still.
        (Stall(1, Stalled::Yes), ""),
        (Admit(1, 1), "t1>w1"),
    ]);
}
