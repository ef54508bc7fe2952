//! Makes system calls of a running process fail, as a kernel short of something does (strace).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use super::{PATIENCE, processes, try_until};

/// The name of the thread that only masters have.
pub(crate) const REACTOR: &str = "reactor";

/// Every other call of one kind by one thread fails, until the end of this: what is tried again
/// comes through.
pub(crate) struct Faults {
    strace: Child,
    thread: i32,
    /// Which calls failed, a line each.
    notes: PathBuf,
}

impl Faults {
    /// Begins with the next call. A thread has one tracer at most.
    #[track_caller]
    pub(crate) fn begin(thread: i32, call: &str, error: &str, notes: &Path) -> Self {
        let inject = format!("inject={call}:error={error}:when=1+2");
        let mut strace = Command::new("strace")
            .args(["-p", &thread.to_string(), "-e", &format!("trace={call}"), "-e", &inject, "-o"])
            .arg(notes)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed");
        let mut said = BufReader::new(strace.stderr.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("strace says what it does");
        let faults = Self { strace, thread, notes: notes.to_owned() };
        assert!(line.contains("attached"), "strace cannot attach here: {line}");
        faults
    }

    /// How many calls had failed. The process is stopped for a moment.
    #[track_caller]
    pub(crate) fn end(mut self) -> usize {
        self.await_rest();
        let strace = i32::try_from(self.strace.id()).expect("a pid is an i32");
        processes::signal(strace, Signal::SIGTERM);
        let ended = try_until(PATIENCE, || self.strace.try_wait().ok().flatten());
        assert!(ended.is_some(), "strace did not end");
        processes::signal(self.thread, Signal::SIGCONT);
        self.lines().filter(|line| line.contains("(INJECTED)")).count()
    }

    /// Stops the process, so that its thread is in no call: one that strace left half way would
    /// fail in a way that no kernel has (ENOSYS).
    fn await_rest(&mut self) {
        processes::signal(self.thread, Signal::SIGSTOP);
        let rests = try_until(PATIENCE, || {
            let has_ended = self.strace.try_wait().ok().flatten().is_some();
            let last = self.lines().next_back();
            (has_ended || last.is_some_and(|it| it.contains("stopped by SIGSTOP"))).then_some(())
        });
        assert!(rests.is_some(), "thread {} does not stop", self.thread);
    }

    fn lines(&self) -> impl DoubleEndedIterator<Item = String> {
        let notes = std::fs::read_to_string(&self.notes).unwrap_or_default();
        notes.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // It has ended already, but in a test that failed.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}
