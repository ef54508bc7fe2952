//! What a worker may say on NOTIFY_SOCKET, and when it counts as ready.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::support::{PATIENCE, Tenfold, processes};
use crate::{ask, in_python, service};

#[test]
fn what_a_worker_says_of_itself_is_shown() {
    let tenfold = service(&["STATUS=42 routes", "WATCHDOG=1"]).args(["-n", "1"]).start();
    // It never says READY=1: its first answer does.
    let status = tenfold.wait_status(PATIENCE, "a ready worker that has spoken", |status| {
        status.ready() == 1 && status.workers[0].watchdog_age_ms.is_some()
    });
    assert_eq!(status.workers[0].status.as_deref(), Some("42 routes"));
}

#[test]
fn a_barrier_is_lifted_once_it_is_read() {
    let tenfold = service(&[]).args(["-n", "1"]).start();
    let status = tenfold.wait_ready(1);
    assert_eq!(ask(&status.workers[0], "/barrier")["released"], true);
}

/// Says something on the NOTIFY_SOCKET of its first argument, and ends when its input does.
const STRANGER: &str = "import socket, sys
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.sendto(b'STATUS=forged', chr(0) + sys.argv[1])
print('sent', flush=True)
sys.stdin.read()";

/// Lets a process that is no child of the worker speak, and returns the worker's status after it
/// was heard.
#[track_caller]
fn status_after(tenfold: &Tenfold, mut stranger: Command) -> Option<String> {
    let status = tenfold.status().expect("the master runs");
    let address = processes::environment_of(status.pid_of(0), "NOTIFY_SOCKET");
    let address = address.expect("it has one");
    let name = address.strip_prefix('@').expect("it is abstract");
    stranger.args(["-c", STRANGER, name]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stranger = stranger.spawn().expect("python3 runs");
    let mut said = String::new();
    let stdout = stranger.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut said).expect("its output");
    assert_eq!(said, "sent\n", "anybody may send");
    // The worker's barrier comes after it, and is lifted after all before it was read; until then
    // the stranger lives, so that what is known of it can be looked at.
    assert_eq!(ask(&status.workers[0], "/barrier")["released"], true);
    drop(stranger.stdin.take());
    stranger.wait().expect("our child");
    tenfold.status().expect("the master runs").workers[0].status.clone()
}

#[test]
fn a_strangers_words_count_for_nothing() {
    let tenfold = service(&["STATUS=its own"]).args(["-n", "1"]).start();
    let status = tenfold.wait_ready(1);
    let (worker, pid) = (status.workers[0].id.to_string(), status.pid_of(0));
    let instance = processes::environment_of(pid, "TENFOLD_INSTANCE").expect("it has one");
    let stranger = || Command::new("python3");
    assert_eq!(status_after(&tenfold, stranger()).as_deref(), Some("its own"));
    // A worker of another tenfold has the same number, and is somebody else's.
    let mut other = stranger();
    other.env("TENFOLD_WORKER", &worker).env("TENFOLD_INSTANCE", "0".repeat(32));
    assert_eq!(status_after(&tenfold, other).as_deref(), Some("its own"));
    // Only root can be another user for a moment.
    if nix::unistd::geteuid().is_root() {
        let mut nobody = stranger();
        nobody.env("TENFOLD_WORKER", &worker).env("TENFOLD_INSTANCE", &instance).uid(65_534);
        assert_eq!(status_after(&tenfold, nobody).as_deref(), Some("its own"));
    }
    // One of its own that has left its group and its parent is known by its environment.
    let mut escaped = stranger();
    escaped.env("TENFOLD_WORKER", &worker).env("TENFOLD_INSTANCE", &instance);
    assert_eq!(status_after(&tenfold, escaped).as_deref(), Some("forged"));
}

#[test]
fn a_notice_that_cannot_be_taken_whole_makes_nobody_deaf() {
    let tenfold = service(&["STATUS=its own"]).args(["-n", "1"]).start();
    let status = tenfold.wait_ready(1);
    // Room for fewer descriptors than come with each message.
    let limit = |soft: String| {
        let master = tenfold.pid().to_string();
        let limited = Command::new("prlimit").args(["--pid", &master, &soft]).status();
        assert!(limited.expect("prlimit runs").success());
    };
    let before = processes::counters(tenfold.pid()).fds;
    limit(format!("--nofile={}:", before + 2));
    for _ in 0..3 {
        assert_eq!(ask(&status.workers[0], "/flood")["released"], true);
    }
    limit("--nofile=1024:".to_owned());
    assert_eq!(ask(&status.workers[0], "/barrier")["released"], true);
    assert!(processes::counters(tenfold.pid()).fds <= before + 2, "descriptors are left open");
}

#[test]
fn a_worker_that_says_it_stops_and_does_not_is_replaced() {
    let tenfold = service(&[]).args(["-n", "1"]).start();
    let status = tenfold.wait_ready(1);
    ask(&status.workers[0], "/stopping");
    let next = tenfold.wait_status(PATIENCE, "another worker", |next| {
        next.ready() == 1 && next.workers[0].id != status.workers[0].id
    });
    assert_eq!(next.workers[0].restarts, 1);
    assert!(!processes::is_alive(status.pid_of(0)));
}

#[test]
fn a_configured_path_is_the_only_proof() {
    // Any status will do: the fixture's file server has no such file.
    let tenfold = in_python()
        .args(["-n", "1", "--set", "workers.ready_path=/no-such-file"])
        .app(["python3", "-m", "http.server", "{port}", "--bind", "127.0.0.1"])
        .start();
    tenfold.wait_ready(1);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("GET /no-such-file"));
}

/// Listens on its port and answers nothing.
const SILENT: &str = "import os, signal, socket
s = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))
print('listening', flush=True)
signal.pause()";

#[test]
fn a_worker_that_accepts_and_answers_nothing_is_ready_only_without_a_path() {
    let silent = || in_python().args(["-n", "1", "--set", "workers.start_timeout=5s"]);
    let accepting = silent().app(["python3", "-c", SILENT]).start();
    accepting.wait_ready(1);
    let finished =
        silent().args(["--set", "workers.ready_path=/"]).app(["python3", "-c", SILENT]).run();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stdout.contains("listening"), "{}", finished.stdout);
    assert!(finished.stderr.contains("was ready within workers.start_timeout"));
}

#[test]
fn a_slow_start_gets_the_time_it_asks_for() {
    let start = |words: &[&str]| -> Tenfold {
        service(words).args(["-n", "1", "--set", "workers.start_timeout=4s"]).start()
    };
    let patient = start(&["EXTEND_TIMEOUT_USEC=60000000", "slow:6", "READY=1"]);
    let mut impatient = start(&["slow:6", "READY=1"]);
    patient.wait_ready(1);
    assert_eq!(impatient.wait_exit(PATIENCE).code(), Some(1));
}
