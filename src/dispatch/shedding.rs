//! Tells, once in ten seconds and only while it happens, what was turned away or timed out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use super::request::name_of;
use super::{Reactor, Timer};
use crate::link::orders::{Report, ShedSummary};
use crate::policy::WorkerView;

/// How often a summary is logged while there is anything to tell.
const EVERY: Duration = Duration::from_secs(10);

/// What was turned away since the last summary, by reason code.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    reasons: BTreeMap<&'static str, u64>,
    summary: Summary,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Summary {
    #[default]
    Idle,
    Due,
}

impl Reactor {
    /// Counts a client that was not served, for this reason.
    pub(super) fn count_shed(&mut self, now: Instant, reason: &'static str) {
        *self.shedding.reasons.entry(reason).or_default() += 1;
        if std::mem::replace(&mut self.shedding.summary, Summary::Due) == Summary::Idle {
            self.after(now + EVERY, Timer::SheddingSummary);
        }
    }

    /// Reports what was turned away in the last ten seconds, or that nothing was.
    pub(super) fn summarise_shedding(&mut self, now: Instant) {
        let reasons = std::mem::take(&mut self.shedding.reasons);
        if reasons.is_empty() {
            self.shedding.summary = Summary::Idle;
        } else {
            self.after(now + EVERY, Timer::SheddingSummary);
        }
        let pool = self.describe_pool(now);
        self.report(Report::Shed(ShedSummary { over: EVERY, reasons, pool }));
    }

    /// `queue 400/400; 10/10 workers at limit 100; longest 28s GET /p`.
    fn describe_pool(&self, now: Instant) -> String {
        let balance = self.balance();
        let (length, max) = balance.listeners().fold((0, 0), |(length, max), listener| {
            (length + listener.length, max + listener.bounds.max)
        });
        let ready: Vec<_> = balance.workers().filter(WorkerView::is_on_duty).collect();
        let full = ready.iter().filter(|worker| worker.in_flight >= worker.bounds.limit.get());
        let limit = ready.first().map_or(0, |worker| worker.bounds.limit.get());
        let (full, all) = (full.count(), ready.len());
        let mut text = format!("queue {length}/{max}; {full}/{all} workers at limit {limit}");
        if let Some((_, oldest)) = self.front.in_flight().first_key_value() {
            // Writing to a String cannot fail.
            let age = now.saturating_duration_since(oldest.since).as_secs();
            let _ = write!(text, "; longest {age}s {}", name_of(oldest.head()));
        }
        text
    }
}
