//! What all clients of request mode share: the desk that gives out leases, the pool of worker
//! connections, the buffer budget, and the counts.

use std::cell::{Cell, OnceCell, Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};

use super::budget::Budget;
use super::desk::{Desk, Place};
use super::ending::{self, Ending};
use super::exchange::Request;
use super::h2;
use super::poison::Casualties;
use super::pool::{Counted, Pool, Upstream};
use super::probes::Probes;
use super::retry::{Failure, RetryBudget};
use super::sticky::Stickiness;
use super::stream::{Kind, Stream};
use crate::clock;
use crate::config::{MaxClients, RequestSettings};
use crate::dispatch::listener::Listener;
use crate::dispatch::upgrade::Successor;
use crate::dispatch::{Hears, PrivateEnd, Reactor};
use crate::http::answer::Page;
use crate::http::{HeadLimits, RequestHead, TrustedPeers};
use crate::link::orders::{Report, Upstream as Address};
use crate::link::said::ServerKey;
use crate::metrics::{self, Held, Holding, InFlightState, Recorder};
use crate::policy::{
    EjectionSettings, Ejections, Health, ListenerId, SplitMix64, Standing, WorkerId,
};

/// How much is read at once of a client.
pub(super) const SCRATCH: usize = 64 * 1024;

/// How much is read at once of a response's body: all that a worker's end of a pair holds by
/// default (208 KiB). docs/DESIGN.md has what that saves.
pub(super) const PIECE: usize = 256 * 1024;

/// What request mode is told, resolved.
#[derive(Clone, Debug)]
pub(crate) struct FrontSettings {
    pub(crate) request: RequestSettings,
    /// Client connections at once, of all listeners without a bound of their own.
    pub(crate) max_clients: NonZeroU32,
    /// When a worker that fails gets nothing for a while.
    pub(crate) ejection: EjectionSettings,
    /// What control knows of the pool.
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) seed: u64,
}

/// Request mode under certain settings: these, and what is shared by all of them.
///
/// It never changes. A reload makes another one, by which later requests are served.
#[derive(Debug)]
pub(in crate::dispatch) struct Front {
    pub(super) settings: RequestSettings,
    pub(super) heads: HeadLimits,
    /// What a new worker is asked for before it is ready.
    pub(in crate::dispatch) warmup: Arc<[String]>,
    pub(super) trusted: TrustedPeers,
    pub(super) page: Option<Page>,
    pub(super) sticky: Stickiness,
    pub(super) budget: Budget,
    pub(super) shared: Rc<Shared>,
}

/// What outlives every change of settings.
#[derive(Debug)]
pub(in crate::dispatch) struct Shared {
    /// The front that new requests are served by.
    pub(super) latest: RefCell<Weak<Front>>,
    max_clients: NonZeroU32,
    pub(super) health: watch::Receiver<Health>,
    pub(super) desk: Rc<Desk>,
    pub(super) recorder: Rc<Recorder>,
    pub(super) pool: Pool,
    pub(super) retries: RefCell<RetryBudget>,
    pub(super) ejections: RefCell<Ejections>,
    pub(super) casualties: RefCell<Casualties>,
    reactor: Weak<RefCell<Reactor>>,
    pub(super) reports: mpsc::Sender<Report>,
    scratch: RefCell<Box<[u8]>>,
    random: RefCell<SplitMix64>,
    clients: Rc<Cell<u32>>,
    /// Idle clients, oldest first.
    idle: Rc<RefCell<BTreeMap<u64, Idle>>>,
    next_idle: Cell<u64>,
    /// Every request between its head and its end, by age.
    in_flight: Rc<RefCell<BTreeMap<u64, Rc<Exchange>>>>,
    next_exchange: Cell<u64>,
    pub(super) ending: Ending,
    pub(super) probes: Probes,
    /// Set once: who serves clients from their next request on.
    pub(super) successor: OnceCell<Successor>,
}

