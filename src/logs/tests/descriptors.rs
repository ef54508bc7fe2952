//! The log thread leaves no descriptor and no thread behind, and sleeps while its reader is stuck.

use std::env;
use std::fs;
use std::io::Write;
use std::process::Command;

use nix::pty::openpty;
use nix::sys::resource::{UsageWho, getrusage};

use super::*;

const ALONE: &str = "TENFOLD_TEST_ALONE";

/// Runs `body` in a process of its own, where no other test opens, runs or burns anything.
fn alone(test: &str, body: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        body();
        return;
    }
    let output = Command::new(env::current_exe().expect("the test binary"))
        .args(["--exact", test, "--test-threads=1", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("the test binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "no test is named {test}");
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).expect("/proc is mounted").count()
}

#[test]
fn nothing_is_left_open_after_crashes_and_shutdown() {
    alone("logs::tests::descriptors::nothing_is_left_open_after_crashes_and_shutdown", || {
        let open = || (count("/proc/self/fd"), count("/proc/self/task"));
        let before = open();
        let Rig { logs, handle, stdout, stderr } = Rig::usual(LineStyle::Text, WorkerOutput::Auto);
        let mut running = open();
        for worker in 0..200 {
            let (out, mut err) = attach(&handle, worker, 0);
            err.write_all(b"panic\n").expect("write");
            drop((out, err));
            let words = handle.finish(WorkerId(worker)).blocking_recv();
            assert_eq!(words.expect("the thread runs").stderr, ["panic"]);
            if worker == 0 {
                running = open();
            }
            assert_eq!(open(), running, "after worker {worker}");
        }
        let (_out, _err) = attach(&handle, 999, 0);
        assert_eq!(logs.shutdown(soon()), Ending::Joined);
        drop((handle, stdout, stderr, _out, _err));
        assert_eq!(open(), before);
    });
}

#[test]
fn orphaned_pipes_are_bounded() {
    alone("logs::tests::descriptors::orphaned_pipes_are_bounded", || {
        let Rig { logs, handle, .. } = Rig::usual(LineStyle::Text, WorkerOutput::Auto);
        let before = count("/proc/self/fd");
        let mut grandchildren = Vec::new();
        for worker in 0..100 {
            grandchildren.push(attach(&handle, worker, 0));
            let words = handle.finish(WorkerId(worker)).blocking_recv();
            assert!(words.is_ok());
        }
        assert_eq!(count("/proc/self/fd"), before + 2 * grandchildren.len() + 64);
        logs.shutdown(soon());
    });
}

#[test]
fn a_stuck_terminal_is_not_waited_for_in_a_busy_loop() {
    alone("logs::tests::descriptors::a_stuck_terminal_is_not_waited_for_in_a_busy_loop", || {
        // What the last bytes of the terminal's buffer can hold differs with the length.
        for length in 1..8 {
            let pty = openpty(None, None).expect("pty");
            let stderr = pty.slave.try_clone().expect("dup");
            let (logs, handle) =
                start(pty.slave, stderr, LineStyle::Text, WorkerOutput::Auto, PATIENCE);
            let line = "x".repeat(length);
            for _ in 0..50_000 {
                handle.print(&line);
            }
            let spent = || {
                let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage");
                let (user, system) = (usage.user_time(), usage.system_time());
                user.tv_sec() * 1000
                    + user.tv_usec() / 1000
                    + system.tv_sec() * 1000
                    + system.tv_usec() / 1000
            };
            // Shutdown cannot write and waits for its deadline: 300 ms of being stuck.
            let before = spent();
            assert_eq!(logs.shutdown(Instant::now() + Duration::from_millis(300)), Ending::Joined);
            assert!(spent() - before < 100, "{} ms of CPU time", spent() - before);
            drop(pty.master);
        }
    });
}
