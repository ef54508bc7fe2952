//! Runs the reactor: one thread that accepts, chooses a worker for every connection and owns every
//! control channel, both directions.
//!
//! Everything happens in [`Reactor`], which no await ever holds; the tasks here only wait for a
//! descriptor or a deadline and call it. Absent on purpose: a task per connection.

mod connection;
mod counting;
mod hearing;
mod listener;
mod observe;
mod refuse;
mod servers;
mod serving;
mod tasks;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use crate::config::{Address, Listeners};
use crate::link::orders::{Attachment, Order, Report};
use crate::link::said::Said;
use crate::link::{Channel, Connection, Link, Stuck};
use crate::policy::{Balance, Grant, ListenerId, QueueBounds, Ticket, WorkerBounds, WorkerId};
use listener::Listener;
pub(crate) use listener::{Bound, bind};
use observe::{KernelCount, Observer};
use refuse::Shedding;
use servers::Servers;

/// How long a worker may answer with `Connection: close` before its servers close, so that clients
/// with a request on its way are told instead of cut (docs/PROTOCOL.md, drain).
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// How long a worker that has finished may take to exit by itself, before it counts as lingering.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// How long a listener rests, or a channel waits, when the kernel is out of descriptors or memory:
/// nothing tells when that ends.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// What the reactor needs to know, resolved.
#[derive(Debug)]
pub(crate) struct DispatchSettings {
    pub(crate) listeners: Listeners,
    /// Sockets of the configured addresses, by their place in `listeners.listed`.
    pub(crate) bound: HashMap<usize, Bound>,
    /// Where native workers are served when nothing is configured.
    pub(crate) fallback: Address,
    pub(crate) queue: QueueBounds,
    pub(crate) bounds: WorkerBounds,
    pub(crate) ready: ReadyWhen,
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
}

/// Runs the reactor on this thread until it is told to quit or control is gone.
///
/// # Errors
/// Only before anything is served: the runtime could not be built.
pub(crate) fn run(settings: DispatchSettings, wires: Wires) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (changes_in, changes) = mpsc::channel(tasks::CHANGES_MAX);
    let Wires { balance, orders, reports } = wires;
    let reactor = Reactor::new(settings, balance, reports, changes_in);
    runtime.block_on(tasks::run(Rc::new(RefCell::new(reactor)), orders, changes));
    Ok(())
}

/// See the module.
struct Reactor {
    servers: Servers,
    bound: HashMap<usize, Bound>,
    fallback: Address,
    queue: QueueBounds,
    bounds: WorkerBounds,
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
    next_ticket: u64,
    next_listener: u32,
    timers: BTreeMap<(Instant, u64), Timer>,
    next_timer: u64,
    /// Wakes the task that sleeps until the next deadline.
    deadline_moved: Rc<Notify>,
    /// What the tasks must start or stop waiting on.
    changes: mpsc::Sender<tasks::Change>,
    accepting: Accepting,
}

/// Whether the kernel tells which sockets are gone.
#[derive(Debug)]
enum Observing {
    /// Every worker so far counts for itself: events would only cost.
    NotNeeded,
    Since(Observer),
    /// It cannot.
    Denied,
}

