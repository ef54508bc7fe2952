//! Decides which worker process starts, stops or dies: one loop that compares wanted with actual.
//!
//! Invariants after every event: at most one worker and one successor per slot that are not on
//! their way out; nothing is started once a stop has begun; `Finish` comes once and last; every
//! wait has a deadline. Starting, restarting, replacing, scaling and stopping are states of this
//! loop, never loops of their own.
//! Absent on purpose: pids, signal numbers, clocks, and what to do with a worker's output.

mod reload;
mod replace;
mod settings;
mod slot;
mod spares;
mod starts;
mod stop;
mod storm;
#[cfg(test)]
mod tests;
mod types;
mod worker;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::reload::Reload;
pub use self::settings::{
    FleetSettings, MAX_WORKERS, Proof, ReloadSettings, Spares, StopTimes, StormSettings, Surge,
};
use self::slot::{Place, PlaceState, Start, Then};
use self::stop::Stop;
use self::storm::Storm;
pub use self::types::{
    Action, Cause, Event, Failure, Finish, Handover, LiveWorker, Note, Phase, ReloadFailure,
    ReloadOutcome, SlotState, SlotView, StopKind, StopStep, Verdict, Why, WorkerExit, WorkerLife,
};
use self::worker::Worker;
use super::time::after;
use super::{Generation, Slot, SplitMix64, WorkerId};

/// Time between the ABRT and the KILL of a worker that is condemned: enough to write a trace, or
/// a small core.
const ABORT_WAIT: Duration = Duration::from_secs(2);

/// All slots and live workers of one pool.
#[derive(Clone, Debug)]
pub struct Fleet {
    settings: FleetSettings,
    stage: Stage,
    /// How many slots are to serve, 1 to [`MAX_WORKERS`].
    count: u16,
    /// The wanted slots, spares included; the index is the slot's number.
    places: Vec<Place>,
    /// Every process not reaped yet, wanted or leaving.
    workers: BTreeMap<WorkerId, Worker>,
    last_id: u64,
    /// What workers are started with, but for the canary of a reload.
    generation: Generation,
    reload: Option<Reload>,
    storm: Storm,
    /// Of the generation that workers are started with; none before a worker was ready.
    fastest_start: Option<Duration>,
    random: SplitMix64,
    serving: Serving,
    last_failure: Option<Failure>,
    /// The latest time seen; time never goes back.
    clock: Instant,
    actions: Vec<Action>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Before `Begin`.
    Idle,
    Up,
    Stopping(Stop),
    Finished,
}

/// Whether the pool serves, and since when it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serving {
    /// No worker was ready since the beginning, at `since`.
    NotYet {
        since: Instant,
    },
    Yes,
    /// Workers were ready once, but none since `since`.
    NoLonger {
        since: Instant,
    },
}

impl Fleet {
    /// A pool that does nothing until `Begin`.
    pub fn new(now: Instant, settings: FleetSettings) -> Self {
        let count = settings.count.get().min(MAX_WORKERS);
        let mut fleet = Self {
            settings,
            stage: Stage::Idle,
            count,
            places: Vec::new(),
            workers: BTreeMap::new(),
            last_id: 0,
            generation: Generation(1),
            reload: None,
            storm: Storm::new(now, settings.storm, count),
            fastest_start: None,
            random: SplitMix64::new(settings.seed),
            serving: Serving::NotYet { since: now },
            last_failure: None,
            clock: now,
            actions: Vec::new(),
        };
        fleet.fit(now);
        fleet
    }

    /// Takes one event; returns what to do, in order. Call it with `Tick` at [`deadline`].
    ///
    /// [`deadline`]: Self::deadline
    pub fn on(&mut self, now: Instant, event: Event) -> Vec<Action> {
        self.clock = self.clock.max(now);
        let now = self.clock;
        if !matches!(self.stage, Stage::Finished) {
            self.apply(now, event);
            self.reconcile(now);
        }
        std::mem::take(&mut self.actions)
    }

    /// When something is due without any event; after `on(now, Tick)` it is later than `now`.
    pub fn deadline(&self) -> Option<Instant> {
        let workers = self.workers.values().filter_map(Worker::deadline);
        match &self.stage {
            Stage::Idle | Stage::Finished => None,
            Stage::Up => {
                let starts = self.starts_deadline().into_iter().chain(self.swaps_deadline());
                let starts = starts.chain(self.trial_deadline());
                workers.chain(starts).chain(self.patience_end()).min()
            }
            Stage::Stopping(stop) => {
                workers.chain(stop.deadline()).chain(self.last_wait_end()).min()
            }
        }
    }

