//! The worker's end of the control channel: does everything that needs no waiting.
//!
//! `turn` neither blocks nor sleeps; the blocking worker and the tokio task differ only in how they
//! wait between two turns. At most one message batch is unsent, and while it is, nothing more is
//! read: a master that does not read holds up new connections, never the app and never the memory.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::connection::{Connection, Peer, Stream};
use crate::shared::{Drain, Shared};
use crate::sys;
use crate::wire::{Conn, Delivery, Incoming, LineReader, Load, Outgoing};

/// An unchanged load is repeated this often: it is the heartbeat.
const BEAT: Duration = Duration::from_secs(1);
/// `active` is looked at and reported at most this often; it only breaks ties.
const ACTIVE_INTERVAL: Duration = Duration::from_millis(10);
/// A `conn` line has about 90 bytes, and the kernel ends a read at each descriptor.
const READ_SIZE: usize = 4096;
const SDK: &str = concat!("rust/", env!("CARGO_PKG_VERSION"));

/// What to do with connections that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    /// Give them to the app.
    Take,
    /// Leave them unread: the app has not taken the ones before.
    #[cfg(feature = "tokio")]
    Hold,
    /// Send them back: the app takes no more.
    Refuse,
}

/// What a turn ended with.
#[derive(Debug)]
pub(crate) enum Turn {
    /// A connection for the app; its ack is on the way. Call again.
    Connection(Connection),
    /// No connection follows; every one before has been returned. The owner tells the app.
    Draining(Drain),
    /// Nothing more without waiting: for input, for output if `write`, for a change, or until
    /// `until`.
    Wait { write: bool, until: Instant },
    /// The channel has ended, and everything that came before has been delivered.
    Ended,
}

/// `S` is the socket as its owner waits for it: plain, or registered with a runtime.
#[derive(Debug)]
pub(crate) struct Channel<S> {
    socket: S,
    shared: Arc<Shared>,
    reader: LineReader,
    arrived: VecDeque<Delivery>,
    /// Unsent bytes; messages are appended only while it holds none from an earlier turn.
    outbox: Vec<u8>,
    /// Accepted; given out once its ack has left the outbox.
    accepted: Option<Connection>,
    said_ready: bool,
    seen: u64,
    reported: Load,
    /// When `active` was last compared with what was reported.
    looked_at: Instant,
    beat_at: Instant,
    lag: Duration,
    /// Read and not yet returned.
    drain: Option<Drain>,
    ended: bool,
}

