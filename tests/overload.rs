//! What happens when there is more than the workers can take: it waits in the master, bounded, and
//! nobody who could be served does.

mod support;

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

use support::crowd::{Crowd, Outcome};
use support::http::{self, Connection};
use support::pool::{command_pool, demo_pool, node_pool};
use support::{Builder, PATIENCE, Status, Tenfold, processes, try_until};

const WORKERS: usize = 4;

/// A pool whose queue waits for as long as a busy machine needs for thousands of connections.
fn patient_pool(app: &str) -> (Builder, u16) {
    let (builder, port) = node_pool(app, WORKERS);
    (builder.args(["--queue-timeout", "1m"]), port)
}

/// Sends a request and leaves its answer for later.
fn begin(port: u16, path: &str) -> Connection {
    let mut connection = Connection::open(port).expect("the master accepts");
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.send(head.as_bytes()).expect("the kernel has room");
    connection
}

#[test]
fn only_the_window_waits_for_a_blocked_worker() {
    const CONNECTIONS: usize = 5000;
    const WINDOW: usize = 8;
    let (builder, port) = patient_pool("http.js");
    // A stopped worker is sent its window however long that takes.
    let unjudged = ["--set", "workers.stall=off", "--set", "workers.hang=off"];
    let tenfold = builder.args(unjudged).start();
    let blocked = tenfold.wait_ready(WORKERS).pid_of(1);
    processes::signal(blocked, Signal::SIGSTOP);
    let crowd = Crowd { port, path: "/", clients: CONNECTIONS, requests: CONNECTIONS };
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| crowd.ask_all());
        tenfold.wait_status(PATIENCE, "all others answered", |status| {
            status.total("taken") == (CONNECTIONS - WINDOW) as u64
        });
        processes::signal(blocked, Signal::SIGCONT);
        asking.join().expect("each has its answer")
    });
    let waited = answers.iter().filter(|who| who.pid == blocked).count();
    assert_eq!(waited, WINDOW, "answered by the blocked worker");
}

#[test]
fn blocked_event_loop_costs_no_connection() {
    let (builder, port) = patient_pool("block.js");
    let tenfold = builder.start();
    tenfold.wait_ready(WORKERS);
    let mut blocking = begin(port, "/block?ms=2000");
    let status = tenfold.wait_status(PATIENCE, "who is blocked", |status| status.accepted() == 1);
    let blocked = status.workers.iter().find(|it| it.accepted == 1).expect("one took it").slot;
    let most = std::thread::scope(|scope| {
        let crowd = Crowd { port, path: "/", clients: 5000, requests: 5000 };
        let asking = scope.spawn(move || crowd.ask_all());
        let most = most_unacked(&tenfold, blocked);
        asking.join().expect("each has its answer");
        most
    });
    assert_eq!(most, 8, "un-acked at the blocked worker");
    assert_eq!(blocking.receive().expect("it answers at last").status, 200);
}

/// Looks at one worker until it has taken its second connection; the most it was sent un-acked.
fn most_unacked(tenfold: &Tenfold, slot: u16) -> u64 {
    let mut most = 0;
    try_until(PATIENCE, || {
        let status = tenfold.status().ok()?;
        most = most.max(status.worker_in(slot).unacked);
        (status.worker_in(slot).accepted > 1).then_some(())
    });
    most
}

#[test]
fn slow_reader_does_not_freeze_its_worker() {
    const MIB: usize = 64;
    let (builder, port) = node_pool("big-answer.js", 1);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let mut slow = begin(port, &format!("/big?mib={MIB}"));
    let (status, headers) = slow.receive_head().expect("the answer begins");
    assert_eq!(status, 200, "{headers:?}");
    let outcomes = Crowd { port, path: "/", clients: 4, requests: 40 }.ask();
    for outcome in &outcomes {
        assert!(outcome.answer.is_ok() && outcome.took < Duration::from_secs(2), "{outcome:?}");
    }
    let rest = slow.receive_rest().expect("the answer ends");
    assert!(rest.len() >= MIB << 20, "only {} bytes came", rest.len());
}

