//! A second, naive account of the same rules, kept in plain lists, to judge every grant by.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::*;
use crate::policy::Duty;

/// What `Balance` should know.
#[derive(Default)]
pub(super) struct Model {
    pub(super) workers: BTreeMap<WorkerId, ModelWorker>,
    pub(super) listeners: BTreeMap<ListenerId, ModelListener>,
    dispatches: u64,
}

pub(super) struct ModelWorker {
    pub(super) bounds: WorkerBounds,
    pub(super) standing: Standing,
    pub(super) duty: Duty,
    pub(super) stalled: Stalled,
    pub(super) ejected: Option<Instant>,
    /// Listeners served, each with the end of a refusal.
    pub(super) serves: BTreeMap<ListenerId, Option<Instant>>,
    /// Exchanges it works on.
    pub(super) leases: Vec<Held>,
    pub(super) streams: u32,
    /// Connections sent and not answered, oldest first.
    pub(super) unacked: Vec<Held>,
    /// How many may be un-acked.
    pub(super) window: usize,
    pub(super) sent: u64,
    /// What it last reported, clamped.
    pub(super) said: Load,
    /// What it truly has.
    pub(super) truth: Load,
    last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) listener: ListenerId,
    pub(super) ticket: Ticket,
    pub(super) since: Instant,
}

/// Since when who waits, and for whom.
pub(super) type Waiting = (Instant, Ticket, Option<WorkerId>);

pub(super) struct ModelListener {
    pub(super) mode: Mode,
    pub(super) bounds: QueueBounds,
    pub(super) waiters: Vec<Waiting>,
    /// Those of the waiters that came back; the bound does not count them.
    pub(super) readmitted: Vec<Ticket>,
}

impl Model {
    pub(super) fn add_worker(&mut self, id: WorkerId, bounds: WorkerBounds) {
        let worker = ModelWorker {
            bounds,
            standing: Standing::Starting,
            duty: Duty::Serve,
            stalled: Stalled::No,
            ejected: None,
            serves: BTreeMap::new(),
            leases: Vec::new(),
            streams: 0,
            unacked: Vec::new(),
            window: UNACKED_WINDOW as usize,
            sent: 0,
            said: Load::default(),
            truth: Load::default(),
            last: 0,
        };
        self.workers.insert(id, worker);
    }

    pub(super) fn eligible(&self, listener: ListenerId) -> Vec<WorkerId> {
        let mode = self.listeners[&listener].mode;
        let able = self
            .workers
            .iter()
            .filter(|(_, worker)| self.is_in(worker) && worker.can_take(listener, mode));
        able.map(|(&id, _)| id).collect()
    }

    /// Whether it is in order, or more than half of those ready are not.
    fn is_in(&self, worker: &ModelWorker) -> bool {
        let ready = || self.workers.values().filter(|it| it.is_on_duty());
        let out = ready().filter(|it| it.is_out()).count();
        !worker.is_out() || out * 2 > ready().count()
    }

    /// Of these, those in order, if there are any.
    fn preferred(&self, mut of: Vec<WorkerId>) -> Vec<WorkerId> {
        if of.iter().any(|id| !self.workers[id].is_out()) {
            of.retain(|id| !self.workers[id].is_out());
        }
        of
    }

    /// Those of the eligible workers who may serve somebody with this wish.
    pub(super) fn allowed(&self, listener: ListenerId, wish: Wish) -> Vec<WorkerId> {
        let mut eligible = self.eligible(listener);
        match wish {
            Wish::Any => {}
            Wish::Only(only) => {
                let serves = |worker: &ModelWorker| {
                    worker.is_on_duty()
                        && self.is_in(worker)
                        && worker.serves.contains_key(&listener)
                };
                if self.workers.get(&only).is_some_and(serves) {
                    eligible.retain(|&id| id == only);
                }
            }
            Wish::Not(not) => {
                if eligible != [not] {
                    eligible.retain(|&id| id != not);
                }
            }
        }
        eligible
    }

    fn can_serve(&self, listener: ListenerId, waiter: &Waiting) -> bool {
        let wish = waiter.2.map_or(Wish::Any, Wish::Only);
        !self.allowed(listener, wish).is_empty()
    }

