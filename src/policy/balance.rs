//! Decides which worker gets the next request or connection, and what waits or is shed instead.
//!
//! Invariants after every call: no eligible worker while a queue it serves is non-empty; no worker
//! above its bounds; every dispatch went to the eligible worker with the least load at that moment.
//! Grants are returned, never delivered: whoever gets one delivers it after unlocking, and gives
//! back what it could not deliver. Absent on purpose: sampling (one dispatcher has exact counts and
//! at most 256 workers) and queues per worker (late binding is what keeps the tail short; who waits
//! for one worker waits among the others).

mod account;
mod matching;
mod sidelines;
mod streams;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::account::Account;
pub use self::types::{
    Admission, Asker, Expired, Grant, ListenerView, Load, Mode, Panic, Shed, ShedTally, Stalled,
    Standing, Tally, Wish, WorkerBounds, WorkerView,
};
use super::queue::{Queue, Waiter};
use super::{ListenerId, QueueBounds, Ticket, WorkerId};

/// Most connections a worker may be sent and not have answered. A handed connection cannot be
/// recalled, so few; but a window of 1 costs a Node worker a third more CPU per connection than a
/// window of 16, while 8 is within a few per cent of it. A worker that refuses starts again at 1.
pub const UNACKED_WINDOW: u32 = 8;

/// How long a worker that refused a connection gets none from that listener, unless one of its
/// connections closes earlier. Retrying at once would spin; a client hardly notices 100 ms.
pub const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// Accounts of all workers and the queue of every listener. Each call is O(listeners x workers) at
/// worst and O(workers) while nothing waits; one that serves waiters looks at those, too, who wait
/// for a worker without room.
///
/// Unknown workers, listeners and tickets are ignored: events about what is gone arrive late.
/// Every call that returns grants has counted them.
#[derive(Debug, Default)]
pub struct Balance {
    /// Sorted by id.
    workers: Vec<Account>,
    /// Sorted by id.
    listeners: Vec<Listener>,
    /// Where each waiting ticket stands.
    waiting: BTreeMap<Ticket, (ListenerId, Waiter)>,
    /// Dispatches so far; orders workers by how recently they got one.
    dispatches: u64,
    /// Not later than the end of the earliest refusal; `None` if no worker refuses.
    refusal_end: Option<Instant>,
    /// The end of the earliest ejection; `None` if no worker is ejected.
    ejection_end: Option<Instant>,
    panic: Panic,
    tally: Tally,
}

#[derive(Debug)]
struct Listener {
    id: ListenerId,
    mode: Mode,
    queue: Queue,
}

impl Balance {
    /// No workers, no listeners.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a listener, or gives an open one new bounds (its mode and waiters stay).
    pub fn open_listener(&mut self, id: ListenerId, mode: Mode, bounds: QueueBounds) {
        match self.listeners.binary_search_by_key(&id, |listener| listener.id) {
            Ok(at) => self.listeners[at].queue.bounds = bounds,
            Err(at) => {
                self.listeners.insert(at, Listener { id, mode, queue: Queue::new(bounds) });
            }
        }
    }

    /// Closes a listener; returns its waiters, oldest first, for the master to answer.
    pub fn close_listener(&mut self, id: ListenerId) -> Vec<Ticket> {
        let Ok(at) = self.listeners.binary_search_by_key(&id, |listener| listener.id) else {
            return Vec::new();
        };
        for worker in &mut self.workers {
            worker.unserve(id);
        }
        let turned_away: Vec<_> = self.listeners.remove(at).queue.into_tickets().collect();
        for ticket in &turned_away {
            self.waiting.remove(ticket);
        }
        self.tally.shed.add(Shed::Closing, turned_away.len());
        turned_away
    }

    /// Adds a worker that is not ready and serves nothing yet.
    pub fn add_worker(&mut self, id: WorkerId, bounds: WorkerBounds) {
        if let Err(at) = self.workers.binary_search_by_key(&id, |worker| worker.id) {
            self.workers.insert(at, Account::new(id, bounds));
        }
    }

    /// Changes a worker's bounds; a raised one serves waiters at once.
    pub fn set_bounds(&mut self, now: Instant, id: WorkerId, bounds: WorkerBounds) -> Vec<Grant> {
        self.change(now, id, |worker| worker.bounds = bounds)
    }

    /// The worker takes work from now on. Ignored once it drains.
    pub fn ready(&mut self, now: Instant, id: WorkerId) -> Vec<Grant> {
        self.restate(now, id, |worker| {
            if worker.standing == Standing::Starting {
                worker.standing = Standing::Ready;
            }
        })
    }

