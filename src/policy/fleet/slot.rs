//! One place of the pool: its worker, or when and why it gets the next one.

use std::time::Instant;

use super::{Cause, SlotState, SlotView, WorkerExit};
use crate::policy::{Slot, WorkerId};

#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) state: PlaceState,
    pub(super) restarts: u32,
    /// In a row.
    pub(super) failures: u32,
    /// Exits with 0 of workers that never were ready, in a row.
    pub(super) idle_exits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceState {
    Running(WorkerId),
    Waiting { until: Instant, start: Start },
    Failed(Cause),
}

/// Whether a start takes a token of the storm's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    First,
    Again,
}

impl Place {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: PlaceState::Waiting { until: now, start: Start::First },
            restarts: 0,
            failures: 0,
            idle_exits: 0,
        }
    }

    pub(super) fn has(&self, worker: WorkerId) -> bool {
        self.state == PlaceState::Running(worker)
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self.state, PlaceState::Failed(_))
    }

    /// Since when it may start; `None` if it waits for nothing, or for later than `now`.
    pub(super) fn due(&self, now: Instant) -> Option<(Instant, Start)> {
        match self.state {
            PlaceState::Waiting { until, start } => (until <= now).then_some((until, start)),
            PlaceState::Running(_) | PlaceState::Failed(_) => None,
        }
    }

    pub(super) fn view(&self, slot: Slot) -> SlotView {
        let state = match self.state {
            PlaceState::Running(worker) => SlotState::Running { worker },
            PlaceState::Waiting { until, .. } => SlotState::Waiting { until },
            PlaceState::Failed(cause) => SlotState::Failed { cause },
        };
        SlotView { slot, state, restarts: self.restarts, failures: self.failures }
    }
}

/// Exit code of a worker that cannot run with its configuration (`EX_CONFIG` of sysexits.h).
const REFUSED: WorkerExit = WorkerExit::Code(78);

/// Whether this end means that starting again is of no use.
pub(super) fn is_refusal(cause: Cause) -> bool {
    cause == Cause::Exited(REFUSED)
}