impl Deref for Front {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// One request between its head and its end, for whoever asks what is going on.
#[derive(Debug)]
pub(in crate::dispatch) struct Exchange {
    pub(in crate::dispatch) since: Instant,
    head: Rc<RequestHead>,
    client: Option<SocketAddr>,
    pub(super) state: Cell<InFlightState>,
    /// None while it waits for a lease.
    pub(in crate::dispatch) worker: Cell<Option<WorkerId>>,
    /// Told when its worker hangs.
    forsaken: Notify,
}

/// An entry among those in flight, for as long as this lives.
#[derive(Debug)]
pub(super) struct InFlight {
    number: u64,
    exchange: Rc<Exchange>,
    all: Rc<RefCell<BTreeMap<u64, Rc<Exchange>>>>,
    recorder: Rc<Recorder>,
    /// While it counts as a stream.
    stream: RefCell<Option<Holding>>,
}

impl Exchange {
    /// The head of its request.
    pub(in crate::dispatch) fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Tells the client's task that its worker hangs.
    pub(super) fn let_go(&self) {
        self.forsaken.notify_one();
    }
}

/// One client connection more, for as long as this lives.
#[derive(Debug)]
pub(in crate::dispatch) struct OpenClient {
    counted: Option<Counted>,
    of: Option<Counted>,
    _holding: Holding,
    stage: Rc<watch::Sender<ending::Stage>>,
    /// Wakes a stop that waits for the last client.
    moved: Rc<Notify>,
}

/// One idle client, for as long as this lives.
#[derive(Debug)]
pub(super) struct IdleClient {
    _holding: Holding,
    number: u64,
    idle: Rc<RefCell<BTreeMap<u64, Idle>>>,
}

/// Where an idle client came from, and what tells it to make room.
#[derive(Debug)]
struct Idle {
    listener: ListenerId,
    evicted: Rc<Notify>,
}

impl Front {
    pub(in crate::dispatch) fn new(
        settings: FrontSettings,
        shared: (Rc<Desk>, Rc<Recorder>),
        (reactor, reports): (Weak<RefCell<Reactor>>, mpsc::Sender<Report>),
    ) -> Self {
        let (desk, recorder) = shared;
        let FrontSettings { request, max_clients, ejection, health, seed } = settings;
        let shared = Rc::new(Shared {
            latest: RefCell::default(),
            max_clients,
            health,
            desk,
            recorder,
            pool: Pool::default(),
            retries: RefCell::new(RetryBudget::new(crate::clock::now())),
            ejections: RefCell::new(Ejections::new(ejection)),
            casualties: RefCell::default(),
            reports,
            reactor,
            scratch: RefCell::new(vec![0; PIECE].into_boxed_slice()),
            random: RefCell::new(SplitMix64::new(seed)),
            clients: Rc::new(Cell::new(0)),
            idle: Rc::new(RefCell::new(BTreeMap::new())),
            next_idle: Cell::new(0),
            in_flight: Rc::default(),
            next_exchange: Cell::new(0),
            ending: Ending::default(),
            probes: Probes::default(),
            successor: OnceCell::new(),
        });
        Self::first(request, shared)
    }

    /// The reactor; none while it ends. Borrowed within one turn only.
    pub(super) fn reactor(&self) -> Option<Rc<RefCell<Reactor>>> {
        self.reactor.upgrade()
    }

    /// The buffer that everything is read into first. Borrowed within one turn only.
    pub(super) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// Whether one more client of this listener may be served; makes room by closing the oldest
    /// idle one of those that share its bound.
    pub(in crate::dispatch) fn has_room(&self, listener: &Listener) -> bool {
        let mut idle = self.idle.borrow_mut();
        let (has_room, oldest) = match listener.options.max_connections {
            MaxClients::Auto => (
                self.clients.get() < self.max_clients.get(),
                idle.first_entry().map(|it| *it.key()),
            ),
            MaxClients::Fixed(max) => {
                let mut of_it = idle.iter().filter(|(_, it)| it.listener == listener.id);
                (listener.clients.get() < max.get(), of_it.next().map(|(number, _)| *number))
            }
        };
        if has_room {
            return true;
        }
        match oldest.and_then(|number| idle.remove(&number)) {
            Some(Idle { evicted, .. }) => {
                evicted.notify_one();
                true
            }
            None => false,
        }
    }