impl<S: AsFd> Channel<S> {
    pub(crate) fn new(socket: S, shared: Arc<Shared>, now: Instant) -> Self {
        Self {
            socket,
            shared,
            reader: LineReader::default(),
            arrived: VecDeque::new(),
            outbox: Vec::new(),
            accepted: None,
            said_ready: false,
            seen: 0,
            reported: Load::default(),
            looked_at: now,
            beat_at: now,
            lag: Duration::ZERO,
            drain: None,
            ended: false,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    /// The owner was this late; the longest delay since the last beat is reported.
    pub(crate) fn note_lag(&mut self, lag: Duration) {
        self.lag = self.lag.max(lag);
    }

    /// Does everything that can be done now, up to the next connection.
    pub(crate) fn turn(&mut self, now: Instant, intake: Intake) -> Turn {
        self.shared.look();
        loop {
            if !self.flush() {
                return Turn::Wait { write: true, until: now + BEAT };
            }
            if let Some(connection) = self.accepted.take() {
                return Turn::Connection(connection);
            }
            if let Some(reason) = self.drain.take() {
                return Turn::Draining(reason);
            }
            let progress = self.next_message(intake);
            self.report(now);
            if !progress && self.outbox.is_empty() {
                if self.ended && self.arrived.is_empty() {
                    return Turn::Ended;
                }
                return Turn::Wait { write: false, until: self.next_report(now) };
            }
        }
    }

    /// Says `ready` without reading anything.
    pub(crate) fn announce(&mut self, now: Instant) {
        if self.flush() {
            self.report(now);
            self.flush();
        }
    }

    /// Handles one message that has arrived, or reads. False: there is nothing to do without
    /// waiting.
    fn next_message(&mut self, intake: Intake) -> bool {
        #[cfg(feature = "tokio")]
        if intake == Intake::Hold {
            return false;
        }
        if self.arrived.is_empty() && !self.read() {
            return false;
        }
        if let Some(delivery) = self.arrived.pop_front() {
            self.handle(delivery, intake);
        }
        true
    }

    fn handle(&mut self, delivery: Delivery, intake: Intake) {
        match delivery.message {
            Incoming::Conn(conn) => self.hand_over(conn, delivery.socket, intake),
            Incoming::Drain => self.drain = Some(Drain::Asked),
            Incoming::Pressure { level } => self.shared.set_pressure(level),
            Incoming::Unknown => {}
        }
    }

    fn hand_over(&mut self, conn: Conn, socket: Option<OwnedFd>, intake: Intake) {
        self.seen = conn.seq;
        let wanted =
            intake == Intake::Take && self.shared.drain().is_none() && self.shared.has_room();
        let stream = socket.filter(|_| wanted).and_then(Stream::from_descriptor);
        Outgoing::Ack { seq: conn.seq, accepted: stream.is_some() }.write_to(&mut self.outbox);
        if let Some(stream) = stream {
            let peer = Peer::parse(conn.peer.unwrap_or_default());
            self.accepted = Some(Connection::new(stream, conn.listener, peer, &self.shared));
        }
    }

    /// Reads once. False: nothing to read, now or ever.
    fn read(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let mut buffer = [0; READ_SIZE];
        let mut passed = Vec::new();
        match sys::receive(&self.socket, &mut buffer, &mut passed) {
            Ok(0) => self.end(),
            Ok(count) => self.reader.feed(&buffer[..count], passed, &mut self.arrived),
            Err(Errno::AGAIN) => return false,
            // Out of memory passes; a reset, or anything else, is a channel without a master.
            Err(Errno::NOBUFS | Errno::NOMEM) => return false,
            Err(_) => self.end(),
        }
        true
    }

    fn end(&mut self) {
        self.ended = true;
        self.drain = Some(Drain::MasterLost);
    }

    /// Appends what the master should know now, right behind an ack if there is one.
    fn report(&mut self, now: Instant) {
        if !self.said_ready {
            if !self.shared.is_ready() {
                return;
            }
            self.said_ready = true;
            Outgoing::Ready { sdk: SDK }.write_to(&mut self.outbox);
        }
        let look = now >= self.looked_at + ACTIVE_INTERVAL;
        if look {
            self.looked_at = now;
            self.shared.look_at_active();
        }
        let (open, active) = self.shared.counts();
        let load = Load { seen: self.seen, open, active, lag_ms: self.reported.lag_ms };
        let beat = now >= self.beat_at + BEAT;
        let due = if (load.seen, load.open) == (self.reported.seen, self.reported.open) {
            look && load.active != self.reported.active
        } else {
            true
        };
        if !(beat || due) {
            return;
        }
        let lag_ms = u64::try_from(self.lag.as_millis()).unwrap_or(u64::MAX);
        self.reported = Load { lag_ms, ..load };
        if beat {
            self.beat_at = now;
            self.lag = Duration::ZERO;
        }
        Outgoing::Load(self.reported).write_to(&mut self.outbox);
    }

    fn next_report(&self, now: Instant) -> Instant {
        if !self.said_ready {
            return now + BEAT;
        }
        let beat = self.beat_at + BEAT;
        if self.shared.is_active_unread() {
            return beat.min(self.looked_at + ACTIVE_INTERVAL);
        }
        beat
    }

    /// Sends what is unsent. False: the master does not read now.
    fn flush(&mut self) -> bool {
        while !self.outbox.is_empty() {
            match sys::send(&self.socket, &self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return false,
                // Nobody will ever read it; what the master sent before it went is still to be
                // read.
                Err(_) => self.outbox.clear(),
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
