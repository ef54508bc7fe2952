//! What waits on one listener, oldest first, bounded in number and age; it holds tickets only.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Ticket, WorkerId};

/// How much may wait on a listener, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// Most waiters that [`Balance::admit`](super::Balance::admit) lets in; 0 means nothing waits.
    pub max: usize,
    /// Age at which a waiter is shed.
    pub timeout: Duration,
}

/// One place in the queue. Ordered by age; the ticket decides between equal ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiter {
    pub(super) since: Instant,
    pub(super) ticket: Ticket,
    /// Whom it waits for, while that one serves the listener; none: for anybody.
    pub(super) only: Option<WorkerId>,
}

/// A set ordered by age, not a ring: a waiter may leave from the middle, and one that was granted
/// before comes back to its old place. Both cost O(log n) under the lock.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) bounds: QueueBounds,
    waiters: BTreeSet<Waiter>,
}

impl Queue {
    pub(super) fn new(bounds: QueueBounds) -> Self {
        Self { bounds, waiters: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiters.len() >= self.bounds.max
    }

    pub(super) fn oldest(&self) -> Option<Waiter> {
        self.waiters.first().copied()
    }

    /// Who waits, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Waiter> {
        self.waiters.iter().copied()
    }

    pub(super) fn insert(&mut self, waiter: Waiter) {
        self.waiters.insert(waiter);
    }

    pub(super) fn remove(&mut self, waiter: Waiter) -> bool {
        self.waiters.remove(&waiter)
    }

    /// Takes the oldest waiter if it has reached the age bound.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Waiter> {
        let oldest = self.oldest()?;
        if self.is_over_age(now, oldest.since) { self.waiters.pop_first() } else { None }
    }

    pub(super) fn is_over_age(&self, now: Instant, since: Instant) -> bool {
        now.saturating_duration_since(since) >= self.bounds.timeout
    }

    /// When the oldest waiter reaches the age bound; `None` too if that is beyond all clocks.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.oldest()?.since.checked_add(self.bounds.timeout)
    }

    pub(super) fn into_tickets(self) -> impl Iterator<Item = Ticket> {
        self.waiters.into_iter().map(|waiter| waiter.ticket)
    }
}
