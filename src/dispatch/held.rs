//! Tells when the pool is full of requests that wait and not of work: long polls and the like,
//! which keep others out although the workers have nothing to do.

use std::time::{Duration, Instant};

use super::Reactor;
use crate::policy::{WorkerId, WorkerView};
use crate::sys::process;

/// A request older than this was not meant to be answered at once.
const WAITS: Duration = Duration::from_secs(5);

/// Below this share of one CPU per worker the pool is not busy, in hundredths.
const IDLE_SHARE: u64 = 20;

/// How long to be silent after telling.
const SILENCE: Duration = Duration::from_secs(600);

/// What was seen at the last look, while the pool was full of old requests.
#[derive(Debug, Default)]
pub(super) struct HeldLimit {
    last: Option<Sample>,
    told: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    /// CPU time of all workers that serve, in ticks of 10 ms.
    ticks: u64,
}

impl Reactor {
    /// Looks whether the limit is held by waiting requests. Call it every second.
    pub(super) fn watch_held_limit(&mut self, now: Instant) {
        let is_silent = self.held_limit.told.is_some_and(|told| now < told + SILENCE);
        if is_silent || !self.is_full_of_old(now) {
            self.held_limit.last = None;
            return;
        }
        let on_duty = self.on_duty();
        let pid = |id: &WorkerId| self.links.get(id).map(|member| member.speaker);
        let pids: Vec<i32> = on_duty.iter().filter_map(pid).collect();
        // Of one that is gone by now the next look tells.
        let ticks = pids.iter().filter_map(|pid| process::cpu_ticks(*pid).ok()).sum();
        let before = self.held_limit.last.replace(Sample { at: now, ticks });
        let Some(Sample { at, ticks: earlier }) = before else {
            return;
        };
        let elapsed_ms = u64::try_from((now - at).as_millis()).unwrap_or(u64::MAX).max(1);
        // Ticks of 10 ms, in hundredths of the time that all of them had.
        let used = ticks.saturating_sub(earlier) * 1000 / elapsed_ms / pids.len().max(1) as u64;
        if used < IDLE_SHARE {
            self.held_limit.told = Some(now);
            tracing::warn!("limit is held by waiting requests, not by work; see unlimited");
        }
    }

    fn on_duty(&self) -> Vec<WorkerId> {
        self.balance().workers().filter(WorkerView::is_on_duty).map(|worker| worker.id).collect()
    }

    /// Whether every ready worker is at its limit, and no request at a worker is young.
    fn is_full_of_old(&self, now: Instant) -> bool {
        let is_full = {
            let balance = self.balance();
            let mut ready = balance.workers().filter(WorkerView::is_on_duty).peekable();
            ready.peek().is_some() && ready.all(|it| it.in_flight >= it.bounds.limit.get())
        };
        // By age: the last one at a worker is the youngest.
        is_full
            && self
                .front
                .in_flight()
                .values()
                .rfind(|exchange| exchange.worker.get().is_some())
                .is_some_and(|youngest| now.saturating_duration_since(youngest.since) > WAITS)
    }
}
