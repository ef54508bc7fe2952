//! Carries a worker's response to the client, reading ahead of a slow one within its share of the
//! buffer budget.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use super::body::write_chunk;
use super::budget::{FREE_BYTES, Share};
use super::front::{Front, PIECE, SCRATCH};
use super::outcome::Reason;
use super::pace::Pace;
use super::stream::Stream;
use super::unframe::{Piece, Unframed};
use crate::clock;
use crate::http::{
    Asked, BadResponse, Parsed, Refusal, ResponseBody, ResponseHead, ResponseReader, Version,
    write_end,
};

/// What is kept of a response: how far it got, and what the client has not taken yet.
#[derive(Debug)]
pub(super) struct Download<'a> {
    front: &'a Front,
    worker: &'a Stream,
    client: &'a Stream,
    asked: Asked,
    /// What came from the worker and is not used yet: heads only.
    inbox: Vec<u8>,
    out: Outbox,
    pub(super) moved: &'a Moved,
}

/// When something last moved, for whoever watches the time, and how far it got.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) last: Cell<Instant>,
    pub(super) stage: Cell<Stage>,
    pub(super) bytes: Cell<u64>,
    pub(super) endless: Cell<Endless>,
    awaits: Cell<Awaits>,
}

/// Who keeps a response from moving on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    Worker,
    /// There is something for it that it does not take.
    Client,
}

impl Moved {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: Cell::new(now),
            stage: Cell::new(Stage::Awaited),
            bytes: Cell::new(0),
            endless: Cell::new(Endless::No),
            awaits: Cell::new(Awaits::Worker),
        }
    }

    /// Why a response that has not moved for too long is cut off.
    pub(super) fn reason(&self) -> Reason {
        match self.awaits.get() {
            Awaits::Worker => Reason::ResponseIdle,
            Awaits::Client => Reason::ClientSlow,
        }
    }

    /// Until when something must move again; an event stream may be silent for ever.
    pub(super) fn patience(&self, idle: Duration) -> Option<Instant> {
        match self.endless.get() {
            Endless::No => Some(self.last.get() + idle),
            Endless::Yes => None,
        }
    }
}

/// Whether a response may be silent for as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endless {
    No,
    Yes,
}

/// How far a response got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No byte of it has come.
    Awaited,
    /// Some of its head has.
    Begun,
    /// The client has, or will get, some of it.
    Forwarded,
}

/// Bytes on their way to the client.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    share: Share,
}

