//! Brings in a new generation as a transaction: one canary, then the rest; or the old one stays.
//!
//! Until the canary has proved itself every other start is of the old generation. From then on
//! every start is of the new one, and workers of another generation are replaced, with no worker
//! leaving before its successor is ready (unless there is to be no surge). A worker of the new
//! generation that ends before it was ever ready, or a crash storm, turns the same rollout round.

use std::time::{Duration, Instant};

use super::replace::Swap;
use super::slot::{Place, PlaceState, Start, is_refusal};
use super::worker::{Record, Worker};
use super::{
    Action, Failure, Fleet, FleetSettings, Handover, Proof, ReloadFailure, ReloadOutcome, Stage,
    Verdict, Why, WorkerLife,
};
use crate::policy::time::after;
use crate::policy::{Generation, Slot, WorkerId};

/// How much longer than its soak a canary may take to pass the probe.
const PROBE_WAIT: Duration = Duration::from_secs(10);

/// A reload under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reload {
    to: Generation,
    /// Where to go back to.
    from: Generation,
    old: FleetSettings,
    new: FleetSettings,
    step: ReloadStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReloadStep {
    /// The canary waits until no other replacement is under way.
    Waiting,
    /// It starts or soaks in this slot.
    Canary { slot: Slot, probe: Probe },
    /// The rest follows.
    Rolling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    NotAsked,
    Asked,
    Passed,
}

impl Fleet {
    /// Begins a reload, unless one is under way.
    pub(super) fn reload(&mut self, to: Generation, new: FleetSettings) {
        if matches!(self.stage, Stage::Up) && self.reload.is_none() {
            let (from, old, step) = (self.generation, self.settings, ReloadStep::Waiting);
            self.reload = Some(Reload { to, from, old, new, step });
        }
    }

    /// The canary answered a probe, or did not.
    pub(super) fn probed(&mut self, worker: WorkerId, verdict: Verdict) {
        if self.canary() != Some(worker) {
            return;
        }
        match verdict {
            Verdict::Failed => self.abort_reload(ReloadFailure::Probe { worker }),
            Verdict::Passed => self.note_probe(Probe::Passed),
        }
    }

    /// Whether the worker that this slot is getting is the canary of a reload, which takes over
    /// only when it has proved itself.
    pub(super) fn is_on_trial(&self, slot: Slot) -> bool {
        self.reload.is_some_and(|reload| match reload.step {
            ReloadStep::Canary { slot: canary, .. } => canary == slot,
            ReloadStep::Waiting | ReloadStep::Rolling => false,
        })
    }

    /// The generation of a successor that starts in this slot.
    pub(super) fn next_generation(&self, slot: Slot) -> Generation {
        match self.reload {
            Some(reload) if self.is_on_trial(slot) => reload.to,
            Some(_) | None => self.generation,
        }
    }

    /// What a worker of this generation may take to start, and the like.
    pub(super) fn settings_of(&self, generation: Generation) -> FleetSettings {
        match self.reload {
            Some(reload) if reload.to == generation => reload.new,
            Some(_) | None => self.settings,
        }
    }

    /// Judges the canary.
    pub(super) fn advance_trial(&mut self, now: Instant) {
        let Some(Reload { step: ReloadStep::Canary { probe, .. }, new, .. }) = self.reload else {
            return;
        };
        let Some(canary) = self.canary().and_then(|id| self.workers.get(&id)) else {
            return;
        };
        let worker = canary.id;
        let since = match (canary.life, canary.record) {
            (WorkerLife::Ready { since }, _) => since,
            (WorkerLife::Starting { .. }, Record::WasReady) => {
                return self.abort_reload(ReloadFailure::Unready { worker });
            }
            // Not ready yet; or it is dying, and its end is what counts.
            (WorkerLife::Starting { .. }, Record::NeverReady)
            | (
                WorkerLife::Draining { .. }
                | WorkerLife::Stopping { .. }
                | WorkerLife::Killed { .. },
                _,
            ) => return,
        };
        let soaked = after(since, new.reload.soak);
        match (probe, new.reload.proof) {
            (Probe::NotAsked, Proof::Answer) => {
                self.note_probe(Probe::Asked);
                self.actions.push(Action::Probe { worker });
            }
            (Probe::Asked, _) if now >= after(soaked, PROBE_WAIT) => {
                self.abort_reload(ReloadFailure::Probe { worker });
            }
            (Probe::NotAsked, Proof::Soak) | (Probe::Passed, _) if now >= soaked => {
                self.commit(now);
            }
            (Probe::NotAsked | Probe::Asked | Probe::Passed, _) => {}
        }
    }

