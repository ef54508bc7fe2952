//! Decides when it is worth telling that the CPU quota stops the pool.
//!
//! A quota is spent by all processes of a cgroup together, and then stops all of them, the master
//! too, until the next period. Some of that is the price of a tight bound; above a twentieth of all
//! periods it is what users wait for.

use std::time::{Duration, Instant};

use crate::policy::time::after;

/// So many periods are judged together: 10 s of 100 ms each, which a burst does not fill.
const WINDOW: u64 = 100;

/// Told if more than one of so many was throttled: 5 %.
const ONE_OF: u64 = 20;

/// It is a matter of configuration, which does not mend itself: once an hour will do.
const SILENCE: Duration = Duration::from_secs(3600);

/// The kernel's counts for a cgroup, since that was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaPeriods {
    /// Periods in which any of its processes ran.
    pub all: u64,
    /// Those in which the quota was spent.
    pub throttled: u64,
    /// How long that stopped it, summed over CPUs.
    pub stopped: Duration,
}

/// The periods since the last judgement.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuotaWatch {
    mark: Option<QuotaPeriods>,
    silent_until: Option<Instant>,
}

impl QuotaWatch {
    /// Takes the counts as they are now. `Some`: what is to be told of the periods that were
    /// judged.
    pub fn sample(&mut self, now: Instant, counts: QuotaPeriods) -> Option<QuotaPeriods> {
        let Some(mark) = self.mark else {
            self.mark = Some(counts);
            return None;
        };
        let window = QuotaPeriods {
            all: counts.all.saturating_sub(mark.all),
            throttled: counts.throttled.saturating_sub(mark.throttled),
            stopped: counts.stopped.saturating_sub(mark.stopped),
        };
        if window.all < WINDOW {
            return None;
        }
        self.mark = Some(counts);
        let is_silent = self.silent_until.is_some_and(|until| now < until);
        if is_silent || window.throttled.saturating_mul(ONE_OF) <= window.all {
            return None;
        }
        self.silent_until = Some(after(now, SILENCE));
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: u64, throttled: u64) -> QuotaPeriods {
        QuotaPeriods { all, throttled, stopped: Duration::from_millis(throttled * 10) }
    }

    #[test]
    fn more_than_a_twentieth_of_a_window_is_told_once_an_hour() {
        let (now, mut watch) = (Instant::now(), QuotaWatch::default());
        // What was before the first look is not judged.
        assert_eq!(watch.sample(now, counts(1_000, 900)), None);
        assert_eq!(watch.sample(now, counts(1_099, 999)), None, "not a whole window");
        assert_eq!(watch.sample(now, counts(1_100, 906)), Some(counts(100, 6)));
        assert_eq!(watch.sample(now, counts(1_200, 1_006)), None, "it was told");
        let later = now + SILENCE;
        assert_eq!(watch.sample(later, counts(1_300, 1_106)), Some(counts(100, 100)));
    }

    #[test]
    fn a_twentieth_is_the_price_of_a_bound() {
        let (now, mut watch) = (Instant::now(), QuotaWatch::default());
        assert_eq!(watch.sample(now, counts(0, 0)), None);
        assert_eq!(watch.sample(now, counts(100, 5)), None);
        // A cgroup that was replaced by another counts from nothing.
        assert_eq!(watch.sample(now, counts(0, 0)), None);
    }
}
