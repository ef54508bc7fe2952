//! Tells those who wait for new workers what came of them.
//!
//! A slot is done when another worker than the one it had is ready there. The first new worker that
//! ends before that is the answer, although the fleet goes on trying.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Supervisor;
use super::announce::millis;
use super::events::Who;
use super::request::Slots;
use crate::clock;
use crate::policy::{Event, Phase, Slot, SlotState, WorkerId, WorkerLife};

/// The most who wait at once; each is one connection of a person or a script.
const WAITING_MAX: usize = 64;

/// What came of the wish for new workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecycleStatus {
    /// How many slots have a new worker.
    pub recycled: u16,
    /// Of how many.
    pub asked: u16,
    /// Why not all of them.
    pub reason: Option<String>,
    /// What the worker that it failed by wrote last.
    pub last_output: Option<String>,
    /// How long it took.
    pub took_ms: u64,
}

/// Who waits for the end of it.
pub(crate) type RecycleWaiter = oneshot::Sender<Result<RecycleStatus, String>>;

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Recycles(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    since: Instant,
    asked: u16,
    /// The slots that are not done, with the workers that they had.
    left: BTreeMap<Slot, Option<WorkerId>>,
    waiter: RecycleWaiter,
}

impl Waiting {
    fn conclude(self, reason: Option<String>, last_output: Option<String>) {
        let left = u16::try_from(self.left.len()).unwrap_or(u16::MAX);
        let status = RecycleStatus {
            recycled: self.asked.saturating_sub(left),
            asked: self.asked,
            reason,
            last_output,
            took_ms: millis(clock::now().duration_since(self.since)),
        };
        // Who has gone away needs no answer.
        let _ = self.waiter.send(Ok(status));
    }
}

impl Supervisor {
    /// Replaces the workers of these slots; the number of slots that there are.
    pub(super) fn recycle_slots(&mut self, slots: Slots) -> Result<u16, String> {
        let slots = self.slots_of(slots)?;
        let asked = slots.len() as u16;
        for slot in slots {
            self.on(Event::Recycle { slot });
        }
        Ok(asked)
    }

    /// The same; answered when each slot has a new worker, or will not have one.
    pub(super) fn recycle_and_wait(&mut self, slots: Slots, waiter: RecycleWaiter) {
        let slots = match self.slots_of(slots) {
            Ok(_) if self.recycles.0.len() >= WAITING_MAX => {
                return drop(waiter.send(Err("too many wait already".to_owned())));
            }
            Ok(slots) => slots,
            Err(reason) => return drop(waiter.send(Err(reason))),
        };
        let had = |slot: &Slot| {
            let view = self.parts.fleet.slots().find(|view| view.slot == *slot);
            (*slot, view.and_then(|view| worker_in(view.state)))
        };
        let left: BTreeMap<Slot, Option<WorkerId>> = slots.iter().map(had).collect();
        let (since, asked) = (clock::now(), slots.len() as u16);
        self.recycles.0.push(Waiting { since, asked, left, waiter });
        for slot in slots {
            self.on(Event::Recycle { slot });
        }
    }

    fn slots_of(&self, slots: Slots) -> Result<Vec<Slot>, String> {
        match slots {
            Slots::All => Ok((0..self.parts.fleet.size()).map(Slot).collect()),
            Slots::One(slot) => Ok(vec![self.slot(slot)?]),
        }
    }

    /// The slot of this number, if there is one.
    pub(super) fn slot(&self, slot: u16) -> Result<Slot, String> {
        let size = self.parts.fleet.size();
        if slot >= size {
            return Err(format!("there is no slot {slot}, only 0 to {}", size - 1));
        }
        Ok(Slot(slot))
    }

    /// Answers those whose slots are done, or cannot be any more.
    pub(super) fn check_recycles(&mut self) {
        if self.recycles.0.is_empty() {
            return;
        }
        let stops = matches!(self.parts.fleet.phase(), Phase::Stopping(_) | Phase::Finished);
        for mut waiting in std::mem::take(&mut self.recycles.0) {
            let mut refused = stops.then(|| "the pool stops".to_owned());
            waiting.left.retain(|slot, had| match self.progress_of(*slot, *had) {
                Progress::Done => false,
                Progress::Coming => true,
                Progress::Gone(why) => {
                    refused.get_or_insert(why);
                    true
                }
            });
            if waiting.left.is_empty() {
                waiting.conclude(None, None);
            } else if refused.is_some() {
                waiting.conclude(refused, None);
            } else if !waiting.waiter.is_closed() {
                self.recycles.0.push(waiting);
            }
        }
    }

    fn progress_of(&self, slot: Slot, had: Option<WorkerId>) -> Progress {
        let Some(view) = self.parts.fleet.slots().find(|view| view.slot == slot) else {
            return Progress::Gone(format!("slot {slot} is gone"));
        };
        match view.state {
            SlotState::Running { worker } if Some(worker) != had => match self.state_of(worker) {
                Some(WorkerLife::Ready { .. }) => Progress::Done,
                Some(_) | None => Progress::Coming,
            },
            SlotState::Drained => Progress::Gone(format!("slot {slot} was drained")),
            SlotState::Running { .. }
            | SlotState::Draining { .. }
            | SlotState::Waiting { .. }
            | SlotState::Failed { .. } => Progress::Coming,
        }
    }

    /// A worker has ended that nobody wanted to end, for this reason: if it is one that somebody
    /// waits for, that is the answer.
    pub(super) fn recycle_failed(&mut self, who: Who, reason: &str, last_output: &str) {
        let is_awaited = |waiting: &mut Waiting| {
            let had = waiting.left.get(&Slot(who.slot));
            had.is_some_and(|had| *had != Some(WorkerId(who.worker)))
        };
        for waiting in self.recycles.0.extract_if(.., is_awaited) {
            let reason = format!("worker {} in slot {}: {reason}", who.worker, who.slot);
            let last_output = (!last_output.is_empty()).then(|| last_output.to_owned());
            waiting.conclude(Some(reason), last_output);
        }
    }
}

/// How far a slot is on its way to a new worker.
enum Progress {
    Done,
    Coming,
    /// It will not have one, and why.
    Gone(String),
}

/// The worker that a slot has, be it on its way out.
pub(super) fn worker_in(state: SlotState) -> Option<WorkerId> {
    match state {
        SlotState::Running { worker } | SlotState::Draining { worker } => Some(worker),
        SlotState::Waiting { .. } | SlotState::Failed { .. } | SlotState::Drained => None,
    }
}
