//! What a person does to single workers: replaces them and waits, signals them.

use nix::sys::signal::Signal;

use crate::support::http;
use crate::support::pool::{command_pool, demo_pool, request_pool};
use crate::support::{Builder, PATIENCE, Tenfold, free_port, processes};

/// A server that crashes at its start if there is a file `broken`, and tells of USR2.
const SERVER: &str = "
const fs = require('fs');
if (fs.existsSync('broken')) throw new Error('this release is broken');
process.on('SIGUSR2', () => console.log('heard USR2'));
require('http').createServer((_, response) => response.end('ok')).listen(process.env.APP_PORT);
";

fn server_pool(workers: usize, command: &[&str]) -> (Builder, u16) {
    let port = free_port();
    let builder = Tenfold::builder().node(22).env("APP_PORT", port.to_string());
    let work = builder.dir().join("work");
    std::fs::write(work.join("server.js"), SERVER).expect("the directory is ours");
    (builder.cwd(work).args(["--workers", &workers.to_string()]).app(command), port)
}

fn ids(tenfold: &Tenfold) -> Vec<u64> {
    let status = tenfold.status().expect("the master runs");
    status.workers.iter().map(|worker| worker.id).collect()
}

#[test]
fn recycle_that_waits_ends_when_every_slot_has_a_new_worker() {
    let (builder, _) = demo_pool(2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    assert_eq!(ids(&tenfold), [1, 2]);
    let recycled = tenfold.cli(["recycle", "all", "--wait"]);
    assert!(recycled.stdout.starts_with("recycled 2 of 2, after "), "{recycled:?}");
    assert_eq!(recycled.code, Some(0));
    let status = tenfold.status().expect("the master runs");
    let fresh = status.workers.iter().filter(|it| it.id > 2 && it.state == "ready").count();
    assert_eq!(fresh, 2, "{status:#?}");
    assert_eq!(tenfold.cli(["drain", "1"]).code, Some(0));
    tenfold.wait_ready(1);
    // A slot that stood empty has one again.
    let recycled = tenfold.cli(["recycle", "1", "--wait"]);
    assert!(recycled.stdout.starts_with("recycled 1 of 1"), "{recycled:?}");
    let refused = tenfold.cli(["recycle", "2", "--wait"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("there is no slot 2, only 0 to 1"), "{refused:?}");
}

#[test]
fn recycle_that_waits_tells_why_a_new_worker_did_not_come() {
    let (builder, port) = server_pool(1, &["node", "server.js"]);
    let broken = builder.dir().join("work/broken");
    let tenfold = builder.start();
    let before = tenfold.wait_ready(1).pid_of(0);
    std::fs::write(&broken, "").expect("the directory is ours");
    let failed = tenfold.cli(["recycle", "0", "--wait"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.starts_with("recycled 0 of 1: worker 2 in slot 0: exit 1"), "{failed:?}");
    assert!(failed.stdout.contains("this release is broken"), "{failed:?}");
    assert!(processes::is_alive(before), "the old worker goes on");
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    std::fs::remove_file(&broken).expect("it is there");
    let recycled = tenfold.cli(["recycle", "0", "--wait"]);
    assert_eq!(recycled.code, Some(0), "{recycled:?}");
}

#[test]
fn signal_reaches_the_process_that_serves_and_not_its_shell() {
    let (builder, _) = server_pool(1, &["sh", "-c", "node server.js; exit 3"]);
    let tenfold = builder.start();
    let shell = tenfold.wait_ready(1).pid_of(0);
    let events = tenfold.events();
    for name in ["USR2", "sigusr2", &(Signal::SIGUSR2 as i32).to_string()] {
        let lines = tenfold.line_count();
        let sent = tenfold.cli(["signal", "0", name]);
        assert_eq!(sent.code, Some(0), "{sent:?}");
        assert!(sent.stdout.starts_with("SIGUSR2 sent to process "), "{sent:?}");
        assert!(!sent.stdout.contains(&format!("process {shell} ")), "{sent:?}");
        tenfold.wait_for_line_after(lines, PATIENCE, |line| line.contains("heard USR2"));
    }
    events.wait("worker_signalled", |event| event["signal"] == "SIGUSR2");
    assert!(processes::is_alive(shell));
    let sent = tenfold.cli(["signal", "--group", "0", "KILL"]);
    assert_eq!(sent.stdout, format!("SIGKILL sent to group {shell} of slot 0\n"), "{sent:?}");
    events.wait("worker_exited", |event| event["pid"] == shell);
    events.wait("worker_ready", |event| event["slot"] == 0);
}

#[test]
fn signal_refuses_what_is_not_there_and_says_what_is() {
    let (builder, _) = demo_pool(2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    let refused = tenfold.cli(["signal", "2", "USR2"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("there is no slot 2, only 0 to 1"), "{refused:?}");
    for name in ["HUPP", "0", "64", "-1", ""] {
        let refused = tenfold.cli(["signal", "0", "--", name]);
        assert_eq!(refused.code, Some(78), "{refused:?}");
    }
    assert_eq!(tenfold.cli(["drain", "1"]).code, Some(0));
    tenfold.wait_ready(1);
    tenfold.wait_status(PATIENCE, "an empty slot", |it| it.worker_in(1).state == "drained");
    let refused = tenfold.cli(["signal", "1", "USR2"]);
    assert!(refused.stderr.contains("slot 1 has no worker now"), "{refused:?}");
}

/// A request that outlasts every patience of a stop.
#[track_caller]
fn busy_pool() -> (Tenfold, http::Connection) {
    let (builder, port) = request_pool("http.js", 1);
    let tenfold = builder.args(["--set", "shutdown.total=1h"]).start();
    tenfold.wait_ready(1);
    let mut slow = http::Connection::open(port).expect("it accepts");
    let request = b"GET /slow?ms=600000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    slow.send(request).expect("it reads");
    tenfold.wait_status(PATIENCE, "a request", |it| it.worker_in(0).in_flight == 1);
    (tenfold, slow)
}

/// Waits for the end of a pool that was told to stop now.
#[track_caller]
fn wait_hurried(mut tenfold: Tenfold, slow: http::Connection) {
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    tenfold.wait_tree_gone(PATIENCE);
    let output = tenfold.output();
    assert!(output.contains("stopping: sending TERM"), "{output}");
    assert!(!output.contains("draining 1"), "{output}");
    drop(slow);
}

#[test]
fn stop_now_waits_for_no_request() {
    let (tenfold, slow) = busy_pool();
    let stopped = tenfold.cli(["stop", "--now"]);
    assert_eq!((stopped.code, stopped.stderr.as_str()), (Some(0), ""));
    wait_hurried(tenfold, slow);
}

#[test]
fn quit_is_a_stop_that_waits_for_no_request() {
    let (tenfold, slow) = busy_pool();
    tenfold.signal(Signal::SIGQUIT);
    wait_hurried(tenfold, slow);
}

#[test]
fn quit_hurries_a_stop_that_has_begun_a_moment_ago() {
    let (mut tenfold, slow) = busy_pool();
    tenfold.signal(Signal::SIGTERM);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("draining 1"));
    tenfold.signal(Signal::SIGQUIT);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    drop(slow);
}

#[test]
fn usr1_finds_no_log_file_to_reopen() {
    let (builder, port) = command_pool(["node", "apps/http.js"], 1);
    let tenfold = builder.start();
    let before = tenfold.wait_ready(1).pid_of(0);
    tenfold.signal(Signal::SIGUSR1);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("nothing to reopen"));
    assert_eq!(tenfold.status().expect("the master runs").pid_of(0), before);
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
}
