//! Keeps workers that stand by, ready and without work, and has one take over at once from any
//! that cannot serve.
//!
//! A spare has a slot like any other worker; only the slot's duty differs, and to take over is to
//! exchange duties. So numbers never change hands (a process has been told its own and cannot be
//! told another), the slot that failed starts its next worker as the spare, and backoff, storms,
//! replacements, reloads and stops need not know of any of this.
//! Invariant after every event while the pool is up: no spare could serve better than one that is
//! to, of which a ready worker can more than none, and one in order more than one that is stalled.
//! Nobody starts or ends for a stall, and nobody hands back what it took over: one that stalls, or
//! goes on, brings one exchange at most, however many do at once.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::slot::{Place, PlaceState};
use super::worker::{Fitness, Worker};
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
            Duty::Serve => others.min_by_key(|(slot, it)| (Reverse(self.fitness(it)), *slot)),
            Duty::Spare => others.min_by_key(|(slot, place)| {
                (self.is_on_trial(*slot), self.fitness(place), Reverse(*slot))
            }),
        };
        let chosen = chosen.map(|(slot, _)| slot);
        if let Some(slot) = chosen {
            self.places[usize::from(slot.0)].duty = duty;
        }
        chosen.is_some()
    }

    /// Has spares serve in place of whoever could less well, for whatever reason.
    fn take_over(&mut self) {
        while let Some((vacated, slot, worker)) = self.next_exchange() {
            self.places[usize::from(vacated.0)].duty = Duty::Spare;
            self.places[usize::from(slot.0)].duty = Duty::Serve;
            self.actions.push(Action::Note(Note::TookOver { slot, worker, vacated }));
        }
    }

    /// The slot that can serve least of those that are to, and who could better.
    fn next_exchange(&self) -> Option<(Slot, Slot, WorkerId)> {
        let slots = |duty: Duty| {
            let places = (0..).map(Slot).zip(&self.places);
            places.filter(move |(_, place)| place.duty == duty)
        };
        let fitness = |(slot, place): &(Slot, &Place)| (self.fitness(place), *slot);
        let (least, vacated) = slots(Duty::Serve).map(|it| fitness(&it)).min()?;
        let best = |(slot, place): &(Slot, &Place)| (Reverse(self.fitness(place)), *slot);
        let (slot, place) = slots(Duty::Spare).min_by_key(best)?;
        let worker = self.fittest(place).filter(|worker| worker.fitness() > least)?;
        Some((vacated, slot, worker.id))
    }

    /// What is in it, be it a canary.
    fn fitness(&self, place: &Place) -> Fitness {
        self.fittest(place).map_or(Fitness::Unready, Worker::fitness)
    }

    /// Who could serve best of its worker and the successor, unless that worker was sent away.
    fn fittest(&self, place: &Place) -> Option<&Worker> {
        let current = match place.state {
            PlaceState::Running(worker) => Some(worker),
            PlaceState::Waiting { .. }
            | PlaceState::Failed(_)
            | PlaceState::Leaving { .. }
            | PlaceState::Drained => None,
        };
        let both = current.into_iter().chain(place.successor());
        // The first of two that could equally: the worker before its successor.
        both.filter_map(|id| self.workers.get(&id)).min_by_key(|it| Reverse(it.fitness()))
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
