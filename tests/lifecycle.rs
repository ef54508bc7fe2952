//! How a pool changes its size and how it ends: asked, hurried, or against its workers' will.

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;

use support::http::{self, Connection};
use support::pool::{in_connection_mode, node_pool};
use support::{PATIENCE, Tenfold, free_port, processes, wait_until};

fn begin_slow(tenfold: &Tenfold, port: u16, path: &str) -> Connection {
    let before = tenfold.status().expect("the master runs").accepted();
    let mut connection = Connection::open(port).expect("the master accepts");
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.send(head.as_bytes()).expect("the worker reads");
    tenfold.wait_status(PATIENCE, "a request at work", |status| {
        status.accepted() > before && status.workers.iter().any(|worker| worker.active > 0)
    });
    connection
}

#[test]
fn signals_and_scale_change_the_number_of_workers() {
    let (builder, port) = node_pool("http.js", 2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    tenfold.signal(Signal::SIGTTIN);
    tenfold.wait_ready(3);
    tenfold.signal(Signal::SIGTTOU);
    tenfold.wait_status(PATIENCE, "two workers", |status| status.workers.len() == 2);
    tenfold.signal(Signal::SIGTTOU);
    tenfold.wait_status(PATIENCE, "one worker", |status| status.workers.len() == 1);
    // The last one stays.
    tenfold.signal(Signal::SIGTTOU);
    let scaled = tenfold.cli(["scale", "3"]);
    assert_eq!((scaled.code, scaled.stdout.as_str()), (Some(0), "3 workers\n"));
    let slots: Vec<u16> = tenfold.wait_ready(3).workers.iter().map(|it| it.slot).collect();
    assert_eq!(slots, [0, 1, 2]);
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
}

#[test]
fn scaling_down_lets_a_worker_finish() {
    let (builder, port) = node_pool("http.js", 2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    let mut slow: Vec<Connection> =
        (0..2).map(|_| begin_slow(&tenfold, port, "/slow?ms=1500")).collect();
    tenfold.signal(Signal::SIGTTOU);
    tenfold.wait_status(PATIENCE, "one draining", |status| {
        status.workers.iter().any(|worker| worker.state == "draining")
    });
    for connection in &mut slow {
        assert_eq!(connection.receive().expect("each has its answer").status, 200);
    }
    tenfold.wait_status(PATIENCE, "one worker", |status| status.workers.len() == 1);
}

#[test]
fn term_lets_an_answer_finish() {
    let (builder, port) = node_pool("http.js", 2);
    let mut tenfold = builder.start();
    tenfold.wait_ready(2);
    let mut slow = begin_slow(&tenfold, port, "/slow?ms=1500");
    tenfold.signal(Signal::SIGTERM);
    wait_until(PATIENCE, "the listener's end", || Connection::open(port).is_err().then_some(()));
    assert_eq!(slow.receive().expect("the answer comes").status, 200);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    tenfold.wait_tree_gone(PATIENCE);
}

#[test]
fn second_term_ends_at_once() {
    let (builder, port) = node_pool("http.js", 2);
    let mut tenfold = builder.start();
    tenfold.wait_ready(2);
    let slow = begin_slow(&tenfold, port, "/slow?ms=60000");
    tenfold.signal(Signal::SIGTERM);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("draining 2; Ctrl-C or TERM again"));
    // For half a second the second is taken for an echo of the first.
    wait_until(Duration::from_secs(5), "the end", || {
        tenfold.signal(Signal::SIGTERM);
        (!processes::is_alive(tenfold.pid())).then_some(())
    });
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    tenfold.wait_tree_gone(PATIENCE);
    assert_eq!(slow.receive_rest().unwrap_or_default(), b"", "nobody finished the answer");
}

#[test]
fn workers_that_ignore_term_are_killed_in_time() {
    let (builder, _) = node_pool("ignore-term.js", 2);
    let mut tenfold = builder.args(["--set", "shutdown.total=5s"]).start();
    tenfold.wait_ready(2);
    tenfold.signal(Signal::SIGTERM);
    let status = tenfold.wait_exit(Duration::from_secs(7));
    assert_eq!(status.code(), Some(0));
    tenfold.wait_tree_gone(PATIENCE);
    let output = tenfold.output();
    assert!(output.contains("ignores SIGTERM"), "{output}");
    assert!(output.contains("worker has not ended; sending KILL"), "{output}");
}

#[derive(Deserialize)]
struct Orphan {
    orphan: i32,
}

#[test]
fn descendants_in_sessions_of_their_own_end_with_their_worker() {
    let (builder, port) = node_pool("double-fork.js", 1);
    let mut tenfold = builder.start();
    let worker = tenfold.wait_ready(1).pid_of(0);
    let orphan = || -> i32 {
        let response = http::get(port, "/").expect("it serves");
        response.json::<Orphan>().expect("the app says it").orphan
    };
    let first = orphan();
    assert!(processes::is_alive(first));
    processes::signal(worker, Signal::SIGKILL);
    wait_until(PATIENCE, "its orphan's end", || (!processes::is_alive(first)).then_some(()));
    tenfold.wait_status(PATIENCE, "the next worker", |status| {
        status.ready() == 1 && status.pid_of(0) != worker
    });
    let second = orphan();
    assert!(processes::is_alive(second));
    tenfold.signal(Signal::SIGTERM);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    assert!(!processes::is_alive(second), "it outlived the master");
}

#[test]
fn stop_command_ends_the_pool() {
    let (builder, _) = node_pool("http.js", 2);
    let mut tenfold = builder.start();
    tenfold.wait_ready(2);
    let stopped = tenfold.cli(["stop"]);
    assert_eq!((stopped.code, stopped.stderr.as_str()), (Some(0), ""));
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    assert!(!tenfold.control_socket().exists(), "the socket stays behind");
    tenfold.wait_tree_gone(PATIENCE);
}

#[test]
fn socket_of_a_killed_master_does_not_block_the_next() {
    let (builder, _) = node_pool("http.js", 1);
    let mut first = builder.start();
    first.wait_ready(1);
    first.kill9();
    first.wait_exit(PATIENCE);
    assert!(first.control_socket().exists(), "nobody was left to remove it");
    let listen = format!("127.0.0.1:{}", free_port());
    let run = first.dir().join("run");
    let demo = in_connection_mode(1).subcommand("demo").args(["--listen", &listen]);
    let second = demo.env("XDG_RUNTIME_DIR", run).start();
    let pid = wait_until(PATIENCE, "the second's status", || Some(first.status().ok()?.pid));
    assert_eq!(pid, second.pid());
}

#[test]
fn workers_run_as_another_user() {
    // Only root can choose; anybody else can name themselves.
    let (user, uid) = match nix::unistd::geteuid().as_raw() {
        0 => ("nobody".to_owned(), 65534),
        own => (own.to_string(), own),
    };
    let (builder, port) = node_pool("http.js", 2);
    let tenfold = builder.args(["--set", &format!("workers.user={user}")]).start();
    let status = tenfold.wait_ready(2);
    for slot in 0..2 {
        assert_eq!(processes::uid(status.pid_of(slot)), uid);
    }
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    // Only the preload counts requests.
    tenfold.wait_status(PATIENCE, "a counted request", |status| {
        status.workers.iter().any(|worker| worker.requests == 1)
    });
}
