//! What every worker must do, one test per sentence of docs/PROTOCOL.md, over all targets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::master::{Master, eventually, unread};
use crate::setup::Setup;
use crate::target::{PATIENCE, Speaks, targets};

/// Runs a check on a fresh worker of each target.
pub(crate) fn each(setup: Setup, check: impl Fn(&mut Master, Speaks)) {
    for target in targets() {
        eprintln!("worker: {}", target.command.join(" "));
        let mut master = Master::start(&target, setup);
        check(&mut master, target.speaks);
    }
}

#[test]
fn ready_comes_first_and_after_the_token() {
    for target in targets() {
        let mut master = Master::spawn(&target, Setup::default());
        let first = master.next().expect("a message before the channel ends");
        assert_eq!(first["type"], "ready", "{first}");
        assert!(first["sdk"].as_str().is_some_and(|sdk| sdk.contains('/')), "{first}");
        assert!(master.token_is_taken(), "{:?} left the token", target.command);
    }
}

#[test]
fn connections_of_every_listener_are_acknowledged_in_order_and_served() {
    each(Setup::default(), |master, speaks| {
        let mut handed: Vec<_> = (0..8).map(|_| master.hand()).collect();
        for one in &handed {
            assert!(master.ack(one.seq), "connection {} is refused", one.seq);
        }
        for one in handed.iter_mut().rev() {
            speaks.exchange(&mut one.client);
        }
    });
}

#[test]
fn a_socket_is_not_read_before_its_ack_is_sent() {
    let setup = Setup { small_buffer: true, ..Setup::default() };
    each(setup, |master, speaks| {
        let mut handed = Vec::new();
        for _ in 0..64 {
            let (mut client, copy) = master.connect();
            speaks.begin(&mut client);
            let seq = master.hand_descriptors(&[copy.as_fd()]);
            handed.push((seq, client, copy));
        }
        let mut acknowledged = 0;
        let deadline = Instant::now() + PATIENCE;
        while acknowledged < 64 {
            assert!(Instant::now() < deadline, "only {acknowledged} of 64 acks came");
            let is_read = |(seq, _, copy): &&(u64, _, TcpStream)| *seq > 0 && unread(copy) == 0;
            let read = handed.iter().filter(is_read).map(|&(seq, ..)| seq).max().unwrap_or(0);
            // Whatever was acknowledged before that look is here by now.
            for message in master.sent_so_far() {
                if message["type"] == "ack" {
                    acknowledged += 1;
                    assert_eq!(message["seq"], acknowledged, "out of order: {message}");
                }
            }
            assert!(read <= acknowledged, "{read} was read, {acknowledged} is the last ack");
            std::thread::yield_now();
        }
        for (_, client, _) in &mut handed {
            speaks.finish(client);
        }
    });
}

#[test]
fn load_is_absolute_and_follows_every_change() {
    each(Setup::default(), |master, speaks| {
        let mut clients: Vec<_> = (0..3).map(|_| master.hand_accepted()).collect();
        master.load(3, 3, 0);
        for client in &mut clients {
            speaks.exchange(client);
        }
        clients.pop();
        master.load(3, 2, 0);
        clients.clear();
        let load = master.load(3, 0, 0);
        assert!(load["lag_ms"].is_u64(), "{load}");
    });
}

#[test]
fn load_is_repeated_while_nothing_changes() {
    each(Setup::default(), |master, _| {
        master.load(0, 0, 0);
        let first = Instant::now();
        master.load(0, 0, 0);
        master.load(0, 0, 0);
        let elapsed = first.elapsed();
        assert!((1.0..4.0).contains(&elapsed.as_secs_f64()), "two beats took {elapsed:?}");
    });
}

#[test]
fn a_full_worker_refuses_and_takes_the_connection_later() {
    let setup = Setup { max_connections: Some(2), ..Setup::default() };
    each(setup, |master, speaks| {
        let (first, mut second) = (master.hand_accepted(), master.hand_accepted());
        let mut third = master.hand();
        assert!(!master.ack(third.seq), "the third is over the bound");
        master.load(3, 2, 0);
        drop(first);
        master.load(3, 1, 0);
        // The same socket again: refusing it must not have touched it.
        let again = master.hand_descriptors(&[third.copy.as_fd()]);
        assert!(master.ack(again), "there is room now");
        speaks.exchange(&mut third.client);
        speaks.exchange(&mut second);
    });
}

#[test]
fn pressure_and_messages_from_the_future_change_nothing() {
    each(Setup::default(), |master, speaks| {
        for line in ODD_LINES {
            master.send(line);
        }
        let mut client = master.hand_accepted();
        speaks.exchange(&mut client);
    });
}

