//! One live process: the steps it goes through on its way out, and when each is due.

use std::time::{Duration, Instant};

use super::{Action, Cause, LiveWorker, Note, WorkerLife};
use crate::policy::time::after;
use crate::policy::{Duty, Generation, Slot, Stalled, WorkerId};

/// The longest start that a worker can ask for, from its beginning; the most that
/// `workers.start_timeout` can be.
pub(super) const START_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    /// As it was last told, or started.
    pub(super) duty: Duty,
    pub(super) life: WorkerLife,
    /// Whether it is ready and cannot take work now; nobody else is stalled.
    pub(super) stalled: Stalled,
    pub(super) started: Instant,
    /// What it said about itself so far.
    pub(super) record: Record,
    /// Until when it asked to be given time to start.
    pub(super) extended: Option<Instant>,
    /// Why we ended it, if we did although it was wanted.
    pub(super) verdict: Option<Cause>,
}

/// Whether a worker ever served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    NeverReady,
    WasReady,
}

/// How well somebody could serve now, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    Unready,
    /// It is ready, and does not go on now.
    Stalled,
    InOrder,
}

impl Worker {
    /// Whether it is busy booting. One that was ready and is not now (a wrapper waiting for its
    /// child) holds nobody else's start back.
    pub(super) fn is_booting(&self) -> bool {
        match self.life {
            WorkerLife::Starting { .. } => self.record == Record::NeverReady,
            WorkerLife::Ready { .. }
            | WorkerLife::Draining { .. }
            | WorkerLife::Stopping { .. }
            | WorkerLife::Killed { .. } => false,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.life, WorkerLife::Ready { .. })
    }

    /// What its slot has in it.
    pub(super) fn fitness(&self) -> Fitness {
        match (self.life, self.stalled) {
            (WorkerLife::Ready { .. }, Stalled::No) => Fitness::InOrder,
            (WorkerLife::Ready { .. }, Stalled::Yes) => Fitness::Stalled,
            (
                WorkerLife::Starting { .. }
                | WorkerLife::Draining { .. }
                | WorkerLife::Stopping { .. }
                | WorkerLife::Killed { .. },
                _,
            ) => Fitness::Unready,
        }
    }

