//! The log thread with real pipes, terminals and sockets.

mod delivery;
mod descriptors;
mod stuck;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::*;

/// Bounds every wait for an event; reached only by a failure.
const BOUND: Duration = Duration::from_secs(20);

/// A log thread whose outputs are pipes.
struct Rig {
    logs: Logs,
    handle: LogHandle,
    stdout: File,
    stderr: File,
}

impl Rig {
    /// Loses nothing as long as its reader comes back within [`BOUND`].
    fn patient(style: LineStyle, workers: WorkerOutput) -> Self {
        Self::new(style, workers, BOUND)
    }

    /// As tenfold runs it.
    fn usual(style: LineStyle, workers: WorkerOutput) -> Self {
        Self::new(style, workers, PATIENCE)
    }

    fn new(style: LineStyle, workers: WorkerOutput, patience: Duration) -> Self {
        let (stdout, stdout_end) = pipe();
        let (stderr, stderr_end) = pipe();
        let (logs, handle) = start(stdout_end, stderr_end, style, workers, patience);
        Self { logs, handle, stdout, stderr }
    }

    /// Reads both outputs to their end in the background.
    fn collect(self) -> (Logs, LogHandle, Collector, Collector) {
        let (stdout, stderr) = (Collector::new(self.stdout), Collector::new(self.stderr));
        (self.logs, self.handle, stdout, stderr)
    }
}

fn start(
    stdout: OwnedFd,
    stderr: OwnedFd,
    style: LineStyle,
    workers: WorkerOutput,
    patience: Duration,
) -> (Logs, LogHandle) {
    let settings = LogSettings { stdout, stderr, style, workers, patience };
    Logs::start(settings).expect("a thread and an eventfd")
}

/// A close-on-exec pipe: another test may start a process at any time.
fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = io::pipe().expect("pipe");
    (OwnedFd::from(reader).into(), writer.into())
}

/// Attaches a worker; returns what it would have as stdout and stderr.
fn attach(handle: &LogHandle, worker: u64, slot: u16) -> (File, File) {
    let (stdout, stdout_end) = pipe();
    let (stderr, stderr_end) = pipe();
    handle.attach(WorkerId(worker), Slot(slot), stdout.into(), stderr.into());
    (stdout_end.into(), stderr_end.into())
}

fn soon() -> Instant {
    Instant::now() + BOUND
}

/// Reads to the end on a thread of its own and lets tests wait for what comes.
struct Collector {
    seen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn new(mut reader: impl Read + Send + 'static) -> Self {
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let shared = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            // A terminal whose other side is closed ends with EIO.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let (seen, changed) = &*shared;
                seen.lock().expect("no panic").extend(&buffer[..count]);
                changed.notify_all();
            }
        });
        Self { seen, thread }
    }

    /// Waits until `text` has come.
    fn wait_for(&self, text: &str) {
        let (seen, changed) = &*self.seen;
        let mut searched = 0;
        let missing = |seen: &mut Vec<u8>| {
            let new = &seen[searched..];
            let found = new.windows(text.len()).any(|at| at == text.as_bytes());
            searched = (seen.len() + 1).saturating_sub(text.len());
            !found
        };
        let (seen, result) = changed
            .wait_timeout_while(seen.lock().expect("no panic"), BOUND, missing)
            .expect("no panic");
        let end = seen.len().saturating_sub(300);
        assert!(
            !result.timed_out(),
            "{text:?} did not come; the last bytes: {:?}",
            String::from_utf8_lossy(&seen[end..])
        );
    }

    /// Everything, after the end of the stream.
    fn finish(self) -> Vec<u8> {
        self.thread.join().expect("the collector does not panic");
        std::mem::take(&mut *self.seen.0.lock().expect("no panic"))
    }
}

/// A small deterministic generator (Numerical Recipes' constants), for sizes and bytes.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}