    /// The process that was ready is gone, the worker (a wrapper) is not: it holds no connections
    /// and serves nothing until told otherwise. Leases stay counted until released. The caller
    /// readmits what was un-acked.
    pub fn unready(&mut self, now: Instant, id: WorkerId) -> Vec<Grant> {
        self.restate(now, id, Account::reset)
    }

    /// The worker accepts on this listener from now on.
    pub fn serve(&mut self, now: Instant, id: WorkerId, listener: ListenerId) -> Vec<Grant> {
        if self.listener_index(listener).is_none() {
            return Vec::new();
        }
        self.change(now, id, |worker| worker.serve(listener))
    }

    /// The worker accepts on this listener no longer. Who waited for it is served by others.
    pub fn unserve(&mut self, now: Instant, id: WorkerId, listener: ListenerId) -> Vec<Grant> {
        self.change(now, id, |worker| worker.unserve(listener))
    }

    /// The worker gets nothing new, ever; what it holds stays counted until it ends. Who waited
    /// for it is served by others.
    pub fn drain(&mut self, now: Instant, id: WorkerId) -> Vec<Grant> {
        self.restate(now, id, |worker| worker.standing = Standing::Draining)
    }

    /// The worker is dead: its account is settled. The caller readmits what may be retried. Who
    /// waited for it is served by others.
    pub fn remove_worker(&mut self, now: Instant, id: WorkerId) -> Vec<Grant> {
        self.workers.retain(|worker| worker.id != id);
        self.weigh();
        self.settle(now)
    }

    /// Asks for a worker: grants at once, queues, or sheds. Returns `Queued` for a ticket that
    /// waits already.
    pub fn admit(&mut self, now: Instant, listener: ListenerId, ticket: Ticket) -> Admission {
        self.admit_as(Asker { listener, ticket, since: now, wish: Wish::Any })
    }

    /// [`admit`](Self::admit) for somebody with a wish; `since` is now.
    pub fn admit_as(&mut self, asker: Asker) -> Admission {
        self.enter(asker, |queue| if queue.is_full() { Err(Shed::QueueFull) } else { Ok(()) })
    }

    /// Asks again for a ticket whose worker died or refused; call it after
    /// [`remove_worker`](Self::remove_worker), [`unready`](Self::unready) or
    /// [`refused`](Self::refused). It takes its old place by `waited_since`, even in a full queue,
    /// and is shed only if it has reached the age bound and nobody has room.
    pub fn readmit(
        &mut self,
        now: Instant,
        listener: ListenerId,
        ticket: Ticket,
        waited_since: Instant,
    ) -> Admission {
        self.readmit_as(now, Asker { listener, ticket, since: waited_since, wish: Wish::Any })
    }

    /// [`readmit`](Self::readmit) for somebody with a wish.
    pub fn readmit_as(&mut self, now: Instant, asker: Asker) -> Admission {
        self.enter(asker, |queue| {
            if queue.is_over_age(now, asker.since) { Err(Shed::QueueTimeout) } else { Ok(()) }
        })
    }

