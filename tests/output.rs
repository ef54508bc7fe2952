//! What workers print comes through whole, and a reader that does not read stops nobody.

mod support;

use std::time::Duration;

use support::crowd::Crowd;
use support::pool::node_pool;
use support::{PATIENCE, wait_until};

#[test]
fn lines_of_a_loud_worker_arrive_whole() {
    const LINES: usize = 100_000;
    let (builder, port) = node_pool("loud.js", 1);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let path = format!("/print?lines={LINES}&bytes=80");
    Crowd { port, path: &path, clients: 1, requests: 1 }.ask_all();
    wait_until(PATIENCE, "all lines", || (tenfold.line_count() >= LINES).then_some(()));
    let line = "x".repeat(80);
    let output = tenfold.output();
    let (printed, others): (Vec<&str>, Vec<&str>) = output.lines().partition(|it| *it == line);
    assert_eq!(printed.len(), LINES, "others: {:?}", others.first());
    assert!(others.iter().all(|line| line.starts_with("{\"timestamp\"")), "a line was cut");
    let status = tenfold.status().expect("the master runs");
    assert_eq!(status.total("dropped_log_lines"), 0);
}

#[test]
fn stuck_reader_costs_lines_and_no_request() {
    let (builder, port) = node_pool("loud.js", 2);
    let tenfold = builder.stuck_stdout().start();
    tenfold.wait_ready(2);
    let loud = Crowd { port, path: "/print?lines=20000&bytes=80", clients: 4, requests: 8 };
    loud.ask_all();
    let status = tenfold
        .wait_status(PATIENCE, "dropped lines", |status| status.total("dropped_log_lines") > 0);
    assert!(status.total("dropped_log_lines") <= 160_000, "{status:?}");
    for outcome in (Crowd { port, path: "/", clients: 4, requests: 40 }).ask() {
        assert!(outcome.answer.is_ok() && outcome.took < Duration::from_secs(2), "{outcome:?}");
    }
}
