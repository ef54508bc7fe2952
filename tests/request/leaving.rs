//! Clients that leave: while they wait, while they are served, and before they ever ask.

use std::io::{Read, Write};
use std::net::Shutdown;

use socket2::SockRef;

use super::support::{PATIENCE, Tenfold, wait_until};
use super::{Connection, connect, exchange, exchange_with, raw, seen, wait_idle, wait_in_flight};

#[track_caller]
fn ask(port: u16, path: &str) -> Connection {
    let mut connection = connect(port);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("room");
    connection
}

#[track_caller]
fn wait_queue(tenfold: &Tenfold, length: u64) {
    tenfold.wait_status(PATIENCE, "the queue", |it| it.listeners[0].queue.length == length);
}

#[test]
fn client_gone_in_flight_frees_its_worker_and_tells_it() {
    let (tenfold, port) = exchange();
    let client = ask(port, "/hang");
    wait_in_flight(&tenfold, 1);
    drop(client);
    wait_idle(&tenfold);
    wait_until(PATIENCE, "the worker sees it", || (seen(port).aborted == 1).then_some(()));
}

#[test]
fn client_gone_in_the_middle_of_its_upload_frees_its_worker() {
    let (tenfold, port) = exchange();
    let mut client = connect(port);
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    client.send(head.as_bytes()).expect("room");
    client.send(&[b'x'; 100_000]).expect("room");
    wait_in_flight(&tenfold, 1);
    drop(client);
    wait_idle(&tenfold);
    wait_until(PATIENCE, "the worker sees it", || (seen(port).aborted == 1).then_some(()));
}

#[test]
fn client_gone_while_it_waits_leaves_the_queue_and_never_reaches_a_worker() {
    let (tenfold, port) =
        exchange_with(|it| it.args(["--limit", "1", "--queue", "10", "--queue-timeout", "30s"]));
    let held = ask(port, "/hang");
    wait_in_flight(&tenfold, 1);
    let waiting: Vec<Connection> = (0..10).map(|_| ask(port, "/")).collect();
    wait_queue(&tenfold, 10);
    drop(waiting);
    wait_queue(&tenfold, 0);
    drop(held);
    wait_idle(&tenfold);
    assert_eq!(seen(port).requests, 1, "the one that hung");
}

/// Whoever closes its side has left, whenever it does: the end of the stream is all that shows of
/// most clients who leave.
#[test]
fn half_closed_client_counts_as_gone() {
    let (tenfold, port) = exchange_with(|it| it.args(["--limit", "1", "--queue-timeout", "30s"]));
    let begin = || {
        let mut client = raw(port);
        client.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
        client
    };
    let (working, waiting) = (begin(), begin());
    wait_in_flight(&tenfold, 1);
    wait_queue(&tenfold, 1);
    for client in [&working, &waiting] {
        client.shutdown(Shutdown::Write).expect("it is connected");
    }
    wait_queue(&tenfold, 0);
    wait_idle(&tenfold);
    for mut client in [working, waiting] {
        assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0);
    }
}

#[test]
fn end_that_comes_along_with_the_request_counts_as_one_that_comes_later() {
    let (tenfold, port) = exchange();
    let before = seen(port);
    for _ in 0..20 {
        let mut client = raw(port);
        // Held back by the kernel until the end goes out, in the same segment.
        let request = b"GET /slow?ms=500 HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = SockRef::from(&client).send_with_flags(request, libc::MSG_MORE);
        assert_eq!(sent.expect("room"), request.len());
        client.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0, "it was answered");
    }
    wait_idle(&tenfold);
    wait_until(PATIENCE, "the worker sees it", || {
        let after = seen(port);
        (after.aborted - before.aborted == 20).then_some(())
    });
}

#[test]
fn connection_that_never_asks_is_closed_without_a_word() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "timeouts.header_read=200ms"]));
    let silent = connect(port).receive_rest().expect("an orderly end");
    assert_eq!(silent, b"");
}
