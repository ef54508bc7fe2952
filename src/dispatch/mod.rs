//! Runs the reactor: one thread that accepts, chooses a worker for every connection and owns every
//! control channel, both directions.
//!
//! Everything happens in [`Reactor`], which no await ever holds; the tasks here only wait for a
//! descriptor or a deadline and call it. Absent on purpose: a task per connection.

mod connection;
mod counting;
mod draining;
mod health;
mod hearing;
mod held;
mod layout;
mod listener;
mod members;
mod observe;
mod private;
mod refuse;
mod relisten;
mod request;
mod seldom;
mod servers;
mod serving;
mod shedding;
mod tasks;
mod tuning;
mod upgrade;
mod upstream;
mod warming;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc};

use crate::clock::Pulse;
use crate::config::{Address, Listeners};
use crate::link::bound::Bound;
use crate::link::orders::{Order, Report};
use crate::link::{Channel, Connection, Link};
use crate::metrics::Recorder;
use crate::policy::{
    Balance, Generation, Grant, ListenerId, QueueBounds, Ticket, WorkerBounds, WorkerId,
};
use held::HeldLimit;
use layout::EntryId;
use listener::Listener;
pub(crate) use listener::{adopt, bind, inherit};
use observe::{KernelCount, Observing};
use private::PrivateEnd;
use request::Front;
use request::desk::Desk;
pub(crate) use request::{Crowd, FrontSettings, RETRY_CODES, most_memory, reason_codes};
use seldom::Seldom;
use servers::Servers;
use shedding::Shedding;
use upstream::Via;
use warming::Warming;

/// How long a worker that has finished may take to exit by itself, before it counts as lingering.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// How long a listener rests, or a channel waits, when the kernel is out of descriptors or memory:
/// nothing tells when that ends.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// What the reactor needs to know, resolved.
#[derive(Debug)]
pub(crate) struct DispatchSettings {
    pub(crate) listeners: Listeners,
    /// Sockets of the configured addresses, by their place in `listeners.listed`. One entry has
    /// several where systemd passed several.
    pub(crate) bound: HashMap<usize, Vec<Bound>>,
    /// Where native workers are served when nothing is configured.
    pub(crate) fallback: Address,
    pub(crate) queues: Queues,
    pub(crate) bounds: WorkerBounds,
    /// How long a new worker's limit rises.
    pub(crate) ramp: Duration,
    /// How long a kept connection may stay silent while its end drains.
    pub(crate) idle: Duration,
    pub(crate) ready: ReadyWhen,
    pub(crate) front: FrontSettings,
    pub(crate) accepting: Accepting,
    /// An old master's sockets that the app will ask for, by what it asks.
    pub(crate) inherited: HashMap<String, OwnedFd>,
    /// Brings the idle clients of an old master.
    pub(crate) clients: Option<OwnedFd>,
}

/// What may wait, by what is dispatched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queues {
    pub(crate) requests: QueueBounds,
    pub(crate) connections: QueueBounds,
}

/// When a Node worker is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadyWhen {
    /// It listens.
    Listening,
    /// It says so: `process.send('ready')`.
    Told,
}

/// The other threads' ends of the reactor.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) balance: Arc<Mutex<Balance>>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) reports: mpsc::Sender<Report>,
    /// What the reactor counts; it is the only writer.
    pub(crate) recorder: Recorder,
    /// Beats every second while the reactor goes round.
    pub(crate) pulse: Arc<Pulse>,
}

/// How often the reactor says that it goes round.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// Runs the reactor on this thread until it is told to quit or control is gone.
///
/// # Errors
/// Only before anything is served: the runtime could not be built.
pub(crate) fn run(mut settings: DispatchSettings, wires: Wires) -> io::Result<()> {
    let clients = settings.clients.take();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default())?;
    let (changes_in, changes) = mpsc::channel(tasks::CHANGES_MAX);
    let mut orders = None;
    let reactor = Rc::new_cyclic(|reactor| {
        let (from_control, made) = Reactor::new(settings, wires, changes_in, reactor);
        orders = Some(from_control);
        RefCell::new(made)
    });
    let orders = orders.expect("the closure has run");
    if let Some(clients) = clients {
        reactor.borrow().change(tasks::Change::TakeClients(clients));
    }
    runtime.block_on(tasks::run(reactor, orders, changes));
    Ok(())
}

