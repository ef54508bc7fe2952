//! The words `Fleet` takes and gives: events, actions, notes and snapshots.

use std::fmt;
use std::time::{Duration, Instant};

use super::FleetSettings;
use crate::policy::{Duty, Generation, Slot, Stalled, WorkerId};

/// What happened. Events about workers that are gone, or out of order, are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "one exists at a time, and only values that can be copied are replayed by the thousand"
)]
pub enum Event {
    /// Start the pool.
    Begin,
    /// The process of an [`Action::Spawn`] exists.
    Spawned { worker: WorkerId },
    /// It could not be made; the same as a crash.
    SpawnFailed { worker: WorkerId },
    /// The worker serves.
    Ready { worker: WorkerId },
    /// The worker needs this much longer to start, from now on; see `START_MAX`.
    Extend { worker: WorkerId, by: Duration },
    /// The worker (a wrapper) lives, but what served in it is gone; it may become ready again.
    Unready { worker: WorkerId },
    /// The worker is to get nothing new for now, or may have work again. It is alive: what becomes
    /// of it is not decided by this.
    Stalled { worker: WorkerId, stalled: Stalled },
    /// The worker says that it is on its way out; it drains, and gets its TERM when it has. Its end
    /// is a crash like any other, unless it was sent away.
    Leaves { worker: WorkerId },
    /// The worker has finished all its work after [`Action::Drain`].
    Drained { worker: WorkerId },
    /// The process was reaped.
    Exited { worker: WorkerId, exit: WorkerExit },
    /// Put another worker into this one's slot; it stays until its turn comes, and as long as the
    /// other fails to start.
    Replace { worker: WorkerId, why: Why, handover: Handover },
    /// End this worker at once, because of `cause`: a crash like any other.
    Condemn { worker: WorkerId, cause: Cause },
    /// Let this slot's worker finish, and start none there until somebody asks for one.
    Drain { slot: Slot },
    /// Replace this slot's worker as asked by a person, or start one where there is none.
    Recycle { slot: Slot },
    /// Bring in a new generation, a number that was never used. Ignored while one comes in.
    Reload { generation: Generation, settings: FleetSettings },
    /// What came of an [`Action::Probe`].
    Probed { worker: WorkerId, verdict: Verdict },
    /// Have this many slots, taken into `1..=MAX_WORKERS`.
    ScaleTo(u16),
    /// Have this many slots more (or fewer).
    ScaleBy(i16),
    /// End the pool. A second one skips to the next step.
    Stop(StopKind),
    /// The deadline has come.
    Tick,
}

/// Why a worker that could go on is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A person asked.
    Asked,
    /// It has served as many requests as it may.
    MaxRequests,
    /// It has lived as long as it may.
    MaxAge,
    /// It holds more memory than one worker should.
    MemorySoft,
    /// The pool is close to the limit of its cgroup.
    RedLine,
    /// It is of another generation.
    Reload,
}

/// Whether a probe was answered well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
}

/// What comes first when a worker is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// The successor is started; the old worker leaves when that one is ready.
    StartFirst,
    /// The old worker leaves, and its successor is started when it is gone: for when there is no
    /// memory for both.
    StopFirst,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    Code(i32),
    Signal(i32),
}

/// How much patience a stop has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// Delay, drain, TERM, KILL within `total`.
    Graceful,
    /// As graceful, without the delay: a new master has the pool, and nobody new comes here.
    Succeeded,
    /// No delay, and `interactive_grace` to drain.
    Interactive,
    /// TERM at once, KILL at most 2 s later.
    Now,
}

/// What the shell has to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process, for the duty that [`Fleet::workers`](super::Fleet::workers) tells; answer
    /// with `Spawned` or `SpawnFailed`.
    Spawn { worker: WorkerId, slot: Slot, generation: Generation },
    /// Its duty, which [`Fleet::workers`](super::Fleet::workers) tells, is another from now on.
    Assign { worker: WorkerId },
    /// Give it nothing new and tell it to finish; answer with `Drained`, unless it exits first.
    Drain { worker: WorkerId },
    /// Send TERM to its group.
    Terminate { worker: WorkerId },
    /// Give it nothing new and send ABRT to its group, so that it may leave a trace.
    Abort { worker: WorkerId },
    /// Send KILL to its group.
    Kill { worker: WorkerId },
    /// Close the listeners to new clients.
    StopAccepting,
    /// Ask this canary for the path that proves it; answer with `Probed`.
    Probe { worker: WorkerId },
    /// The canary has proved itself: what does not belong to one worker is of this generation now.
    Commit { generation: Generation },
    /// A reload has ended.
    Reloaded(ReloadOutcome),
    /// The pool has ended; nothing follows.
    Finish(Finish),
    /// Something worth telling; nothing to do.
    Note(Note),
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Every slot serves with the new generation; old workers may still drain.
    Done { generation: Generation },
    /// The old generation stays; if the new one was committed already, the old one is again.
    Failed(ReloadFailure),
}

/// Why a reload was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadFailure {
    /// The canary, or a follower that never was ready, ended.
    Died(Failure),
    /// The canary was ready, and then not any more.
    Unready { worker: WorkerId },
    /// The canary did not answer its probe as it should.
    Probe { worker: WorkerId },
    /// Workers crash too often.
    Storm,
    /// The pool stops.
    Stopped,
}

