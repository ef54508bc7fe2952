//! Bodies in both directions: framed in either way, large, slow, refused, with trailers.

use std::io::ErrorKind;

use super::support::processes;
use super::{Echo, connect, echo, exchange, exchange_with, seen, send, wait_idle};

#[test]
fn upload_arrives_whole_in_either_framing() {
    let (_tenfold, port) = exchange();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\n";
    let sized = echo(port, &format!("{head}Content-Length: 5\r\n\r\nhello"));
    assert_eq!((sized.length, sized.body.as_str()), (5, "hello"));
    assert_eq!(sized.values("Content-Length"), ["5"]);
    let chunks = "2;name=value\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    let chunked = echo(port, &format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"));
    assert_eq!((chunked.length, chunked.body.as_str()), (5, "hello"));
    let empty = echo(port, &format!("{head}Content-Length: 0\r\n\r\n"));
    assert_eq!((empty.length, empty.values("Content-Length")), (0, vec!["0"]));
}

#[test]
fn request_follows_an_upload_on_the_same_connection() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let request = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\nGET /bytes?count=3 HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.send(request.as_bytes()).expect("room");
    let first: Echo = connection.receive().expect("the first").json().expect("an echo");
    assert_eq!(first.body, "hello");
    assert_eq!(connection.receive().expect("the second").text(), "xxx");
}

#[test]
fn trailers_pass_both_ways() {
    let (_tenfold, port) = exchange();
    let request = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                   Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n";
    assert_eq!(echo(port, request).raw_trailers, ["X-Sum", "5"]);
    let mut connection = connect(port);
    let request =
        b"GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n";
    connection.send(request).expect("room");
    let answer = connection.receive_rest().expect("a whole response");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("\r\nTrailer: X-Sum\r\n"), "{answer}");
    assert!(answer.ends_with("4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n"), "{answer}");
}

#[test]
fn large_upload_streams_through() {
    const MIB: usize = 32;
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let length = MIB << 20;
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    connection.send(head.as_bytes()).expect("room");
    for _ in 0..MIB {
        connection.send(&vec![b'u'; 1 << 20]).expect("the worker reads on");
    }
    let echo: Echo = connection.receive().expect("an answer").json().expect("an echo");
    assert_eq!(echo.length, length);
    assert_eq!(connection.get("/").expect("the connection is kept").status, 200);
}

#[test]
fn client_that_waits_for_100_gets_it_before_its_body() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    connection.send(head.as_bytes()).expect("room");
    assert_eq!(connection.receive().expect("an interim response").status, 100);
    connection.send(b"hello").expect("room");
    let echo: Echo = connection.receive().expect("the final one").json().expect("an echo");
    assert_eq!(echo.body, "hello");
    assert!(echo.values("Expect").is_empty(), "{echo:?}");
}

#[test]
fn worker_may_answer_before_the_body_has_come() {
    let (tenfold, port) = exchange();
    let mut connection = connect(port);
    let head = format!("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1 << 20);
    connection.send(head.as_bytes()).expect("room");
    connection.send(&vec![b'x'; 100 << 10]).expect("room");
    let response = connection.receive().expect("an early answer");
    assert_eq!(response.status, 200);
    // What the client still sends must not be taken for a request.
    assert_eq!(response.header("connection"), Some("close"));
    wait_idle(&tenfold);
}

#[test]
fn early_answer_reaches_a_client_that_reads_only_after_its_whole_upload() {
    const LENGTH: usize = 16 << 20;
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let head = format!("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
    connection.send(head.as_bytes()).expect("room");
    connection.send(&vec![b'x'; LENGTH]).expect("somebody reads it");
    assert_eq!(connection.receive().expect("the answer was not lost").status, 200);
}

#[test]
fn body_above_its_bound_is_refused_before_or_while_it_comes() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "limits.body_bytes=1KiB"]));
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\n";
    let announced = send(port, &format!("{head}Content-Length: 1025\r\n\r\n"));
    assert_eq!(announced.status, 413, "{}", announced.text());
    let chunk = "x".repeat(0x401);
    let found = send(port, &format!("{head}Transfer-Encoding: chunked\r\n\r\n401\r\n{chunk}\r\n"));
    assert_eq!(found.status, 413, "{}", found.text());
    assert_eq!(seen(port).requests, 0);
}

#[test]
fn slow_reader_of_a_page_frees_the_worker_at_once() {
    let (tenfold, port) = exchange();
    let mut slow = connect(port);
    let request = format!("GET /bytes?count={} HTTP/1.1\r\nHost: a\r\n\r\n", 1 << 20);
    slow.send(request.as_bytes()).expect("room");
    let (status, _) = slow.receive_head().expect("a head");
    assert_eq!(status, 200);
    // Its client has read nothing of the body, yet the worker is free.
    wait_idle(&tenfold);
    assert_eq!(connect(port).get("/").expect("others are served").status, 200);
    drop(slow);
}

#[test]
fn reader_that_is_too_slow_for_the_buffer_holds_the_worker_back() {
    let (tenfold, port) = exchange();
    let mut slow = connect(port);
    let length = 64 << 20;
    let request = format!("GET /bytes?count={length} HTTP/1.1\r\nHost: a\r\n\r\n");
    slow.send(request.as_bytes()).expect("room");
    let (status, _) = slow.receive_head().expect("a head");
    assert_eq!(status, 200);
    super::wait_in_flight(&tenfold, 1);
    let held = processes::counters(tenfold.pid()).rss_bytes;
    assert!(held < 64 << 20, "the master holds {held} bytes");
    let read = slow.receive_exactly(length).expect("the whole body");
    assert_eq!(read.len(), length);
    wait_idle(&tenfold);
}

#[test]
fn broken_chunks_are_answered_and_end_the_connection() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let request = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n";
    connection.send(request.as_bytes()).expect("room");
    let response = connection.receive().expect("an answer");
    assert_eq!((response.status, response.header("connection")), (400, Some("close")));
    let end = connection.receive().map(|it| it.status).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::UnexpectedEof));
    assert_eq!(seen(port).requests, 0);
}
