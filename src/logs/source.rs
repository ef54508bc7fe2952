//! One worker pipe and the way of its bytes into the backlog of an output.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::read;

use super::backlog::Chunk;
use super::ledger::Ledger;
use super::lines::{Begin, End, LineBuffer, Piece};
use super::outlet::Outlet;
use super::wrap::Origin;

/// After this much silence an unfinished line is shown: prompts, progress bars.
const SILENCE: Duration = Duration::from_millis(200);

/// The read end of one pipe.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) origin: Origin,
    /// Which output its lines go to.
    pub(super) outlet: usize,
    /// Since when it is not read because its lines would have no room.
    pub(super) paused_since: Option<Instant>,
    fd: OwnedFd,
    buffer: LineBuffer,
    heard_at: Instant,
    line: LineFate,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Bytes(usize),
    Nothing,
    /// Every writer has closed its end.
    End,
}

/// Whether a line whose beginning has left may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineFate {
    Passed,
    /// A part of it was dropped, so the rest is dropped too.
    Dropped,
}

impl Source {
    /// Takes over a read end, which is made non-blocking: its description is the master's alone.
    pub(super) fn new(origin: Origin, fd: OwnedFd, outlet: usize, now: Instant) -> Self {
        // F_SETFL fails on no pipe or socket; on anything else a read would be over at once.
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain);
        let _ = fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK));
        Self {
            origin,
            outlet,
            paused_since: None,
            fd,
            buffer: LineBuffer::new(),
            heard_at: now,
            line: LineFate::Passed,
        }
    }

    /// Reads once, at most `into.len()` bytes, and passes whole lines on.
    pub(super) fn read(
        &mut self,
        into: &mut [u8],
        now: Instant,
        outlet: &mut Outlet,
        ledger: &mut Ledger,
    ) -> Heard {
        let count = match read(&self.fd, into) {
            Ok(0) => return Heard::End,
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Heard::Nothing,
            // Nothing that a later read could heal.
            Err(_) => return Heard::End,
        };
        self.heard_at = now;
        let Self { origin, line, buffer, .. } = self;
        let clock = SystemTime::now();
        buffer.push(&into[..count], |piece| {
            deliver(*origin, line, &piece, clock, outlet, ledger);
        });
        Heard::Bytes(count)
    }

    /// Reads all that a worker which has ended left in the pipe, and passes on its last line,
    /// finished or not.
    pub(super) fn drain(
        &mut self,
        into: &mut [u8],
        now: Instant,
        outlet: &mut Outlet,
        ledger: &mut Ledger,
    ) -> Heard {
        // What the worker wrote lies within the first `capacity` bytes. A grandchild may go on
        // writing for ever behind it.
        let capacity = fcntl(&self.fd, FcntlArg::F_GETPIPE_SZ).map_or(into.len(), |bytes| {
            usize::try_from(bytes).expect("a pipe's capacity is positive")
        });
        let mut left = capacity;
        let heard = loop {
            let limit = outlet.wrap.read_bytes().min(into.len()).min(left);
            if limit == 0 {
                break Heard::Nothing;
            }
            match self.read(&mut into[..limit], now, outlet, ledger) {
                Heard::Bytes(count) => left -= count,
                heard @ (Heard::Nothing | Heard::End) => break heard,
            }
        };
        self.flush(outlet, ledger);
        heard
    }

    /// Passes on the unfinished line, if any.
    pub(super) fn flush(&mut self, outlet: &mut Outlet, ledger: &mut Ledger) {
        let Self { origin, line, buffer, .. } = self;
        let clock = SystemTime::now();
        buffer.flush(|piece| deliver(*origin, line, &piece, clock, outlet, ledger));
    }

    /// When the unfinished line is to be passed on, if there is one.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        self.buffer.is_holding().then(|| self.heard_at + SILENCE)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn deliver(
    origin: Origin,
    line: &mut LineFate,
    piece: &Piece<'_>,
    clock: SystemTime,
    outlet: &mut Outlet,
    ledger: &mut Ledger,
) {
    ledger.record(origin, piece);
    let severed = piece.begin == Begin::Continues && *line == LineFate::Dropped;
    // Wrapped lines are longer: this only saves the rendering of what has no room at all.
    let hopeless = piece.bytes.len() > outlet.backlog.room(origin.worker);
    let queued = !severed && !hopeless && {
        let chunk = Chunk {
            origin,
            bytes: outlet.wrap.render(origin, piece, clock),
            lines: piece.lines(),
            begin: piece.begin,
            end: outlet.wrap.end(piece),
        };
        outlet.backlog.push(chunk).is_ok()
    };
    if !queued {
        ledger.lose(Some(origin), piece.lines());
    }
    *line = match (queued, piece.end) {
        (true, End::Newline | End::More | End::Pause) | (false, End::Newline) => LineFate::Passed,
        (false, End::More | End::Pause) => LineFate::Dropped,
    };
}
