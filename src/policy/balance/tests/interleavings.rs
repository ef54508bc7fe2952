//! Grant against cancel on two threads, all interleavings: no lease is lost, none is given twice.
//!
//! The lease and the mailbox here are the smallest that can carry a grant to a waiter that may
//! leave at that very moment. The lock is held to decide, never to deliver.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

use super::super::*;

const WORKER: WorkerId = WorkerId(1);
const LISTENER: ListenerId = ListenerId(1);

struct Pool {
    now: Instant,
    balance: Mutex<Balance>,
    mailboxes: Mutex<BTreeMap<Ticket, Arc<Mutex<Mail>>>>,
}

/// What a waiter finds: a one-shot channel.
enum Mail {
    Empty,
    Lease(Lease),
    /// The waiter has left.
    Closed,
}

/// The right to one exchange; dropping it gives it to the next.
struct Lease {
    pool: Arc<Pool>,
    held: Held,
}

#[derive(PartialEq, Eq)]
enum Held {
    Yes,
    GivenBack,
}

impl Lease {
    fn new(pool: &Arc<Pool>) -> Self {
        Self { pool: Arc::clone(pool), held: Held::Yes }
    }

    fn give_back(mut self) -> Vec<Grant> {
        self.held = Held::GivenBack;
        self.pool.lock().release(self.pool.now, WORKER)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.held == Held::Yes {
            let grants = self.pool.lock().release(self.pool.now, WORKER);
            self.pool.deliver(grants);
        }
    }
}

impl Pool {
    /// One worker with one place.
    fn new() -> Arc<Self> {
        let now = Instant::now();
        let mut balance = Balance::new();
        let bounds = QueueBounds { max: 9, timeout: Duration::from_secs(1) };
        balance.open_listener(LISTENER, Mode::Request, bounds);
        let one = NonZeroU32::MIN;
        balance.add_worker(WORKER, WorkerBounds { limit: one, max_connections: one });
        assert!(balance.ready(now, WORKER).is_empty());
        assert!(balance.serve(now, WORKER, LISTENER).is_empty());
        let (balance, mailboxes) = (Mutex::new(balance), Mutex::new(BTreeMap::new()));
        Arc::new(Self { now, balance, mailboxes })
    }

    fn lock(&self) -> shuttle::sync::MutexGuard<'_, Balance> {
        self.balance.lock().expect("no thread panics with the lock")
    }

    fn mailbox(&self, ticket: Ticket) -> Arc<Mutex<Mail>> {
        let mut mailboxes = self.mailboxes.lock().expect("no thread panics with the lock");
        let empty = || Arc::new(Mutex::new(Mail::Empty));
        Arc::clone(mailboxes.entry(ticket).or_insert_with(empty))
    }

    fn admit(self: &Arc<Self>, ticket: Ticket) {
        let mailbox = self.mailbox(ticket);
        let admission = self.lock().admit(self.now, LISTENER, ticket);
        match admission {
            Admission::Granted(_) => {
                *mailbox.lock().expect("no panic") = Mail::Lease(Lease::new(self));
            }
            Admission::Queued => {}
            Admission::Shed(why) => panic!("{ticket:?} was shed: {why}"),
        }
    }

    /// Hands each grant to its waiter, and those of waiters that have left to the next: in a
    /// loop, for a thousand may have left at once.
    fn deliver(self: &Arc<Self>, grants: Vec<Grant>) {
        let mut undelivered = grants;
        while let Some(grant) = undelivered.pop() {
            let lease = Lease::new(self);
            let mailbox = self.mailbox(grant.ticket);
            let mut mail = mailbox.lock().expect("no panic");
            match *mail {
                Mail::Empty => *mail = Mail::Lease(lease),
                Mail::Closed => {
                    drop(mail);
                    undelivered.extend(lease.give_back());
                }
                Mail::Lease(_) => panic!("{grant:?} was given twice"),
            }
        }
    }

    /// The waiter leaves: out of the queue, or with the lease it has just got.
    fn cancel(&self, ticket: Ticket) {
        if self.lock().cancel(ticket) {
            return;
        }
        let mailbox = self.mailbox(ticket);
        let mail = std::mem::replace(&mut *mailbox.lock().expect("no panic"), Mail::Closed);
        if let Mail::Lease(lease) = mail {
            drop(lease);
        }
    }

    fn has_lease(&self, ticket: Ticket) -> bool {
        matches!(*self.mailbox(ticket).lock().expect("no panic"), Mail::Lease(_))
    }

    fn check_idle(&self) {
        let balance = self.lock();
        let worker = balance.worker(WORKER).expect("the worker lives");
        assert_eq!(worker.in_flight, 0, "a lease was lost");
        assert_eq!(balance.listener(LISTENER).expect("the listener is open").length, 0);
    }
}

/// Ticket 1 holds the only place; 2 leaves while 1 gives it back; 3 must get it.
fn lease_reaches_who_stays() {
    let pool = Pool::new();
    for ticket in 1..=3 {
        pool.admit(Ticket(ticket));
    }
    assert!(pool.has_lease(Ticket(1)));
    let other = Arc::clone(&pool);
    let leaving = thread::spawn(move || other.cancel(Ticket(2)));
    pool.cancel(Ticket(1));
    leaving.join().expect("the thread does not panic");
    assert!(!pool.has_lease(Ticket(2)));
    assert!(pool.has_lease(Ticket(3)), "the place got lost");
    pool.cancel(Ticket(3));
    pool.check_idle();
}

/// Two leave and one arrives while the place changes hands.
fn place_is_free_after_everybody_left() {
    let pool = Pool::new();
    for ticket in 1..=3 {
        pool.admit(Ticket(ticket));
    }
    let threads = [2, 3].map(|ticket| {
        let pool = Arc::clone(&pool);
        thread::spawn(move || pool.cancel(Ticket(ticket)))
    });
    let arriving = Arc::clone(&pool);
    let arriving = thread::spawn(move || arriving.admit(Ticket(4)));
    pool.cancel(Ticket(1));
    for thread in threads.into_iter().chain([arriving]) {
        thread.join().expect("the thread does not panic");
    }
    assert!(pool.has_lease(Ticket(4)), "the newcomer waits at an idle worker");
    pool.cancel(Ticket(4));
    pool.check_idle();
}

#[test]
fn cancel_at_the_moment_of_the_grant_passes_the_lease_on() {
    shuttle::check_dfs(lease_reaches_who_stays, None);
}

#[test]
fn cancels_and_arrivals_leave_no_lease_behind() {
    shuttle::check_random(place_is_free_after_everybody_left, 1_000);
    shuttle::check_pct(place_is_free_after_everybody_left, 1_000, 3);
}
