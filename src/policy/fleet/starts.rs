//! When a slot's next worker starts: after its backoff, within the gate, and by the storm's rules.

use std::time::Instant;

use super::slot::{Place, PlaceState, Start, is_refusal};
use super::storm::Turn;
use super::worker::{Record, Worker};
use super::{Action, Cause, Failure, Fleet, Note, Stage, WorkerExit, WorkerLife};
use crate::policy::time::after;
use crate::policy::{Duty, Generation, Slot, Stalled, WorkerId};

impl Fleet {
    /// Takes note that a wanted worker is gone, and says when its slot starts again.
    pub(super) fn failed(&mut self, now: Instant, worker: &Worker, cause: Cause) {
        let failure = Failure { slot: worker.slot, worker: worker.id, cause };
        self.last_failure = Some(failure);
        self.reload_lost(worker, failure);
        let is_on_trial = self.is_on_trial(worker.slot);
        let place = &mut self.places[usize::from(worker.slot.0)];
        // A canary proves itself whatever becomes of the worker beside it.
        if !is_on_trial && let Some(successor) = place.swap.take().and_then(|swap| swap.successor())
        {
            return self.succeed_early(worker.slot, successor, failure);
        }
        // What a generation that is given up refuses says nothing of the one that goes on.
        if is_refusal(cause) && worker.generation == self.generation {
            place.state = PlaceState::Failed(cause);
            self.actions.push(Action::Note(Note::SlotFailed { failure }));
            return;
        }
        let backoff = self.settings.backoff;
        if let WorkerLife::Ready { since } = worker.life
            && now - since >= backoff.healthy
        {
            place.failures = 0;
        }
        place.failures = place.failures.saturating_add(1);
        let is_idle_exit =
            worker.record == Record::NeverReady && cause == Cause::Exited(WorkerExit::Code(0));
        place.idle_exits = if is_idle_exit { place.idle_exits + 1 } else { 0 };
        let failures = place.failures;
        let delay = backoff.delay(failures, &mut self.random);
        place.state = PlaceState::Waiting { until: after(now, delay), start: Start::Again };
        // Judge first: a pool that ends now restarts nothing, and must not say so.
        self.note_serving(now);
        self.judge(now);
        if matches!(self.stage, Stage::Up) {
            self.actions.push(Action::Note(Note::Restarting { failure, delay, failures }));
        }
    }

    /// Notes whether the storm is over.
    pub(super) fn pass_storm(&mut self, now: Instant) {
        let turn = self.storm.pass(now, self.proof());
        self.note_turn(turn);
    }

    /// Starts every slot that is due, spares last and else the longest due first, as far as gate
    /// and storm allow.
    pub(super) fn start_due(&mut self, now: Instant) {
        while let Some((_, slot, start)) = self.longest_due(now) {
            if self.is_gate_shut() {
                break;
            }
            if start == Start::Again
                && let Err(turn) = self.storm.take(now)
            {
                self.note_turn(turn);
                break;
            }
            self.restart(now, slot, start);
        }
    }

    /// Whether as many workers are starting as may at once.
    pub(super) fn is_gate_shut(&self) -> bool {
        let gate = match self.storm.began() {
            Some(_) => 1,
            None => usize::from(self.settings.concurrent_starts.get()),
        };
        // A canary is one more.
        let counts = |it: &&Worker| it.is_booting() && it.generation == self.generation;
        self.workers.values().filter(counts).count() >= gate
    }

    /// When a slot may start, or the storm changes, without any event.
    pub(super) fn starts_deadline(&self) -> Option<Instant> {
        let waits = self.places.iter().filter_map(|place| match place.state {
            // Due and not started: the gate or who boots holds it (an event will end that), or the
            // bucket.
            PlaceState::Waiting { until, .. } if until <= self.clock => self.storm.next_token(),
            PlaceState::Waiting { until, .. } => Some(until),
            PlaceState::Running(_)
            | PlaceState::Failed(_)
            | PlaceState::Leaving { .. }
            | PlaceState::Drained => None,
        });
        waits.chain(self.storm.end(self.proof())).min()
    }

    pub(super) fn longest_due(&self, now: Instant) -> Option<(Instant, Slot, Start)> {
        let due = |(slot, place): (u16, &Place)| {
            place.due(now).map(|(since, start)| ((place.duty, since, Slot(slot)), start))
        };
        let boots = |it: &Worker| it.is_booting() && it.duty == Duty::Serve;
        // It would take CPU from those that serve sooner.
        let are_spares_held = self.workers.values().any(boots);
        let is_held = |place: &Place| are_spares_held && place.duty == Duty::Spare;
        let places = (0..).zip(&self.places).filter(|(_, place)| !is_held(place));
        let first = places.filter_map(due).min_by_key(|&(order, _)| order);
        first.map(|((_, since, slot), start)| (since, slot, start))
    }

    /// Since when the first of those started in this storm has been ready.
    fn proof(&self) -> Option<Instant> {
        let began = self.storm.began()?;
        let ready = self.workers.values().filter(|worker| worker.started > began);
        let since = ready.filter_map(|worker| match worker.life {
            WorkerLife::Ready { since } => Some(since),
            WorkerLife::Starting { .. }
            | WorkerLife::Draining { .. }
            | WorkerLife::Stopping { .. }
            | WorkerLife::Killed { .. } => None,
        });
        since.min()
    }

    fn note_turn(&mut self, turn: Option<Turn>) {
        if turn == Some(Turn::Began) {
            self.reload_storm();
        }
        let note = turn.map(|turn| match turn {
            Turn::Began => Note::StormBegan,
            Turn::Ended => Note::StormEnded,
        });
        self.actions.extend(note.map(Action::Note));
    }

    fn restart(&mut self, now: Instant, slot: Slot, start: Start) {
        // A canary that comes after its old worker takes the slot at once.
        let is_refill = self.places[usize::from(slot.0)].swap.is_some_and(|it| it.is_refilling());
        let generation = if is_refill { self.next_generation(slot) } else { self.generation };
        let id = self.spawn(now, slot, generation);
        let place = &mut self.places[usize::from(slot.0)];
        place.state = PlaceState::Running(id);
        place.restarts += match start {
            Start::First => 0,
            Start::Again => 1,
        };
    }

    pub(super) fn spawn(&mut self, now: Instant, slot: Slot, generation: Generation) -> WorkerId {
        self.last_id += 1;
        let id = WorkerId(self.last_id);
        let settings = self.settings_of(generation);
        let worker = Worker {
            id,
            slot,
            generation,
            duty: self.places[usize::from(slot.0)].duty,
            life: WorkerLife::Starting { until: after(now, settings.start_timeout) },
            stalled: Stalled::No,
            started: now,
            record: Record::NeverReady,
            extended: None,
            verdict: None,
        };
        self.workers.insert(id, worker);
        self.actions.push(Action::Spawn { worker: id, slot, generation });
        id
    }
}
