//! One place of the pool: its worker, or when and why it gets the next one.

use std::time::Instant;

use super::replace::Swap;
use super::{Cause, SlotState, SlotView, WorkerExit};
use crate::policy::{Duty, Slot, WorkerId};

#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) state: PlaceState,
    pub(super) duty: Duty,
    /// The replacement of its worker that is asked for or under way.
    pub(super) swap: Option<Swap>,
    pub(super) restarts: u32,
    /// In a row.
    pub(super) failures: u32,
    /// Exits with 0 of workers that never were ready, in a row.
    pub(super) idle_exits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceState {
    Running(WorkerId),
    Waiting {
        until: Instant,
        start: Start,
    },
    Failed(Cause),
    /// Its worker is on its way out.
    Leaving {
        worker: WorkerId,
        then: Then,
    },
    Drained,
}

/// What becomes of a slot whose worker has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Start,
    Rest,
}

/// Whether a start takes a token of the storm's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    First,
    Again,
}

impl Place {
    pub(super) fn new(now: Instant, duty: Duty) -> Self {
        Self {
            state: PlaceState::Waiting { until: now, start: Start::First },
            duty,
            swap: None,
            restarts: 0,
            failures: 0,
            idle_exits: 0,
        }
    }

    pub(super) fn has(&self, worker: WorkerId) -> bool {
        self.state == PlaceState::Running(worker)
    }

    /// The worker in it, wanted or leaving; not a successor.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self.state {
            PlaceState::Running(worker) | PlaceState::Leaving { worker, .. } => Some(worker),
            PlaceState::Waiting { .. } | PlaceState::Failed(_) | PlaceState::Drained => None,
        }
    }

    pub(super) fn successor(&self) -> Option<WorkerId> {
        self.swap.and_then(|swap| swap.successor())
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self.state, PlaceState::Failed(_))
    }

    /// Whether a person keeps it empty.
    pub(super) fn is_drained(&self) -> bool {
        match self.state {
            PlaceState::Leaving { then, .. } => then == Then::Rest,
            PlaceState::Drained => true,
            PlaceState::Running(_) | PlaceState::Waiting { .. } | PlaceState::Failed(_) => false,
        }
    }

    /// Since when it may start; `None` if it waits for nothing, or for later than `now`.
    pub(super) fn due(&self, now: Instant) -> Option<(Instant, Start)> {
        match self.state {
            PlaceState::Waiting { until, start } => (until <= now).then_some((until, start)),
            PlaceState::Running(_)
            | PlaceState::Failed(_)
            | PlaceState::Leaving { .. }
            | PlaceState::Drained => None,
        }
    }

    pub(super) fn view(&self, slot: Slot) -> SlotView {
        let state = match self.state {
            PlaceState::Running(worker) => SlotState::Running { worker },
            PlaceState::Waiting { until, .. } => SlotState::Waiting { until },
            PlaceState::Failed(cause) => SlotState::Failed { cause },
            PlaceState::Leaving { worker, then: Then::Start } => SlotState::Running { worker },
            PlaceState::Leaving { worker, then: Then::Rest } => SlotState::Draining { worker },
            PlaceState::Drained => SlotState::Drained,
        };
        SlotView {
            slot,
            state,
            duty: self.duty,
            successor: self.successor(),
            replacing: self.swap.map(|swap| swap.why),
            restarts: self.restarts,
            failures: self.failures,
        }
    }
}

/// Exit code of a worker that cannot run with its configuration (`EX_CONFIG` of sysexits.h).
const REFUSED: WorkerExit = WorkerExit::Code(78);

/// Whether this end means that starting again is of no use.
pub(super) fn is_refusal(cause: Cause) -> bool {
    cause == Cause::Exited(REFUSED)
}
