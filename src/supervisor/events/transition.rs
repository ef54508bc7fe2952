//! What becomes of the pool and its workers, as logs tell it and `tenfold events` streams it.
//!
//! One value for both, so that neither knows of what the other does not. Names and fields are those
//! of docs/OPERATIONS.md; fields are added, never renamed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::link::orders::ShedSummary;
use crate::policy::StopStep;

/// One worker, by all its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Its place.
    pub slot: u16,
    /// Its number, never reused.
    pub worker: u64,
    /// Its process; none where there was none.
    pub pid: Option<i32>,
}

/// One transition. Times end in their unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "`EVENTS` says what each is, and a test compares the two")]
pub enum Transition {
    Connected {
        name: String,
        pid: u32,
        version: &'static str,
        phase: &'static str,
        generation: u32,
    },
    Cut {
        missed: u64,
    },
    Phase {
        phase: &'static str,
        was: &'static str,
    },
    Listening {
        address: String,
        url: String,
        mode: String,
    },
    Closed {
        address: String,
    },
    PoolReady {
        ready: usize,
        wanted: usize,
        after_ms: u64,
    },
    Scaled {
        from: u16,
        to: u16,
    },
    StormBegan,
    StormEnded,
    PanicBegan,
    PanicEnded,
    Shed {
        shed: u64,
        seconds: u64,
        reasons: BTreeMap<&'static str, u64>,
        pool: String,
    },
    ShedEnded {
        seconds: u64,
    },
    Stopping {
        step: Step,
        left: usize,
    },
    Finished {
        reason: &'static str,
    },
    ReloadBegan {
        generation: u32,
        directory: String,
    },
    ReloadCommitted {
        generation: u32,
    },
    ReloadDone {
        generation: u32,
        took_ms: u64,
    },
    ReloadFailed {
        generation: u32,
        took_ms: u64,
        reason: String,
        last_output: Option<String>,
    },
    #[serde(untagged)]
    Worker(WorkerTransition),
}

/// The steps of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Still accepting, no longer ready.
    Delaying,
    /// Nothing new; workers finish.
    Draining,
    /// TERM was sent.
    Terminating,
    /// KILL was sent.
    Killing,
}

impl From<ShedSummary> for Transition {
    fn from(ShedSummary { over, reasons, pool }: ShedSummary) -> Self {
        let (seconds, shed) = (over.as_secs(), reasons.values().sum());
        if shed == 0 {
            return Self::ShedEnded { seconds };
        }
        Self::Shed { shed, seconds, reasons, pool }
    }
}

impl From<StopStep> for Step {
    fn from(step: StopStep) -> Self {
        match step {
            StopStep::Delaying => Self::Delaying,
            StopStep::Draining => Self::Draining,
            StopStep::Terminating => Self::Terminating,
            StopStep::Killing => Self::Killing,
        }
    }
}

/// One transition of one worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerTransition {
    /// What happened.
    #[serde(flatten)]
    pub what: What,
    /// To whom.
    #[serde(flatten)]
    pub who: Who,
}

/// What happened to a worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "`EVENTS` says what each is, and a test compares the two")]
pub enum What {
    WorkerStarted {
        generation: u32,
    },
    StartFailed {
        restart_in_ms: u64,
    },
    StartTimedOut,
    WorkerReady {
        after_ms: u64,
    },
    WorkerUnready,
    WorkerStalled {
        alone: bool,
    },
    WorkerRecovered {
        silent_ms: u64,
    },
    WorkerHung {
        silent_ms: u64,
        main_thread: String,
        oldest: Option<String>,
        stack: Option<String>,
    },
    WorkerEjected {
        for_ms: u64,
    },
    WorkerReadmitted,
    WorkerReplacing {
        why: String,
        first: &'static str,
    },
    WorkerReplaced {
        why: String,
        by: u64,
        farewell: Option<String>,
    },
    WorkerTookOver {
        vacated: u16,
    },
    WorkerDraining {
        for_ms: u64,
    },
    DrainTimedOut,
    WorkerStopping {
        signal: &'static str,
    },
    StopTimedOut,
    WorkerKilled,
    WorkerAbandoned,
    WorkerSignalled {
        signal: &'static str,
    },
    WorkerExited {
        exit: String,
        asked: bool,
    },
    #[serde(untagged)]
    Death(Death),
}