const ODD_LINES: &[&[u8]] = &[
    b"{\"type\":\"pressure\",\"level\":1}\n",
    b"{\"type\":\"pressure\",\"level\":255}\n",
    b"{\"type\":\"pressure\",\"level\":\"high\"}\n",
    b"{\"type\":\"pressure\"}\n",
    b"{\"type\":\"news\",\"seq\":1}\n",
    b"{\"type\":[]}\n{}\n[]\n7\nnull\n\"ready\"\n\n",
    b"{\"type\":\"conn\"\n}\n\xff\xfe\x00\x01\n{{{{{{{{\n",
    b"{\"type\":\"conn\",\"seq\":\"one\",\"listener\":\"main\"}\n",
];

#[test]
fn an_over_long_line_is_skipped() {
    each(Setup::default(), |master, speaks| {
        for length in [64 * 1024 + 1, 1 << 20] {
            let padding = "x".repeat(length);
            let line = format!("{{\"type\":\"drain\",\"x\":\"{padding}\"}}\n");
            master.send(line.as_bytes());
            let mut client = master.hand_accepted();
            speaks.exchange(&mut client);
        }
    });
}

#[test]
fn a_message_in_pieces_keeps_its_socket() {
    each(Setup::default(), |master, speaks| {
        for cut in [1, 20] {
            let (mut client, copy) = master.connect();
            let line = master.conn_line();
            let (head, tail) = line.split_at(cut);
            master.send(b"{\"type\":\"news\"}\n");
            master.send_with(head.as_bytes(), &[copy.as_fd()]);
            // A whole beat, so that the worker has read the first piece alone.
            master.next_of("load");
            master.next_of("load");
            let other = master.connect();
            master.send(tail.as_bytes());
            let next = master.hand_descriptors(&[other.1.as_fd()]);
            assert!(master.ack(next - 1) && master.ack(next));
            let mut other = other.0;
            speaks.exchange(&mut client);
            speaks.exchange(&mut other);
        }
    });
}

#[test]
fn strange_descriptors_are_refused_and_none_stays_open() {
    each(Setup::default(), |master, speaks| {
        // Once around, so that what a runtime opens lazily is open.
        speaks.exchange(&mut master.hand_accepted());
        master.load(1, 0, 0);
        let baseline = master.descriptors();
        let (one, two) = UnixStream::pair().expect("a socket pair");
        let (pipe, _writer) = std::io::pipe().expect("a pipe");
        let given = [one.as_fd(), two.as_fd()];
        let bad: [&[_]; 3] = [&[], &given, &[pipe.as_fd()]];
        for _ in 0..10 {
            for descriptors in bad {
                let seq = master.hand_descriptors(descriptors);
                assert!(!master.ack(seq), "accepted with {} descriptors", descriptors.len());
            }
            for line in ODD_LINES {
                master.send_with(line, &given);
            }
            speaks.exchange(&mut master.hand_accepted());
        }
        eventually("as many descriptors as before", || master.descriptors() == baseline);
    });
}

#[test]
fn clients_that_leave_or_say_nothing_hold_up_nobody() {
    each(Setup::default(), |master, speaks| {
        let mut silent = master.hand_accepted();
        for _ in 0..4 {
            let (client, copy) = master.connect();
            // Unread data makes the close a reset.
            (&copy).write_all(b"x").expect("one byte fits");
            drop(client);
            let seq = master.hand_descriptors(&[copy.as_fd()]);
            master.ack(seq);
        }
        let mut client = master.hand_accepted();
        speaks.exchange(&mut client);
        speaks.exchange(&mut silent);
    });
}

#[test]
fn a_connection_is_really_closed_with_its_last_byte() {
    each(Setup::default(), |master, speaks| {
        let mut client = master.hand_accepted();
        speaks.exchange(&mut client);
        client.shutdown(std::net::Shutdown::Write).expect("half a close");
        let rest = client.read(&mut [0; 16]).expect("the end of the stream");
        assert_eq!(rest, 0, "no worker keeps a copy");
    });
}

#[test]
fn a_unix_stream_socket_is_served_as_well() {
    each(Setup::default(), |master, speaks| {
        let (mut client, copy) = UnixStream::pair().expect("a socket pair");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        copy.set_nonblocking(true).expect("a flag");
        let seq = master.hand_descriptors(&[copy.as_fd()]);
        drop(copy);
        assert!(master.ack(seq));
        speaks.exchange(&mut client);
    });
}