/// 50 clients over 4 workers that refuse their third connection.
#[track_caller]
fn check_refusals_do_not_spin((builder, port): (Builder, u16)) {
    let tenfold = builder.start();
    tenfold.wait_ready(WORKERS);
    let crowd = Crowd { port, path: "/slow?ms=600", clients: 50, requests: 60 };
    let (load, answers) = tenfold.load_during(|| crowd.ask_all());
    assert_eq!(answers.len(), crowd.requests);
    // A master that asks again and again takes a whole CPU; a busy machine makes few calls dear.
    assert!(load < 0.25, "the master used {:.1} % of a CPU", load * 100.0);
}

#[test]
fn refusals_of_full_workers_do_not_spin() {
    check_refusals_do_not_spin(node_pool("max-connections.js", WORKERS));
}

#[test]
fn refusals_of_full_workers_do_not_spin_without_the_preload() {
    let (builder, port) = node_pool("max-connections.js", WORKERS);
    check_refusals_do_not_spin((builder.args(["--set", "workers.preload=false"]), port));
}

/// One worker that takes one connection, and a queue of five.
fn narrow_pool(queue_timeout: &str) -> (Builder, u16) {
    let (builder, port) = node_pool("http.js", 1);
    let flags = ["--queue", "5", "--queue-timeout", queue_timeout];
    (builder.args(flags).args(["--set", "workers.max_connections=1"]), port)
}

/// Begins an answer that takes two seconds, which is all that a narrow pool can do.
fn occupy(tenfold: &Tenfold, port: u16) -> Connection {
    tenfold.wait_ready(1);
    let held = begin(port, "/slow?ms=2000");
    tenfold.wait_status(PATIENCE, "one taken", |status| status.accepted() == 1);
    held
}

/// Five wait in vain, the rest is turned away at once.
#[track_caller]
fn check_queue_timeout((builder, port): (Builder, u16), is_turned_away: fn(&Outcome) -> bool) {
    let tenfold = builder.start();
    let mut held = occupy(&tenfold, port);
    let outcomes = Crowd { port, path: "/", clients: 20, requests: 20 }.ask();
    assert!(outcomes.iter().all(is_turned_away), "{outcomes:?}");
    let waited = outcomes.iter().filter(|it| it.took >= Duration::from_millis(300)).count();
    assert!(waited >= 5, "only {waited} waited for their turn: {outcomes:?}");
    let status = tenfold.status().expect("the master runs");
    assert_eq!((status.total("shed"), status.total("taken")), (20, 1), "{status:?}");
    assert_eq!(held.receive().expect("the first is answered").status, 200);
    // There is room again.
    assert_eq!(http::get(port, "/").expect("the pool recovers").status, 200);
}

#[test]
fn who_waited_for_too_long_is_reset() {
    check_queue_timeout(narrow_pool("300ms"), |outcome| {
        let kind = outcome.answer.as_ref().map_err(io::Error::kind).map(drop);
        kind == Err(io::ErrorKind::ConnectionReset)
    });
}

