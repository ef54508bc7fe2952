//! Clients that leave: while they wait, while they are served, and before they ever ask.

use std::io::Write;
use std::net::Shutdown;

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

#[test]
fn half_closed_client_counts_as_gone() {
    let (tenfold, port) = exchange();
    let mut client = raw(port);
    client.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    wait_in_flight(&tenfold, 1);
    client.shutdown(Shutdown::Write).expect("it is connected");
    wait_idle(&tenfold);
}

#[test]
fn connection_that_never_asks_is_closed_without_a_word() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "timeouts.header_read=200ms"]));
    let silent = connect(port).receive_rest().expect("an orderly end");
    assert_eq!(silent, b"");
}
