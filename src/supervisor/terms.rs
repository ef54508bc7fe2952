//! Notices that somebody else sends TERM to the workers while the pool stops: a unit without
//! `KillMode=mixed` ends them in the middle of what they should finish.

use std::time::{Duration, Instant};

use super::{Supervisor, guardian};
use crate::policy::{Phase, WorkerExit, WorkerId, WorkerLife};

/// How long before our own TERM a worker's death still belongs to the same stop: systemd signals
/// the processes of a unit one after the other.
const SAME_STOP: Duration = Duration::from_secs(1);

/// What is known of deaths of a TERM that we did not send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ForeignTerms {
    last: Option<Instant>,
    suspicion: Suspicion,
}

/// Whether a person was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Suspicion {
    #[default]
    None,
    /// It is to be told.
    New,
    Told,
}

impl ForeignTerms {
    /// A worker died of a TERM that we did not send.
    fn died(&mut self, now: Instant, phase: Phase) {
        self.last = Some(now);
        match phase {
            Phase::Stopping(_) => self.suspect(),
            // By itself it is a crash, or the wish of a person.
            Phase::Starting | Phase::Running | Phase::Reloading | Phase::Finished => {}
        }
    }

    /// A stop begins: a death of a moment ago is part of it.
    fn stops(&mut self, now: Instant) {
        let recent = |last: Instant| now.saturating_duration_since(last) < SAME_STOP;
        if self.last.is_some_and(recent) {
            self.suspect();
        }
    }

    fn suspect(&mut self) {
        if self.suspicion == Suspicion::None {
            self.suspicion = Suspicion::New;
        }
    }

    /// Whether something is to be told now; once.
    fn is_news(&mut self) -> bool {
        let is_news = self.suspicion == Suspicion::New;
        if is_news {
            self.suspicion = Suspicion::Told;
        }
        is_news
    }
}

impl Supervisor {
    /// A worker's process has ended; the fleet has not heard of it yet.
    pub(super) fn note_death(&mut self, now: Instant, worker: WorkerId, exit: WorkerExit) {
        let life = self.parts.fleet.workers().find(|live| live.worker == worker);
        let unasked = life.is_some_and(|live| match live.state {
            WorkerLife::Stopping { .. } | WorkerLife::Killed { .. } => false,
            WorkerLife::Starting { .. }
            | WorkerLife::Ready { .. }
            | WorkerLife::Draining { .. } => true,
        });
        if unasked && exit == WorkerExit::Signal(libc::SIGTERM) {
            self.foreign_terms.died(now, self.parts.fleet.phase());
            self.hint();
        }
    }

    /// A stop begins.
    pub(super) fn note_stop(&mut self, now: Instant) {
        self.foreign_terms.stops(now);
        self.hint();
    }

    fn hint(&mut self) {
        let is_unit = guardian::is_unit(std::process::id(), |name| std::env::var_os(name));
        if is_unit && self.foreign_terms.is_news() {
            tracing::warn!("systemd signalled the workers itself; set KillMode=mixed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::policy::StopStep;

    #[test]
    fn deaths_around_the_beginning_of_a_stop_are_told_of_once() {
        let now = clock::now();
        let mut terms = ForeignTerms::default();
        terms.stops(now);
        assert!(!terms.is_news(), "nobody has died");
        terms.died(now, Phase::Running);
        assert!(!terms.is_news(), "it may be a crash");
        terms.stops(now + SAME_STOP);
        assert!(!terms.is_news(), "too long ago");
        terms.stops(now + SAME_STOP / 2);
        assert!(terms.is_news());
        terms.died(now, Phase::Stopping(StopStep::Draining));
        assert!(!terms.is_news(), "it was told");
        let mut terms = ForeignTerms::default();
        terms.died(now, Phase::Stopping(StopStep::Draining));
        assert!(terms.is_news());
    }
}