#[test]
fn who_waited_for_too_long_gets_a_503_where_the_protocol_is_http() {
    let (builder, port) = narrow_pool("300ms");
    let builder = builder.args(["--set", "listen.protocol=http"]);
    check_queue_timeout((builder, port), |outcome| {
        let error = outcome.answer.as_ref().map_err(ToString::to_string).map(drop);
        error.is_err_and(|text| text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"))
    });
}

#[test]
fn full_queue_turns_away_and_serves_who_is_in_it() {
    let (builder, port) = narrow_pool("30s");
    let tenfold = builder.start();
    let mut held = occupy(&tenfold, port);
    let mut waiting: Vec<Connection> = (0..5).map(|_| begin(port, "/")).collect();
    tenfold.wait_status(PATIENCE, "a full queue", |status| {
        let queue = &status.listeners[0].queue;
        (queue.length, queue.max) == (5, 5)
    });
    let outcomes = Crowd { port, path: "/", clients: 7, requests: 7 }.ask();
    assert!(outcomes.iter().all(|outcome| outcome.answer.is_err()), "{outcomes:?}");
    assert_eq!(held.receive().expect("the first is answered").status, 200);
    for connection in &mut waiting {
        assert_eq!(connection.receive().expect("each has its turn").status, 200);
    }
    let status = tenfold.wait_status(PATIENCE, "quiet", Status::is_quiet);
    assert_eq!((status.total("shed"), status.total("taken")), (7, 6), "{status:?}");
    assert_eq!(status.listeners[0].queue.length, 0, "{status:?}");
}

#[test]
fn waiters_are_served_in_time_when_room_comes() {
    let (builder, port) = node_pool("http.js", 1);
    let tenfold = builder.args(["--set", "workers.max_connections=1"]).start();
    tenfold.wait_ready(1);
    let crowd = Crowd { port, path: "/slow?ms=10", clients: 50, requests: 50 };
    // One after the other, so the last waits for half a second of work, and for nothing else.
    for outcome in crowd.ask() {
        assert!(outcome.answer.is_ok() && outcome.took < Duration::from_secs(5), "{outcome:?}");
    }
}

#[test]
fn waiters_are_served_when_a_full_window_was_the_whole_room() {
    let (builder, port) = node_pool("http.js", 1);
    let tenfold = builder.args(["--set", "workers.max_connections=8"]).start();
    let worker = tenfold.wait_ready(1).pid_of(0);
    processes::signal(worker, Signal::SIGSTOP);
    // Nobody comes after the sixteenth, so nothing but the worker's word can move the queue.
    let crowd = Crowd { port, path: "/slow?ms=100", clients: 16, requests: 16 };
    let outcomes = std::thread::scope(|scope| {
        let asking = scope.spawn(|| crowd.ask());
        tenfold.wait_status(PATIENCE, "8 sent and 8 waiting", |status| {
            (status.worker_in(0).unacked, status.listeners[0].queue.length) == (8, 8)
        });
        processes::signal(worker, Signal::SIGCONT);
        asking.join().expect("clients do not panic")
    });
    for outcome in outcomes {
        assert!(outcome.answer.is_ok() && outcome.took < Duration::from_secs(5), "{outcome:?}");
    }
}

#[test]
fn master_out_of_descriptors_waits_and_recovers() {
    let (builder, port) = node_pool("http.js", 1);
    let tenfold = builder
        .through(["prlimit", "--nofile=128:128"])
        .args(["--queue", "1000", "--queue-timeout", "25s"])
        .args(["--set", "workers.max_connections=5"])
        .start();
    tenfold.wait_ready(1);
    let crowd = Crowd { port, path: "/slow?ms=100", clients: 200, requests: 200 };
    let (load, answers) = tenfold.load_during(|| crowd.ask_all());
    assert_eq!(answers.len(), crowd.requests);
    assert!(load < 0.10, "the master used {:.1} % of a CPU", load * 100.0);
    tenfold.wait_for_line(PATIENCE, |line| {
        line.contains("cannot accept, trying again every 50 ms")
            && line.contains("out of resources: Too many open files (os error 24)")
    });
    // A crash while they are scarce is survived too: descriptors of the dead one come back.
    processes::signal(tenfold.status().expect("it answers").pid_of(0), Signal::SIGKILL);
    assert_eq!(http::get(port, "/").expect("the new worker answers").status, 200);
}

#[test]
fn too_few_descriptors_for_any_worker_end_the_start() {
    let (builder, _) = node_pool("http.js", 1);
    let finished = builder.through(["prlimit", "--nofile=100:100"]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let why = "the hard limit on open files is 100; tenfold needs at least 128";
    assert!(finished.stderr.contains(why), "{finished:?}");
}

#[test]
fn worker_out_of_descriptors_is_not_pressed() {
    let (builder, port) = command_pool(["sh", "-c", "ulimit -n 40 && exec node apps/http.js"], 1);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let crowd = Crowd { port, path: "/slow?ms=500", clients: 60, requests: 60 };
    let (load, answers) = tenfold.load_during(|| crowd.ask_all());
    assert_eq!(answers.len(), crowd.requests);
    assert!(load < 0.10, "the master used {:.1} % of a CPU", load * 100.0);
}

#[test]
fn bound_of_clients_that_has_no_effect_is_told_of() {
    let (builder, _) = demo_pool(1);
    let tenfold = builder.args(["--set", "listen.max_connections=5"]).start();
    tenfold.wait_ready(1);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("listen.max_connections"));
}