    /// Whether nobody has sent it away.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self.life, WorkerLife::Starting { .. } | WorkerLife::Ready { .. })
    }

    pub(super) fn is_killed(&self) -> bool {
        matches!(self.life, WorkerLife::Killed { .. })
    }

    pub(super) fn ready(&mut self, now: Instant) {
        if let WorkerLife::Starting { .. } = self.life {
            self.life = WorkerLife::Ready { since: now };
            self.record = Record::WasReady;
        }
    }

    /// Gives it until `by` from now to be ready, if it has less.
    pub(super) fn extend(&mut self, now: Instant, by: Duration) {
        if let WorkerLife::Starting { until } = self.life {
            let wanted = after(now, by).min(after(self.started, START_MAX));
            self.life = WorkerLife::Starting { until: until.max(wanted) };
            self.extended = Some(until.max(wanted));
        }
    }

    /// How long it took to be ready, if it is, and has been since.
    pub(super) fn start_time(&self) -> Option<Duration> {
        match self.life {
            WorkerLife::Ready { since } => Some(since - self.started),
            WorkerLife::Starting { .. }
            | WorkerLife::Draining { .. }
            | WorkerLife::Stopping { .. }
            | WorkerLife::Killed { .. } => None,
        }
    }

    /// Until when it may take for its first start because it asked for it.
    pub(super) fn extended_until(&self) -> Option<Instant> {
        self.extended.filter(|_| self.is_booting())
    }

    pub(super) fn unready(&mut self, until: Instant) {
        if self.is_ready() {
            self.life = WorkerLife::Starting { until };
            self.stalled = Stalled::No;
        }
    }

    /// Sends it away: it drains until `drain_by`, or gets its TERM at once if it has no work.
    pub(super) fn leave(&mut self, drain_by: Instant, kill_by: Instant) -> Option<Action> {
        match self.life {
            WorkerLife::Ready { .. } => {
                self.life = WorkerLife::Draining { until: drain_by };
                Some(Action::Drain { worker: self.id })
            }
            WorkerLife::Starting { .. } => self.terminate(kill_by),
            WorkerLife::Draining { until } => {
                self.life = WorkerLife::Draining { until: until.min(drain_by) };
                None
            }
            WorkerLife::Stopping { .. } | WorkerLife::Killed { .. } => None,
        }
    }

    /// Sends its TERM, if it had none; it gets its KILL at `kill_by` at the latest.
    pub(super) fn terminate(&mut self, kill_by: Instant) -> Option<Action> {
        match self.life {
            WorkerLife::Starting { .. }
            | WorkerLife::Ready { .. }
            | WorkerLife::Draining { .. } => {
                self.life = WorkerLife::Stopping { until: kill_by };
                Some(Action::Terminate { worker: self.id })
            }
            WorkerLife::Stopping { until } => {
                self.life = WorkerLife::Stopping { until: until.min(kill_by) };
                None
            }
            WorkerLife::Killed { .. } => None,
        }
    }

    /// Ends it for `cause`; it gets its KILL at `kill_by` at the latest.
    pub(super) fn condemn(&mut self, kill_by: Instant, cause: Cause) -> Option<Action> {
        match self.life {
            WorkerLife::Starting { .. } | WorkerLife::Ready { .. } => {
                self.verdict = Some(cause);
                self.life = WorkerLife::Stopping { until: kill_by };
                Some(Action::Abort { worker: self.id })
            }
            // It goes already.
            WorkerLife::Draining { .. }
            | WorkerLife::Stopping { .. }
            | WorkerLife::Killed { .. } => None,
        }
    }

    /// Sends its KILL, if it had none.
    pub(super) fn kill(&mut self, now: Instant) -> Option<Action> {
        if self.is_killed() {
            return None;
        }
        self.life = WorkerLife::Killed { since: now };
        Some(Action::Kill { worker: self.id })
    }

    /// The signal it would have had if its process had existed when it was sent.
    pub(super) fn repeat(&self) -> Option<Action> {
        let worker = self.id;
        match self.life {
            WorkerLife::Starting { .. } | WorkerLife::Ready { .. } => None,
            WorkerLife::Draining { .. } => Some(Action::Drain { worker }),
            WorkerLife::Stopping { .. } => Some(Action::Terminate { worker }),
            WorkerLife::Killed { .. } => Some(Action::Kill { worker }),
        }
    }

    /// When its patience ends; `None` if nothing follows by time alone.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.life {
            WorkerLife::Starting { until }
            | WorkerLife::Draining { until }
            | WorkerLife::Stopping { until } => Some(until),
            WorkerLife::Ready { .. } | WorkerLife::Killed { .. } => None,
        }
    }

    /// Takes the next step if its deadline has come.
    pub(super) fn pass(&mut self, now: Instant, kill_after_term: Duration) -> Option<[Action; 2]> {
        if self.deadline()? > now {
            return None;
        }
        let (slot, worker) = (self.slot, self.id);
        let (note, action) = match self.life {
            WorkerLife::Starting { .. } => {
                self.verdict = Some(Cause::StartTimeout);
                (Note::StartTimedOut { slot, worker }, self.kill(now)?)
            }
            WorkerLife::Draining { .. } => {
                let kill_by = after(now, kill_after_term);
                (Note::DrainTimedOut { slot, worker }, self.terminate(kill_by)?)
            }
            WorkerLife::Stopping { .. } => (Note::TermTimedOut { slot, worker }, self.kill(now)?),
            WorkerLife::Ready { .. } | WorkerLife::Killed { .. } => return None,
        };
        Some([Action::Note(note), action])
    }

    pub(super) fn view(&self) -> LiveWorker {
        LiveWorker {
            worker: self.id,
            slot: self.slot,
            generation: self.generation,
            duty: self.duty,
            state: self.life,
        }
    }
}