/// Why the pool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// As asked.
    Stopped,
    /// No worker was ready within `start_timeout` of the beginning.
    NeverReady { last: Option<Failure> },
    /// Every slot exited with 0 twice in a row and none was ever ready: not a server.
    NeverListened,
    /// No worker was ready for `give_up`.
    GaveUp { last: Option<Failure> },
    /// Every slot exited with 78: none can run with its configuration.
    AllRefused,
}

/// One worker's unwanted end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub slot: Slot,
    pub worker: WorkerId,
    pub cause: Cause,
}

/// What ended a worker that we wanted to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It ended by itself, or somebody else ended it.
    Exited(WorkerExit),
    /// It was not ready in time, so we killed it.
    StartTimeout,
    /// Its process could not be made.
    SpawnFailed,
    /// It gave no sign of life for too long, so we killed it.
    Hung,
}

/// Facts for the log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The slot starts again after `delay`, or later if a storm or other starts hold it back.
    /// `failures` counts those in a row, this one included.
    Restarting {
        failure: Failure,
        delay: Duration,
        failures: u32,
    },
    /// A successor of this worker is started, or will be as soon as the worker has left.
    Replacing {
        slot: Slot,
        old: WorkerId,
        why: Why,
        handover: Handover,
    },
    /// The successor is ready.
    Replaced {
        slot: Slot,
        old: WorkerId,
        new: WorkerId,
        why: Why,
    },
    /// This spare serves from now on, and the slot that cannot is to have a spare.
    TookOver {
        slot: Slot,
        worker: WorkerId,
        vacated: Slot,
    },
    /// A successor ended before it was ready; the next is started after `delay`. The old worker
    /// goes on.
    SuccessorFailed {
        failure: Failure,
        delay: Duration,
    },
    /// Exit 78: the slot is not started again.
    SlotFailed {
        failure: Failure,
    },
    /// Not ready within `start_timeout`; killed.
    StartTimedOut {
        slot: Slot,
        worker: WorkerId,
    },
    /// Still busy at the end of its drain time; gets its TERM.
    DrainTimedOut {
        slot: Slot,
        worker: WorkerId,
    },
    /// Not gone at the end of its time after TERM or ABRT; gets its KILL.
    TermTimedOut {
        slot: Slot,
        worker: WorkerId,
    },
    /// Not gone 2 s after KILL; the pool ends without it.
    Abandoned {
        slot: Slot,
        worker: WorkerId,
    },
    /// Too many restarts: one start at a time from now on.
    StormBegan,
    StormEnded,
    /// The number of slots changed.
    Scaled {
        from: u16,
        to: u16,
    },
    /// A step of the stop began; `left` workers are alive.
    Stopping {
        step: StopStep,
        left: usize,
    },
}

/// The steps of a stop, in order. Each ends early when no worker is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopStep {
    /// Still accepting, but not ready for balancers.
    Delaying,
    Draining,
    Terminating,
    Killing,
}

/// Where the pool is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No worker was ready yet.
    Starting,
    Running,
    /// A new generation comes in.
    Reloading,
    Stopping(StopStep),
    /// `Finish` was returned.
    Finished,
}

/// One slot at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView {
    pub slot: Slot,
    pub state: SlotState,
    /// What its next worker is started for, and this one was told to do.
    pub duty: Duty,
    /// The worker that will take over when it is ready.
    pub successor: Option<WorkerId>,
    /// Whether its worker is to be replaced, or is being replaced.
    pub replacing: Option<Why>,
    /// Starts after a failure, since the slot exists.
    pub restarts: u32,
    /// Failures in a row.
    pub failures: u32,
}

/// What a slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It has a worker; see [`WorkerLife`].
    Running { worker: WorkerId },
    /// It is started at `until` at the earliest; a time in the past waits for its turn.
    Waiting { until: Instant },
    /// It is not started again.
    Failed { cause: Cause },
    /// Its worker was sent away, and none is started until somebody asks.
    Draining { worker: WorkerId },
    /// It stands empty until somebody asks.
    Drained,
}

/// One live process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveWorker {
    pub worker: WorkerId,
    pub slot: Slot,
    pub generation: Generation,
    pub duty: Duty,
    pub state: WorkerLife,
}

/// A worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerLife {
    /// Not ready (yet, or again); killed at `until`.
    Starting {
        until: Instant,
    },
    Ready {
        since: Instant,
    },
    /// Finishing its work; gets its TERM at `until`.
    Draining {
        until: Instant,
    },
    /// It has its TERM or ABRT; gets its KILL at `until`.
    Stopping {
        until: Instant,
    },
    /// It has its KILL; only its exit can follow.
    Killed {
        since: Instant,
    },
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(exit) => exit.fmt(f),
            Self::StartTimeout => f.write_str("not ready in time"),
            Self::SpawnFailed => f.write_str("spawn failed"),
            Self::Hung => f.write_str("hung"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked",
            Self::MaxRequests => "max_requests",
            Self::MaxAge => "max_age",
            Self::MemorySoft => "memory.soft",
            Self::RedLine => "memory red line",
            Self::Reload => "reload",
        })
    }
}

impl fmt::Display for WorkerLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting { .. } => "starting",
            Self::Ready { .. } => "ready",
            Self::Draining { .. } => "draining",
            Self::Stopping { .. } => "stopping",
            Self::Killed { .. } => "killed",
        })
    }
}
