//! Brings waiters and workers together: who is granted, in which order, and who waits.

use std::time::Instant;

use super::account::Account;
use super::{Admission, Asker, Balance, Grant, Listener, Mode, Shed, Wish};
use crate::policy::queue::{Queue, Waiter};
use crate::policy::{ListenerId, Ticket, WorkerId};

/// A waiter, and the indices of its listener and of the worker that can serve it.
struct Match {
    waiter: Waiter,
    listener: usize,
    worker: usize,
}

impl Balance {
    /// Applies a change to one worker, then serves whoever that made room for.
    pub(super) fn change(
        &mut self,
        now: Instant,
        id: WorkerId,
        apply: impl FnOnce(&mut Account),
    ) -> Vec<Grant> {
        match self.worker_mut(id) {
            Some(worker) => apply(worker),
            None => return Vec::new(),
        }
        self.settle(now)
    }

    /// Grants if a worker is eligible; then nobody waits on that listener whom it could serve, for
    /// every change that makes one eligible is followed by `settle`. Else queues if `may_wait`.
    pub(super) fn enter(
        &mut self,
        asker: Asker,
        may_wait: impl FnOnce(&Queue) -> Result<(), Shed>,
    ) -> Admission {
        let Asker { listener, ticket, since, wish } = asker;
        let Some(at) = self.listener_index(listener) else {
            self.tally.shed.add(Shed::Closing, 1);
            return Admission::Shed(Shed::Closing);
        };
        if self.waiting.contains_key(&ticket) {
            return Admission::Queued;
        }
        if let Some(worker) = self.chosen(at, wish) {
            return Admission::Granted(self.grant(at, worker, ticket));
        }
        let queue = &mut self.listeners[at].queue;
        if let Err(shed) = may_wait(queue) {
            self.tally.shed.add(shed, 1);
            return Admission::Shed(shed);
        }
        let waiter = Waiter { since, ticket, only: wish.to_wait_for() };
        queue.insert(waiter);
        self.waiting.insert(ticket, (listener, waiter));
        Admission::Queued
    }

    /// Serves waiters, the oldest of all listeners first, until no eligible worker is left.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Grant> {
        if self.refusal_end.is_some_and(|end| end <= now) {
            let ends = self.workers.iter_mut().filter_map(|worker| worker.end_refusals(now));
            self.refusal_end = ends.min();
        }
        let mut grants = Vec::new();
        while !self.waiting.is_empty()
            && let Some(Match { waiter, listener, worker }) = self.oldest_match()
        {
            self.listeners[listener].queue.remove(waiter);
            self.waiting.remove(&waiter.ticket);
            grants.push(self.grant(listener, worker, waiter.ticket));
        }
        grants
    }

    /// The oldest waiter that some worker can serve.
    fn oldest_match(&self) -> Option<Match> {
        let mut found: Option<Match> = None;
        for (at, listener) in self.listeners.iter().enumerate() {
            let Some(head) = listener.queue.oldest() else {
                continue;
            };
            if found.as_ref().is_some_and(|found| found.waiter < head) {
                continue;
            }
            let Some(least) = self.least_loaded(at) else {
                continue;
            };
            // With nobody's wish in the way the head is served. Else whoever waits for a worker
            // that has room stands, on average, no deeper than there are workers.
            let servable = listener.queue.iter().find_map(|waiter| {
                let worker = self.server_of(at, waiter.only, least)?;
                Some(Match { waiter, listener: at, worker })
            });
            found = match (found, servable) {
                (Some(older), Some(younger)) if older.waiter < younger.waiter => Some(older),
                (older, servable) => servable.or(older),
            };
        }
        found
    }

    /// Who serves a waiter that waits for `only`, if anybody can; `least` serves those who take
    /// any.
    fn server_of(&self, listener: usize, only: Option<WorkerId>, least: usize) -> Option<usize> {
        let Listener { id, mode, .. } = self.listeners[listener];
        match only.and_then(|only| self.worker_index(only)) {
            Some(at) if self.workers[at].is_worth_waiting_for(id) => {
                self.workers[at].is_eligible(id, mode).then_some(at)
            }
            Some(_) | None => Some(least),
        }
    }

    /// The worker for somebody who has just come.
    fn chosen(&self, listener: usize, wish: Wish) -> Option<usize> {
        match wish {
            Wish::Any => self.least_loaded(listener),
            Wish::Only(worker) => {
                let least = self.least_loaded(listener)?;
                self.server_of(listener, Some(worker), least)
            }
            Wish::Not(worker) => {
                let others = self.least_loaded_of(listener, |other| other.id != worker);
                others.or_else(|| self.least_loaded(listener))
            }
        }
    }

    /// The eligible worker with the least load, by an exact scan; ties to the least recently
    /// dispatched.
    fn least_loaded(&self, listener: usize) -> Option<usize> {
        self.least_loaded_of(listener, |_| true)
    }

    fn least_loaded_of(&self, listener: usize, may: impl Fn(&Account) -> bool) -> Option<usize> {
        let Listener { id, mode, .. } = self.listeners[listener];
        let eligible =
            self.workers.iter().enumerate().filter(|(_, it)| it.is_eligible(id, mode) && may(it));
        eligible.min_by_key(|(_, worker)| worker.rank(mode)).map(|(at, _)| at)
    }

    fn grant(&mut self, listener: usize, worker: usize, ticket: Ticket) -> Grant {
        let dispatch = self.next_dispatch();
        let Listener { id: listener, mode, .. } = self.listeners[listener];
        let worker = &mut self.workers[worker];
        worker.take(mode, dispatch);
        self.tally.leased += u64::from(mode == Mode::Request);
        Grant { ticket, worker: worker.id, listener }
    }

    pub(super) fn next_dispatch(&mut self) -> u64 {
        self.dispatches += 1;
        self.dispatches
    }

    pub(super) fn worker_index(&self, id: WorkerId) -> Option<usize> {
        self.workers.binary_search_by_key(&id, |worker| worker.id).ok()
    }

    pub(super) fn worker_mut(&mut self, id: WorkerId) -> Option<&mut Account> {
        let at = self.worker_index(id)?;
        Some(&mut self.workers[at])
    }

    pub(super) fn listener_index(&self, id: ListenerId) -> Option<usize> {
        self.listeners.binary_search_by_key(&id, |listener| listener.id).ok()
    }
}