/// See the module.
struct Reactor {
    servers: Servers,
    /// Sockets of configured addresses that no server has yet.
    bound: HashMap<EntryId, Vec<Bound>>,
    fallback: Address,
    queues: Queues,
    bounds: WorkerBounds,
    ramp: Duration,
    ready_when: ReadyWhen,
    balance: Arc<Mutex<Balance>>,
    reports: mpsc::Sender<Report>,
    links: BTreeMap<WorkerId, Member>,
    listeners: BTreeMap<ListenerId, Listener>,
    /// Connections that wait in a queue.
    waiting: HashMap<Ticket, Connection>,
    observing: Observing,
    shedding: Shedding,
    exhausted: Seldom,
    /// The same for connections to workers.
    disconnected: Seldom,
    next_ticket: u64,
    next_listener: u32,
    timers: BTreeMap<(Instant, u64), Timer>,
    next_timer: u64,
    /// Wakes the task that sleeps until the next deadline.
    deadline_moved: Rc<Notify>,
    /// Gives leases to requests.
    desk: Rc<Desk>,
    /// What all clients of request mode share.
    front: Rc<Front>,
    /// What the tasks must start or stop waiting on.
    changes: mpsc::Sender<tasks::Change>,
    accepting: Accepting,
    /// How long a kept connection may stay silent while its end drains.
    idle: Duration,
    /// Workers that were told to go, and serve until nobody can bring a request any more.
    held: BTreeSet<WorkerId>,
    held_limit: HeldLimit,
    /// An old master's sockets that no server has asked for yet.
    inherited: HashMap<String, OwnedFd>,
    recorder: Rc<Recorder>,
    pulse: Arc<Pulse>,
}

/// Whether connections are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    /// An old master takes them still.
    NotYet,
    Yes,
    /// A new master takes them.
    Bequeathed,
    Stopped,
}

/// A worker as the reactor sees it.
struct Member {
    link: Link,
    generation: Generation,
    standing: Standing,
    /// Wakes its task to wait for room in the channel.
    flush: Rc<Notify>,
    /// We asked it to say when its open count falls and it has not yet.
    watched: Watched,
    /// How its open connections are counted.
    counted: Counted,
    /// The process that speaks on its channel: its own, or a wrapper's child.
    speaker: i32,
    /// Our own connections to it (request mode): those it has answered for, and those open.
    private_seen: u64,
    private_open: Rc<Cell<u32>>,
    via: Via,
    hears: Hears,
    leaving: Leaving,
    warming: Warming,
    /// Beats with its `ready` and `load` messages.
    heard: Arc<Pulse>,
}

/// How far a worker is with its leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// It gets nothing new; it is not told before it has finished, or would cut off what it has not
    /// read. Its kept connections may stay silent until then.
    Untold {
        idle_until: Instant,
    },
    /// It was told to finish.
    Told {
        idle_until: Instant,
    },
    /// It was told to close.
    Closed,
}

/// Whether a worker can be told whom a request on a private connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hears {
    Nothing,
    /// Our preload takes the peer's field out before the app sees it.
    Peers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Starting,
    Ready,
    Draining,
    /// Its channel is closed.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    No,
    Asked,
}

/// Where a worker's counts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// It writes its load page.
    Page,
    /// It sends `load` messages.
    Messages,
    /// The kernel tells when a socket is gone.
    Kernel(KernelCount),
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    /// Whether a draining worker can go a step further.
    Leave(WorkerId),
    /// Clients have been silent for long enough.
    CloseIdle,
    /// A channel that nothing can be sent on any more.
    Lost(WorkerId),
    /// A channel that was out of descriptors in flight.
    Flush(WorkerId),
    /// The idle clients of a listener that was removed have been silent for long enough.
    CloseIdleOf(ListenerId),
    /// Whether such a listener has no client left.
    Empty(ListenerId),
    /// A listener that rested.
    Resume(ListenerId),
    /// A worker that finished draining and has not exited.
    Drained(WorkerId),
    /// What a dead worker had not finished.
    Casualties(WorkerId),
    /// What was turned away in the last ten seconds.
    SheddingSummary,
    /// The next beat of the pulse.
    Beat,
}

impl Reactor {
    fn new(
        settings: DispatchSettings,
        wires: Wires,
        changes: mpsc::Sender<tasks::Change>,
        myself: &Weak<RefCell<Self>>,
    ) -> (mpsc::Receiver<Order>, Self) {
        let Wires { balance, orders, reports, recorder, pulse } = wires;
        let recorder = Rc::new(recorder);
        let deadline_moved = Rc::new(Notify::new());
        let desk = Rc::new(Desk::new(Arc::clone(&balance), Rc::clone(&deadline_moved)));
        let shared = (Rc::clone(&desk), Rc::clone(&recorder));
        let ends = (Weak::clone(myself), reports.clone());
        let front = Rc::new(Front::new(settings.front, shared, ends));
        front.publish();
        let bound = settings.bound.into_iter();
        let bound = bound.map(|(place, bound)| (EntryId::first(place), bound));
        let reactor = Self {
            servers: Servers::new(settings.listeners),
            bound: bound.collect(),
            fallback: settings.fallback,
            queues: settings.queues,
            bounds: settings.bounds,
            ramp: settings.ramp,
            ready_when: settings.ready,
            balance,
            reports,
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            waiting: HashMap::new(),
            observing: Observing::NotNeeded,
            shedding: Shedding::default(),
            exhausted: Seldom::default(),
            disconnected: Seldom::default(),
            next_ticket: 0,
            next_listener: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            deadline_moved,
            desk,
            front,
            changes,
            idle: settings.idle,
            held: BTreeSet::new(),
            held_limit: HeldLimit::default(),
            accepting: settings.accepting,
            inherited: settings.inherited,
            recorder,
            pulse,
        };
        (orders, reactor)
    }

