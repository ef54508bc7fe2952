//! More requests than the workers may hold: a bounded queue, then answers of the master's own.

use std::time::{Duration, Instant};

use super::support::crowd::Crowd;
use super::support::pool::request_pool;
use super::support::{PATIENCE, Tenfold, http, wait_until};
use super::{Connection, connect, exchange_with, seen, wait_idle, wait_in_flight};

/// One worker that holds one request, which hangs, and a queue of two.
#[track_caller]
fn occupied(queue_timeout: &str, more: &[&str]) -> (Tenfold, u16, Connection) {
    let flags = ["--limit", "1", "--queue", "2", "--queue-timeout", queue_timeout];
    let (tenfold, port) = exchange_with(|it| it.args(flags).args(more));
    let held = ask(port, "/hang");
    wait_in_flight(&tenfold, 1);
    (tenfold, port, held)
}

#[track_caller]
fn ask(port: u16, path: &str) -> Connection {
    let mut connection = connect(port);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("room");
    connection
}

#[test]
fn as_many_may_wait_as_all_workers_hold_however_many_there_are() {
    let (tenfold, _) = exchange_with(|it| it.args(["--limit", "7"]));
    let max = |expected: u64| {
        tenfold.wait_status(PATIENCE, "another bound", |it| it.listeners[0].queue.max == expected);
    };
    max(7);
    assert_eq!(tenfold.cli(["scale", "3"]).code, Some(0));
    max(21);
    assert_eq!(tenfold.cli(["scale", "2"]).code, Some(0));
    max(14);
}

#[test]
fn full_queue_answers_503_and_keeps_the_connection() {
    let (tenfold, port, held) = occupied("30s", &[]);
    let mut waiting = [ask(port, "/"), ask(port, "/")];
    tenfold.wait_status(PATIENCE, "a full queue", |it| it.listeners[0].queue.length == 2);
    let mut late = connect(port);
    let mut advised = Vec::new();
    for _ in 0..40 {
        let response = late.get("/").expect("an answer at once");
        assert_eq!((response.status, response.header("connection")), (503, None));
        assert!(response.text().contains("(queue_full)"), "{}", response.text());
        let seconds = response.header("retry-after").and_then(|it| it.parse::<u32>().ok());
        advised.push(seconds.expect("it says when to return"));
    }
    advised.sort_unstable();
    assert!(advised.iter().all(|seconds| (1..=10).contains(seconds)), "{advised:?}");
    advised.dedup();
    assert!(advised.len() >= 3, "all return in step: {advised:?}");
    drop(held);
    for connection in &mut waiting {
        assert_eq!(connection.receive().expect("each has its turn").status, 200);
    }
    assert_eq!(late.get("/").expect("the connection was kept").status, 200);
    wait_idle(&tenfold);
    assert_eq!(tenfold.status().expect("it runs").total("shed"), 40);
}

#[test]
fn who_waits_for_too_long_is_told_when_the_time_is_up() {
    let (_tenfold, port, _held) = occupied("300ms", &[]);
    let started = Instant::now();
    let mut waiting = ask(port, "/");
    let response = waiting.receive().expect("an answer");
    let took = started.elapsed();
    assert!(response.text().contains("(queue_timeout)"), "{}", response.text());
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn configured_page_stands_in_for_the_text() {
    let page = tempfile::Builder::new().suffix(".html").tempfile().expect("a file");
    std::fs::write(page.path(), "<p>busy").expect("it is ours");
    let page_path = format!("shed.page={}", page.path().display());
    let flags = ["--set", &page_path, "--set", "shed.status=200"];
    let (tenfold, port, _held) = occupied("30s", &flags);
    let _waiting = [ask(port, "/"), ask(port, "/")];
    tenfold.wait_status(PATIENCE, "a full queue", |it| it.listeners[0].queue.length == 2);
    let response = connect(port).get("/").expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (200, "<p>busy"));
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn request_that_is_shed_never_reaches_a_worker_and_its_body_is_not_taken_for_one() {
    let (tenfold, port, held) = occupied("30s", &[]);
    let waiting = [ask(port, "/"), ask(port, "/")];
    tenfold.wait_status(PATIENCE, "a full queue", |it| it.listeners[0].queue.length == 2);
    let mut late = connect(port);
    let request = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n";
    late.send(request.as_bytes()).expect("room");
    late.send(&[b'x'; 100_000]).expect("room");
    let response = late.receive().expect("an answer");
    // Its body is not read to the end, so the connection cannot be kept.
    assert_eq!((response.status, response.header("connection")), (503, Some("close")));
    // Those first: or they would have their turn when it comes.
    drop(waiting);
    drop(held);
    wait_idle(&tenfold);
    assert_eq!(seen(port).requests, 1, "the one that hung");
}

#[test]
fn requests_wait_for_workers_that_take_fewer_connections_than_their_limit() {
    let (builder, port) = request_pool("max-connections.js", 4);
    let tenfold = builder.args(["--queue-timeout", "25s"]).start();
    tenfold.wait_ready(4);
    let crowd = Crowd { port, path: "/slow?ms=100", clients: 50, requests: 100 };
    let (load, answers) = tenfold.load_during(|| crowd.ask_all());
    assert_eq!(answers.len(), crowd.requests);
    // One that tries without end uses all of one.
    assert!(load < 0.5, "the master used {:.1} % of a CPU", load * 100.0);
}

#[test]
fn public_health_is_answered_while_every_worker_is_full() {
    let flags = ["--set", "health.public=[\"/healthz\"]"];
    let (tenfold, port, _held) = occupied("30s", &flags);
    let mut probe = connect(port);
    for _ in 0..2 {
        let answer = probe.get("/healthz").expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ready 1/1\n"));
    }
    // All who can be asked say the same.
    let control = tenfold.control_socket();
    for path in ["/readyz", "/startupz"] {
        let answer = http::get(control.as_path(), path).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ready 1/1\n"), "{path}");
    }
    for probe in ["ready", "startup"] {
        let told = tenfold.cli(["health", probe]);
        assert_eq!((told.code, told.stdout.as_str()), (Some(0), "ready 1/1\n"), "{probe}");
    }
    assert_eq!(tenfold.cli(["scale", "2"]).code, Some(0));
    tenfold.wait_ready(2);
    wait_until(PATIENCE, "the news", || {
        (probe.get("/healthz").expect("an answer").text() == "ready 2/2\n").then_some(())
    });
}
