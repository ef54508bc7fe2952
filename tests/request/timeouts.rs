//! Every wait of an exchange ends, with the status and the reason of that wait.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::support::http::{self, Response};
use super::support::{PATIENCE, wait_until};
use super::{connect, exchange_with, raw, seen, wait_idle};

#[track_caller]
fn check(response: &Response, status: u16, reason: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    assert!(response.text().contains(&format!("({reason})")), "{}", response.text());
}

/// Sends a byte whenever the master has said nothing for a while; what it says at last.
#[track_caller]
fn trickle(mut client: TcpStream) -> String {
    client.set_read_timeout(Some(Duration::from_millis(50))).expect("it is not zero");
    let mut answer = [0; 1000];
    loop {
        match client.read(&mut answer) {
            Ok(count) => return String::from_utf8_lossy(&answer[..count]).into_owned(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                client.write_all(b"x").expect("the master reads");
            }
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

#[test]
fn slow_head_gets_a_408_however_often_a_byte_comes() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "timeouts.header_read=400ms"]));
    let mut client = raw(port);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").expect("room");
    let started = Instant::now();
    let answer = trickle(client);
    let took = started.elapsed();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("(header_timeout)"), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(seen(port).requests, 0);
}

#[test]
fn head_that_begins_like_http2_has_no_more_time_than_others() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "timeouts.header_read=3s"]));
    let begin = |letter: &[u8]| {
        let mut client = raw(port);
        client.write_all(letter).expect("room");
        client
    };
    let answered = |mut client: TcpStream| {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer and the end");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        Instant::now()
    };
    let (like_http2, other) = (begin(b"P"), begin(b"G"));
    let first = answered(other);
    let apart = answered(like_http2) - first;
    assert!(apart < Duration::from_millis(1500), "{apart:?}");
}

#[test]
fn body_that_stops_gets_a_408_before_and_after_a_worker_has_it() {
    let flags = ["--set", "timeouts.body_idle=300ms", "--set", "limits.request_buffer=1KiB"];
    let (tenfold, port) = exchange_with(|it| it.args(flags));
    for sent in [100, 10_000] {
        let mut client = connect(port);
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
        client.send(head.as_bytes()).expect("room");
        client.send(&vec![b'x'; sent]).expect("room");
        check(&client.receive().expect("an answer"), 408, "body_timeout");
    }
    wait_idle(&tenfold);
}

#[test]
fn worker_that_does_not_answer_costs_a_504() {
    let (tenfold, port) = exchange_with(|it| it.args(["--set", "timeouts.response_head=300ms"]));
    let mut client = connect(port);
    check(&client.get("/hang").expect("an answer"), 504, "response_timeout");
    wait_idle(&tenfold);
    assert_eq!(client.get("/").expect("the connection is kept").status, 200);
}

#[test]
fn response_that_stops_is_cut_off() {
    let (tenfold, port) = exchange_with(|it| it.args(["--set", "timeouts.response_idle=300ms"]));
    let mut client = connect(port);
    let end = client.get("/stall").map(|it| it.text()).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::UnexpectedEof), "a length was promised and not kept");
    wait_idle(&tenfold);
}

#[test]
fn client_that_reads_nothing_is_cut_off_and_told_apart_from_a_worker_that_stops() {
    let patience = ["--admin", "127.0.0.1:0", "--set", "timeouts.response_idle=300ms"];
    // Held back by the client, and read ahead of it until the worker is free.
    let held = ["--set", "limits.response_buffer=64KiB"];
    let ahead = ["--set", "limits.response_buffer=64MiB"];
    for buffer in [held, ahead] {
        let (tenfold, port) = exchange_with(|it| it.args(patience).args(buffer));
        let admin = tenfold.wait_ready(1).admin_port();
        let mut client = raw(port);
        // More than the kernel holds for a connection.
        let request = format!("GET /bytes?count={} HTTP/1.1\r\nHost: a\r\n\r\n", 48 << 20);
        client.write_all(request.as_bytes()).expect("room");
        let slow = "tenfold_request_failures_total{kind=\"timeout\",reason=\"client_slow\"} 1\n";
        let page = wait_until(PATIENCE, "its end", || {
            let page = http::get(admin, "/metrics").ok()?.text();
            page.contains(slow).then_some(page)
        });
        assert!(!page.contains("reason=\"response_idle\"} 1"), "{page}");
        assert!(!page.contains("reason=\"client_gone\"} 1"), "{page}");
        wait_idle(&tenfold);
        drop(client);
    }
}

#[test]
fn events_may_be_silent_for_longer_than_any_other_response() {
    let flags = ["--set", "timeouts.response_idle=200ms", "--set", "timeouts.response_head=300ms"];
    let (_tenfold, port) = exchange_with(|it| it.args(flags));
    let mut events = raw(port);
    events.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    let mut text = Vec::new();
    while !text.ends_with(b"\n\n\r\n") {
        let mut byte = [0];
        events.read_exact(&mut byte).expect("the first event");
        text.extend(byte);
    }
    // Another request's patience ends later than that of the stream would.
    assert_eq!(connect(port).get("/hang").expect("an answer").status, 504);
    events.set_nonblocking(true).expect("it is a socket");
    let more = events.read(&mut [0; 100]).map_err(|error| error.kind());
    assert_eq!(more, Err(ErrorKind::WouldBlock), "the stream was ended");
}

#[test]
fn idle_connection_is_closed_after_keep_alive() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "timeouts.keep_alive=1s"]));
    let mut patient = connect(port);
    let asked = patient.get("/patient?seconds=600").expect("an answer");
    assert_eq!(asked.status, 200);
    let mut brief = connect(port);
    assert_eq!(brief.get("/patient?seconds=1").expect("an answer").status, 200);
    assert_eq!(brief.receive_rest().expect("an orderly end"), b"");
    assert_eq!(patient.get("/").expect("it is still open").status, 200);
}
