//! How long to wait before a slot is started again: the first time not at all, then full jitter.

use std::time::Duration;

use super::SplitMix64;

/// The waits between restarts of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper end of the second wait (the first is zero); doubles with every further failure.
    pub base: Duration,
    /// Upper end of every wait.
    pub cap: Duration,
    /// A worker that was ready this long before it ended clears the slot's failures.
    pub healthy: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(30),
            // Twice the cap, so that a slot that fails at its slowest pace is never called healthy.
            healthy: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row: uniform in `0..=min(cap, base * 2^n)`. Full
    /// jitter spreads slots that failed together better than any fixed wait plus noise.
    pub(super) fn delay(&self, failures: u32, random: &mut SplitMix64) -> Duration {
        let Some(doublings) = failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let ceiling = self.base.saturating_mul(factor).min(self.cap);
        ceiling.mul_f64(random.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest of many draws is close to, and never above, the ceiling.
    fn check(failures: u32, ceiling_ms: u64) {
        let mut random = SplitMix64::new(u64::from(failures));
        let draws = (0..2000).map(|_| Backoff::default().delay(failures, &mut random));
        let (shortest, longest) = draws
            .fold((Duration::MAX, Duration::ZERO), |(low, high), it| (low.min(it), high.max(it)));
        let ceiling = Duration::from_millis(ceiling_ms);
        assert!(longest <= ceiling && longest >= ceiling.mul_f64(0.99), "{failures}: {longest:?}");
        assert!(shortest <= ceiling.mul_f64(0.01), "{failures}: {shortest:?}");
    }

    #[test]
    fn first_restart_is_immediate_and_later_ones_double_up_to_the_cap() {
        for (failures, ceiling_ms) in
            [(0, 0), (1, 0), (2, 100), (3, 200), (4, 400), (10, 25_600), (11, 30_000)]
        {
            check(failures, ceiling_ms);
        }
        check(u32::MAX, 30_000);
    }
}