    /// Where the pool is in its life.
    pub fn phase(&self) -> Phase {
        match (&self.stage, self.serving) {
            (Stage::Idle, _) | (Stage::Up, Serving::NotYet { .. }) => Phase::Starting,
            (Stage::Up, Serving::Yes | Serving::NoLonger { .. }) => match self.reload {
                Some(_) => Phase::Reloading,
                None => Phase::Running,
            },
            (Stage::Stopping(stop), _) => Phase::Stopping(stop.step),
            (Stage::Finished, _) => Phase::Finished,
        }
    }

    /// The wanted slots, by number, spares included.
    pub fn slots(&self) -> impl Iterator<Item = SlotView> {
        (0..).zip(&self.places).map(|(slot, place)| place.view(Slot(slot)))
    }

    /// How many slots are to serve, 1 to [`MAX_WORKERS`].
    pub fn count(&self) -> u16 {
        self.count
    }

    /// How many slots there are, spares included, [`count`](Self::count) to [`MAX_WORKERS`].
    pub fn size(&self) -> u16 {
        self.places.len() as u16
    }

    /// The generation of workers that start now; during a reload the old one until the canary has
    /// proved itself.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Every process not reaped yet, oldest first; those on their way out included.
    pub fn workers(&self) -> impl Iterator<Item = LiveWorker> {
        self.workers.values().map(Worker::view)
    }

