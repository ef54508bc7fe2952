//! Gives out leases: the right to one exchange with one worker, at once or after waiting.
//!
//! A lease is counted by `Balance` and given back when it is dropped, on success, error, panic and
//! cancellation alike; so is a stream, which an exchange holds instead of a lease if it lasts for
//! as long as its client stays. A grant travels to its waiter as a lease inside the waiter's
//! oneshot, so that a waiter cancelled at that moment gives it back and the next one is granted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use super::trace;
use crate::clock;
use crate::policy::{Admission, Asker, Balance, Grant, ListenerId, Shed, Ticket, Wish, WorkerId};

/// Who waits for a lease, and how they are told.
#[derive(Debug)]
pub(in crate::dispatch) struct Desk {
    balance: Arc<Mutex<Balance>>,
    waiters: RefCell<HashMap<Ticket, Answer>>,
    /// Grants that are none of ours: connections wait in the same `Balance`.
    foreign: RefCell<Vec<Grant>>,
    /// Wakes whoever sleeps until the next deadline of `Balance`, and delivers foreign grants.
    moved: Rc<Notify>,
    next_ticket: RefCell<u64>,
}

type Answer = oneshot::Sender<Result<Lease, Shed>>;

/// The right to one exchange with one worker. Dropping it gives it back.
#[derive(Debug)]
pub(in crate::dispatch) struct Lease {
    worker: WorkerId,
    /// None once it was given back by hand.
    desk: Option<Rc<Desk>>,
}

/// The right to one stream at one worker. Dropping it gives it back.
#[derive(Debug)]
pub(in crate::dispatch) struct Stream {
    worker: WorkerId,
    desk: Rc<Desk>,
}

/// What an exchange holds of its worker.
#[derive(Debug)]
pub(in crate::dispatch) enum Place {
    InFlight(Lease),
    Streaming(Stream),
}

/// Whether somebody asks for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dispatch) enum Entry {
    /// The bound of the queue holds.
    First,
    /// It had a worker before: no bound on the queue turns it away, but its age does.
    Again { since: Instant },
}

/// A place in a listener's queue. Dropping it frees the place.
#[derive(Debug)]
pub(in crate::dispatch) struct Waiting {
    ticket: Ticket,
    answer: oneshot::Receiver<Result<Lease, Shed>>,
    desk: Rc<Desk>,
}

/// What a request gets that asks for a lease.
#[derive(Debug)]
pub(in crate::dispatch) enum Turn {
    Now(Lease),
    Later(Waiting),
    Never(Shed),
}

/// Tickets of requests have this bit, so that they never equal those of connections.
const REQUEST_TICKETS: u64 = 1 << 63;

/// Whether a ticket is a request's.
pub(in crate::dispatch) fn is_request(ticket: Ticket) -> bool {
    ticket.0 & REQUEST_TICKETS != 0
}

impl Desk {
    pub(in crate::dispatch) fn new(balance: Arc<Mutex<Balance>>, moved: Rc<Notify>) -> Self {
        Self {
            balance,
            waiters: RefCell::new(HashMap::new()),
            foreign: RefCell::new(Vec::new()),
            moved,
            next_ticket: RefCell::new(REQUEST_TICKETS),
        }
    }

    /// What wakes whoever watches deadlines and counts.
    pub(in crate::dispatch) fn moved(&self) -> Rc<Notify> {
        Rc::clone(&self.moved)
    }