impl Observing {
    fn observer(&mut self) -> Option<&mut Observer> {
        match self {
            Self::Since(observer) => Some(observer),
            Self::NotNeeded | Self::Denied => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Yes,
    Stopped,
}

/// A worker as the reactor sees it.
struct Member {
    link: Link,
    standing: Standing,
    /// Wakes its task to wait for room in the channel.
    flush: Rc<Notify>,
    /// We asked it to say when its open count falls and it has not yet.
    watched: Watched,
    /// How its open connections are counted.
    counted: Counted,
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
    /// Phase two of a drain.
    Disconnect(WorkerId),
    /// A channel that was out of descriptors in flight.
    Flush(WorkerId),
    /// A listener that rested.
    Resume(ListenerId),
    /// A worker that finished draining and has not exited.
    Drained(WorkerId),
    /// What was turned away in the last ten seconds.
    SheddingSummary,
}

impl Reactor {
    fn new(
        settings: DispatchSettings,
        balance: Arc<Mutex<Balance>>,
        reports: mpsc::Sender<Report>,
        changes: mpsc::Sender<tasks::Change>,
    ) -> Self {
        Self {
            servers: Servers::new(settings.listeners),
            bound: settings.bound,
            fallback: settings.fallback,
            queue: settings.queue,
            bounds: settings.bounds,
            ready_when: settings.ready,
            balance,
            reports,
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            waiting: HashMap::new(),
            observing: Observing::NotNeeded,
            shedding: Shedding::default(),
            exhausted: Seldom::default(),
            next_ticket: 0,
            next_listener: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            deadline_moved: Rc::new(Notify::new()),
            changes,
            accepting: Accepting::Yes,
        }
    }

    fn balance(&self) -> MutexGuard<'_, Balance> {
        crate::link::lock(&self.balance)
    }

    /// Carries out one order.
    fn obey(&mut self, now: Instant, order: Order) -> tasks::Next {
        match order {
            Order::Attach(attachment) => self.attach(attachment),
            Order::Drain(worker) => self.drain(now, worker),
            Order::Detach(worker) => self.detach(now, worker),
            Order::StopAccepting => self.stop_accepting(now),
            Order::Quit => return tasks::Next::End,
        }
        tasks::Next::GoOn
    }

    fn attach(&mut self, attachment: Attachment) {
        let worker = attachment.worker;
        let link = Link::new(attachment);
        self.balance().add_worker(worker, self.bounds);
        let member = Member {
            link,
            standing: Standing::Starting,
            flush: Rc::new(Notify::new()),
            watched: Watched::No,
            counted: Counted::Kernel(KernelCount::default()),
        };
        let change = tasks::Change::watch_channel(&member);
        self.links.insert(worker, member);
        self.change(change);
    }

    fn drain(&mut self, now: Instant, worker: WorkerId) {
        self.balance().drain(worker);
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        if member.standing == Standing::Ended {
            return;
        }
        member.standing = Standing::Draining;
        let sent = member.link.drain();
        self.after_send(now, worker, sent);
        self.after(now + DRAIN_GRACE, Timer::Disconnect(worker));
    }

    /// The worker's process is dead. What it said last still counts: an answer may sit unread.
    fn detach(&mut self, now: Instant, worker: WorkerId) {
        while self.hear(now, worker) == Channel::More {}
        self.end_channel(now, worker);
        self.links.remove(&worker);
        self.servers.forget_worker(worker);
        self.change(tasks::Change::ForgetChannel(worker));
    }

    /// Nothing more can be said to this worker: settles its account and gives what it had not
    /// answered for to others.
    fn end_channel(&mut self, now: Instant, worker: WorkerId) {
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        if member.standing == Standing::Ended {
            return;
        }
        let was = std::mem::replace(&mut member.standing, Standing::Ended);
        let taken_back = member.link.take_back();
        self.balance().remove_worker(worker);
        if let Some(observer) = self.observing.observer() {
            observer.forget_worker(worker);
        }
        self.readmit(now, taken_back);
        match was {
            // It is most likely on its way out; a TERM now would cut that short.
            Standing::Draining => self.after(now + EXIT_GRACE, Timer::Drained(worker)),
            Standing::Starting | Standing::Ready | Standing::Ended => {
                self.report(Report::Unready(worker));
            }
        }
    }

    /// A process that had claimed the channel is gone while the worker (a wrapper) lives on: the
    /// channel is offered to the wrapper's next child.
    fn claimant_ended(&mut self, now: Instant, worker: WorkerId) {
        while self.hear(now, worker) == Channel::More {}
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        match member.standing {
            Standing::Ended => return,
            Standing::Draining => return self.end_channel(now, worker),
            Standing::Starting | Standing::Ready => {}
        }
        member.standing = Standing::Starting;
        member.watched = Watched::No;
        member.counted = Counted::Kernel(KernelCount::default());
        let taken_back = member.link.take_back();
        let offered = member.link.offer_again();
        self.balance().unready(worker);
        self.servers.forget_worker(worker);
        self.readmit(now, taken_back);
        self.report(Report::Unready(worker));
        if let Err(error) = offered {
            self.report(Report::Faulted { worker, error: format!("cannot offer again: {error}") });
        }
    }

    /// Reads and acts on one turn's worth of what a worker says.
    fn hear(&mut self, now: Instant, worker: WorkerId) -> Channel {
        let Some(member) = self.links.get_mut(&worker) else {
            return Channel::Ended;
        };
        let mut said: Vec<Said> = Vec::new();
        let channel = member.link.read(&mut said);
        for message in said {
            self.heed(now, worker, message);
        }
        self.refresh_load(now, worker);
        channel
    }

    /// Writes what waited for room in the channel.
    fn flush(&mut self, now: Instant, worker: WorkerId) {
        if let Some(member) = self.links.get_mut(&worker) {
            let sent = member.link.flush();
            self.after_send(now, worker, sent);
        }
    }

    /// Waits for what a send that did not go through needs.
    fn after_send(&mut self, now: Instant, worker: WorkerId, sent: Result<(), Stuck>) {
        match sent {
            Ok(()) => {}
            Err(Stuck::Full) => {
                if let Some(member) = self.links.get(&worker) {
                    member.flush.notify_one();
                }
            }
            Err(Stuck::TooManyInFlight) => self.after(now + EXHAUSTED_PAUSE, Timer::Flush(worker)),
            Err(Stuck::Broken(error)) => {
                tracing::debug!(%worker, %error, "control channel broken");
                self.end_channel(now, worker);
            }
        }
    }

    /// Does what is due.
    fn on_deadline(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Timer::Disconnect(worker) => {
                    if let Some(member) = self.links.get_mut(&worker) {
                        let sent = member.link.disconnect();
                        self.after_send(now, worker, sent);
                    }
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
                Timer::SheddingSummary => {
                    if self.shedding.summarise() {
                        self.after(now + refuse::SUMMARY_EVERY, Timer::SheddingSummary);
                    }
                }
            }
        }
        self.refresh_loads(now);
        let expired = self.balance().expire(now);
        self.deliver(now, expired.grants);
        for (_, ticket, reason) in expired.shed {
            self.shed_waiting(now, ticket, reason);
        }
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

/// Logs what may happen thousands of times a second, at most once in ten seconds.
#[derive(Debug, Default)]
struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    fn note(&mut self, now: Instant, error: &dyn Display) {
        if self.last.is_none_or(|last| now.duration_since(last) > Duration::from_secs(10)) {
            self.last = Some(now);
            tracing::warn!(%error, "cannot accept, trying again every 50 ms");
        }
    }
}

/// The reactor as its tasks share it: borrowed for one call at a time, never across an await.
type Shared = Rc<RefCell<Reactor>>;

/// Grants to deliver, as `Balance` returns them.
type Grants = Vec<Grant>;
