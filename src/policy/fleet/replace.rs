//! Replaces workers that could go on, one slot at a time: the successor first, unless there is no
//! memory for both.
//!
//! A worker leaves for its successor only once that one is ready. A successor that ends before is
//! tried again after a backoff, and the old worker goes on. Nobody is replaced in a crash storm.

use std::time::Instant;

use super::slot::{PlaceState, Start, Then};
use super::worker::Worker;
use super::{Action, Cause, Failure, Fleet, Handover, Note, Stage, Why};
use crate::policy::time::after;
use crate::policy::{Duty, Slot, WorkerId};

/// A slot's worker is to be replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swap {
    pub(super) why: Why,
    handover: Handover,
    /// None for a canary in a slot without a worker.
    old: Option<WorkerId>,
    step: Step,
    /// Successors that failed, in a row.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It waits for its turn, which does not come before `until`.
    Waiting { until: Instant },
    /// The successor starts; the old worker serves.
    Starting(WorkerId),
    /// The old worker leaves, or has left and its successor starts in its place.
    Refilling,
}

impl Swap {
    pub(super) fn new(old: Option<WorkerId>, why: Why, handover: Handover, now: Instant) -> Self {
        Self { why, handover, old, step: Step::Waiting { until: now }, failures: 0 }
    }

    /// The worker that will take over; one that has taken the slot already is none.
    pub(super) fn successor(&self) -> Option<WorkerId> {
        match self.step {
            Step::Starting(successor) => Some(successor),
            Step::Waiting { .. } | Step::Refilling => None,
        }
    }

    pub(super) fn is_refilling(&self) -> bool {
        self.step == Step::Refilling
    }

    fn is_begun(&self) -> bool {
        self.waits_until().is_none()
    }

    fn waits_until(&self) -> Option<Instant> {
        match self.step {
            Step::Waiting { until } => Some(until),
            Step::Starting(_) | Step::Refilling => None,
        }
    }
}

impl Fleet {
    /// Notes that `worker` is to be replaced. The first reason stays.
    pub(super) fn replace(&mut self, now: Instant, worker: WorkerId, why: Why, handover: Handover) {
        if !matches!(self.stage, Stage::Up) {
            return;
        }
        let Some(place) = self.places.iter_mut().find(|place| place.has(worker)) else {
            return;
        };
        match &mut place.swap {
            None => place.swap = Some(Swap::new(Some(worker), why, handover, now)),
            Some(swap) if handover == Handover::StopFirst => match swap.step {
                Step::Waiting { .. } => swap.handover = handover,
                Step::Starting(_) | Step::Refilling => {}
            },
            Some(_) => {}
        }
    }

    /// A person wants a new worker here.
    pub(super) fn recycle(&mut self, now: Instant, slot: Slot) {
        if !matches!(self.stage, Stage::Up) {
            return;
        }
        let Some(place) = self.places.get_mut(usize::from(slot.0)) else {
            return;
        };
        match place.state {
            PlaceState::Running(worker) => {
                self.replace(now, worker, Why::Asked, Handover::StartFirst);
            }
            PlaceState::Leaving { worker, .. } => {
                place.state = PlaceState::Leaving { worker, then: Then::Start };
            }
            PlaceState::Waiting { .. } | PlaceState::Failed(_) | PlaceState::Drained => {
                place.state = PlaceState::Waiting { until: now, start: Start::First };
                place.failures = 0;
                place.idle_exits = 0;
            }
        }
    }

    /// A person wants nobody here. The last one that serves stays.
    pub(super) fn drain(&mut self, now: Instant, slot: Slot) {
        if !matches!(self.stage, Stage::Up) || !self.others(slot).any(|post| post == Post::Serves) {
            return;
        }
        let drain_by = after(now, self.settings.stop.drain());
        let kill_by = after(now, self.settings.stop.kill_after_term);
        let Some(place) = self.places.get_mut(usize::from(slot.0)) else {
            return;
        };
        for id in place.worker().into_iter().chain(place.successor()) {
            let worker = self.workers.get_mut(&id);
            self.actions.extend(worker.and_then(|worker| worker.leave(drain_by, kill_by)));
        }
        place.state = match place.worker() {
            Some(worker) => PlaceState::Leaving { worker, then: Then::Rest },
            None => PlaceState::Drained,
        };
        place.swap = None;
        self.forget_canary(slot);
    }