    /// Fails unless the stream went to whoever holds least of those who may have it.
    pub(super) fn stream(&mut self, listener: ListenerId, wish: Wish, given: Option<WorkerId>) {
        let able: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| self.is_in(worker) && worker.can_stream(listener))
            .map(|(&id, _)| id)
            .collect();
        let wished = match wish {
            Wish::Only(only) if able.contains(&only) => vec![only],
            Wish::Not(not) if able != [not] => able.into_iter().filter(|&id| id != not).collect(),
            Wish::Any | Wish::Only(_) | Wish::Not(_) => able,
        };
        let held = |id: &WorkerId| {
            let worker = &self.workers[id];
            worker.leases.len() + worker.streams as usize
        };
        let Some(given) = given else {
            return assert!(wished.is_empty(), "no stream, but {wished:?} may have one");
        };
        let wished = self.preferred(wished);
        assert!(wished.contains(&given), "{given:?} is none of {wished:?}");
        assert_eq!(Some(held(&given)), wished.iter().map(held).min());
        self.dispatches += 1;
        let worker = self.workers.get_mut(&given).expect("who is able exists");
        worker.streams += 1;
        worker.last = self.dispatches;
    }

    /// Fails unless the grant is right; then counts it. `since` is when the ticket came.
    pub(super) fn grant(&mut self, grant: Grant, since: Instant, wish: Wish) {
        let Grant { ticket, worker, listener } = grant;
        let mode = self.listeners[&listener].mode;
        let eligible = self.allowed(listener, wish);
        assert!(eligible.contains(&worker), "{grant:?} to a worker that is not eligible");
        let eligible = self.preferred(eligible);
        assert!(eligible.contains(&worker), "{grant:?} to one that is out, and others are not");
        let best = eligible.iter().map(|id| self.workers[id].load(mode)).min();
        let worker = self.workers.get_mut(&worker).expect("eligible workers exist");
        assert_eq!(Some(worker.load(mode)), best, "{grant:?} not to the least loaded");
        self.dispatches += 1;
        worker.last = self.dispatches;
        let held = Held { listener, ticket, since };
        // A bound may have been lowered below what is held; only new dispatches obey it.
        match mode {
            Mode::Request => {
                worker.leases.push(held);
                assert!(worker.leases.len() <= worker.bounds.limit.get() as usize);
            }
            Mode::Connection => {
                worker.unacked.push(held);
                worker.sent += 1;
                assert!(worker.unacked.len() <= worker.window);
                assert!(worker.open() <= worker.bounds.max_connections.get());
            }
        }
    }

    /// A grant to somebody who waited: it must be the oldest whom any worker could take.
    pub(super) fn grant_waiter(&mut self, grant: Grant) {
        let everybody = self
            .listeners
            .iter()
            .flat_map(|(&id, listener)| listener.waiters.iter().map(move |waiter| (id, waiter)));
        let servable = everybody.filter(|(id, waiter)| self.can_serve(*id, waiter));
        let oldest = servable.map(|(_, waiter)| *waiter).min();
        let listener = self.listeners.get_mut(&grant.listener).expect("grants name listeners");
        let at = listener.waiters.iter().position(|waiter| waiter.1 == grant.ticket);
        let waiter = listener.waiters.remove(at.expect("who is granted waited"));
        listener.readmitted.retain(|&ticket| ticket != grant.ticket);
        assert_eq!(Some(waiter), oldest, "{grant:?} is not the oldest");
        self.grant(grant, waiter.0, waiter.2.map_or(Wish::Any, Wish::Only));
    }

    pub(super) fn end_ejections(&mut self, now: Instant) {
        for worker in self.workers.values_mut() {
            worker.ejected = worker.ejected.filter(|&until| until > now);
        }
    }

    pub(super) fn end_refusals(&mut self, now: Instant) {
        for worker in self.workers.values_mut() {
            for refusal in worker.serves.values_mut() {
                *refusal = refusal.filter(|&until| until > now);
            }
        }
    }

    /// Takes a waiter out of whichever queue it is in.
    pub(super) fn forget(&mut self, ticket: Ticket) -> bool {
        let mut found = false;
        for listener in self.listeners.values_mut() {
            let before = listener.waiters.len();
            listener.waiters.retain(|waiter| waiter.1 != ticket);
            listener.readmitted.retain(|&waiting| waiting != ticket);
            found |= listener.waiters.len() < before;
        }
        found
    }

    /// Fails unless `balance` counts the same, nobody waits who could be served, and its next
    /// deadline is not late.
    pub(super) fn compare(&self, balance: &Balance) {
        assert_eq!(balance.workers().count(), self.workers.len());
        for (&id, worker) in &self.workers {
            let view = balance.worker(id).expect("the worker exists");
            assert_eq!(view.in_flight as usize, worker.leases.len(), "{view:?}");
            assert_eq!(view.streams, worker.streams, "{view:?}");
            assert_eq!(view.unacked as usize, worker.unacked.len(), "{view:?}");
            assert_eq!((view.open, view.active), (worker.open(), worker.said.active), "{view:?}");
            assert_eq!((view.standing, view.stalled), (worker.standing, worker.stalled));
            assert_eq!((view.ejected, view.duty), (worker.ejected, worker.duty));
        }
        for (&id, listener) in &self.listeners {
            let view = balance.listener(id).expect("the listener is open");
            assert_eq!(view.length, listener.waiters.len());
            assert_eq!(view.oldest, listener.waiters.iter().map(|waiter| waiter.0).min());
            let newcomers = listener.waiters.len() - listener.readmitted.len();
            assert!(newcomers <= listener.bounds.max, "queue above its bound");
            let stuck = listener.waiters.iter().find(|waiter| self.can_serve(id, waiter));
            assert_eq!(stuck, None, "somebody could serve it: {view:?}");
        }
        if let Some(due) = self.due() {
            let deadline = balance.deadline().expect("something is due some day");
            assert!(deadline <= due, "the deadline is late");
        }
    }

    /// The earliest moment at which something is due.
    fn due(&self) -> Option<Instant> {
        let ages = self.listeners.values().flat_map(|listener| {
            let timeout = listener.bounds.timeout;
            listener.waiters.iter().map(move |waiter| waiter.0 + timeout)
        });
        let refusals = self.workers.values().flat_map(|worker| worker.serves.values().flatten());
        let ejections = self.workers.values().filter_map(|worker| worker.ejected);
        ages.chain(refusals.copied()).chain(ejections).min()
    }
}

