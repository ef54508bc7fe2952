//! One output: its backlog, what is being written, and whether its reader keeps up.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use super::backlog::{Backlog, Batch, Chunk, Next, WAITING_BYTES};
use super::ledger::Ledger;
use super::lines::Piece;
use super::sink::Sink;
use super::wrap::{Origin, Wrap};
use crate::policy::WorkerId;

/// Most bytes written to one output per turn, so that pipes and the other output get theirs.
const TURN_BYTES: usize = 256 * 1024;

/// A descriptor may call itself writable and refuse what it is given, as a terminal with room for
/// one byte does with a newline, which takes two: it is asked again after this time, not at once.
const RETRY: Duration = Duration::from_millis(10);

/// Whether the reader of an output takes what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It does: pipes are read while there is room, and what was read is kept. Beyond the room go
    /// at most an unfinished line, and what a worker left in its pipes when it ended.
    Moving,
    /// It kept a worker waiting for too long: pipes are read all the same, and lines without room
    /// dropped, until most of the backlog is gone.
    Stalled,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passed,
    Dropped,
}

/// What an output waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is nothing to write.
    Idle,
    /// Its turn is over and there is more to write.
    Unfinished,
    /// The reader.
    Blocked,
    /// Nothing: the reader has made room. Set by whoever polls.
    Writable,
    /// A point in time.
    Until(Instant),
}

/// Where a worker's stdout or stderr, or both, and perhaps our own lines go.
#[derive(Debug)]
pub(super) struct Outlet {
    wrap: Wrap,
    pub(super) backlog: Backlog,
    pub(super) flow: Flow,
    pub(super) progress: Progress,
    sink: Sink,
    current: Option<Current>,
    last_byte: u8,
}

#[derive(Debug)]
struct Current {
    batch: Batch,
    written: usize,
}

impl Outlet {
    pub(super) fn new(sink: Sink, wrap: Wrap) -> Self {
        Self {
            wrap,
            backlog: Backlog::new(wrap),
            flow: Flow::Moving,
            progress: Progress::Idle,
            sink,
            current: None,
            last_byte: b'\n',
        }
    }

    /// Whether to read a pipe of `worker` now.
    pub(super) fn wants(&self, worker: WorkerId) -> bool {
        match self.flow {
            Flow::Moving => self.backlog.room(worker) >= self.wrap.room_bytes(),
            Flow::Stalled => true,
        }
    }

    /// Renders and queues `piece`, or drops it.
    pub(super) fn push(&mut self, origin: Origin, piece: &Piece<'_>, clock: SystemTime) -> Fate {
        let room = match self.flow {
            Flow::Moving => usize::MAX,
            Flow::Stalled => self.backlog.room(origin.worker),
        };
        // Asked twice: the first saves the rendering, which makes it longer.
        if piece.bytes.len() > room {
            return Fate::Dropped;
        }
        let chunk = Chunk {
            origin,
            bytes: self.wrap.render(origin, piece, clock),
            lines: piece.lines(),
            begin: piece.begin,
            end: self.wrap.end(piece),
        };
        if chunk.bytes.len() > room {
            return Fate::Dropped;
        }
        self.backlog.push(chunk);
        Fate::Passed
    }

    /// Whether own lines are waiting or being written.
    pub(super) fn has_own(&self) -> bool {
        let current = self.current.as_ref();
        self.backlog.has_own() || current.is_some_and(|current| current.batch.origin.is_none())
    }

    /// Writes what the reader accepts; `ledger` is told of lines that never can be written.
    pub(super) fn write(&mut self, now: Instant, ledger: &mut Ledger) {
        if self.progress == Progress::Blocked {
            return;
        }
        let said_writable = self.progress == Progress::Writable;
        let mut budget = TURN_BYTES;
        self.progress = loop {
            if budget == 0 {
                break Progress::Unfinished;
            }
            let Some(current) = &mut self.current else {
                match self.backlog.next(now) {
                    Next::Write(batch) => self.current = Some(Current { batch, written: 0 }),
                    Next::Held(until) => break Progress::Until(until),
                    Next::Nothing => break Progress::Idle,
                }
                continue;
            };
            let rest = &current.batch.bytes[current.written..];
            match self.sink.write(rest) {
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    if count > 0 {
                        self.last_byte = rest[count - 1];
                    }
                    current.written += count;
                    if current.written == current.batch.bytes.len() {
                        self.current = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let moved = budget < TURN_BYTES;
                    break if said_writable && !moved {
                        Progress::Until(now + RETRY)
                    } else {
                        Progress::Blocked
                    };
                }
                // The reader is gone, or the disk is full. Lines that come later are tried again.
                Err(_) => self.clear(ledger),
            }
        };
        if self.backlog.waiting_bytes() <= WAITING_BYTES / 4 {
            self.flow = Flow::Moving;
        }
    }

    /// Drops everything and tells `ledger` whose lines they were.
    pub(super) fn clear(&mut self, ledger: &mut Ledger) {
        if let Some(Current { batch, written }) = self.current.take() {
            let rest = &batch.bytes[written..];
            let lines = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
            ledger.lose(batch.origin, lines.max(1));
        }
        for (origin, lines) in self.backlog.clear() {
            ledger.lose(origin, lines);
        }
        self.backlog.torn_after(self.last_byte);
    }

    /// Most bytes to read from a worker's pipe at once.
    pub(super) fn read_bytes(&self) -> usize {
        self.wrap.read_bytes()
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.sink.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::inbox::Inbox;
    use super::*;

    #[test]
    fn a_reader_that_calls_itself_ready_and_is_not_is_asked_again_later() {
        let (_reader, writer) = io::pipe().expect("pipe");
        let mut outlet = Outlet::new(Sink::new(writer.into()), Wrap::Raw);
        let mut ledger = Ledger::new(Arc::new(Inbox::new().expect("eventfd")));
        let now = Instant::now();
        outlet.backlog.push_own(b"line\n".repeat(100_000), 100_000);
        while outlet.progress != Progress::Blocked {
            outlet.write(now, &mut ledger);
        }
        outlet.progress = Progress::Writable;
        outlet.write(now, &mut ledger);
        assert_eq!(outlet.progress, Progress::Until(now + RETRY));
        outlet.write(now + RETRY, &mut ledger);
        assert_eq!(outlet.progress, Progress::Blocked);
    }
}