    /// Lets every successor that is ready take over.
    pub(super) fn promote(&mut self, now: Instant) {
        let drain_by = after(now, self.settings.stop.drain());
        let kill_by = after(now, self.settings.stop.kill_after_term);
        let trial = (0..).map(Slot).take(self.places.len()).find(|slot| self.is_on_trial(*slot));
        for (slot, place) in (0..).map(Slot).zip(&mut self.places) {
            let Some(swap) = place.swap.filter(|_| trial != Some(slot)) else {
                continue;
            };
            let new = match (swap.step, place.state) {
                (Step::Starting(successor), _) => successor,
                (Step::Refilling, PlaceState::Running(worker)) => worker,
                (Step::Refilling | Step::Waiting { .. }, _) => continue,
            };
            if !self.workers.get(&new).is_some_and(Worker::is_ready) {
                continue;
            }
            place.swap = None;
            if let PlaceState::Running(old) = place.state
                && old != new
                && let Some(old) = self.workers.get_mut(&old)
            {
                self.actions.extend(old.leave(drain_by, kill_by));
            }
            place.state = PlaceState::Running(new);
            let note = swap.old.map(|old| Note::Replaced { slot, old, new, why: swap.why });
            self.actions.extend(note.map(Action::Note));
        }
    }

    /// Begins the replacements that have waited longest, those of spares last, as many as may be
    /// under way.
    pub(super) fn begin_swaps(&mut self, now: Instant) {
        self.start_canary(now);
        loop {
            // A slot without a worker comes first.
            let is_held = self.is_gate_shut() || self.longest_due(now).is_some();
            if self.storm.began().is_some() || is_held {
                return;
            }
            let Some((slot, swap)) = self.next_swap(now) else {
                return;
            };
            self.begin_swap(now, slot, swap);
        }
    }

    fn next_swap(&self, now: Instant) -> Option<(Slot, Swap)> {
        let extras = self.extras();
        let surge = self.surge().max(1);
        let wishes = (0..).map(Slot).zip(&self.places).filter_map(|(slot, place)| {
            let swap = place.swap?;
            let until = swap.waits_until().filter(|until| *until <= now)?;
            // One that is dying is replaced as a crash.
            let is_alive = self.workers.get(&swap.old?)?.is_wanted();
            is_alive.then_some(((place.duty, until), slot, swap))
        });
        let may_begin = |(_, slot, swap): &((Duty, Instant), Slot, Swap)| {
            let room = if swap.why == Why::Reload { surge } else { 1 };
            let is_free = match swap.handover {
                Handover::StartFirst => true,
                Handover::StopFirst => self.can_spare(*slot),
            };
            extras < room && is_free
        };
        let next = wishes.filter(may_begin).min_by_key(|(order, slot, _)| (*order, *slot));
        next.map(|(_, slot, swap)| (slot, swap))
    }

    /// When a replacement may begin without any event.
    pub(super) fn swaps_deadline(&self) -> Option<Instant> {
        let waits = self.places.iter().filter_map(|place| place.swap?.waits_until());
        waits.filter(|until| *until > self.clock).min()
    }

    /// A successor ended before it was ready.
    pub(super) fn successor_failed(&mut self, now: Instant, worker: &Worker, cause: Cause) {
        let failure = Failure { slot: worker.slot, worker: worker.id, cause };
        self.last_failure = Some(failure);
        self.reload_lost(worker, failure);
        let place = &mut self.places[usize::from(worker.slot.0)];
        let Some(swap) = &mut place.swap else {
            return;
        };
        swap.failures = swap.failures.saturating_add(1);
        // One more than failed: the first is no reason to hurry, as the old worker serves.
        let delay = self.settings.backoff.delay(swap.failures + 1, &mut self.random);
        swap.step = Step::Waiting { until: after(now, delay) };
        self.actions.push(Action::Note(Note::SuccessorFailed { failure, delay }));
    }