impl ModelWorker {
    pub(super) fn open(&self) -> u32 {
        self.said.open + (self.sent - self.said.seen) as u32
    }

    fn can_stream(&self, listener: ListenerId) -> bool {
        self.is_on_duty()
            && self.serves.get(&listener) == Some(&None)
            && self.streams < self.bounds.max_connections.get()
    }

    /// It has finished something: what it refused may fit now.
    pub(super) fn forgive(&mut self) {
        self.serves.values_mut().for_each(|refusal| *refusal = None);
    }

    pub(super) fn widen(&mut self) {
        self.window = (self.window + 1).min(UNACKED_WINDOW as usize);
    }

    pub(super) fn report(&mut self, load: Load) {
        let fewer = load.open.min(self.sent as u32) < self.said.open;
        self.said = Load {
            seen: load.seen.min(self.sent),
            open: load.open.min(self.sent as u32),
            active: load.active,
        };
        if fewer {
            self.forgive();
        }
    }

    fn can_take(&self, listener: ListenerId, mode: Mode) -> bool {
        let has_room = match mode {
            Mode::Request => self.leases.len() < self.bounds.limit.get() as usize,
            Mode::Connection => {
                self.unacked.len() < self.window && self.open() < self.bounds.max_connections.get()
            }
        };
        self.is_on_duty() && self.serves.get(&listener) == Some(&None) && has_room
    }

    fn is_on_duty(&self) -> bool {
        self.standing == Standing::Ready && self.duty == Duty::Serve
    }

    fn is_out(&self) -> bool {
        self.stalled == Stalled::Yes || self.ejected.is_some()
    }

    fn load(&self, mode: Mode) -> (usize, u32, u64) {
        match mode {
            Mode::Request => (self.leases.len(), 0, self.last),
            Mode::Connection => (self.open() as usize, self.said.active, self.last),
        }
    }
}
