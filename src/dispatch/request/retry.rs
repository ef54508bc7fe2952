//! Decides whether a request that failed at one worker may be sent to another.
//!
//! Pure. A request is sent again only if no byte of a response came back and either no worker can
//! have read it, or reading it twice does no harm: that at most once, for it may be what kills the
//! workers that read it. What nobody has read goes to worker after worker, within the queue's age.

use std::time::Instant;

/// How an attempt failed before any byte of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// We had no descriptor or no memory for a connection: that says nothing of the worker.
    Exhausted,
    /// No connection to the worker could be had.
    Unreachable,
    /// Not a byte could be written to it: it would not have the connection.
    Unsent,
    /// The whole request went out in one write on a Unix socket, and the read was reset: the kernel
    /// resets only if the worker had not read it (a worker that had gives a clean end).
    Unread,
    /// The connection ended; the worker may have read the request.
    Lost,
}

/// What sending the request again would mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replay {
    /// The method may be repeated (RFC 9110 §9.2.2).
    pub(super) idempotent: Repeatable,
    /// All of the body is still here.
    pub(super) body: Repeatable,
    /// How often it was lost with a worker that may have read it.
    pub(super) lost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeatable {
    Yes,
    No,
}

/// Whether this failure may be followed by another attempt, as far as the request goes.
pub(super) fn may_repeat(failure: Failure, replay: Replay) -> bool {
    match failure {
        // Nothing of it is gone.
        Failure::Exhausted | Failure::Unreachable | Failure::Unsent => true,
        Failure::Unread => replay.body == Repeatable::Yes,
        Failure::Lost => {
            let Replay { idempotent, body, lost } = replay;
            idempotent == Repeatable::Yes && body == Repeatable::Yes && lost == 0
        }
    }
}

/// Bounds how many requests go on from a worker that cannot be reached: a tenth of all, and ten a
/// second besides, so that a sick pool does not make every request wait for one timeout after the
/// other.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tokens: f64,
    refilled: Instant,
}

impl RetryBudget {
    /// Tokens that may be saved up: what ten quiet seconds bring.
    const MAX: f64 = 100.0;
    const PER_REQUEST: f64 = 0.1;
    const PER_SECOND: f64 = 10.0;

    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: Self::MAX, refilled: now }
    }

    /// A request came.
    pub(super) fn earn(&mut self) {
        self.tokens = (self.tokens + Self::PER_REQUEST).min(Self::MAX);
    }

    /// Whether one more request may be sent again; takes a token if so.
    pub(super) fn spend(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + elapsed * Self::PER_SECOND).min(Self::MAX);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Failure::{Exhausted, Lost, Unreachable, Unread, Unsent};
    use super::Repeatable::{No, Yes};
    use super::*;

    #[test]
    fn only_harmless_repetitions_are_allowed() {
        for (failure, idempotent, body, lost, allowed) in [
            (Unsent, No, Yes, 0, true),
            (Exhausted, No, No, 1, true),
            (Unread, No, Yes, 0, true),
            (Lost, Yes, Yes, 0, true),
            (Lost, No, Yes, 0, false),
            (Unreachable, No, No, 1, true),
            (Unsent, No, No, 1, true),
            (Unread, No, Yes, 1, true),
            (Unread, Yes, No, 0, false),
            (Lost, Yes, Yes, 1, false),
            (Lost, Yes, No, 0, false),
        ] {
            let replay = Replay { idempotent, body, lost };
            assert_eq!(may_repeat(failure, replay), allowed, "{failure:?} {replay:?}");
        }
    }

    #[test]
    fn the_budget_is_a_tenth_of_the_requests_and_ten_a_second() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(start);
        assert_eq!((0..200).filter(|_| budget.spend(start)).count(), 100);
        (0..500).for_each(|_| budget.earn());
        assert_eq!((0..200).filter(|_| budget.spend(start)).count(), 50);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..200).filter(|_| budget.spend(later)).count(), 20);
    }
}