    /// Asks for the replacement of every worker of another generation.
    pub(super) fn wish_for_renewal(&mut self, now: Instant) {
        if self.reload.is_some_and(|reload| reload.step != ReloadStep::Rolling) {
            return;
        }
        let (generation, handover) = (self.generation, self.reload_handover());
        for place in &mut self.places {
            if let (PlaceState::Running(id), None) = (place.state, place.swap)
                && self.workers.get(&id).is_some_and(|worker| worker.generation != generation)
            {
                place.swap = Some(Swap::new(Some(id), Why::Reload, handover, now));
            }
        }
    }

    /// Ends a reload that is complete: every slot serves with the new generation.
    pub(super) fn finish_reload(&mut self) {
        let Some(Reload { to, step: ReloadStep::Rolling, .. }) = self.reload else {
            return;
        };
        let is_renewed = |place: &Place| match place.state {
            PlaceState::Running(id) => {
                let worker = self.workers.get(&id);
                worker.is_some_and(|worker| worker.generation == to && worker.is_ready())
            }
            PlaceState::Leaving { .. } | PlaceState::Drained => place.is_drained(),
            PlaceState::Waiting { .. } | PlaceState::Failed(_) => false,
        };
        if self.places.iter().all(is_renewed) {
            self.reload = None;
            self.actions.push(Action::Reloaded(ReloadOutcome::Done { generation: to }));
        }
    }

    /// A worker ended that was wanted: the end of a reload if it was the canary, or of the new
    /// generation and never ready.
    pub(super) fn reload_lost(&mut self, worker: &Worker, failure: Failure) {
        let Some(reload) = self.reload else {
            return;
        };
        let is_hopeless = reload.step != ReloadStep::Rolling
            || worker.record == Record::NeverReady
            || is_refusal(failure.cause);
        if worker.generation == reload.to && is_hopeless {
            self.abort_reload(ReloadFailure::Died(failure));
        }
    }

    /// Crashes of a canary's followers are no accident.
    pub(super) fn reload_storm(&mut self) {
        if self.reload.is_some_and(|reload| reload.step == ReloadStep::Rolling) {
            self.abort_reload(ReloadFailure::Storm);
        }
    }

    /// The slot's workers were sent away; if its canary was among them, it starts elsewhere.
    pub(super) fn forget_canary(&mut self, slot: Slot) {
        if self.is_on_trial(slot)
            && let Some(reload) = &mut self.reload
        {
            reload.step = ReloadStep::Waiting;
        }
    }

