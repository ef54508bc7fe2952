//! Brings waiters and workers together: who is granted, in which order, and who waits.

use std::time::Instant;

use super::account::Account;
use super::{Admission, Balance, Grant, Listener, Mode, Shed};
use crate::policy::queue::{Queue, Waiter};
use crate::policy::{ListenerId, Ticket, WorkerId};

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

    /// Grants if a worker is eligible; then nothing can be waiting on that listener already, for
    /// every change that makes one eligible is followed by `settle`. Else queues if `may_wait`.
    pub(super) fn enter(
        &mut self,
        listener: ListenerId,
        waiter: Waiter,
        may_wait: impl FnOnce(&Queue) -> Result<(), Shed>,
    ) -> Admission {
        let Some(at) = self.listener_index(listener) else {
            self.tally.shed.add(Shed::Closing, 1);
            return Admission::Shed(Shed::Closing);
        };
        if self.waiting.contains_key(&waiter.ticket) {
            return Admission::Queued;
        }
        if let Some(worker) = self.least_loaded(at) {
            return Admission::Granted(self.grant(at, worker, waiter.ticket));
        }
        let queue = &mut self.listeners[at].queue;
        if let Err(shed) = may_wait(queue) {
            self.tally.shed.add(shed, 1);
            return Admission::Shed(shed);
        }
        queue.insert(waiter);
        self.waiting.insert(waiter.ticket, (listener, waiter.since));
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
            && let Some((listener, worker)) = self.oldest_match()
        {
            let waiter = self.listeners[listener].queue.pop_oldest();
            let ticket = waiter.expect("a match has a waiter").ticket;
            self.waiting.remove(&ticket);
            grants.push(self.grant(listener, worker, ticket));
        }
        grants
    }

    /// The oldest waiter that some worker can serve, as indices of its listener and that worker.
    fn oldest_match(&self) -> Option<(usize, usize)> {
        let mut found: Option<(Waiter, usize, usize)> = None;
        for (at, listener) in self.listeners.iter().enumerate() {
            let Some(head) = listener.queue.oldest() else {
                continue;
            };
            if found.is_some_and(|(oldest, ..)| oldest < head) {
                continue;
            }
            if let Some(worker) = self.least_loaded(at) {
                found = Some((head, at, worker));
            }
        }
        found.map(|(_, listener, worker)| (listener, worker))
    }

    /// The eligible worker with the least load, by an exact scan; ties to the least recently
    /// dispatched.
    fn least_loaded(&self, listener: usize) -> Option<usize> {
        let Listener { id, mode, .. } = self.listeners[listener];
        let eligible = self.workers.iter().enumerate().filter(|(_, it)| it.is_eligible(id, mode));
        eligible.min_by_key(|(_, worker)| worker.rank(mode)).map(|(at, _)| at)
    }

    fn grant(&mut self, listener: usize, worker: usize, ticket: Ticket) -> Grant {
        self.dispatches += 1;
        let Listener { id: listener, mode, .. } = self.listeners[listener];
        let worker = &mut self.workers[worker];
        worker.take(mode, self.dispatches);
        self.tally.leased += u64::from(mode == Mode::Request);
        Grant { ticket, worker: worker.id, listener }
    }

    pub(super) fn worker_mut(&mut self, id: WorkerId) -> Option<&mut Account> {
        let at = self.workers.binary_search_by_key(&id, |worker| worker.id).ok()?;
        Some(&mut self.workers[at])
    }

    pub(super) fn listener_index(&self, id: ListenerId) -> Option<usize> {
        self.listeners.binary_search_by_key(&id, |listener| listener.id).ok()
    }
}
