//! Ends clients' connections when their worker goes, or the whole pool: at a moment at which
//! nothing of theirs is lost.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::watch;

use super::front::Front;
use crate::dispatch::upgrade::Successor;
use crate::policy::WorkerId;

/// How far the pool is with its stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Serving,
    /// Clients that stay are asked to connect anew.
    Announced,
    /// Nobody new comes; who is connected is served once more.
    Closing,
    /// Who is silent is closed.
    Closed,
}

/// Who is to end, and when.
#[derive(Debug, Default)]
pub(super) struct Ending {
    stage: Rc<watch::Sender<Stage>>,
    /// Until when each worker is to be gone; `None` while it stays.
    departures: RefCell<HashMap<WorkerId, watch::Sender<Option<Instant>>>>,
}

impl Ending {
    pub(super) fn stage(&self) -> Rc<watch::Sender<Stage>> {
        Rc::clone(&self.stage)
    }

    /// Tells when the stage changes.
    pub(super) fn watch(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Tells when a worker is to be gone.
    pub(super) fn departure(&self, worker: WorkerId) -> watch::Receiver<Option<Instant>> {
        self.departing(worker).subscribe()
    }

    fn departing(&self, worker: WorkerId) -> RefMut<'_, watch::Sender<Option<Instant>>> {
        RefMut::map(self.departures.borrow_mut(), |all| {
            all.entry(worker).or_insert_with(|| watch::channel(None).0)
        })
    }
}

impl Front {
    /// The pool will stop: responses ask for a new connection.
    pub(in crate::dispatch) fn wind_down(&self) {
        self.advance(Stage::Announced);
    }

    /// The pool stops. Who is connected is served, and then asked to leave.
    pub(in crate::dispatch) fn close_down(&self) {
        self.advance(Stage::Closing);
    }

    /// Closes the connections on which nothing has come for long enough.
    pub(in crate::dispatch) fn close_idle(&self) {
        self.advance(Stage::Closed);
        self.evict_idle();
    }

    /// From here on clients are another master's once they are idle.
    pub(in crate::dispatch) fn pass_clients_to(&self, successor: Successor) {
        let set = self.successor.set(successor);
        debug_assert!(set.is_ok(), "a pool is left once");
        self.evict_idle();
    }

    pub(super) fn successor(&self) -> Option<&Successor> {
        self.successor.get()
    }

    fn advance(&self, to: Stage) {
        self.ending.stage.send_replace(to);
    }

    /// Whether a connection ends with its next response.
    pub(super) fn is_closing(&self) -> bool {
        self.is_ending() && self.successor().is_none()
    }

    /// Whether a connection that no other master can take over is asked to leave.
    pub(super) fn is_ending(&self) -> bool {
        *self.ending.stage.borrow() != Stage::Serving
    }

    /// Whether a connection may stay open without a request.
    pub(super) fn may_be_idle(&self) -> bool {
        *self.ending.stage.borrow() != Stage::Closed
    }

    /// A worker is to be gone by then, and with it what lasts for as long as its client stays.
    pub(in crate::dispatch) fn depart(&self, worker: WorkerId, until: Instant) {
        self.ending.departing(worker).send_replace(Some(until));
    }

    /// A worker is gone for good.
    pub(in crate::dispatch) fn forget_departure(&self, worker: WorkerId) {
        self.ending.departures.borrow_mut().remove(&worker);
    }
}