    /// A waiter left: frees its place. `false` if it did not wait (it was granted or shed).
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some((listener, waiter)) = self.waiting.remove(&ticket) else {
            return false;
        };
        let at = self.listener_index(listener).expect("a waiter's listener is open");
        self.listeners[at].queue.remove(waiter)
    }

    /// Request mode: one exchange of this worker ended, or its grant could not be delivered. What
    /// the worker refused before may fit now.
    pub fn release(&mut self, now: Instant, id: WorkerId) -> Vec<Grant> {
        self.change(now, id, Account::release)
    }

    /// Connection mode: the worker accepted one connection.
    pub fn acked(&mut self, now: Instant, id: WorkerId) -> Vec<Grant> {
        self.tally.accepted += u64::from(self.worker_mut(id).is_some());
        self.change(now, id, Account::accept)
    }

    /// Connection mode: the worker refused one connection of this listener. It gets none of that
    /// listener until it reports fewer open, or [`REFUSAL_PAUSE`] has passed.
    pub fn refused(&mut self, now: Instant, id: WorkerId, listener: ListenerId) -> Vec<Grant> {
        self.refuse(now, id, listener, Account::answer)
    }

    /// Connection mode: a connection arrived at the worker without its descriptor, because the
    /// worker has no room for one more. A refusal, but one that the worker does not count as seen.
    pub fn not_received(&mut self, now: Instant, id: WorkerId, listener: ListenerId) -> Vec<Grant> {
        self.refuse(now, id, listener, Account::withdraw)
    }

    fn refuse(
        &mut self,
        now: Instant,
        id: WorkerId,
        listener: ListenerId,
        settle: impl FnOnce(&mut Account),
    ) -> Vec<Grant> {
        let until = self.refusal(now);
        self.tally.refused += u64::from(self.worker_mut(id).is_some());
        self.change(now, id, |worker| {
            settle(worker);
            worker.refuse(listener, until);
        })
    }

    /// Request mode: the worker did not take an exchange that it was given; otherwise as
    /// [`pause`](Self::pause).
    pub fn not_taken(&mut self, now: Instant, id: WorkerId, listener: ListenerId) -> Vec<Grant> {
        let until = self.refusal(now);
        self.change(now, id, |worker| {
            worker.take_back();
            worker.pause(listener, until);
        })
    }

    /// Request mode: the worker did not take what it was given. It gets none of that listener until
    /// it has finished something else, or [`REFUSAL_PAUSE`] has passed: a dead worker that nobody
    /// has told us of yet has nothing in flight, and would draw everything.
    pub fn pause(&mut self, now: Instant, id: WorkerId, listener: ListenerId) {
        let until = self.refusal(now);
        if let Some(worker) = self.worker_mut(id) {
            worker.pause(listener, until);
        }
    }

    /// The end of a refusal that begins now.
    fn refusal(&mut self, now: Instant) -> Instant {
        let until = now + REFUSAL_PAUSE;
        self.refusal_end = Some(self.refusal_end.map_or(until, |end| end.min(until)));
        until
    }

    /// Connection mode: a granted connection was never sent (its client left first, or the
    /// hand-over failed). Takes the grant back.
    pub fn withdraw(&mut self, now: Instant, id: WorkerId) -> Vec<Grant> {
        self.change(now, id, Account::withdraw)
    }

    /// Takes a worker's absolute counts; impossible ones are clamped.
    pub fn report(&mut self, now: Instant, id: WorkerId, load: Load) -> Vec<Grant> {
        self.change(now, id, |worker| worker.report(load))
    }

    /// Ends refusals that are over, serves who can be served then, and sheds who has reached the
    /// age bound of its queue. Call it at [`deadline`](Self::deadline).
    pub fn expire(&mut self, now: Instant) -> Expired {
        self.end_ejections(now);
        // Serve before shedding: nobody is turned away while a worker has room.
        let grants = self.settle(now);
        let mut shed = Vec::new();
        for listener in &mut self.listeners {
            while let Some(waiter) = listener.queue.pop_expired(now) {
                self.waiting.remove(&waiter.ticket);
                shed.push((listener.id, waiter.ticket, Shed::QueueTimeout));
            }
        }
        self.tally.shed.add(Shed::QueueTimeout, shed.len());
        Expired { shed, grants }
    }

    /// When [`expire`](Self::expire) is next due. May be early, never late, and after
    /// `expire(now)` it is later than `now`.
    pub fn deadline(&self) -> Option<Instant> {
        let queues = self.listeners.iter().filter_map(|listener| listener.queue.deadline());
        queues.chain(self.refusal_end).chain(self.ejection_end).min()
    }

    /// Whether a connection waits that this worker could have if only it had fewer open: it is at
    /// `max_connections`, or it refused. Its link then asks it to say when that count falls.
    pub fn wants_room(&self, id: WorkerId) -> bool {
        let Some(worker) = self.workers.iter().find(|worker| worker.id == id) else {
            return false;
        };
        self.listeners.iter().any(|listener| {
            listener.mode == Mode::Connection
                && !listener.queue.is_empty()
                && worker.is_full_of_connections(listener.id)
        })
    }

    /// A snapshot of one worker's account.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerView> {
        self.workers.iter().find(|worker| worker.id == id).map(Account::view)
    }

    /// The workers that get exchanges of this listener now, whether they have room or not.
    pub fn serving(&self, listener: ListenerId) -> impl Iterator<Item = WorkerView> {
        self.workers.iter().filter(move |worker| worker.serves_now(listener)).map(Account::view)
    }

    /// A snapshot of every worker's account, by id.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> {
        self.workers.iter().map(Account::view)
    }

    /// A snapshot of one listener's queue.
    pub fn listener(&self, id: ListenerId) -> Option<ListenerView> {
        self.listener_index(id).map(|at| self.listeners[at].view())
    }

    /// What became of everything so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// A snapshot of every listener's queue, by id.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerView> {
        self.listeners.iter().map(Listener::view)
    }
}

impl Listener {
    fn view(&self) -> ListenerView {
        ListenerView {
            id: self.id,
            mode: self.mode,
            bounds: self.queue.bounds,
            length: self.queue.len(),
            oldest: self.queue.oldest().map(|waiter| waiter.since),
        }
    }
}
