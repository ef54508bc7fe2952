//! Bounds what all responses together hold for slow clients.

use std::cell::Cell;
use std::rc::Rc;

/// What a response may hold without asking: enough that every exchange goes on when the budget is
/// spent, little enough that 5,000 slow readers hold 40 MiB.
pub(super) const FREE_BYTES: usize = 8 * 1024;

/// Bytes that all responses may hold together, beyond [`FREE_BYTES`] each.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: Rc<Cell<usize>>,
    /// The most that one response may hold.
    per_response: usize,
}

/// One response's share; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    taken: usize,
}

impl Budget {
    /// `total` and `per_response` in bytes.
    pub(super) fn new(total: usize, per_response: usize) -> Self {
        Self { left: Rc::new(Cell::new(total)), per_response }
    }

    pub(super) fn share(&self) -> Share {
        Share { budget: self.clone(), taken: 0 }
    }
}

impl Share {
    /// How many bytes more a response that holds `held` may read ahead, at most `wanted`. What is
    /// allowed is taken from the budget until the response holds less again ([`Share::settle`]).
    pub(super) fn allow(&mut self, held: usize, wanted: usize) -> usize {
        let ceiling = self.budget.per_response.max(FREE_BYTES);
        let wanted = wanted.min(ceiling.saturating_sub(held));
        let needed = (held + wanted).saturating_sub(FREE_BYTES);
        let more = needed.saturating_sub(self.taken).min(self.budget.left.get());
        self.budget.left.set(self.budget.left.get() - more);
        self.taken += more;
        (self.taken + FREE_BYTES).saturating_sub(held).min(wanted)
    }

    /// The response holds `held` bytes now: gives back what it does not need.
    pub(super) fn settle(&mut self, held: usize) {
        let needed = held.saturating_sub(FREE_BYTES);
        if needed < self.taken {
            self.budget.left.set(self.budget.left.get() + self.taken - needed);
            self.taken = needed;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_leaves_each_response_its_free_bytes() {
        let budget = Budget::new(100_000, 1 << 20);
        let (mut greedy, mut late) = (budget.share(), budget.share());
        assert_eq!(greedy.allow(0, 1 << 20), 100_000 + FREE_BYTES);
        assert_eq!(late.allow(0, 64 * 1024), FREE_BYTES);
        assert_eq!(late.allow(FREE_BYTES, 64 * 1024), 0);
        assert_eq!(budget.left.get(), 0);
    }

    #[test]
    fn what_was_written_out_is_given_back() {
        let budget = Budget::new(100_000, 1 << 20);
        let mut share = budget.share();
        share.allow(0, 64 * 1024);
        share.settle(20_000);
        assert_eq!(budget.left.get(), 100_000 - (20_000 - FREE_BYTES));
        drop(share);
        assert_eq!(budget.left.get(), 100_000);
    }

    #[test]
    fn one_response_holds_no_more_than_its_bound() {
        let budget = Budget::new(1 << 30, 50_000);
        let mut share = budget.share();
        assert_eq!(share.allow(0, 1 << 20), 50_000);
        assert_eq!(share.allow(50_000, 1 << 20), 0);
    }
}
