//! How the pool ends: delay, drain, TERM, KILL; each step waits for the workers, not for the time.

use std::time::{Duration, Instant};

use super::{Action, Finish, Fleet, Note, ReloadFailure, Stage, StopKind, StopStep, WorkerLife};
use crate::policy::time::after;

/// Longest time between TERM and KILL once somebody asked to stop now.
const HURRY: Duration = Duration::from_secs(2);

/// How long we wait for the kernel to end who was killed. Past it the process hangs in a system
/// call, and to wait longer would only make the orchestrator kill us too.
const LAST_WAIT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) step: StopStep,
    finish: Finish,
    /// End of `Delaying`.
    delay_until: Instant,
    /// End of `Draining`.
    drain_by: Instant,
}

impl Stop {
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.step == StopStep::Delaying).then_some(self.delay_until)
    }
}

impl Fleet {
    /// A stop was asked for: begins one, or skips to the next step of the one that runs.
    pub(super) fn stop(&mut self, now: Instant, kind: StopKind) {
        let times = self.settings.stop;
        let grace = after(now, times.interactive_grace.min(times.drain()));
        let (first, drain_by) = match kind {
            StopKind::Graceful => (StopStep::Delaying, after(now, times.drain())),
            StopKind::Succeeded => (StopStep::Draining, after(now, times.drain())),
            StopKind::Interactive => (StopStep::Draining, grace),
            StopKind::Now => (StopStep::Terminating, now),
        };
        if let Stage::Stopping(stop) = &mut self.stage {
            stop.drain_by = stop.drain_by.min(drain_by);
            let next = match stop.step {
                StopStep::Delaying => StopStep::Draining,
                StopStep::Draining => StopStep::Terminating,
                StopStep::Terminating | StopStep::Killing => StopStep::Killing,
            };
            self.enter(now, next.max(first));
        } else {
            let delay_until = after(now, times.delay).min(drain_by);
            self.begin_stop(
                now,
                Stop { step: first, finish: Finish::Stopped, delay_until, drain_by },
            );
        }
    }

    /// Ends the pool by itself: no worker is ready, so only those already leaving have time.
    pub(super) fn end(&mut self, now: Instant, finish: Finish) {
        let drain_by = after(now, self.settings.stop.drain());
        let step = StopStep::Draining;
        self.begin_stop(now, Stop { step, finish, delay_until: now, drain_by });
    }

    /// Goes on with a stop as far as time and workers allow, up to `Finish`.
    pub(super) fn advance_stop(&mut self, now: Instant) {
        let Stage::Stopping(stop) = &self.stage else {
            return;
        };
        let (finish, step) = (stop.finish, stop.step);
        if self.workers.is_empty() || self.last_wait_end().is_some_and(|end| end <= now) {
            for worker in std::mem::take(&mut self.workers).values() {
                let note = Note::Abandoned { slot: worker.slot, worker: worker.id };
                self.actions.push(Action::Note(note));
            }
            self.stage = Stage::Finished;
            self.actions.push(Action::Finish(finish));
        } else if stop.deadline().is_some_and(|end| end <= now) {
            self.enter(now, StopStep::Draining);
        } else if let Some(reached) = self.reached_step()
            && reached > step
        {
            self.follow(now, reached);
        }
    }

    /// When we stop waiting for the kernel: set once all who are left have their KILL.
    pub(super) fn last_wait_end(&self) -> Option<Instant> {
        let killed = self.workers.values().map(|worker| match worker.life {
            WorkerLife::Killed { since } => Some(since),
            WorkerLife::Starting { .. }
            | WorkerLife::Ready { .. }
            | WorkerLife::Draining { .. }
            | WorkerLife::Stopping { .. } => None,
        });
        let latest = killed.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some(after(latest, LAST_WAIT))
    }

    fn begin_stop(&mut self, now: Instant, stop: Stop) {
        self.abort_reload(ReloadFailure::Stopped);
        let step = match stop.step {
            StopStep::Delaying if stop.delay_until <= now => StopStep::Draining,
            step => step,
        };
        self.stage = Stage::Stopping(stop);
        if step == StopStep::Delaying {
            self.note_step(step);
        } else {
            self.actions.push(Action::StopAccepting);
            self.enter_leaving(now, step);
        }
    }

    /// The workers went ahead by themselves: takes note of the step, and hurries nobody.
    fn follow(&mut self, now: Instant, reached: StopStep) {
        let Stage::Stopping(stop) = &mut self.stage else {
            return;
        };
        if stop.step == StopStep::Delaying {
            // Nobody is left to serve during the delay.
            self.enter(now, StopStep::Draining);
        } else {
            stop.step = reached;
            self.note_step(reached);
        }
    }

    fn enter(&mut self, now: Instant, step: StopStep) {
        let Stage::Stopping(stop) = &self.stage else {
            return;
        };
        if stop.step == StopStep::Delaying {
            self.actions.push(Action::StopAccepting);
        }
        if stop.step != step {
            self.enter_leaving(now, step);
        }
    }

    /// Brings every worker at least to this step.
    fn enter_leaving(&mut self, now: Instant, step: StopStep) {
        let Stage::Stopping(stop) = &mut self.stage else {
            return;
        };
        stop.step = step;
        let drain_by = stop.drain_by;
        self.note_step(step);
        let kill_after_term = self.settings.stop.kill_after_term;
        let kill_by = after(now, kill_after_term);
        let hurried_kill_by = after(now, kill_after_term.min(HURRY));
        for worker in self.workers.values_mut() {
            self.actions.extend(match step {
                StopStep::Delaying => None,
                StopStep::Draining => worker.leave(drain_by, kill_by),
                StopStep::Terminating => worker.terminate(hurried_kill_by),
                StopStep::Killing => worker.kill(now),
            });
        }
    }

    /// The step at which the worker that is furthest behind has arrived by itself.
    fn reached_step(&self) -> Option<StopStep> {
        let steps = self.workers.values().map(|worker| match worker.life {
            WorkerLife::Starting { .. } | WorkerLife::Ready { .. } => StopStep::Delaying,
            WorkerLife::Draining { .. } => StopStep::Draining,
            WorkerLife::Stopping { .. } => StopStep::Terminating,
            WorkerLife::Killed { .. } => StopStep::Killing,
        });
        steps.min()
    }

    fn note_step(&mut self, step: StopStep) {
        let left = self.workers.len();
        self.actions.push(Action::Note(Note::Stopping { step, left }));
    }
}
