//! Decides which workers fail so often in a row that they get nothing for a while.
//!
//! A failure is an exchange that the worker did not take, lost, or answered with what is no HTTP;
//! its own 500s are answers. One success makes up for all failures in a row, but a worker that is
//! back from an ejection is sent away again by its first failure, for twice as long.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::policy::WorkerId;
use crate::policy::time::after;

/// The longest ejection: what a worker that was mended meanwhile may wait.
const EJECTION_MAX: Duration = Duration::from_secs(300);

/// When a worker is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionSettings {
    /// After so many failures in a row; none: never.
    pub failures: Option<NonZeroU32>,
    /// For how long the first time; doubled each time in a row, up to 5 minutes.
    pub time: Duration,
}

/// Who has failed lately. Workers in order take no room here.
#[derive(Clone, Debug)]
pub struct Ejections {
    settings: EjectionSettings,
    failing: BTreeMap<WorkerId, Record>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    in_row: u32,
    /// Ejections in a row.
    ejections: u32,
    until: Option<Instant>,
}

impl Ejections {
    /// Nobody has failed.
    pub fn new(settings: EjectionSettings) -> Self {
        Self { settings, failing: BTreeMap::new() }
    }

    /// The worker failed an exchange. `Some`: it is to be ejected until then.
    pub fn failed(&mut self, now: Instant, worker: WorkerId) -> Option<Instant> {
        let bound = self.settings.failures?.get();
        let record = self.failing.entry(worker).or_default();
        // What it held when it was ejected may fail as well.
        if record.until.is_some_and(|until| until > now) {
            return None;
        }
        record.in_row = record.in_row.saturating_add(1);
        let is_on_probation = record.ejections > 0;
        if record.in_row < bound && !is_on_probation {
            return None;
        }
        let factor = 1_u32.checked_shl(record.ejections).unwrap_or(u32::MAX);
        let until = after(now, self.settings.time.saturating_mul(factor).min(EJECTION_MAX));
        let ejections = record.ejections.saturating_add(1);
        *record = Record { in_row: 0, ejections, until: Some(until) };
        Some(until)
    }

    /// The worker served an exchange; cheap while nobody fails.
    pub fn succeeded(&mut self, worker: WorkerId) {
        if !self.is_empty() {
            self.failing.remove(&worker);
        }
    }

    /// Whether nobody has failed lately.
    pub fn is_empty(&self) -> bool {
        self.failing.is_empty()
    }

    /// The worker is gone.
    pub fn forget(&mut self, worker: WorkerId) {
        self.failing.remove(&worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: WorkerId = WorkerId(1);

    fn ejections(failures: u32) -> Ejections {
        let time = Duration::from_secs(10);
        Ejections::new(EjectionSettings { failures: NonZeroU32::new(failures), time })
    }

    /// Fails so often; returns for how many seconds it was ejected, if it was.
    fn fail(ejections: &mut Ejections, now: Instant, times: u32) -> Option<u64> {
        let until = (0..times).filter_map(|_| ejections.failed(now, W)).last();
        until.map(|until| (until - now).as_secs())
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let (mut ejections, now) = (ejections(5), Instant::now());
        for _ in 0..10 {
            assert_eq!(fail(&mut ejections, now, 4), None);
            ejections.succeeded(W);
        }
        assert_eq!(fail(&mut ejections, now, 5), Some(10));
    }

    #[test]
    fn a_worker_that_goes_on_failing_is_ejected_for_longer_and_longer() {
        let (mut ejections, mut now) = (ejections(3), Instant::now());
        let mut times = vec![fail(&mut ejections, now, 3)];
        for _ in 0..6 {
            now += Duration::from_secs(301);
            times.push(fail(&mut ejections, now, 1));
        }
        assert_eq!(times, [10, 20, 40, 80, 160, 300, 300].map(Some));
    }

    #[test]
    fn what_fails_during_an_ejection_does_not_prolong_it() {
        let (mut ejections, now) = (ejections(3), Instant::now());
        assert_eq!(fail(&mut ejections, now, 50), Some(10));
        let back = now + Duration::from_secs(10);
        ejections.succeeded(W);
        assert_eq!(fail(&mut ejections, back, 2), None, "one success is a clean slate");
    }

    #[test]
    fn without_a_bound_nobody_is_ejected() {
        let (mut ejections, now) = (ejections(0), Instant::now());
        assert_eq!(fail(&mut ejections, now, 1_000), None);
    }
}
