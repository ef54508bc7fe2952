//! A run that is interrupted ends everything that it started.
#![allow(clippy::disallowed_methods, reason = "only shipped code takes time as an argument")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tenfold::sys::process::with_variable;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_interrupted_run_leaves_no_process_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let results = tempfile::tempdir().expect("a directory");
        let mut bench = Command::new(env!("CARGO_BIN_EXE_tenfold-bench"))
            .args(["idle", "--peers", "cluster", "--rounds", "1000", "--results"])
            .arg(results.path())
            // Not what cargo told us: the bench must not build in the middle of tests.
            .env_remove("CARGO")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the bench starts");
        // A primary and its two workers.
        let mark = format!("{}.0", bench.id());
        wait_until("three processes", || with_variable("BENCH_RUN", &mark).len() >= 3);
        let pid = Pid::from_raw(i32::try_from(bench.id()).expect("a pid fits"));
        kill(pid, signal).expect("it lives");
        let status = ended(&mut bench);
        assert_eq!(status.code(), Some(1), "{signal}: {status}");
        assert_eq!(with_variable("BENCH_RUN", &mark), Vec::<i32>::new(), "{signal}");
    }
}

fn ended(child: &mut Child) -> std::process::ExitStatus {
    let mut status = None;
    wait_until("the end of the bench", || {
        status = child.try_wait().expect("it is ours");
        status.is_some()
    });
    status.expect("it was waited for")
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
