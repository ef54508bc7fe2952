//! What one worker holds, may hold, and whether it may be given more.

use std::num::NonZeroU32;
use std::time::Instant;

use super::{Load, Mode, Panic, Stalled, Standing, UNACKED_WINDOW, WorkerBounds, WorkerView};
use crate::policy::{Duty, ListenerId, WorkerId};

/// One worker's counts. In-flight is counted here (a lease says when it ends); open is counted by
/// the worker, and here only what it had not seen when it last reported.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: WorkerId,
    pub(super) bounds: WorkerBounds,
    pub(super) standing: Standing,
    pub(super) duty: Duty,
    pub(super) stalled: Stalled,
    /// Set while the worker gets nothing because it failed what it was given.
    pub(super) ejected: Option<Instant>,
    /// The pool's: then neither of the two above counts.
    pub(super) panic: Panic,
    serves: Vec<Service>,
    in_flight: u32,
    streams: u32,
    unacked: u32,
    /// How many may be un-acked: 1 after a refusal, one more with every connection it takes, up to
    /// [`UNACKED_WINDOW`]. A worker that takes few gets few to refuse.
    window: u32,
    /// Connections handed over since the worker last became unready. `load.seen <= sent`.
    sent: u64,
    load: Load,
    /// Connections it has taken, in all its life.
    accepted: u64,
    leased: u64,
    released: u64,
    /// Number of the last dispatch to this worker; 0 before the first.
    last_dispatch: u64,
}

/// A listener that the worker accepts on.
#[derive(Debug)]
struct Service {
    listener: ListenerId,
    /// Set while the worker gets nothing from this listener because it refused a connection.
    refusing_until: Option<Instant>,
}

impl Account {
    pub(super) fn new(id: WorkerId, bounds: WorkerBounds) -> Self {
        Self {
            id,
            bounds,
            standing: Standing::Starting,
            duty: Duty::Serve,
            stalled: Stalled::No,
            ejected: None,
            panic: Panic::No,
            serves: Vec::new(),
            in_flight: 0,
            streams: 0,
            unacked: 0,
            window: UNACKED_WINDOW,
            sent: 0,
            load: Load::default(),
            accepted: 0,
            leased: 0,
            released: 0,
            last_dispatch: 0,
        }
    }

    /// Whether this worker may get something from `listener` now. The one place that says so.
    pub(super) fn is_eligible(&self, listener: ListenerId, mode: Mode) -> bool {
        self.serves_now(listener) && self.has_room(mode)
    }

    /// Whether only room decides if it may get something from `listener` now.
    pub(super) fn serves_now(&self, listener: ListenerId) -> bool {
        self.is_available() && self.service(listener).is_some_and(|it| it.refusing_until.is_none())
    }

    /// Whether this worker may get a stream from `listener` now: its limit does not matter.
    pub(super) fn may_stream(&self, listener: ListenerId) -> bool {
        self.serves_now(listener) && self.has_room_for_stream()
    }

    /// Whether clients that came for this worker may wait for it.
    pub(super) fn is_worth_waiting_for(&self, listener: ListenerId) -> bool {
        self.is_available() && self.service(listener).is_some()
    }

    /// Whether only its open connections keep this worker from getting more of `listener`.
    pub(super) fn is_full_of_connections(&self, listener: ListenerId) -> bool {
        // However many are un-acked: when they are answered for, nobody asks again.
        self.is_available()
            && self.service(listener).is_some_and(|it| {
                it.refusing_until.is_some() || self.open() >= self.bounds.max_connections.get()
            })
    }

    /// Smaller gets the next dispatch: those in order before those that only a panic lets in (a
    /// hung worker holds little, and would draw everything), then least load, then least recently
    /// dispatched.
    pub(super) fn rank(&self, mode: Mode) -> (bool, u32, u32, u64) {
        let (load, tie) = match mode {
            Mode::Request => (self.in_flight, 0),
            Mode::Connection => (self.open(), self.load.active),
        };
        (self.is_out(), load, tie, self.last_dispatch)
    }

    /// Smaller gets the next stream: least of everything that it holds.
    pub(super) fn stream_rank(&self) -> (bool, u32, u64) {
        (self.is_out(), self.in_flight.saturating_add(self.streams), self.last_dispatch)
    }

    /// Whether it should get nothing although it is ready.
    pub(super) fn is_out(&self) -> bool {
        self.stalled == Stalled::Yes || self.ejected.is_some()
    }

    /// Whether it is ready, and there to serve.
    pub(super) fn is_on_duty(&self) -> bool {
        self.standing == Standing::Ready && self.duty == Duty::Serve
    }

    /// Client connections handed to this worker and not known to be closed.
    pub(super) fn open(&self) -> u32 {
        let unseen = u32::try_from(self.sent - self.load.seen).unwrap_or(u32::MAX);
        self.load.open.saturating_add(unseen)
    }

    /// Notes that this was the last worker to get something.
    pub(super) fn dispatched(&mut self, dispatch: u64) {
        self.last_dispatch = dispatch;
    }