    /// Keeps the old generation. What has been replaced already will be replaced again.
    pub(super) fn abort_reload(&mut self, failure: ReloadFailure) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        if reload.step == ReloadStep::Rolling {
            self.generation = reload.from;
            self.settings = reload.old;
            self.storm.retune(reload.old.storm, self.places.len() as u16);
            self.actions.push(Action::Commit { generation: self.generation });
        }
        self.actions.push(Action::Reloaded(ReloadOutcome::Failed(failure)));
        let drain_by = after(self.clock, self.settings.stop.drain());
        let kill_by = after(self.clock, self.settings.stop.kill_after_term);
        for place in &mut self.places {
            let Some(swap) = place.swap.filter(|swap| swap.why == Why::Reload) else {
                continue;
            };
            place.swap = None;
            if let Some(worker) = swap.successor().and_then(|id| self.workers.get_mut(&id)) {
                self.actions.extend(worker.leave(drain_by, kill_by));
            }
        }
    }

    /// When a canary's trial goes on without any event.
    pub(super) fn trial_deadline(&self) -> Option<Instant> {
        let Reload { step: ReloadStep::Canary { probe, .. }, new, .. } = self.reload? else {
            return None;
        };
        let WorkerLife::Ready { since } = self.workers.get(&self.canary()?)?.life else {
            return None;
        };
        let soaked = after(since, new.reload.soak);
        Some(if probe == Probe::Asked { after(soaked, PROBE_WAIT) } else { soaked })
    }

    /// How many workers may be there beyond the slots while generations change.
    pub(super) fn surge(&self) -> usize {
        let settings = self.reload.map_or(self.settings, |reload| reload.new);
        settings.reload.surge.resolve(self.count()).into()
    }

    /// Starts the canary of a reload that waits for one, once no other replacement is under way:
    /// neither gate nor storm holds it, as it may be what ends the storm.
    pub(super) fn start_canary(&mut self, now: Instant) {
        let Some(reload) = self.reload.filter(|reload| reload.step == ReloadStep::Waiting) else {
            return;
        };
        let slots = (0..).map(Slot).zip(&self.places).filter(|(_, place)| !place.is_drained());
        // One that serves: a canary without work would prove less.
        let Some((slot, place)) = slots.min_by_key(|(slot, place)| (place.duty, *slot)) else {
            return;
        };
        let old = match place.state {
            PlaceState::Running(id) if self.workers.get(&id).is_some_and(Worker::is_wanted) => {
                Some(id)
            }
            PlaceState::Waiting { .. } | PlaceState::Failed(_) => None,
            // Its worker is about to end; that is the time to go on.
            PlaceState::Running(_) | PlaceState::Leaving { .. } | PlaceState::Drained => return,
        };
        if self.extras() > 0 {
            return;
        }
        let step = ReloadStep::Canary { slot, probe: Probe::NotAsked };
        self.reload = Some(Reload { step, ..reload });
        let handover = self.reload_handover();
        self.begin_swap(now, slot, Swap::new(old, Why::Reload, handover, now));
    }

    /// The canary has proved itself: from here on the new generation is the pool's.
    fn commit(&mut self, now: Instant) {
        self.fastest_start = self.canary().and_then(|id| self.workers.get(&id)?.start_time());
        let Some(reload) = &mut self.reload else {
            return;
        };
        reload.step = ReloadStep::Rolling;
        self.generation = reload.to;
        self.settings = reload.new;
        self.storm.retune(reload.new.storm, self.places.len() as u16);
        self.actions.push(Action::Commit { generation: self.generation });
        for place in &mut self.places {
            match place.state {
                PlaceState::Waiting { .. } | PlaceState::Failed(_) => {
                    place.state = PlaceState::Waiting { until: now, start: Start::First };
                    place.failures = 0;
                    place.idle_exits = 0;
                }
                PlaceState::Running(_) | PlaceState::Leaving { .. } | PlaceState::Drained => {}
            }
        }
        // It may want other spares, and has come in only when those are ready, too.
        self.fit(now);
    }

    fn canary(&self) -> Option<WorkerId> {
        let Reload { to, step: ReloadStep::Canary { slot, .. }, .. } = self.reload? else {
            return None;
        };
        let place = self.places.get(usize::from(slot.0))?;
        let is_new = |id: &WorkerId| self.workers.get(id).is_some_and(|it| it.generation == to);
        place.successor().into_iter().chain(place.worker()).find(is_new)
    }

    fn note_probe(&mut self, now: Probe) {
        if let Some(Reload { step: ReloadStep::Canary { probe, .. }, .. }) = &mut self.reload {
            *probe = now;
        }
    }

    fn reload_handover(&self) -> Handover {
        if self.surge() == 0 { Handover::StopFirst } else { Handover::StartFirst }
    }
}