/// An end of a worker that nobody wanted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "`EVENTS` says what each is, and a test compares the two")]
pub enum Death {
    WorkerCrashed {
        kind: String,
        exit: String,
        killer: Option<String>,
        failures: u32,
        restart_in_ms: u64,
        last_output: String,
    },
    SuccessorFailed {
        exit: String,
        retry_in_ms: u64,
        last_output: String,
    },
    SlotFailed {
        exit: String,
        last_output: String,
    },
}

/// Each event with its fields and what it means.
pub const EVENTS: [(&str, &str, &str); 43] = [
    ("connected", "name, pid, version, phase, generation", "The first line of a stream"),
    ("cut", "missed", "The last line for a reader that was too slow"),
    ("phase", "phase, was", "The pool's phase, as in `status`"),
    ("listening", "address, url, mode", "A listener accepts"),
    ("closed", "address", "A listener is gone"),
    ("pool_ready", "ready, wanted, after_ms", "Every slot has served at once, for the first time"),
    ("scaled", "from, to", "The number of slots changed"),
    ("storm_began", "", "Too many crashes: one start at a time"),
    ("storm_ended", "", "A worker stayed up"),
    ("panic_began", "", "More than half of the workers are stalled or ejected: all get work"),
    ("panic_ended", "", "Most workers are in order again"),
    ("shed", "shed, seconds, reasons, pool", "What was turned away lately, by reason"),
    ("shed_ended", "seconds", "Nobody was turned away for so long"),
    ("stopping", "step, left", "A stop goes on: `delaying`, `draining`, `terminating`, `killing`"),
    ("finished", "reason", "The last line: `stopped`, or why the pool gave up"),
    ("reload_began", "generation, directory", "A canary of this generation is tried"),
    ("reload_committed", "generation", "The canary has proved itself; the others follow"),
    ("reload_done", "generation, took_ms", "Every slot serves with this generation"),
    (
        "reload_failed",
        "generation, took_ms, reason, last_output",
        "This generation goes on, and why",
    ),
    ("worker_started", "generation", "A process was started"),
    ("start_failed", "restart_in_ms", "None could be"),
    ("start_timed_out", "", "Not ready within `workers.start_timeout`; killed"),
    ("worker_ready", "after_ms", "It serves, so long after its start"),
    ("worker_unready", "", "Its process lives, but serves no more"),
    ("worker_stalled", "alone", "No heartbeat: it gets nothing new, unless it is alone"),
    ("worker_recovered", "silent_ms", "Its heartbeat is back"),
    (
        "worker_hung",
        "silent_ms, main_thread, oldest, stack",
        "No heartbeat for `workers.hang`; killed. What it was at",
    ),
    ("worker_ejected", "for_ms", "It fails request after request: it gets none for so long"),
    ("worker_readmitted", "", "It gets requests again"),
    (
        "worker_replacing",
        "why, first",
        "A successor is started, after the old one has left if `first` is `stop`",
    ),
    ("worker_replaced", "why, by, farewell", "Its successor, the worker `by`, serves"),
    ("worker_took_over", "vacated", "A spare, it serves now in place of this slot's worker"),
    ("worker_draining", "for_ms", "It gets nothing new and finishes, for so long at most"),
    ("drain_timed_out", "", "It is still busy; TERM follows"),
    ("worker_stopping", "signal", "It was sent TERM, or ABRT if it hangs"),
    ("stop_timed_out", "", "It has not ended; KILL follows"),
    ("worker_killed", "", "It was sent KILL"),
    ("worker_abandoned", "", "It has outlived KILL; the pool ends without it"),
    ("worker_signalled", "signal", "A person sent it this signal, by `tenfold signal`"),
    (
        "worker_exited",
        "exit, asked",
        "Its process has ended (`exit 0`, `signal 9`), as it was told to or not",
    ),
    (
        "worker_crashed",
        "kind, exit, killer, failures, restart_in_ms, last_output",
        "Nobody had asked it to; told once its last output is in",
    ),
    (
        "successor_failed",
        "exit, retry_in_ms, last_output",
        "It was to take over; the old worker goes on",
    ),
    ("slot_failed", "exit, last_output", "It exited with 78: its slot stays empty"),
];

/// The fields that every event of one worker has besides its own.
pub const WORKER_FIELDS: &str = "slot, worker, pid";
