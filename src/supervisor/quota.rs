//! Watches how often the CPU quota of the cgroup stops the pool, and tells what would help.

use std::time::{Duration, Instant};

use super::announce::millis;
use super::{Announced, Supervisor};
use crate::policy::{QuotaPeriods, QuotaWatch};
use crate::sys::{limits, usage};

/// Often enough for a window of 10 s; two files are read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is known of the quota.
#[derive(Debug)]
pub(super) struct Quota {
    watch: QuotaWatch,
    /// None: there is no quota to be watched.
    due: Option<Instant>,
}

impl Quota {
    pub(super) fn new(now: Instant) -> Self {
        let is_bound = limits::cgroup().cpus.is_some() && usage::cgroup().throttling.is_some();
        Self { watch: QuotaWatch::default(), due: is_bound.then_some(now + LOOK_EVERY) }
    }

    /// When it is next looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Supervisor {
    /// Looks at the quota, if it is time.
    pub(super) fn check_quota(&mut self, now: Instant) {
        if self.quota.due.is_none_or(|due| due > now) {
            return;
        }
        self.quota.due = Some(now + LOOK_EVERY);
        // A start takes all it can get, and is over soon.
        if self.announced == Announced::Nothing {
            return;
        }
        let Some(counts) = usage::cgroup().throttling else {
            return;
        };
        let counts = QuotaPeriods {
            all: counts.periods,
            throttled: counts.throttled_periods,
            stopped: counts.throttled,
        };
        if let Some(window) = self.quota.watch.sample(now, counts) {
            let percent = 100 * window.throttled / window.all.max(1);
            let stopped_ms = millis(window.stopped);
            let (workers, cpus) = (self.parts.fleet.count(), limits::cgroup().cpus);
            tracing::warn!(
                throttled_percent = percent,
                stopped_ms,
                quota_cpus = cpus,
                workers,
                "the CPU quota is spent again and again, which stops all workers and the master: \
                 raise it, or have fewer workers than it has CPUs"
            );
        }
    }
}
