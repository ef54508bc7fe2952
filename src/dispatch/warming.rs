//! Warms new workers: requests before they are ready, and a limit that rises after.

use std::sync::Arc;
use std::time::Instant;

use super::{Reactor, Standing, tasks};
use crate::policy::{WorkerBounds, WorkerId, ramped};

/// How far a worker is with its warming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warming {
    /// It was not ready yet.
    Cold,
    /// Its first requests are under way.
    Visited,
    /// They have ended: it may be ready.
    Warm,
    /// It is ready, and its limit rises since then.
    Rising { since: Instant },
    /// It is ready since then, and has its whole limit.
    Done { since: Instant },
}

impl Reactor {
    /// The worker could serve: warms it first, where paths are named and it serves request mode.
    /// `false`: it is not to be ready before that has ended.
    pub(super) fn is_warm(&mut self, worker: WorkerId) -> bool {
        let paths: Arc<[String]> = Arc::clone(&self.front.warmup);
        let through = self.request_listener_of(worker);
        let Some(member) = self.links.get_mut(&worker) else {
            return false;
        };
        match (member.warming, through) {
            (Warming::Cold, Some(through)) if !paths.is_empty() => {
                member.warming = Warming::Visited;
                self.change(tasks::Change::WarmUp { worker, through, paths });
                false
            }
            (Warming::Visited, _) => false,
            (Warming::Cold | Warming::Warm | Warming::Rising { .. } | Warming::Done { .. }, _) => {
                true
            }
        }
    }

    /// Its first requests have been answered, or were given up.
    pub(super) fn warmed_up(&mut self, now: Instant, worker: WorkerId) {
        if let Some(member) = self.links.get_mut(&worker)
            && member.warming == Warming::Visited
        {
            member.warming = Warming::Warm;
            self.ready(now, worker);
        }
    }

    /// A worker is ready. It begins with less than its limit if others have served for long: when
    /// the whole pool is new, that would spare nobody.
    pub(super) fn begin_ramp(&mut self, now: Instant, worker: WorkerId) {
        let ramp = self.ramp;
        let is_seasoned = |warming: Warming| match warming {
            Warming::Done { since } => now.saturating_duration_since(since) >= ramp,
            Warming::Cold | Warming::Visited | Warming::Warm | Warming::Rising { .. } => false,
        };
        let others = self
            .links
            .values()
            .any(|member| member.standing == Standing::Ready && is_seasoned(member.warming));
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        if ramp.is_zero() || !others {
            member.warming = Warming::Done { since: now };
            return;
        }
        member.warming = Warming::Rising { since: now };
        self.raise(now, worker, now);
    }

    /// Raises the limits of all that rise.
    pub(super) fn raise_limits(&mut self, now: Instant) {
        let rising: Vec<(WorkerId, Instant)> = self
            .links
            .iter()
            .filter_map(|(worker, member)| match member.warming {
                Warming::Rising { since } => Some((*worker, since)),
                Warming::Cold | Warming::Visited | Warming::Warm | Warming::Done { .. } => None,
            })
            .collect();
        for (worker, since) in rising {
            self.raise(now, worker, since);
        }
    }

    fn raise(&mut self, now: Instant, worker: WorkerId, since: Instant) {
        let ready_for = now.saturating_duration_since(since);
        let limit = ramped(self.bounds.limit, ready_for, self.ramp);
        if limit == self.bounds.limit
            && let Some(member) = self.links.get_mut(&worker)
        {
            member.warming = Warming::Done { since };
        }
        let bounds = WorkerBounds { limit, ..self.bounds };
        let grants = self.balance().set_bounds(now, worker, bounds);
        self.deliver(now, grants);
    }
}