    /// Says that the reactor goes round, and does what is due every second.
    fn beat(&mut self, now: Instant) {
        self.pulse.beat(now);
        self.front.keep_house(now);
        self.raise_limits(now);
        self.watch_held_limit(now);
        for worker in self.links.keys() {
            self.end_if_idle(*worker);
        }
        self.after(now + BEAT_EVERY, Timer::Beat);
    }

    fn balance(&self) -> MutexGuard<'_, Balance> {
        crate::link::lock(&self.balance)
    }

    /// Carries out one order.
    fn obey(&mut self, now: Instant, order: Order) -> tasks::Next {
        match order {
            Order::Attach(attachment) => self.attach(now, attachment),
            Order::Assign { worker, duty } => self.assign(now, worker, duty),
            Order::Serve { worker, upstream } => self.serve_upstream(now, worker, upstream),
            Order::Drain { worker, until } => self.drain(now, worker, until),
            Order::Detach(worker) => self.detach(now, worker),
            Order::WindDown => self.front.wind_down(),
            Order::StopAccepting { until } => self.stop_accepting(now, until),
            Order::SetStalled { worker, stalled } => self.set_stalled(now, worker, stalled),
            Order::WriteHeap(order) => self.write_heap(now, &order),
            Order::Forsake(forsaken) => self.forsake(now, forsaken),
            Order::FetchApp { worker, path, accepts, reply } => {
                self.fetch_app(worker, path, accepts, reply);
            }
            Order::Foresee(outlook) => self.foresee(*outlook),
            Order::Relisten(generation) => self.relisten(now, generation),
            Order::Settle(end) => self.settle_listeners(now, end),
            Order::Retune(tuning) => self.retune(now, tuning),
            // Connection mode knows of connections only. A reader that has gone needs no answer.
            Order::Requests(reply) => drop(reply.send(self.front.list_in_flight(now))),
            Order::Lend(reply) => drop(reply.send(self.lend())),
            Order::Bequeath { clients } => self.bequeath(clients),
            Order::Accept => self.begin_accepting(),
            Order::Quit => return tasks::Next::End,
        }
        tasks::Next::GoOn
    }

    /// Does what is due.
    fn on_deadline(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Timer::Leave(worker) => self.leave(now, worker),
                Timer::CloseIdle => self.front.close_idle(),
                Timer::CloseIdleOf(listener) => self.front.close_idle_of(listener),
                Timer::Empty(listener) => self.end_if_empty(now, listener),
                Timer::Lost(worker) => {
                    while self.hear(now, worker) == Channel::More {}
                    self.end_channel(now, worker);
                }
                Timer::Flush(worker) => self.flush(now, worker),
                Timer::Resume(listener) => {
                    if let Some(listener) = self.listeners.get(&listener) {
                        listener.resume.notify_one();
                    }
                }
                Timer::Drained(worker) => {
                    if self.links.contains_key(&worker) {
                        self.report(Report::Drained(worker));
                    }
                }
                Timer::Casualties(worker) => self.front.count_casualties(now, worker),
                Timer::Beat => self.beat(now),
                Timer::SheddingSummary => {
                    self.summarise_shedding(now);
                }
            }
        }
        self.refresh_loads(now);
        let expired = self.balance().expire(now);
        self.deliver(now, expired.grants);
        for (_, ticket, reason) in expired.shed {
            self.shed_waiting(now, ticket, reason);
        }
        // A lease that ended may have made room for a connection.
        let foreign = self.desk.take_foreign();
        self.deliver(now, foreign);
        self.settle_stop(now);
    }

    /// When [`Reactor::on_deadline`] is next due.
    fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        let balance = self.balance().deadline();
        timer.into_iter().chain(balance).min()
    }

    fn wants_to_write(&self, worker: WorkerId) -> bool {
        self.links.get(&worker).is_some_and(|member| member.link.wants_to_write())
    }

    fn after(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, self.next_timer), timer);
        self.next_timer += 1;
        self.deadline_moved.notify_one();
    }

    fn report(&self, report: Report) {
        if let Err(error) = self.reports.try_send(report) {
            // Reports are bounded by workers' lives; a full channel means that control is gone or
            // stuck, and then nobody can act on it either.
            tracing::error!(%error, "control does not hear the reactor");
        }
    }

    fn change(&self, change: tasks::Change) {
        if let Err(error) = self.changes.try_send(change) {
            tracing::error!(%error, "the reactor does not hear itself");
        }
    }
}

/// The reactor as its tasks share it: borrowed for one call at a time, never across an await.
type Shared = Rc<RefCell<Reactor>>;

/// Grants to deliver, as `Balance` returns them.
type Grants = Vec<Grant>;