    pub(super) fn take(&mut self, mode: Mode, dispatch: u64) {
        self.dispatched(dispatch);
        match mode {
            Mode::Request => {
                self.in_flight += 1;
                self.leased += 1;
            }
            Mode::Connection => {
                self.unacked += 1;
                self.sent += 1;
            }
        }
    }

    // The counts below saturate: an answer that no grant matches (a hostile worker, or one that
    // was made unready meanwhile) must not wrap them.

    /// What the worker refused may fit now that it has finished something.
    pub(super) fn release(&mut self) {
        self.take_back();
        self.forgive();
    }

    /// One exchange less, that the worker never had.
    pub(super) fn take_back(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.released += 1;
    }

    /// Counts one more stream, if there may be one.
    pub(super) fn open_stream(&mut self) -> bool {
        let has_room = self.has_room_for_stream();
        self.streams += u32::from(has_room);
        has_room
    }

    pub(super) fn close_stream(&mut self) {
        self.streams = self.streams.saturating_sub(1);
    }

    pub(super) fn accept(&mut self) {
        self.answer();
        self.accepted += 1;
        self.window = (self.window + 1).min(UNACKED_WINDOW);
    }

    pub(super) fn answer(&mut self) {
        self.unacked = self.unacked.saturating_sub(1);
    }

    pub(super) fn withdraw(&mut self) {
        self.answer();
        self.sent = self.sent.saturating_sub(1);
        self.load.seen = self.load.seen.min(self.sent);
    }

    /// Takes an absolute report. A worker cannot have seen what was not sent, nor hold more
    /// connections than it was ever given.
    pub(super) fn report(&mut self, load: Load) {
        let before = self.load.open;
        self.load = Load {
            seen: load.seen.min(self.sent),
            open: load.open.min(u32::try_from(self.sent).unwrap_or(u32::MAX)),
            active: load.active,
        };
        // Compare what the worker said, not `open()`: that also falls when a refused connection
        // is merely seen, and the next one would be refused again at once.
        if self.load.open < before {
            self.forgive();
        }
    }

    /// Ends every refusal.
    fn forgive(&mut self) {
        for service in &mut self.serves {
            service.refusing_until = None;
        }
    }

    /// Forgets what the process behind this worker held and served. In-flight and streams stay:
    /// each is still held by somebody who will give it back.
    pub(super) fn reset(&mut self) {
        if self.standing == Standing::Ready {
            self.standing = Standing::Starting;
        }
        self.stalled = Stalled::No;
        self.ejected = None;
        self.serves.clear();
        self.unacked = 0;
        self.window = UNACKED_WINDOW;
        self.sent = 0;
        self.load = Load::default();
    }

    pub(super) fn serve(&mut self, listener: ListenerId) {
        if self.service(listener).is_none() {
            self.serves.push(Service { listener, refusing_until: None });
        }
    }

    pub(super) fn unserve(&mut self, listener: ListenerId) {
        self.serves.retain(|service| service.listener != listener);
    }

    pub(super) fn refuse(&mut self, listener: ListenerId, until: Instant) {
        self.window = 1;
        self.pause(listener, until);
    }

    /// The worker gets nothing from this listener for a while.
    pub(super) fn pause(&mut self, listener: ListenerId, until: Instant) {
        for service in &mut self.serves {
            if service.listener == listener {
                service.refusing_until = Some(until);
            }
        }
    }

    /// Ends refusals that are over at `now`; returns the end of the next one.
    pub(super) fn end_refusals(&mut self, now: Instant) -> Option<Instant> {
        for service in &mut self.serves {
            service.refusing_until = service.refusing_until.filter(|&until| until > now);
        }
        self.serves.iter().filter_map(|service| service.refusing_until).min()
    }

    pub(super) fn view(&self) -> WorkerView {
        WorkerView {
            id: self.id,
            bounds: self.bounds,
            standing: self.standing,
            duty: self.duty,
            stalled: self.stalled,
            ejected: self.ejected,
            in_flight: self.in_flight,
            streams: self.streams,
            unacked: self.unacked,
            open: self.open(),
            active: self.load.active,
            sent: self.sent,
            accepted: self.accepted,
            leased: self.leased,
            released: self.released,
        }
    }

    fn is_available(&self) -> bool {
        self.is_on_duty() && (!self.is_out() || self.panic == Panic::Yes)
    }

    fn has_room(&self, mode: Mode) -> bool {
        let below = |count: u32, bound: NonZeroU32| count < bound.get();
        match mode {
            Mode::Request => below(self.in_flight, self.bounds.limit),
            Mode::Connection => {
                self.unacked < self.window && below(self.open(), self.bounds.max_connections)
            }
        }
    }

    fn has_room_for_stream(&self) -> bool {
        self.streams < self.bounds.max_connections.get()
    }

    fn service(&self, listener: ListenerId) -> Option<&Service> {
        self.serves.iter().find(|service| service.listener == listener)
    }
}