/// Why a response did not come, or not whole.
#[derive(Debug)]
pub(super) enum Fault {
    /// The worker's connection ended in order.
    Ended,
    /// It was reset.
    Reset,
    /// What came is no response.
    Bad(BadResponse),
    /// Its body is broken.
    Body(Refusal),
    /// It is longer than we take for ourselves.
    TooLarge,
    /// The client does not take it.
    ClientGone,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        front: &'a Front,
        streams: (&'a Stream, &'a Stream),
        asked: Asked,
        moved: &'a Moved,
    ) -> Self {
        let (worker, client) = streams;
        let out = Outbox { bytes: Vec::new(), written: 0, share: front.budget.share() };
        Self { front, worker, client, asked, inbox: Vec::new(), out, moved }
    }

    /// Reads the next head of the response, informational or final.
    pub(super) async fn head(&mut self) -> Result<ResponseHead, Fault> {
        let mut reader = ResponseReader::new(self.asked, self.front.worker_heads());
        loop {
            if !self.inbox.is_empty() {
                match reader.read(&self.inbox).map_err(Fault::Bad)? {
                    Parsed::Complete { head, length } => {
                        self.inbox.drain(..length);
                        return Ok(head);
                    }
                    Parsed::Incomplete => {}
                }
            }
            self.receive().await?;
        }
    }

    /// Waits for bytes of the worker.
    async fn receive(&mut self) -> Result<(), Fault> {
        loop {
            let read = {
                // Heads have bounds of their own, and what follows one is held like a body.
                let allowed = self.out.share.allow(self.inbox.len(), SCRATCH).max(FREE_BYTES);
                let mut scratch = self.front.scratch();
                let read = self.worker.try_read(&mut scratch[..allowed]);
                if let Ok(count) = read {
                    self.inbox.reserve_exact(count);
                    self.inbox.extend_from_slice(&scratch[..count]);
                }
                self.out.share.settle(self.inbox.len());
                read
            };
            match read {
                Ok(0) => return Err(Fault::Ended),
                Ok(_) => {
                    self.moved.last.set(clock::now());
                    if self.moved.stage.get() == Stage::Awaited {
                        self.moved.stage.set(Stage::Begun);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.moved.awaits.set(Awaits::Worker);
                    self.worker.readable().await.map_err(|_| Fault::Reset)?;
                }
                Err(error) => return Err(fault_of(&error)),
            }
        }
    }

    /// Adds bytes that the client gets before the body: a head as it goes on.
    pub(super) fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.out.bytes);
        self.moved.stage.set(Stage::Forwarded);
    }

    /// Writes what was added, waiting for the client as needed.
    pub(super) async fn flush(&mut self) -> Result<(), Fault> {
        while !self.out.is_empty() {
            match self.out.write_some(self.client) {
                Ok(0) => {
                    self.moved.awaits.set(Awaits::Client);
                    self.client.writable().await.map_err(|_| Fault::ClientGone)?;
                }
                Ok(wrote) => self.note(wrote),
                Err(_) => return Err(Fault::ClientGone),
            }
        }
        Ok(())
    }

    /// Carries the body until the worker has finished it. What the client has not taken by then is
    /// in the returned outbox.
    pub(super) async fn body(mut self, body: ResponseBody) -> Result<Outbox, Fault> {
        let mut framer = Framer::new(body, self.asked.version);
        {
            // Its memory is not for as long as a slow client takes.
            let early = std::mem::take(&mut self.inbox);
            self.out.bytes.reserve_exact(early.len());
            framer.feed(&early, &mut self.out.bytes).map_err(Fault::Body)?;
        }
        let mut pace = Pace::default();
        loop {
            let wrote = self.out.write_some(self.client).map_err(|_| Fault::ClientGone)?;
            if wrote > 0 {
                self.note(wrote);
            }
            if framer.is_done() {
                return Ok(self.out);
            }
            let allowed = self.out.may_read();
            let read = if allowed == 0 { Read::NoRoom } else { self.pull(&mut framer, allowed)? };
            if let Read::Some(came) = read {
                pace.carried(came.max(wrote)).await;
                continue;
            }
            if wrote > 0 {
                pace.carried(wrote).await;
                continue;
            }
            // Who waits holds no more than it has, or idle streams would spend the budget.
            self.out.settle();
            self.wait(read).await?;
        }
    }

    /// Takes the whole body, at most `bound` bytes, for ourselves.
    pub(super) async fn collect(
        mut self,
        body: ResponseBody,
        bound: usize,
    ) -> Result<Vec<u8>, Fault> {
        // HTTP/1.0 has no chunks: what comes out is the body itself.
        let mut framer = Framer::new(body, Version::Http10);
        let mut whole = Vec::new();
        loop {
            let arrived = std::mem::take(&mut self.inbox);
            framer.feed(&arrived, &mut whole).map_err(Fault::Body)?;
            if framer.is_done() {
                return Ok(whole);
            }
            if whole.len() > bound {
                return Err(Fault::TooLarge);
            }
            match self.receive().await {
                Ok(()) => {}
                Err(Fault::Ended) if framer.end().is_some() => return Ok(whole),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Waits until one side can go on.
    async fn wait(&self, read: Read) -> Result<(), Fault> {
        let (wants_out, wants_in) = (!self.out.is_empty(), read == Read::Nothing);
        self.moved.awaits.set(if wants_out { Awaits::Client } else { Awaits::Worker });
        tokio::select! {
            biased;
            ready = self.client.writable(), if wants_out => ready.map_err(|_| Fault::ClientGone),
            ready = self.worker.readable(), if wants_in => ready.map_err(|_| Fault::Reset),
        }
    }

    /// Reads at most `allowed` bytes of the body.
    fn pull(&mut self, framer: &mut Framer, allowed: usize) -> Result<Read, Fault> {
        let mut scratch = self.front.scratch();
        match self.worker.try_read(&mut scratch[..allowed]) {
            Ok(0) => match framer.end() {
                Some(last) => {
                    self.out.bytes.extend_from_slice(last);
                    Ok(Read::Some(0))
                }
                None => Err(Fault::Ended),
            },
            Ok(count) => {
                self.moved.last.set(clock::now());
                let bytes = &scratch[..count];
                // Most bodies pass as they come: without a copy, if the client keeps up.
                let passed = if self.out.is_empty() && framer.passes(count) {
                    match self.client.try_write(bytes) {
                        Ok(passed) => passed,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                        Err(_) => return Err(Fault::ClientGone),
                    }
                } else {
                    0
                };
                self.moved.bytes.set(self.moved.bytes.get() + passed as u64);
                framer.skip(passed);
                let rest = &bytes[passed..];
                // Not doubled: what many slow clients leave over is what the budget counts.
                self.out.bytes.reserve_exact(rest.len());
                framer.feed(rest, &mut self.out.bytes).map_err(Fault::Body)?;
                Ok(Read::Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Read::Nothing),
            Err(error) => Err(fault_of(&error)),
        }
    }

    fn note(&self, wrote: usize) {
        self.moved.last.set(clock::now());
        self.moved.bytes.set(self.moved.bytes.get() + wrote as u64);
    }

    /// Gives up what was read of the worker and not used, and what the client has not got.
    pub(super) fn into_rest(self) -> (Vec<u8>, Outbox) {
        (self.inbox, self.out)
    }
}

/// What an attempt to read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// So many bytes, or the end.
    Some(usize),
    Nothing,
    NoRoom,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// How much more may be read ahead of the client.
    fn may_read(&mut self) -> usize {
        self.share.allow(self.bytes.len() - self.written, PIECE)
    }

    /// Writes what the client takes now.
    fn write_some(&mut self, client: &Stream) -> io::Result<usize> {
        let mut wrote = 0;
        while !self.is_empty() {
            match client.try_write(&self.bytes[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    wrote += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.is_empty() {
            self.bytes.clear();
            self.written = 0;
        } else if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        // A buffer that a slow client made large is not kept for a fast one.
        if self.bytes.capacity() > 2 * SCRATCH && self.bytes.len() < SCRATCH {
            self.bytes.shrink_to(SCRATCH);
        }
        self.settle();
        Ok(wrote)
    }

    /// Gives back what was allowed and not used.
    fn settle(&mut self) {
        self.share.settle(self.bytes.len() - self.written);
    }

    /// Writes everything, as long as the client takes some within each `patience`.
    pub(super) async fn finish(mut self, client: &Stream, patience: Duration) -> io::Result<u64> {
        let mut wrote = 0;
        loop {
            wrote += self.write_some(client)? as u64;
            if self.is_empty() {
                return Ok(wrote);
            }
            tokio::time::timeout(patience, client.writable()).await??;
        }
    }
}

fn fault_of(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Fault::Reset,
        _ => Fault::Ended,
    }
}

/// Knows where a response's body ends, and frames it as the client's version demands.
#[derive(Debug)]
struct Framer {
    from: Unframed,
    to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// As it is; its length is known or the connection's end tells.
    Plain,
    Chunks,
}

impl Framer {
    fn new(body: ResponseBody, version: Version) -> Self {
        let to = match (body, version) {
            (ResponseBody::Chunked | ResponseBody::UntilClose, Version::Http11) => To::Chunks,
            (ResponseBody::Chunked | ResponseBody::UntilClose, Version::Http10)
            | (ResponseBody::None | ResponseBody::Length(_), _) => To::Plain,
        };
        Self { from: Unframed::new(body), to }
    }

    fn is_done(&self) -> bool {
        self.from.is_done()
    }

    /// Whether the next `count` bytes may go to the client unseen.
    fn passes(&self, count: usize) -> bool {
        match self.from {
            Unframed::Length(left) => count as u64 <= left,
            Unframed::UntilClose => self.to == To::Plain,
            Unframed::Done | Unframed::Chunked(_) => false,
        }
    }

    /// These many bytes went to the client unseen.
    fn skip(&mut self, count: usize) {
        self.from.skip(count);
    }

    /// Frames bytes of the body. What comes after its end is dropped: the worker answers nothing
    /// that was not asked.
    fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        while !bytes.is_empty() && !self.is_done() {
            match (self.from.next(&mut bytes)?, self.to) {
                (Piece::Nothing, _) | (Piece::End(_), To::Plain) => {}
                (Piece::Data(data), To::Plain) => out.extend_from_slice(data),
                (Piece::Data(data), To::Chunks) => write_chunk(out, data),
                (Piece::End(trailers), To::Chunks) => write_end(&trailers, out),
            }
        }
        Ok(())
    }

    /// The worker's connection ended. Returns what that adds, or none if it ended too early.
    fn end(&mut self) -> Option<&'static [u8]> {
        let last: &[u8] = match self.to {
            To::Plain => b"",
            To::Chunks => b"0\r\n\r\n",
        };
        self.from.end().then_some(last)
    }
}