    /// Whether one more stream of HTTP/2 may be served: each is held like a client, without a
    /// descriptor of its own. One connection's streams have room however few descriptors there are.
    pub(super) fn has_room_for_stream(&self) -> bool {
        let room = self.max_clients.get().max(h2::STREAMS_MAX);
        if self.clients.get() < room {
            return true;
        }
        if let Some(reactor) = self.reactor() {
            reactor.borrow_mut().count_shed(clock::now(), "max_connections");
        }
        false
    }

    /// Counts a client of a listener, which has this count.
    pub(in crate::dispatch) fn client_opened(&self, of: Option<Counted>) -> OpenClient {
        OpenClient {
            of,
            counted: Some(Counted::new(Rc::clone(&self.clients))),
            _holding: self.recorder.hold(Held::Client),
            stage: self.ending.stage(),
            moved: self.desk.moved(),
        }
    }

    /// Client connections.
    pub(in crate::dispatch) fn clients(&self) -> u32 {
        self.clients.get()
    }

    /// Closes, or moves on, every idle connection of these listeners.
    pub(super) fn evict_idle_of(&self, is_meant: impl Fn(ListenerId) -> bool) {
        self.idle.borrow_mut().retain(|_, idle| {
            let is_its = is_meant(idle.listener);
            if is_its {
                idle.evicted.notify_one();
            }
            !is_its
        });
    }

    /// Enters a client of a listener among the idle; `evicted` is told when it must make room.
    pub(super) fn idle(&self, listener: ListenerId, evicted: Rc<Notify>) -> IdleClient {
        let number = self.next_idle.get();
        self.next_idle.set(number + 1);
        self.idle.borrow_mut().insert(number, Idle { listener, evicted });
        let _holding = self.recorder.hold(Held::IdleClient);
        IdleClient { _holding, number, idle: Rc::clone(&self.idle) }
    }

    /// A new connection to this worker.
    ///
    /// # Errors
    /// The worker is gone, or does not take it within the bound.
    pub(super) async fn connect(
        &self,
        now: Instant,
        worker: WorkerId,
        to: (ListenerId, ServerKey),
    ) -> io::Result<Upstream> {
        let (listener, server) = to;
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let reactor = self.reactor().ok_or_else(gone)?;
        let end = reactor.borrow_mut().open_private(now, worker, listener)?;
        let (stream, counted, hears) = match end {
            PrivateEnd::Pair(socket, counted, hears) => {
                (Stream::register(socket, Kind::Unix)?, counted, hears)
            }
            PrivateEnd::At(Address::Tcp(address), counted) => {
                (Stream::connect_tcp(address).await?, counted, Hears::Nothing)
            }
            PrivateEnd::At(Address::Unix(path), counted) => {
                (Stream::connect_unix(&path).await?, counted, Hears::Nothing)
            }
        };
        Ok(Upstream::new(stream, (worker, server), hears, counted))
    }

    /// Enters a request among those in flight.
    pub(super) fn enter(&self, request: &Request, client: Option<SocketAddr>) -> InFlight {
        let number = self.next_exchange.get();
        self.next_exchange.set(number + 1);
        let exchange = Rc::new(Exchange {
            since: request.begun,
            head: Rc::clone(&request.head),
            client,
            state: Cell::new(InFlightState::Queued),
            worker: Cell::new(None),
            forsaken: Notify::new(),
        });
        self.in_flight.borrow_mut().insert(number, Rc::clone(&exchange));
        InFlight {
            number,
            exchange,
            all: Rc::clone(&self.in_flight),
            recorder: Rc::clone(&self.recorder),
            stream: RefCell::default(),
        }
    }

    /// The requests in flight, oldest first, for people.
    pub(in crate::dispatch) fn list_in_flight(&self, now: Instant) -> Vec<metrics::InFlight> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = |exchange: &Rc<Exchange>| metrics::InFlight {
            worker: exchange.worker.get(),
            age: now.saturating_duration_since(exchange.since),
            method: text(exchange.head.method()),
            // Without the query, which may hold secrets.
            target: text(exchange.head.path()),
            client: exchange.client,
            state: exchange.state.get(),
        };
        self.in_flight().values().map(shown).collect()
    }