    pub(in crate::dispatch) fn balance(&self) -> MutexGuard<'_, Balance> {
        crate::link::lock(&self.balance)
    }

    /// Asks for a lease of a worker that serves `listener`.
    pub(in crate::dispatch) fn ask(
        self: &Rc<Self>,
        now: Instant,
        listener: ListenerId,
        how: (Wish, Entry),
    ) -> Turn {
        let (wish, entry) = how;
        let ticket = self.ticket();
        let admission = match entry {
            Entry::First => self.balance().admit_as(Asker { listener, ticket, since: now, wish }),
            Entry::Again { since } => {
                self.balance().readmit_as(now, Asker { listener, ticket, since, wish })
            }
        };
        match admission {
            Admission::Granted(grant) => {
                self.trace(&[grant]);
                Turn::Now(self.lease(grant.worker))
            }
            Admission::Queued => {
                let (sender, answer) = oneshot::channel();
                self.waiters.borrow_mut().insert(ticket, sender);
                self.moved.notify_one();
                Turn::Later(Waiting { ticket, answer, desk: Rc::clone(self) })
            }
            Admission::Shed(reason) => Turn::Never(reason),
        }
    }

    /// A stream at a worker that serves `listener`; none if no worker may have one more.
    pub(in crate::dispatch) fn open_stream(
        self: &Rc<Self>,
        listener: ListenerId,
        wish: Wish,
    ) -> Option<Place> {
        let worker = self.balance().open_stream(listener, wish)?;
        Some(Place::Streaming(Stream { worker, desk: Rc::clone(self) }))
    }

    /// Gives grants to those who wait for them. What nobody waits for any more is given back, and
    /// the next is granted, until nothing is left.
    pub(in crate::dispatch) fn deliver(self: &Rc<Self>, mut grants: Vec<Grant>) {
        self.trace(&grants);
        while let Some(grant) = grants.pop() {
            if !is_request(grant.ticket) {
                self.foreign.borrow_mut().push(grant);
                self.moved.notify_one();
                continue;
            }
            let waiter = self.waiters.borrow_mut().remove(&grant.ticket);
            let refused = match waiter {
                Some(waiter) => waiter.send(Ok(self.lease(grant.worker))).err(),
                None => Some(Ok(self.lease(grant.worker))),
            };
            if let Some(Ok(lease)) = refused {
                let more = lease.give_back();
                self.trace(&more);
                grants.extend(more);
            }
        }
    }

    /// As [`deliver`](Self::deliver), after a change that moved the next deadline.
    pub(in crate::dispatch) fn deliver_soon(self: &Rc<Self>, grants: Vec<Grant>) {
        self.moved.notify_one();
        self.deliver(grants);
    }

    /// Tells a waiter that it waited in vain.
    pub(in crate::dispatch) fn shed(&self, ticket: Ticket, reason: Shed) {
        if let Some(waiter) = self.waiters.borrow_mut().remove(&ticket) {
            // A waiter that is gone needs no answer.
            let _ = waiter.send(Err(reason));
        }
    }

    /// Grants that others must deliver.
    pub(in crate::dispatch) fn take_foreign(&self) -> Vec<Grant> {
        self.foreign.take()
    }

    /// Tells how grants were decided that one call has just returned.
    fn trace(&self, grants: &[Grant]) {
        if trace::is_read() {
            let decisions = trace::decisions(&self.balance(), grants);
            trace::tell(&decisions);
        }
    }

    fn lease(self: &Rc<Self>, worker: WorkerId) -> Lease {
        Lease { worker, desk: Some(Rc::clone(self)) }
    }

    fn ticket(&self) -> Ticket {
        let mut next = self.next_ticket.borrow_mut();
        *next += 1;
        Ticket(*next)
    }
}

impl Lease {
    /// Ends the lease; returns what it made room for, to be delivered by the caller.
    fn give_back(mut self) -> Vec<Grant> {
        match self.desk.take() {
            Some(desk) => desk.balance().release(clock::now(), self.worker),
            None => Vec::new(),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(desk) = self.desk.take() {
            let grants = desk.balance().release(clock::now(), self.worker);
            desk.deliver(grants);
        }
    }
}

impl Place {
    pub(in crate::dispatch) fn worker(&self) -> WorkerId {
        match self {
            Self::InFlight(lease) => lease.worker,
            Self::Streaming(stream) => stream.worker,
        }
    }

    /// The exchange lasts for as long as its client stays: its lease goes to the next. Where its
    /// worker has as many streams as it may, it keeps the lease.
    pub(in crate::dispatch) fn turn_to_stream(&mut self) {
        let Self::InFlight(lease) = self else {
            return;
        };
        let Some(desk) = lease.desk.clone() else {
            return;
        };
        let worker = lease.worker;
        let turned = desk.balance().turn_to_stream(clock::now(), worker);
        if let Some(grants) = turned {
            // The balance has taken it back by itself.
            lease.desk = None;
            *self = Self::Streaming(Stream { worker, desk: Rc::clone(&desk) });
            desk.moved.notify_one();
            desk.deliver(grants);
        }
    }

    /// The worker did not take the exchange: others of this listener come first for a while.
    pub(in crate::dispatch) fn not_taken(self, now: Instant, listener: ListenerId) {
        match self {
            Self::InFlight(mut lease) => {
                if let Some(desk) = lease.desk.take() {
                    let grants = desk.balance().not_taken(now, lease.worker, listener);
                    desk.moved.notify_one();
                    desk.deliver(grants);
                }
            }
            Self::Streaming(stream) => {
                stream.desk.balance().pause(now, stream.worker, listener);
                stream.desk.moved.notify_one();
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.desk.balance().close_stream(self.worker);
    }
}

impl Waiting {
    /// Waits for the lease, or to be told that there will be none. Cancel-safe.
    pub(in crate::dispatch) async fn turn(&mut self) -> Result<Lease, Shed> {
        // The sender is dropped only with the whole desk.
        (&mut self.answer).await.unwrap_or(Err(Shed::Closing))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.desk.waiters.borrow_mut().remove(&self.ticket).is_some() {
            self.desk.balance().cancel(self.ticket);
        }
    }
}
