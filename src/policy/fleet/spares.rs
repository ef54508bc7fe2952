//! Keeps workers that stand by, ready and without work, and has one take over at once from any
//! that cannot serve.
//!
//! A spare has a slot like any other worker; only the slot's duty differs, and to take over is to
//! exchange duties. So numbers never change hands (a process has been told its own and cannot be
//! told another), the slot that failed starts its next worker as the spare, and backoff, storms,
//! replacements, reloads and stops need not know of any of this. Invariant after every event while
//! the pool is up: where a slot that is to serve has no ready worker, no spare has one.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::slot::{Place, PlaceState};
use super::worker::Worker;
use super::{Action, Fleet, MAX_WORKERS, Note, Spares};
use crate::policy::time::after;
use crate::policy::{Duty, Slot, WorkerId};

/// Twice as long as a queue holds requests by default: whoever meets the gap of a slower start is
/// turned away, however little there is to do.
const SLOW_START: Duration = Duration::from_secs(2);

impl Fleet {
    /// Takes note of how long a worker took that is about to be ready for the first time.
    ///
    /// The fastest counts: at the start of the pool several boot at once and slow each other down,
    /// and the one that takes over boots alone.
    pub(super) fn note_start(&mut self, now: Instant, worker: WorkerId) {
        let generation = self.generation;
        let is_first = |it: &&Worker| it.is_booting() && it.generation == generation;
        if let Some(worker) = self.workers.get(&worker).filter(is_first) {
            let took = now - worker.started;
            self.fastest_start = Some(self.fastest_start.map_or(took, |fastest| fastest.min(took)));
        }
    }

    /// Has a ready worker serve in as many slots as can have one, and every worker told its duty.
    pub(super) fn arrange(&mut self) {
        self.take_over();
        self.assign();
    }

    /// Adds or removes slots until there are as many as there are to be, the highest first, and
    /// has as many of them serve as are to.
    pub(super) fn fit(&mut self, now: Instant) {
        let total = self.count.saturating_add(self.spares());
        let drain_by = after(now, self.settings.stop.drain());
        let kill_by = after(now, self.settings.stop.kill_after_term);
        while self.places.len() > usize::from(total) {
            let Some(place) = self.places.pop() else {
                break;
            };
            self.forget_canary(Slot(self.places.len() as u16));
            for id in place.worker().into_iter().chain(place.successor()) {
                let worker = self.workers.get_mut(&id);
                self.actions.extend(worker.and_then(|worker| worker.leave(drain_by, kill_by)));
            }
        }
        if self.places.len() < usize::from(total) {
            self.places.resize_with(total.into(), || Place::new(now, Duty::Spare));
        }
        self.storm.resize(total);
        let wanted = usize::from(self.count);
        while self.serving_places() < wanted && self.turn(Duty::Serve) {}
        while self.serving_places() > wanted && self.turn(Duty::Spare) {}
    }

    /// How many slots are to stand by.
    fn spares(&self) -> u16 {
        let wanted = match self.settings.spares {
            Spares::Fixed(number) => number,
            Spares::WhereSlow => u16::from(self.fastest_start.is_some_and(|it| it > SLOW_START)),
        };
        wanted.min(MAX_WORKERS - self.count)
    }

    fn serving_places(&self) -> usize {
        self.places.iter().filter(|place| place.duty == Duty::Serve).count()
    }

    /// Has one more slot do this, `false` if all do: to serve the one that can best, to stand by
    /// the one that is missed least.
    fn turn(&mut self, duty: Duty) -> bool {
        let others = (0..).map(Slot).zip(&self.places).filter(|(_, place)| place.duty != duty);
        let chosen = match duty {
            Duty::Serve => others.min_by_key(|(slot, place)| (!self.serves(place), *slot)),
            Duty::Spare => others.min_by_key(|(slot, place)| {
                (self.is_on_trial(*slot), self.serves(place), Reverse(*slot))
            }),
        };
        let chosen = chosen.map(|(slot, _)| slot);
        if let Some(slot) = chosen {
            self.places[usize::from(slot.0)].duty = duty;
        }
        chosen.is_some()
    }

    /// Has ready spares serve in place of slots that have no ready worker, for whatever reason.
    fn take_over(&mut self) {
        while let Some((vacated, slot, worker)) = self.next_exchange() {
            self.places[usize::from(vacated.0)].duty = Duty::Spare;
            self.places[usize::from(slot.0)].duty = Duty::Serve;
            self.actions.push(Action::Note(Note::TookOver { slot, worker, vacated }));
        }
    }

    fn next_exchange(&self) -> Option<(Slot, Slot, WorkerId)> {
        let slots = |duty: Duty| {
            (0..).map(Slot).zip(&self.places).filter(move |(_, place)| place.duty == duty)
        };
        let (vacated, _) = slots(Duty::Serve).find(|(_, place)| !self.serves(place))?;
        let mut spares = slots(Duty::Spare);
        spares.find_map(|(slot, place)| Some((vacated, slot, self.ready_worker(place)?)))
    }

    /// Whether a ready worker that nobody has sent away is in it, be it a canary.
    fn serves(&self, place: &Place) -> bool {
        self.ready_worker(place).is_some()
    }

    fn ready_worker(&self, place: &Place) -> Option<WorkerId> {
        let current = match place.state {
            PlaceState::Running(worker) => Some(worker),
            PlaceState::Waiting { .. }
            | PlaceState::Failed(_)
            | PlaceState::Leaving { .. }
            | PlaceState::Drained => None,
        };
        let is_ready = |id: &WorkerId| self.workers.get(id).is_some_and(Worker::is_ready);
        current.into_iter().chain(place.successor()).find(is_ready)
    }

    /// Tells workers whose slot has another duty now.
    fn assign(&mut self) {
        for place in &self.places {
            for id in place.worker().into_iter().chain(place.successor()) {
                if let Some(worker) = self.workers.get_mut(&id)
                    && worker.is_wanted()
                    && worker.duty != place.duty
                {
                    worker.duty = place.duty;
                    self.actions.push(Action::Assign { worker: id });
                }
            }
        }
    }
}
