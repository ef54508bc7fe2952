//! One thread writes the process's stdout and stderr: our own lines and what the workers print.
//!
//! Invariants:
//! - Nobody waits for a reader of stdout or stderr: callers put lines into a bounded inbox, and the
//!   thread never blocks in a write (see `sink` for how, per kind of descriptor).
//! - Lines leave whole. What does not fit is dropped by whole lines, counted, and reported once
//!   there is room.
//! - A worker's bytes are changed only where wrapping is asked for or a terminal shows them.
//!
//! A worker is held back for at most [`LogSettings::patience`] per stall of the reader: one that is
//! merely slower than a burst loses nothing, one that is stuck costs lines and no time.

mod backlog;
mod format;
mod inbox;
mod ledger;
mod lines;
mod outlet;
mod recent;
mod settings;
mod sink;
mod source;
mod tail;
#[cfg(test)]
mod tests;
mod thread;
mod wrap;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock;
use crate::policy::{Slot, WorkerId};
pub use format::{LineStyle, OwnLines};
use inbox::{Command, Inbox};
pub use recent::{LogReader, Since};
pub use settings::{LogFormat, LogSettings, PATIENCE, WorkerOutput};
pub use tail::LastWords;

/// How long the thread may run past the deadline it was given before it is left behind.
///
/// It notices a deadline at its next turn; only a write into a file on a hung disk takes longer.
const MARGIN: Duration = Duration::from_millis(200);

/// How long a `Logs` that is dropped without [`Logs::shutdown`] tries to write what it holds.
const DROP_GRACE: Duration = Duration::from_millis(500);

/// Which of a worker's two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Descriptor 1 of the worker.
    Stdout,
    /// Descriptor 2 of the worker.
    Stderr,
}

/// Lines lost since the start because a bound was reached or the reader was gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Our own lines.
    pub own: u64,
    /// Lines of all workers together.
    pub workers: u64,
}

/// How the log thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It wrote what it could and was joined.
    Joined,
    /// It is stuck in a file write; it holds its descriptors until the process exits.
    LeftBehind,
    /// It panicked.
    Panicked,
}

/// The owner of the log thread; joins it.
#[derive(Debug)]
pub struct Logs {
    inbox: Arc<Inbox>,
    ended: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// A way to reach the log thread; cheap to clone; no method blocks.
#[derive(Clone, Debug)]
pub struct LogHandle {
    inbox: Arc<Inbox>,
    style: LineStyle,
}

impl Logs {
    /// Starts the thread that alone writes `settings.stdout` and `settings.stderr` from now on.
    ///
    /// Fails if the thread or its wake-up descriptor cannot be made.
    pub fn start(settings: LogSettings) -> io::Result<(Self, LogHandle)> {
        let inbox = Arc::new(Inbox::new()?);
        let handle = LogHandle { inbox: Arc::clone(&inbox), style: settings.style };
        let (alive, ended) = mpsc::sync_channel::<()>(1);
        let log = thread::LogThread::new(settings, Arc::clone(&inbox));
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            // Dropped at the end, by panic too: the owner sees the channel close.
            let _alive = alive;
            log.run();
        })?;
        let logs = Self { inbox, ended, thread: Some(thread) };
        Ok((logs, handle))
    }

    /// Takes what the workers' pipes still hold, writes what the readers accept until `deadline`,
    /// and ends the thread. Returns soon after `deadline` even if stdout is stuck for ever.
    pub fn shutdown(mut self, deadline: Instant) -> Ending {
        self.end(deadline)
    }

    fn end(&mut self, deadline: Instant) -> Ending {
        let Some(thread) = self.thread.take() else {
            return Ending::Joined;
        };
        self.inbox.send(Command::Stop { deadline });
        let patience = deadline.saturating_duration_since(clock::now()) + MARGIN;
        match self.ended.recv_timeout(patience) {
            Err(RecvTimeoutError::Timeout) => Ending::LeftBehind,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Ok(()) => Ending::Joined,
                Err(_) => Ending::Panicked,
            },
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.end(clock::now() + DROP_GRACE);
    }
}

impl LogHandle {
    /// The `tracing` layer that turns events into lines on stderr.
    pub fn layer(&self) -> OwnLines {
        OwnLines::new(self.style, Arc::clone(&self.inbox))
    }

    /// Puts `text` on stderr as it is, as lines of its own: for the banner, not for events.
    pub fn print(&self, text: &str) {
        let mut line = String::with_capacity(text.len() + 1);
        line.push_str(text);
        if !text.ends_with('\n') {
            line.push('\n');
        }
        self.inbox.push_own(line.as_bytes());
    }

    /// Gives the thread the read ends of a worker's output pipes.
    ///
    /// They are made non-blocking; the worker's write ends are other open file descriptions and are
    /// not touched. They are closed at end of file.
    pub fn attach(&self, worker: WorkerId, slot: Slot, stdout: OwnedFd, stderr: OwnedFd) {
        self.inbox.send(Command::Attach { worker, slot, stdout, stderr });
    }

    /// Asks for the last lines of a worker that has ended; call it after it was reaped.
    ///
    /// The answer includes everything the worker itself wrote, comes without waiting for end of
    /// file (a grandchild may hold the pipe open for ever; what it writes is still passed on), and
    /// is an error only after [`Logs::shutdown`]. Each worker can be asked for once.
    pub fn finish(&self, worker: WorkerId) -> oneshot::Receiver<LastWords> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Command::Finish { worker, reply });
        answer
    }

    /// Reads what workers wrote last and what they write, of one slot or of all, beginning at
    /// `since`; none if too many read already. Nothing is known of workers that have our own
    /// descriptors.
    pub fn read(&self, slot: Option<Slot>, since: Since) -> Option<LogReader> {
        LogReader::new(self.inbox.recent(), slot, since)
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> Dropped {
        self.inbox.dropped()
    }
}
