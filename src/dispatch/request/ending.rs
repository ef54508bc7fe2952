//! Ends clients' connections when their worker goes, their listener, or the whole pool: at a moment
//! at which nothing of theirs is lost.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::watch;

use super::front::Front;
use crate::dispatch::upgrade::Successor;
use crate::policy::{ListenerId, WorkerId};

/// How far the pool is with its stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
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
    /// How far each listener is with its own end; those that serve are not there.
    listeners: RefCell<HashMap<ListenerId, Stage>>,
    /// Until when each is to be gone; `None` while it stays.
    departures: RefCell<HashMap<Leaver, watch::Sender<Option<Instant>>>>,
}

/// With whom a connection ends that lasts for as long as its client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaver {
    Worker(WorkerId),
    Listener(ListenerId),
}

impl Ending {
    pub(super) fn stage(&self) -> Rc<watch::Sender<Stage>> {
        Rc::clone(&self.stage)
    }

    /// Tells when the stage changes.
    pub(super) fn watch(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Tells when it is to be gone.
    pub(super) fn departure(&self, leaver: Leaver) -> watch::Receiver<Option<Instant>> {
        self.departing(leaver).subscribe()
    }

    fn departing(&self, leaver: Leaver) -> RefMut<'_, watch::Sender<Option<Instant>>> {
        RefMut::map(self.departures.borrow_mut(), |all| {
            all.entry(leaver).or_insert_with(|| watch::channel(None).0)
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
        self.evict_idle_of(|_| true);
    }

    /// From here on clients are another master's once they are idle.
    pub(in crate::dispatch) fn pass_clients_to(&self, successor: Successor) {
        let set = self.successor.set(successor);
        debug_assert!(set.is_ok(), "a pool is left once");
        self.evict_idle_of(|listener| self.successor(listener).is_some());
    }

    /// The new master that takes the clients of this listener, if there is one.
    pub(super) fn successor(&self, listener: ListenerId) -> Option<&Successor> {
        self.successor.get().filter(|successor| successor.takes(listener))
    }

    fn advance(&self, to: Stage) {
        self.ending.stage.send_replace(to);
    }

    /// How far the end of a listener's connections is: its own, or that of the pool.
    fn stage_of(&self, listener: ListenerId) -> Stage {
        let its = self.ending.listeners.borrow().get(&listener).copied().unwrap_or_default();
        its.max(*self.ending.stage.borrow())
    }

    /// Whether a connection of this listener ends with its next response.
    pub(super) fn is_closing(&self, listener: ListenerId) -> bool {
        self.is_ending(listener) && self.successor(listener).is_none()
    }

    /// Whether a connection of this listener that no other master can take over is asked to leave.
    pub(super) fn is_ending(&self, listener: ListenerId) -> bool {
        self.stage_of(listener) != Stage::Serving
    }

    /// Whether a connection of this listener may stay open without a request.
    pub(super) fn may_be_idle(&self, listener: ListenerId) -> bool {
        self.stage_of(listener) != Stage::Closed
    }

    /// A listener accepts no more while the pool goes on. Its clients are served, and then asked to
    /// leave; what lasts is to be gone by then.
    pub(in crate::dispatch) fn close_listener(&self, listener: ListenerId, until: Instant) {
        self.ending.departing(Leaver::Listener(listener)).send_replace(Some(until));
        self.advance_of(listener, Stage::Closing);
    }

    /// Closes the connections of a listener on which nothing has come for long enough.
    pub(in crate::dispatch) fn close_idle_of(&self, listener: ListenerId) {
        self.advance_of(listener, Stage::Closed);
        self.evict_idle_of(|its| its == listener);
    }

    /// No connection of this listener is left.
    pub(in crate::dispatch) fn forget_listener(&self, listener: ListenerId) {
        self.ending.listeners.borrow_mut().remove(&listener);
        self.ending.departures.borrow_mut().remove(&Leaver::Listener(listener));
    }

    fn advance_of(&self, listener: ListenerId, to: Stage) {
        self.ending.listeners.borrow_mut().insert(listener, to);
        // Whoever waits for a change of the pool's stage looks again.
        self.ending.stage.send_modify(|_| {});
    }

    /// A worker is to be gone by then, and with it what lasts for as long as its client stays.
    pub(in crate::dispatch) fn depart(&self, worker: WorkerId, until: Instant) {
        self.ending.departing(Leaver::Worker(worker)).send_replace(Some(until));
    }

    /// A worker is gone for good.
    pub(in crate::dispatch) fn forget_departure(&self, worker: WorkerId) {
        self.ending.departures.borrow_mut().remove(&Leaver::Worker(worker));
    }
}
