//! `tenfold events`: every transition, in order, for as long as somebody reads.

use std::io::{BufRead, BufReader};

use nix::sys::signal::Signal;
use serde_json::Value;
use tenfold::supervisor::events::EVENTS;

use crate::support::http::{self, Connection};
use crate::support::pool::{demo_pool, node_pool};
use crate::support::{PATIENCE, processes};

/// The names of the events about one worker.
fn of_worker(events: &[Value], worker: &Value) -> Vec<String> {
    let its = events.iter().filter(|event| event["worker"] == *worker);
    its.map(|event| event["event"].as_str().expect("it has a name").to_owned()).collect()
}

#[test]
fn every_step_of_a_pools_life_is_streamed_in_order() {
    let (builder, _) = node_pool("http.js", 1);
    let mut tenfold = builder.start();
    let first = tenfold.wait_ready(1);
    let events = tenfold.events();
    let greeting = events.wait("connected", |_| true);
    assert_eq!((&greeting["name"], &greeting["phase"]), (&"test".into(), &"running".into()));
    assert_eq!(greeting["pid"], tenfold.pid());
    assert_eq!(tenfold.cli(["scale", "2"]).code, Some(0));
    events.wait("scaled", |event| (&event["from"], &event["to"]) == (&1.into(), &2.into()));
    let second = events.wait("worker_ready", |event| event["slot"] == 1)["worker"].clone();
    processes::signal(first.pid_of(0), Signal::SIGKILL);
    let exited = events.wait("worker_exited", |event| event["slot"] == 0);
    assert_eq!((&exited["exit"], &exited["asked"]), (&"signal 9".into(), &false.into()));
    assert_eq!(exited["pid"], first.pid_of(0));
    let crashed = events.wait("worker_crashed", |_| true);
    assert_eq!((&crashed["worker"], &crashed["failures"]), (&exited["worker"], &1.into()));
    events.wait("worker_ready", |event| event["slot"] == 0);
    tenfold.signal(Signal::SIGTERM);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    let (code, all) = events.wait_end();
    assert_eq!(code, Some(0));
    let its = ["worker_started", "worker_ready", "worker_draining", "worker_exited"];
    let found: Vec<String> =
        of_worker(&all, &second).into_iter().filter(|name| name != "worker_stopping").collect();
    assert_eq!(found, its);
    let phases = all.iter().filter(|event| event["event"] == "phase");
    let phases: Vec<&Value> = phases.map(|event| &event["phase"]).collect();
    assert_eq!(phases, ["stopping", "finished"]);
    let last = all.last().expect("there are some");
    assert_eq!((&last["event"], &last["reason"]), (&"finished".into(), &"stopped".into()));
    for event in &all {
        assert!(EVENTS.iter().any(|(name, _, _)| event["event"] == *name), "{event}");
    }
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody() {
    let (builder, port) = demo_pool(1);
    let mut tenfold = builder.start();
    tenfold.wait_ready(1);
    let mut stuck = Connection::open(tenfold.control_socket().as_path()).expect("it is up");
    stuck.send(b"GET /events HTTP/1.1\r\nHost: tenfold\r\n\r\n").expect("it reads");
    let (status, _) = stuck.receive_head().expect("it answers");
    assert_eq!(status, 200);
    let events = tenfold.events();
    for count in [2, 1, 2] {
        assert_eq!(tenfold.cli(["scale", &count.to_string()]).code, Some(0));
        events.wait("scaled", |event| event["to"] == count);
    }
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    tenfold.signal(Signal::SIGTERM);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn events_for_people_are_lines_of_words_and_a_killed_master_is_an_error() {
    let (builder, _) = demo_pool(1);
    let mut tenfold = builder.start();
    tenfold.wait_ready(1);
    let mut follower = tenfold.spawn_cli(["events"]);
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let mut line = || lines.next().expect("one more line").expect("it can be read");
    let connected = line();
    let pid = format!(" pid={} ", tenfold.pid());
    assert!(connected.contains(" connected ") && connected.contains(&pid), "{connected}");
    assert_eq!(tenfold.cli(["scale", "2"]).code, Some(0));
    let scaled = line();
    assert!(scaled.ends_with(" scaled from=1 to=2"), "{scaled}");
    tenfold.kill9();
    tenfold.wait_exit(PATIENCE);
    for rest in lines.by_ref() {
        rest.expect("it can be read");
    }
    assert_eq!(follower.wait().expect("it is our child").code(), Some(1));
}
