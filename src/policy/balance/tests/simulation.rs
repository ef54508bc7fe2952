//! Random events from a seed, each answer judged by the model, all invariants after every event.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::super::*;
use super::model::{Held, Model};
use crate::policy::testing::for_each_seed;
use crate::policy::{Duty, SplitMix64};

/// Whether workers tell the truth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Honest,
    Hostile,
}

struct Simulation {
    random: SplitMix64,
    manners: Manners,
    now: Instant,
    balance: Balance,
    model: Model,
    /// Tickets that are neither ended nor shed, with when they came.
    alive: BTreeMap<Ticket, Instant>,
    ended: BTreeSet<Ticket>,
    last_id: u64,
    last_ticket: u64,
}

#[test]
fn every_invariant_holds_after_every_event() {
    for_each_seed(2_000, |random| simulate(random, Manners::Honest, 150));
}

#[test]
fn hostile_workers_break_no_invariant() {
    for_each_seed(1_000, |random| simulate(random, Manners::Hostile, 150));
}

fn simulate(random: SplitMix64, manners: Manners, events: u32) {
    let mut simulation = Simulation::new(random, manners);
    for _ in 0..events {
        simulation.step();
        simulation.model.compare(&simulation.balance);
    }
    simulation.wind_down();
}

impl Simulation {
    fn new(random: SplitMix64, manners: Manners) -> Self {
        let mut it = Self {
            random,
            manners,
            now: Instant::now(),
            balance: Balance::new(),
            model: Model::default(),
            alive: BTreeMap::new(),
            ended: BTreeSet::new(),
            last_id: 0,
            last_ticket: 0,
        };
        let modes = [Mode::Request, Mode::Connection, Mode::Connection];
        for (id, mode) in (1..).map(ListenerId).zip(modes) {
            it.open(id, mode);
        }
        for _ in 0..3 {
            it.join();
        }
        it
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.below(20));
        // A timer may be late, so an event may come between a deadline and its `expire`.
        if self.balance.deadline().is_some_and(|at| at <= self.now) && self.random.below(4) > 0 {
            self.expire();
        }
        match self.random.below(47) {
            0 => self.join(),
            1 => self.lose_worker(),
            2 => self.with_worker(Self::unready),
            3 => self.with_worker(|it, id| {
                it.worker(id).standing = Standing::Draining;
                let grants = it.balance.drain(it.now, id);
                it.settle(grants);
            }),
            4 | 40 | 41 => self.with_worker(Self::sideline),
            5 => self.with_worker(Self::rebound),
            6 => self.with_worker(Self::toggle_service),
            7 => self.reopen(),
            8 => self.cancel(),
            9 => self.expire(),
            10..20 => self.admit(),
            20..26 => self.release(),
            26..36 => self.answer(),
            36..39 => self.stream(),
            39 => self.with_worker(Self::pause),
            _ => self.with_worker(Self::report),
        }
    }

    fn open(&mut self, id: ListenerId, mode: Mode) {
        let timeout = Duration::from_millis(50 + self.random.below(300));
        let bounds = QueueBounds { max: self.random.below(6) as usize, timeout };
        self.balance.open_listener(id, mode, bounds);
        let (waiters, readmitted) = (Vec::new(), Vec::new());
        let listener = super::model::ModelListener { mode, bounds, waiters, readmitted };
        self.model.listeners.insert(id, listener);
    }

    fn reopen(&mut self) {
        let id = self.any_listener();
        let listener = self.model.listeners.remove(&id).expect("any_listener exists");
        let mut waiters = listener.waiters;
        waiters.sort_unstable();
        let turned_away = self.balance.close_listener(id);
        assert_eq!(turned_away, waiters.iter().map(|waiter| waiter.1).collect::<Vec<_>>());
        turned_away.into_iter().for_each(|ticket| self.end(ticket));
        for worker in self.model.workers.values_mut() {
            worker.serves.remove(&id);
        }
        let late = self.balance.admit(self.now, id, Ticket(u64::MAX));
        assert_eq!(late, Admission::Shed(Shed::Closing));
        self.open(id, listener.mode);
    }

    fn join(&mut self) {
        self.last_id += 1;
        let (id, bounds) = (WorkerId(self.last_id), self.any_bounds());
        self.balance.add_worker(id, bounds);
        self.model.add_worker(id, bounds);
        self.make_ready(id);
    }

    fn make_ready(&mut self, id: WorkerId) {
        for listener in self.model.listeners.keys().copied().collect::<Vec<_>>() {
            if self.random.below(4) > 0 {
                self.worker(id).serves.entry(listener).or_insert(None);
                let grants = self.balance.serve(self.now, id, listener);
                self.settle(grants);
            }
        }
        if self.worker(id).standing == Standing::Starting {
            self.worker(id).standing = Standing::Ready;
        }
        let grants = self.balance.ready(self.now, id);
        self.settle(grants);
    }

    fn lose_worker(&mut self) {
        let Some(id) = self.any_worker() else { return };
        let worker = self.model.workers.remove(&id).expect("any_worker exists");
        let grants = self.balance.remove_worker(self.now, id);
        self.settle(grants);
        worker.leases.iter().chain(&worker.unacked).for_each(|&held| self.readmit(held));
        assert!(self.balance.release(self.now, id).is_empty(), "a late release does nothing");
    }

    fn unready(&mut self, id: WorkerId) {
        let worker = self.worker(id);
        if worker.standing == Standing::Ready {
            worker.standing = Standing::Starting;
        }
        (worker.sent, worker.said, worker.truth) = (0, Load::default(), Load::default());
        (worker.stalled, worker.ejected) = (Stalled::No, None);
        worker.serves = BTreeMap::new();
        let lost = std::mem::take(&mut worker.unacked);
        worker.window = UNACKED_WINDOW as usize;
        let grants = self.balance.unready(self.now, id);
        self.settle(grants);
        lost.into_iter().for_each(|held| self.readmit(held));
        if self.random.below(2) == 0 {
            self.make_ready(id);
        }
    }

    /// Keeps it out of the choice, or lets it in again.
    fn sideline(&mut self, id: WorkerId) {
        let (now, choice) = (self.now, self.random.below(9));
        let grants = if choice < 3 {
            self.worker(id).stalled = if choice == 0 { Stalled::Yes } else { Stalled::No };
            self.balance.set_stalled(now, id, self.model.workers[&id].stalled)
        } else if choice < 6 {
            self.worker(id).duty = if choice == 3 { Duty::Spare } else { Duty::Serve };
            self.balance.set_duty(now, id, self.model.workers[&id].duty)
        } else {
            let until = now + Duration::from_millis(1 + self.random.below(100));
            self.worker(id).ejected = Some(until);
            self.balance.eject(now, id, until)
        };
        self.settle(grants);
    }

    fn rebound(&mut self, id: WorkerId) {
        let bounds = self.any_bounds();
        self.worker(id).bounds = bounds;
        let grants = self.balance.set_bounds(self.now, id, bounds);
        self.settle(grants);
    }

    fn toggle_service(&mut self, id: WorkerId) {
        let listener = self.any_listener();
        if self.worker(id).serves.remove(&listener).is_some() {
            let grants = self.balance.unserve(self.now, id, listener);
            self.settle(grants);
        } else {
            self.worker(id).serves.insert(listener, None);
            let grants = self.balance.serve(self.now, id, listener);
            self.settle(grants);
        }
    }

    fn admit(&mut self) {
        self.last_ticket += 1;
        let (ticket, id) = (Ticket(self.last_ticket), self.any_listener());
        self.alive.insert(ticket, self.now);
        let wish = self.any_wish();
        let is_idle = !self.model.allowed(id, wish).is_empty();
        let listener = &self.model.listeners[&id];
        let is_full = listener.waiters.len() >= listener.bounds.max;
        let now = self.now;
        let asker = Asker { listener: id, ticket, since: now, wish };
        match self.balance.admit_as(asker) {
            Admission::Granted(grant) => {
                assert_eq!((grant.ticket, grant.listener), (ticket, id));
                self.model.grant(grant, now, wish);
            }
            Admission::Queued => {
                assert!(!is_idle && !is_full, "queued {ticket:?} without need");
                self.listener(id).waiters.push((now, ticket, wish.to_wait_for()));
                assert_eq!(self.balance.admit(now, id, ticket), Admission::Queued);
            }
            Admission::Shed(why) => {
                assert!(!is_idle && is_full && why == Shed::QueueFull, "{why}");
                self.end(ticket);
            }
        }
    }

    /// The ticket's worker died or refused it.
    fn readmit(&mut self, held: Held) {
        let Held { listener: id, ticket, since } = held;
        let now = self.now;
        let Some(listener) = self.model.listeners.get(&id) else {
            return self.end(ticket);
        };
        let is_old = now - since >= listener.bounds.timeout;
        let wish = self.any_wish();
        match self.balance.readmit_as(now, Asker { listener: id, ticket, since, wish }) {
            Admission::Granted(grant) => self.model.grant(grant, since, wish),
            Admission::Queued => {
                assert!(!is_old, "queued {ticket:?} above the age bound");
                self.listener(id).waiters.push((since, ticket, wish.to_wait_for()));
                self.listener(id).readmitted.push(ticket);
            }
            Admission::Shed(why) => {
                assert!(is_old && why == Shed::QueueTimeout, "{why}");
                self.end(ticket);
            }
        }
    }

    fn cancel(&mut self) {
        if self.last_ticket == 0 {
            return;
        }
        let ticket = Ticket(1 + self.random.below(self.last_ticket));
        let waited = self.model.forget(ticket);
        assert_eq!(self.balance.cancel(ticket), waited);
        if waited {
            self.end(ticket);
        }
    }

    fn release(&mut self) {
        let Some(id) = self.any_worker() else { return };
        let leases = self.worker(id).leases.len() as u64;
        if leases > 0 {
            let at = self.random.below(leases) as usize;
            let held = self.worker(id).leases.remove(at);
            self.end(held.ticket);
        } else if self.manners == Manners::Honest {
            return;
        }
        self.worker(id).forgive();
        let grants = self.balance.release(self.now, id);
        self.settle(grants);
    }

    /// A stream begins, out of nothing or out of an exchange, or ends.
    fn stream(&mut self) {
        let Some(id) = self.any_worker() else { return };
        match self.random.below(3) {
            0 => {
                let (listener, wish) = (self.any_listener(), self.any_wish());
                let given = self.balance.open_stream(listener, wish);
                self.model.stream(listener, wish, given);
            }
            1 => {
                self.worker(id).streams = self.worker(id).streams.saturating_sub(1);
                self.balance.close_stream(id);
            }
            _ => self.turn_to_stream(id),
        }
    }

    fn turn_to_stream(&mut self, id: WorkerId) {
        let worker = self.worker(id);
        let Some(held) = worker.leases.pop() else { return };
        if worker.streams >= worker.bounds.max_connections.get() {
            worker.leases.push(held);
            return assert_eq!(self.balance.turn_to_stream(self.now, id), None);
        }
        worker.streams += 1;
        worker.forgive();
        self.end(held.ticket);
        let grants = self.balance.turn_to_stream(self.now, id).expect("there is room");
        self.settle(grants);
    }

    /// A worker did not take an exchange, or a stream.
    fn pause(&mut self, id: WorkerId) {
        let (listener, until) = (self.any_listener(), self.now + REFUSAL_PAUSE);
        let worker = self.worker(id);
        if let Some(refusal) = worker.serves.get_mut(&listener) {
            *refusal = Some(until);
        }
        let Some(held) = worker.leases.pop() else {
            return self.balance.pause(self.now, id, listener);
        };
        let grants = self.balance.not_taken(self.now, id, listener);
        self.settle(grants);
        self.readmit(held);
    }

    /// A worker answers the oldest connection it was sent, or we could not send the newest.
    fn answer(&mut self) {
        let Some(id) = self.any_worker() else { return };
        let now = self.now;
        let choice = self.random.below(9);
        let worker = self.worker(id);
        if worker.unacked.is_empty() {
            if self.manners == Manners::Hostile {
                self.worker(id).widen();
                let grants = self.balance.acked(now, id);
                self.settle(grants);
            }
            return;
        }
        if choice == 0 {
            let held = worker.unacked.pop().expect("not empty");
            worker.sent -= 1;
            worker.said.seen = worker.said.seen.min(worker.sent);
            let grants = self.balance.withdraw(now, id);
            self.settle(grants);
            return self.readmit(held);
        }
        let held = worker.unacked.remove(0);
        if choice <= 2 {
            if let Some(refusal) = worker.serves.get_mut(&held.listener) {
                *refusal = Some(now + REFUSAL_PAUSE);
            }
            worker.window = 1;
            let grants = if choice == 1 {
                worker.truth.seen += 1;
                self.balance.refused(now, id, held.listener)
            } else {
                worker.sent -= 1;
                worker.said.seen = worker.said.seen.min(worker.sent);
                self.balance.not_received(now, id, held.listener)
            };
            self.settle(grants);
            return self.readmit(held);
        }
        worker.truth.seen += 1;
        worker.truth.open += 1;
        worker.widen();
        self.end(held.ticket);
        let grants = self.balance.acked(now, id);
        self.settle(grants);
    }

    /// Some of a worker's connections close, and it reports.
    fn report(&mut self, id: WorkerId) {
        let mut draw = |bound: u32| self.random.below(u64::from(bound) + 1) as u32;
        let worker = self.model.workers.get_mut(&id).expect("any_worker exists");
        let closed = draw(worker.truth.open);
        worker.truth.open -= closed;
        worker.truth.active = draw(worker.truth.open);
        let mut load = worker.truth;
        if self.manners == Manners::Hostile && draw(2) == 0 {
            load = Load { seen: u64::from(draw(50)), open: draw(50), active: draw(u32::MAX) };
        }
        worker.report(load);
        let grants = self.balance.report(self.now, id, load);
        self.settle(grants);
    }

    fn expire(&mut self) {
        let Expired { shed, grants } = self.balance.expire(self.now);
        self.model.end_ejections(self.now);
        self.settle(grants);
        for (id, ticket, why) in shed {
            assert_eq!(why, Shed::QueueTimeout);
            let listener = &self.model.listeners[&id];
            let oldest = *listener.waiters.iter().min().expect("who is shed waited");
            assert_eq!(oldest.1, ticket, "shed before an older one");
            assert!(self.now - oldest.0 >= listener.bounds.timeout, "shed {ticket:?} too early");
            self.model.forget(ticket);
            self.end(ticket);
        }
        assert!(self.balance.deadline().is_none_or(|at| at > self.now), "expire left work");
    }

    /// The rest of every event that may make room: refusals end, waiters are served.
    fn settle(&mut self, grants: Vec<Grant>) {
        self.model.end_refusals(self.now);
        grants.into_iter().for_each(|grant| self.model.grant_waiter(grant));
    }

    /// Everybody finishes; then nothing may be counted anywhere.
    fn wind_down(&mut self) {
        self.manners = Manners::Honest;
        for id in self.model.workers.keys().copied().collect::<Vec<_>>() {
            self.worker(id).standing = Standing::Draining;
            let grants = self.balance.drain(self.now, id);
            self.settle(grants);
            while self.worker(id).streams > 0 {
                self.worker(id).streams -= 1;
                self.balance.close_stream(id);
            }
        }
        self.now += Duration::from_secs(1);
        self.expire();
        while self.model.workers.values().any(|it| it.leases.len() + it.unacked.len() > 0) {
            self.release();
            self.answer();
        }
        self.now += Duration::from_secs(1);
        self.expire();
        for (&id, worker) in &mut self.model.workers {
            let load = Load { seen: worker.sent, open: 0, active: 0 };
            worker.report(load);
            assert!(self.balance.report(self.now, id, load).is_empty());
        }
        self.model.compare(&self.balance);
        assert!(
            self.balance.workers().all(|it| it.in_flight + it.streams + it.unacked + it.open == 0)
        );
        assert!(self.balance.listeners().all(|it| it.length == 0));
        assert!(self.alive.is_empty(), "{:?} never ended", self.alive);
        assert_eq!(self.ended.len() as u64, self.last_ticket);
    }

    fn end(&mut self, ticket: Ticket) {
        assert!(self.alive.remove(&ticket).is_some(), "{ticket:?} ended twice");
        self.ended.insert(ticket);
    }

    fn with_worker(&mut self, act: impl FnOnce(&mut Self, WorkerId)) {
        if let Some(id) = self.any_worker() {
            act(self, id);
        }
    }

    fn worker(&mut self, id: WorkerId) -> &mut super::model::ModelWorker {
        self.model.workers.get_mut(&id).expect("the simulation names workers that exist")
    }

    fn listener(&mut self, id: ListenerId) -> &mut super::model::ModelListener {
        self.model.listeners.get_mut(&id).expect("the simulation names open listeners")
    }

    fn any_worker(&mut self) -> Option<WorkerId> {
        let at = self.random.below(self.model.workers.len() as u64) as usize;
        self.model.workers.keys().nth(at).copied()
    }

    /// Wishes are for workers that are there, will be, or are gone.
    fn any_wish(&mut self) -> Wish {
        let worker = WorkerId(1 + self.random.below(self.last_id + 1));
        match self.random.below(4) {
            0 => Wish::Only(worker),
            1 => Wish::Not(worker),
            _ => Wish::Any,
        }
    }

    fn any_listener(&mut self) -> ListenerId {
        ListenerId(1 + self.random.below(3) as u32)
    }

    fn any_bounds(&mut self) -> WorkerBounds {
        let mut bound =
            |most: u64| NonZeroU32::new(1 + self.random.below(most) as u32).expect("1 is added");
        WorkerBounds { limit: bound(3), max_connections: bound(12) }
    }
}
