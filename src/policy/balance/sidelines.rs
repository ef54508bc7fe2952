//! Keeps spares out of the choice, and stalled and failing workers, but of those never more than
//! half of who is ready to serve.
//!
//! When a database stalls, every worker does, and a pool that sends all of them away serves nobody:
//! above half (the *panic*), all get work again, those in order first.

use std::time::Instant;

use super::account::Account;
use super::{Balance, Grant, Panic, Stalled};
use crate::policy::{Duty, WorkerId};

impl Balance {
    /// A spare gets nothing until it is to serve; what a worker holds as it becomes one, it keeps.
    /// Workers are added to serve.
    pub fn set_duty(&mut self, now: Instant, id: WorkerId, duty: Duty) -> Vec<Grant> {
        self.restate(now, id, |worker| worker.duty = duty)
    }

    /// A stalled worker gets nothing until it is not.
    pub fn set_stalled(&mut self, now: Instant, id: WorkerId, stalled: Stalled) -> Vec<Grant> {
        self.restate(now, id, |worker| worker.stalled = stalled)
    }

    /// A worker that fails what it is given gets nothing until then.
    pub fn eject(&mut self, now: Instant, id: WorkerId, until: Instant) -> Vec<Grant> {
        self.tally.ejections += u64::from(self.worker_mut(id).is_some());
        self.restate(now, id, |worker| worker.ejected = Some(until))
    }

    /// Whether neither stalled nor ejected counts now.
    pub fn panic(&self) -> Panic {
        self.panic
    }

    /// Applies a change of who is ready and in order, then serves whoever that made room for.
    pub(super) fn restate(
        &mut self,
        now: Instant,
        id: WorkerId,
        apply: impl FnOnce(&mut Account),
    ) -> Vec<Grant> {
        match self.worker_mut(id) {
            Some(worker) => apply(worker),
            None => return Vec::new(),
        }
        self.weigh();
        self.settle(now)
    }

    /// Ends ejections that are over; the caller settles.
    pub(super) fn end_ejections(&mut self, now: Instant) {
        if self.ejection_end.is_none_or(|end| end > now) {
            return;
        }
        for worker in &mut self.workers {
            worker.ejected = worker.ejected.filter(|&until| until > now);
        }
        self.weigh();
    }

    /// Finds out whether too many are out; to be called whenever one more or fewer may be.
    pub(super) fn weigh(&mut self) {
        let ready = self.workers.iter().filter(|worker| worker.is_on_duty());
        let (all, out) = ready.fold((0_usize, 0_usize), |(all, out), worker| {
            (all + 1, out + usize::from(worker.is_out()))
        });
        let panic = if 2 * out > all { Panic::Yes } else { Panic::No };
        if (self.panic, panic) == (Panic::No, Panic::Yes) {
            self.tally.panics += 1;
        }
        self.panic = panic;
        for worker in &mut self.workers {
            worker.panic = panic;
        }
        self.ejection_end = self.workers.iter().filter_map(|worker| worker.ejected).min();
    }
}
