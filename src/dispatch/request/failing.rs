//! Takes note of workers that fail what they are given, and lets the clients of a hung one go.

use std::time::Instant;

use super::front::{Front, InFlight};
use super::outcome::Reason;
use crate::clock;
use crate::link::orders::Report;
use crate::metrics::InFlightState;
use crate::policy::WorkerId;

impl Front {
    /// A worker failed an exchange; after enough of them in a row it gets nothing for a while.
    pub(super) fn failed(&self, now: Instant, worker: WorkerId) {
        // One that is gone is remembered by nobody who would forget it again.
        if self.desk.balance().worker(worker).is_none() {
            return;
        }
        let Some(until) = self.ejections.borrow_mut().failed(now, worker) else {
            return;
        };
        if let Err(error) = self.reports.try_send(Report::Ejected { worker, until }) {
            tracing::error!(%error, "control does not hear of an ejection");
        }
        let grants = self.desk.balance().eject(now, worker, until);
        self.desk.deliver_soon(grants);
    }

    /// There was no descriptor or no memory for a connection to a worker.
    pub(super) fn note_exhaustion(&self, now: Instant, error: &std::io::Error) {
        if let Some(reactor) = self.reactor() {
            reactor.borrow_mut().note_exhaustion(now, error);
        }
    }

    /// A worker served an exchange.
    pub(super) fn succeeded(&self, worker: WorkerId) {
        self.ejections.borrow_mut().succeeded(worker);
    }

    /// An exchange ended for this reason before its response did.
    pub(super) fn note_end(&self, worker: WorkerId, what: (Reason, &InFlight)) {
        let ((reason, entry), now) = (what, clock::now());
        if reason.is_workers() {
            self.failed(now, worker);
        }
        if matches!(reason, Reason::WorkerLost | Reason::ResponseCut) {
            self.lost(now, worker, entry);
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

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::num::NonZeroU32;
    use std::path::Path;
    use std::rc::{Rc, Weak};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::cli::{self, Invocation};
    use crate::config::Environment;
    use crate::dispatch::request::FrontSettings;
    use crate::dispatch::request::desk::Desk;
    use crate::policy::{Balance, Health, WorkerBounds};

    /// A front without reactor, and the balance of its desk.
    fn front() -> (Front, Arc<Mutex<Balance>>) {
        let nothing: [(OsString, OsString); 0] = [];
        let words = ["tenfold", "demo"].map(OsString::from);
        let parsed = cli::parse(words, &Environment::new(nothing), Path::new("/"));
        let config = match parsed.expect("defaults are valid").invocation {
            Invocation::Demo(config) => config,
            other => panic!("demo is {other:?}"),
        };
        let settings = FrontSettings {
            request: config.request.clone(),
            max_clients: NonZeroU32::MIN,
            ejection: config.workers.health.ejection(),
            health: tokio::sync::watch::channel(Health::before(1)).1,
            seed: 1,
        };
        let balance = Arc::new(Mutex::new(Balance::new()));
        let desk = Rc::new(Desk::new(Arc::clone(&balance), Rc::default()));
        let (recorder, _) = crate::metrics::requests(&[], &[]);
        let (reports, _) = tokio::sync::mpsc::channel(1);
        let ends = (Weak::new(), reports);
        (Front::new(settings, (desk, Rc::new(recorder)), ends), balance)
    }

    #[test]
    fn failures_of_a_worker_that_is_gone_are_not_kept() {
        let (front, balance) = front();
        let (now, worker) = (clock::now(), WorkerId(1));
        let bounds = WorkerBounds { limit: NonZeroU32::MIN, max_connections: NonZeroU32::MIN };
        balance.lock().expect("nobody panicked").add_worker(worker, bounds);
        front.failed(now, worker);
        assert!(!front.ejections.borrow().is_empty(), "it lives, and has failed");
        let grants = balance.lock().expect("nobody panicked").remove_worker(now, worker);
        assert!(grants.is_empty());
        front.forget_worker(worker);
        // What it held ends later than it.
        front.failed(now, worker);
        assert!(front.ejections.borrow().is_empty());
    }
}