    /// Every request in flight, oldest first.
    pub(in crate::dispatch) fn in_flight(&self) -> Ref<'_, BTreeMap<u64, Rc<Exchange>>> {
        self.in_flight.borrow()
    }

    /// Whether one more request may be sent again. One that met a crash always may (there are no
    /// more of them than the dead worker had in flight), and one that was refused, which takes no
    /// time.
    pub(super) fn may_retry(&self, now: Instant, failure: Failure) -> bool {
        match failure {
            // No worker has seen anything of it, and the wait is bounded.
            Failure::Exhausted => true,
            Failure::Lost | Failure::Unread | Failure::Unsent => self.settings.retries,
            Failure::Unreachable => self.settings.retries && self.retries.borrow_mut().spend(now),
        }
    }

    /// A worker failed a request of a client of `listener` before any byte of a response: ends what
    /// it holds there, and finds out what is to be known before the next attempt.
    pub(super) fn note_failure(&self, now: Instant, held: Place, why: (Failure, ListenerId)) {
        let (worker, (failure, listener)) = (held.worker(), why);
        match failure {
            // Not its fault.
            Failure::Exhausted => return,
            Failure::Unreachable | Failure::Unsent | Failure::Unread => {
                held.not_taken(now, listener);
            }
            Failure::Lost => drop(held),
        }
        self.failed(now, worker);
        if let Some(reactor) = self.reactor() {
            reactor.borrow_mut().look_after(now, worker);
        }
    }

    /// Counts an upgraded connection for as long as the result lives.
    pub(super) fn open_tunnel(&self) -> Holding {
        self.recorder.hold(Held::Upgrade)
    }

    /// Does what is due every second.
    pub(in crate::dispatch) fn keep_house(&self, now: Instant) {
        self.pool.expire(now);
    }

    /// A connection to a worker is free: kept, if the worker still gets work.
    pub(super) fn put_back(&self, now: Instant, upstream: Upstream, hint: Option<Duration>) {
        let standing = self.desk.balance().worker(upstream.worker).map(|view| view.standing);
        if standing == Some(Standing::Ready) {
            self.pool.put(now, upstream, hint);
        }
    }

    /// A worker leaves or is gone: nothing is kept for it.
    pub(in crate::dispatch) fn forget_worker(&self, worker: WorkerId) {
        self.pool.forget(worker);
        self.ejections.borrow_mut().forget(worker);
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn random_between(&self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low) + 1;
        low + self.random.borrow_mut().next_u64() % span
    }
}

impl InFlight {
    /// Its entry, as others see it.
    pub(super) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// It waits for a worker again.
    pub(super) fn queued(&self) {
        self.exchange.worker.set(None);
        self.exchange.state.set(InFlightState::Queued);
    }

    /// A worker has it now.
    pub(super) fn at(&self, worker: WorkerId) {
        self.exchange.worker.set(Some(worker));
        self.exchange.state.set(InFlightState::Waiting);
    }

    /// It has come this far.
    pub(super) fn is(&self, state: InFlightState) {
        self.exchange.state.set(state);
    }

    /// Counts it as a stream from now on, once, whether its route or its response says so.
    pub(super) fn count_stream(&self) {
        let mut stream = self.stream.borrow_mut();
        stream.get_or_insert_with(|| self.recorder.hold(Held::Stream));
    }

    /// It holds no stream any more.
    pub(super) fn end_stream(&self) {
        self.stream.take();
    }

    /// Returns when the worker that has it hangs and the client is to be let go.
    pub(super) async fn forsaken(&self) {
        self.exchange.forsaken.notified().await;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.all.borrow_mut().remove(&self.number);
    }
}

impl Drop for OpenClient {
    fn drop(&mut self) {
        // Counted out first: whoever is woken must not find it.
        (self.counted, self.of) = (None, None);
        if *self.stage.borrow() != ending::Stage::Serving {
            self.moved.notify_one();
        }
    }
}

impl Drop for IdleClient {
    fn drop(&mut self) {
        self.idle.borrow_mut().remove(&self.number);
    }
}