    /// The old worker died before its successor was ready: that one is the slot's restart.
    pub(super) fn succeed_early(&mut self, slot: Slot, successor: WorkerId, failure: Failure) {
        let place = &mut self.places[usize::from(slot.0)];
        place.state = PlaceState::Running(successor);
        place.failures = place.failures.saturating_add(1);
        place.restarts += 1;
        let (delay, failures) = (std::time::Duration::ZERO, place.failures);
        self.actions.push(Action::Note(Note::Restarting { failure, delay, failures }));
    }

    pub(super) fn begin_swap(&mut self, now: Instant, slot: Slot, swap: Swap) {
        let Swap { why, handover, old, .. } = swap;
        let note = old.map(|old| Note::Replacing { slot, old, why, handover });
        self.actions.extend(note.map(Action::Note));
        let step = match (handover, old) {
            (Handover::StartFirst, _) | (Handover::StopFirst, None) => {
                let generation = self.next_generation(slot);
                Step::Starting(self.spawn(now, slot, generation))
            }
            (Handover::StopFirst, Some(old)) => {
                let drain_by = after(now, self.settings.stop.drain());
                let kill_by = after(now, self.settings.stop.kill_after_term);
                let worker = self.workers.get_mut(&old);
                self.actions.extend(worker.and_then(|worker| worker.leave(drain_by, kill_by)));
                self.places[usize::from(slot.0)].state =
                    PlaceState::Leaving { worker: old, then: Then::Start };
                Step::Refilling
            }
        };
        self.places[usize::from(slot.0)].swap = Some(Swap { step, ..swap });
    }

    /// Replacements under way, and workers beyond the slots that are not part of one: they drain.
    /// A worker that has its KILL is not waited for.
    pub(super) fn extras(&self) -> usize {
        let is_part = |worker: &Worker| {
            let place = self.places.get(usize::from(worker.slot.0));
            place.is_some_and(|place| {
                let is_begun = place.swap.is_some_and(|swap| swap.is_begun());
                let is_its = place.worker() == Some(worker.id);
                place.has(worker.id) || (is_begun && is_its) || place.successor() == Some(worker.id)
            })
        };
        let begun = self.places.iter().filter(|it| it.swap.is_some_and(|swap| swap.is_begun()));
        let is_extra = |worker: &&Worker| !worker.is_killed() && !is_part(worker);
        begun.count() + self.workers.values().filter(is_extra).count()
    }

    /// Whether the pool serves on without this slot: some other is ready, and none of them is still
    /// on its way. A pool of one has no other.
    fn can_spare(&self, slot: Slot) -> bool {
        let posts = || self.others(slot);
        let is_served = posts().any(|post| post == Post::Serves);
        let is_alone = posts().all(|post| post == Post::Empty);
        is_alone || (is_served && posts().all(|post| post != Post::Coming))
    }

    /// What every slot but this one has.
    fn others(&self, but: Slot) -> impl Iterator<Item = Post> {
        let others = (0..).map(Slot).zip(&self.places).filter(move |(slot, _)| *slot != but);
        others.map(|(_, place)| {
            let on_its_way = if place.failures == 0 { Post::Coming } else { Post::Crashing };
            match place.state {
                PlaceState::Running(id) if self.workers.get(&id).is_some_and(Worker::is_ready) => {
                    Post::Serves
                }
                PlaceState::Running(_) | PlaceState::Waiting { .. } => on_its_way,
                PlaceState::Leaving { then: Then::Start, .. } => Post::Coming,
                PlaceState::Leaving { then: Then::Rest, .. }
                | PlaceState::Failed(_)
                | PlaceState::Drained => Post::Empty,
            }
        })
    }
}

/// Whether a slot serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Post {
    Serves,
    /// It will, as far as is known.
    Coming,
    /// It may or may not.
    Crashing,
    /// It will not unless somebody asks.
    Empty,
}
