//! One worker pipe and the way of its bytes into the backlog of an output.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::read;

use super::ledger::Ledger;
use super::lines::{Begin, LineBuffer, Piece};
use super::outlet::{Fate, Outlet};
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
    /// What became of the beginning of a line that is not finished.
    fate: Fate,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Bytes(usize),
    Nothing,
    /// Every writer has closed its end.
    End,
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
            fate: Fate::Passed,
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
        let Self { origin, fate, buffer, .. } = self;
        let clock = SystemTime::now();
        buffer.push(&into[..count], |piece| {
            deliver(*origin, fate, &piece, clock, outlet, ledger);
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
            let limit = outlet.read_bytes().min(into.len()).min(left);
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
        let Self { origin, fate, buffer, .. } = self;
        let clock = SystemTime::now();
        buffer.flush(|piece| deliver(*origin, fate, &piece, clock, outlet, ledger));
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
    fate: &mut Fate,
    piece: &Piece<'_>,
    clock: SystemTime,
    outlet: &mut Outlet,
    ledger: &mut Ledger,
) {
    ledger.record(origin, piece, clock);
    // The rest of a line whose beginning was dropped is dropped too.
    *fate = match (piece.begin, *fate) {
        (Begin::Continues, Fate::Dropped) => Fate::Dropped,
        (Begin::Fresh, _) | (Begin::Continues, Fate::Passed) => outlet.push(origin, piece, clock),
    };
    match *fate {
        Fate::Passed => (),
        Fate::Dropped => ledger.lose(Some(origin), piece.lines()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Write};
    use std::sync::Arc;

    use super::super::Stream;
    use super::super::backlog::Next;
    use super::super::inbox::Inbox;
    use super::super::lines::HELD_BYTES;
    use super::super::outlet::Flow;
    use super::super::sink::Sink;
    use super::super::wrap::Wrap;
    use super::*;
    use crate::policy::{Slot, WorkerId};

    #[test]
    fn the_rest_of_a_line_goes_the_way_of_its_beginning() {
        let (reader, writer) = io::pipe().expect("pipe");
        let mut worker = File::from(OwnedFd::from(writer));
        let origin = Origin { worker: WorkerId(1), slot: Slot(0), stream: Stream::Stdout };
        let now = Instant::now();
        let mut source = Source::new(origin, reader.into(), 0, now);
        let (_unread, stdout) = io::pipe().expect("pipe");
        let mut outlet = Outlet::new(Sink::new(stdout.into()), Wrap::Raw);
        let mut ledger = Ledger::new(Arc::new(Inbox::new().expect("eventfd")));
        let mut buffer = vec![0; 2 * HELD_BYTES];
        let mut pass = |bytes: &[u8], outlet: &mut Outlet| {
            worker.write_all(bytes).expect("an empty pipe takes 64 KiB");
            let heard = source.read(&mut buffer, now, outlet, &mut ledger);
            assert_eq!(heard, Heard::Bytes(bytes.len()));
        };

        outlet.flow = Flow::Stalled;
        let line = [vec![b'-'; 999], vec![b'\n']].concat();
        while outlet.backlog.room(origin.worker) >= HELD_BYTES {
            pass(&line, &mut outlet);
        }
        pass(&vec![b'x'; HELD_BYTES], &mut outlet);
        outlet.backlog.clear();
        pass(b"the rest\nnext\n", &mut outlet);
        let Next::Write(batch) = outlet.backlog.next(now) else {
            panic!("a whole line was not passed on");
        };
        assert_eq!(batch.bytes, b"next\n");
        assert_eq!(outlet.backlog.next(now), Next::Nothing);
        assert_eq!(ledger.finish(origin.worker).dropped, 1);
    }
}
