//! Finds out what is worth telling of each event, and tells it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Supervisor;
use super::events::{Lines, Transition, What, Who, WorkerTransition};
use super::status::phase_name;
use crate::clock;
use crate::policy::{Event, Finish, Phase, Slot, WorkerId, WorkerLife};

/// When each worker that gets nothing because it failed gets requests again.
#[derive(Debug, Default)]
pub(super) struct Ejected(BTreeMap<WorkerId, Instant>);

impl Ejected {
    /// The end of the earliest ejection.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    pub(super) fn forget(&mut self, worker: WorkerId) {
        self.0.remove(&worker);
    }
}

impl Supervisor {
    /// Tells of the pool.
    pub(super) fn announce(&self, transition: &Transition) {
        self.parts.events.publish(transition);
    }

    /// Tells of one worker.
    pub(super) fn announce_of(&self, who: Who, what: What) {
        self.announce(&Transition::Worker(WorkerTransition { what, who }));
    }

    /// Tells of a worker that has a process; of none, nothing.
    pub(super) fn announce_worker(&self, worker: WorkerId, what: What) {
        if let Some(process) = self.processes.get(&worker) {
            self.announce_of(self.who(worker, process.slot), what);
        }
    }

    pub(super) fn who(&self, worker: WorkerId, slot: Slot) -> Who {
        let pid = self.processes.get(&worker).map(|process| process.child.pid());
        Who { slot: slot.0, worker: worker.0, pid }
    }

    /// A new reader, or none if there are too many.
    pub(super) fn subscribe(&self) -> Option<Lines> {
        let greeting = Transition::Connected {
            name: self.parts.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            phase: phase_name(self.parts.fleet.phase()),
            generation: self.parts.fleet.generation().0,
        };
        self.parts.events.subscribe(&greeting)
    }

    /// What the fleet knew before an event that is told of by comparing.
    pub(super) fn before(&self, event: &Event) -> Before {
        let (Event::Ready { worker } | Event::Unready { worker }) = event else {
            return Before { phase: self.parts.fleet.phase(), worker: None };
        };
        let worker = self.state_of(*worker).map(|state| (*worker, state));
        Before { phase: self.parts.fleet.phase(), worker }
    }

    /// Tells what an event has changed that no action says.
    pub(super) fn announce_changes(&self, before: Before) {
        let (was, phase) = (phase_name(before.phase), phase_name(self.parts.fleet.phase()));
        if was != phase {
            self.announce(&Transition::Phase { phase, was });
        }
        let Some((worker, was)) = before.worker else {
            return;
        };
        match (was, self.state_of(worker)) {
            (WorkerLife::Starting { .. }, Some(WorkerLife::Ready { .. })) => {
                let started = self.processes.get(&worker).map(|process| process.started);
                let after_ms = started.map_or(0, |it| millis(clock::now().duration_since(it)));
                self.announce_worker(worker, What::WorkerReady { after_ms });
            }
            (WorkerLife::Ready { .. }, Some(WorkerLife::Starting { .. })) => {
                self.announce_worker(worker, What::WorkerUnready);
            }
            (_, _) => {}
        }
    }

    pub(super) fn state_of(&self, worker: WorkerId) -> Option<WorkerLife> {
        let live = self.parts.fleet.workers().find(|live| live.worker == worker);
        live.map(|live| live.state)
    }

    /// Whether a worker was told to end.
    pub(super) fn is_leaving(&self, worker: WorkerId) -> bool {
        self.state_of(worker).is_some_and(|state| match state {
            WorkerLife::Starting { .. } | WorkerLife::Ready { .. } => false,
            WorkerLife::Draining { .. }
            | WorkerLife::Stopping { .. }
            | WorkerLife::Killed { .. } => true,
        })
    }

    /// The reactor gives a worker nothing until then.
    pub(super) fn ejected(&mut self, worker: WorkerId, until: Instant) {
        let for_ms = millis(until.saturating_duration_since(clock::now()));
        self.announce_worker(worker, What::WorkerEjected { for_ms });
        if self.processes.contains_key(&worker) {
            self.ejected.0.insert(worker, until);
        }
    }

    /// Tells of those whose ejection is over.
    pub(super) fn readmit(&mut self, now: Instant) {
        let (over, rest) =
            std::mem::take(&mut self.ejected.0).into_iter().partition(|(_, until)| *until <= now);
        self.ejected.0 = rest;
        let over: BTreeMap<WorkerId, Instant> = over;
        for worker in over.into_keys() {
            self.announce_worker(worker, What::WorkerReadmitted);
        }
    }
}

/// See [`Supervisor::before`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    phase: Phase,
    worker: Option<(WorkerId, WorkerLife)>,
}

/// Why a pool ended, in one word.
pub(super) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stopped => "stopped",
        Finish::NeverReady { .. } => "never_ready",
        Finish::NeverListened => "never_listened",
        Finish::GaveUp { .. } => "gave_up",
        Finish::AllRefused => "all_refused",
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