    fn apply(&mut self, now: Instant, event: Event) {
        match event {
            Event::Begin => {
                if matches!(self.stage, Stage::Idle) {
                    self.stage = Stage::Up;
                    self.serving = Serving::NotYet { since: now };
                }
            }
            Event::Spawned { worker } => {
                let repeat = self.workers.get(&worker).and_then(Worker::repeat);
                self.actions.extend(repeat);
            }
            Event::SpawnFailed { worker } => self.ended(now, worker, Cause::SpawnFailed),
            Event::Ready { worker } => {
                self.note_start(now, worker);
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.ready(now);
                }
            }
            Event::Extend { worker, by } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.extend(now, by);
                }
            }
            Event::Unready { worker } => {
                let until = after(now, self.settings.start_timeout);
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.unready(until);
                }
            }
            Event::Stalled { worker, stalled } => {
                if let Some(worker) = self.workers.get_mut(&worker).filter(|it| it.is_ready()) {
                    worker.stalled = stalled;
                }
            }
            Event::Leaves { worker } => self.leaves(now, worker),
            Event::Drained { worker } => self.drained(now, worker),
            Event::Exited { worker, exit } => self.ended(now, worker, Cause::Exited(exit)),
            Event::Replace { worker, why, handover } => self.replace(now, worker, why, handover),
            Event::Condemn { worker, cause } => {
                let kill_by = after(now, ABORT_WAIT);
                let worker = self.workers.get_mut(&worker);
                self.actions.extend(worker.and_then(|worker| worker.condemn(kill_by, cause)));
            }
            Event::Drain { slot } => self.drain(now, slot),
            Event::Recycle { slot } => self.recycle(now, slot),
            Event::Reload { generation, settings } => self.reload(generation, settings),
            Event::Probed { worker, verdict } => self.probed(worker, verdict),
            Event::ScaleTo(count) => self.scale(now, count),
            Event::ScaleBy(step) => {
                self.scale(now, self.count.saturating_add_signed(step));
            }
            Event::Stop(kind) => self.stop(now, kind),
            Event::Tick => {}
        }
    }

    /// Compares wanted with actual and emits the difference.
    fn reconcile(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Idle | Stage::Finished) {
            self.pass_workers(now);
        }
        if matches!(self.stage, Stage::Up) {
            self.advance_trial(now);
            self.promote(now);
            self.wish_for_renewal(now);
            self.finish_reload();
            self.pass_storm(now);
            self.fit(now);
            self.begin_swaps(now);
            self.arrange();
        }
        self.note_serving(now);
        self.judge(now);
        match self.stage {
            Stage::Idle | Stage::Finished => {}
            Stage::Up => self.start_due(now),
            Stage::Stopping(_) => self.advance_stop(now),
        }
    }

    fn note_serving(&mut self, now: Instant) {
        let ready = self.workers.values().any(Worker::is_ready);
        self.serving = match self.serving {
            _ if ready => Serving::Yes,
            Serving::Yes => Serving::NoLonger { since: now },
            other => other,
        };
    }

    fn pass_workers(&mut self, now: Instant) {
        for worker in self.workers.values_mut() {
            let steps = worker.pass(now, self.settings.stop.kill_after_term);
            self.actions.extend(steps.into_iter().flatten());
        }
    }

    /// Ends the pool if there is no hope for it.
    fn judge(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Up) {
            return;
        }
        let last = self.last_failure;
        let finish = match self.serving {
            _ if self.has_been_refused() => Finish::AllRefused,
            Serving::NotYet { .. } if self.places.iter().all(|it| it.idle_exits >= 2) => {
                Finish::NeverListened
            }
            Serving::Yes => return,
            _ if self.patience_end().is_some_and(|end| end > now) => return,
            Serving::NotYet { .. } => Finish::NeverReady { last },
            Serving::NoLonger { .. } => Finish::GaveUp { last },
        };
        self.end(now, finish);
    }

    /// Whether no slot can run with its configuration, those apart that a person keeps empty.
    fn has_been_refused(&self) -> bool {
        let is_hopeless = |place: &Place| place.is_failed() || place.state == PlaceState::Drained;
        self.reload.is_none()
            && self.places.iter().all(is_hopeless)
            && self.places.iter().any(Place::is_failed)
    }

    /// When the pool gives up if no worker becomes ready.
    fn patience_end(&self) -> Option<Instant> {
        match self.serving {
            Serving::NotYet { since } => {
                let extended = self.workers.values().filter_map(Worker::extended_until);
                extended.chain([after(since, self.settings.start_timeout)]).max()
            }
            Serving::Yes => None,
            Serving::NoLonger { since } => Some(after(since, self.settings.give_up)),
        }
    }

    /// A worker's process is gone, or never came to be.
    fn ended(&mut self, now: Instant, id: WorkerId, cause: Cause) {
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        let cause = worker.verdict.unwrap_or(cause);
        let Some(place) = self.places.get_mut(usize::from(worker.slot.0)) else {
            return;
        };
        if !matches!(self.stage, Stage::Up) {
            return;
        }
        if place.successor() == Some(id) {
            return self.successor_failed(now, &worker, cause);
        }
        match place.state {
            PlaceState::Running(current) if current == id => self.failed(now, &worker, cause),
            PlaceState::Leaving { worker: leaving, then } if leaving == id => {
                place.state = match then {
                    Then::Start => PlaceState::Waiting { until: now, start: Start::First },
                    Then::Rest => PlaceState::Drained,
                };
            }
            PlaceState::Running(_)
            | PlaceState::Leaving { .. }
            | PlaceState::Waiting { .. }
            | PlaceState::Failed(_)
            | PlaceState::Drained => {}
        }
    }

    fn leaves(&mut self, now: Instant, id: WorkerId) {
        let drain_by = after(now, self.settings.stop.drain());
        let kill_by = after(now, self.settings.stop.kill_after_term);
        let worker = self.workers.get_mut(&id);
        self.actions.extend(worker.and_then(|worker| worker.leave(drain_by, kill_by)));
    }

    fn drained(&mut self, now: Instant, id: WorkerId) {
        let kill_by = after(now, self.settings.stop.kill_after_term);
        if let Some(worker) = self.workers.get_mut(&id)
            && let WorkerLife::Draining { .. } = worker.life
        {
            self.actions.extend(worker.terminate(kill_by));
        }
    }

    fn scale(&mut self, now: Instant, count: u16) {
        if !matches!(self.stage, Stage::Idle | Stage::Up) {
            return;
        }
        let from = self.count;
        let to = count.clamp(1, MAX_WORKERS);
        if from == to {
            return;
        }
        self.actions.push(Action::Note(Note::Scaled { from, to }));
        self.count = to;
        self.fit(now);
        // Somebody must serve.
        if self.places.iter().all(|place| place.is_drained()) {
            self.recycle(now, Slot(0));
        }
    }
}
