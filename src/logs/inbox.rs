//! What other threads leave for the log thread, own lines and commands, without ever waiting.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

use super::recent::Recent;
use super::{Dropped, LastWords};
use crate::policy::{Slot, WorkerId};

/// Most bytes of own lines that wait: some 10,000 lines of 100 bytes. The log thread holds at most
/// as much again. `info` never scales with traffic, so only a stuck reader fills this.
pub(super) const OWN_BYTES: usize = 1 << 20;

/// What the log thread is asked to do. Their number is bounded by the number of workers.
#[derive(Debug)]
pub(super) enum Command {
    Attach { worker: WorkerId, slot: Slot, stdout: OwnedFd, stderr: OwnedFd },
    Finish { worker: WorkerId, reply: oneshot::Sender<LastWords> },
    Stop { deadline: Instant },
}

/// The meeting point; every method holds the lock for a few copies and nothing else.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    wake: EventFd,
    own_dropped: AtomicU64,
    workers_dropped: AtomicU64,
    recent: Arc<Recent>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    own: OwnBatch,
    commands: Vec<Command>,
}

/// Own lines taken together.
#[derive(Debug, Default)]
pub(super) struct OwnBatch {
    /// Whole lines, each with its newline.
    pub(super) bytes: Vec<u8>,
    /// How many lines `bytes` holds.
    pub(super) lines: u64,
    /// Lines that came after these and found no room.
    pub(super) missed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing new since the thread last looked.
    #[default]
    Quiet,
    /// The thread has been woken and will look.
    Woken,
    /// The thread has ended.
    Closed,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            state: Mutex::default(),
            wake: EventFd::from_flags(flags)?,
            own_dropped: AtomicU64::new(0),
            workers_dropped: AtomicU64::new(0),
            recent: Arc::default(),
        })
    }

    /// Queues one whole line (or several), newline included; drops it if there is no room.
    pub(super) fn push_own(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.phase == Phase::Closed || state.own.bytes.len() + line.len() > OWN_BYTES {
            state.own.missed += 1;
            self.own_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.own.bytes.extend_from_slice(line);
        state.own.lines += 1;
        self.wake(&mut state);
    }

    /// Queues a command; after the thread has ended it is dropped, which closes what it carries.
    pub(super) fn send(&self, command: Command) {
        let mut state = self.lock();
        if state.phase != Phase::Closed {
            state.commands.push(command);
            self.wake(&mut state);
        }
    }

    /// Takes the commands. To be called before [`Self::take_own`] in each turn.
    pub(super) fn take_commands(&self) -> Vec<Command> {
        let mut state = self.lock();
        if state.phase == Phase::Woken {
            // Before the next `Quiet` state is visible, so that no later wake-up is swallowed. The
            // counter is at least 1 here; a failed read could only cause one idle turn.
            let _ = self.wake.read();
            state.phase = Phase::Quiet;
        }
        mem::take(&mut state.commands)
    }

    /// Whether there is something for [`Self::take_own`]. What was not taken causes no wake-up
    /// later, so this is asked before each wait.
    pub(super) fn has_own(&self) -> bool {
        let state = self.lock();
        state.own.lines > 0 || state.own.missed > 0
    }

    /// Takes all own lines that wait.
    pub(super) fn take_own(&self) -> OwnBatch {
        mem::take(&mut self.lock().own)
    }

    /// Refuses everything from now on and drops what waits.
    pub(super) fn close(&self) {
        let (own, commands) = {
            let mut state = self.lock();
            state.phase = Phase::Closed;
            (mem::take(&mut state.own), mem::take(&mut state.commands))
        };
        self.own_dropped.fetch_add(own.lines, Ordering::Relaxed);
        drop(commands);
    }

    pub(super) fn count_dropped(&self, dropped: Dropped) {
        let Dropped { own, workers } = dropped;
        self.own_dropped.fetch_add(own, Ordering::Relaxed);
        self.workers_dropped.fetch_add(workers, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self) -> Dropped {
        Dropped {
            own: self.own_dropped.load(Ordering::Relaxed),
            workers: self.workers_dropped.load(Ordering::Relaxed),
        }
    }

    /// What the workers wrote last.
    pub(super) fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    /// Readable when there is something to take.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn wake(&self, state: &mut State) {
        if state.phase == Phase::Quiet {
            state.phase = Phase::Woken;
            // One write per turn of the thread, so the counter cannot overflow and this cannot
            // block or fail.
            let _ = self.wake.write(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves a valid state behind at each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_lines_beyond_the_bound_are_counted_and_reported_with_the_next_batch() {
        let inbox = Inbox::new().expect("eventfd");
        let line = [b'x'; 1024];
        for _ in 0..OWN_BYTES / line.len() + 3 {
            inbox.push_own(&line);
        }
        let batch = inbox.take_own();
        assert_eq!(batch.bytes.len(), OWN_BYTES);
        assert_eq!(batch.missed, 3);
        assert_eq!(inbox.dropped(), Dropped { own: 3, workers: 0 });
        inbox.push_own(&line);
        assert_eq!(inbox.take_own().lines, 1);
    }

    #[test]
    fn after_close_everything_is_refused_and_counted() {
        let inbox = Inbox::new().expect("eventfd");
        inbox.push_own(b"waiting\n");
        inbox.close();
        inbox.push_own(b"late\n");
        inbox.send(Command::Stop { deadline: Instant::now() });
        assert!(inbox.take_commands().is_empty());
        assert_eq!(inbox.dropped().own, 2);
    }
}
