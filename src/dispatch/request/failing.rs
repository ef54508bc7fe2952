//! Takes note of workers that fail what they are given, and lets the clients of a hung one go.

use std::time::Instant;

use super::front::Front;
use super::outcome::Reason;
use crate::clock;
use crate::http::RequestHead;
use crate::metrics::InFlightState;
use crate::policy::WorkerId;

impl Front {
    /// A worker failed an exchange; after enough of them in a row it gets nothing for a while.
    pub(super) fn failed(&self, now: Instant, worker: WorkerId) {
        let Some(until) = self.ejections.borrow_mut().failed(now, worker) else {
            return;
        };
        let seconds = until.saturating_duration_since(now).as_secs_f64();
        tracing::warn!(
            %worker, seconds, "worker fails request after request; it gets none for a while"
        );
        let grants = self.desk.balance().eject(now, worker, until);
        self.desk.deliver_soon(grants);
    }

    /// A worker served an exchange.
    pub(super) fn succeeded(&self, worker: WorkerId) {
        self.ejections.borrow_mut().succeeded(worker);
    }

    /// An exchange ended for this reason before its response did.
    pub(super) fn note_end(&self, worker: WorkerId, what: (Reason, &RequestHead)) {
        let ((reason, head), now) = (what, clock::now());
        if reason.is_workers() {
            self.failed(now, worker);
        }
        if matches!(reason, Reason::WorkerLost | Reason::ResponseCut) {
            self.lost(now, worker, head);
        }
    }

    /// The worker hangs: whoever has nothing of its answer yet is let go. Returns how many.
    pub(in crate::dispatch) fn forsake(&self, worker: WorkerId) -> usize {
        let in_flight = self.in_flight();
        let waiting = in_flight.values().filter(|exchange| {
            exchange.worker.get() == Some(worker) && exchange.state.get() == InFlightState::Waiting
        });
        waiting.inspect(|exchange| exchange.let_go()).count()
    }
}
