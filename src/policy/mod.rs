//! Decides which worker gets what and which process starts or stops; no I/O, no clock, no log.

mod backoff;
mod balance;
mod duty;
mod fleet;
mod health;
mod ids;
mod queue;
mod random;
#[cfg(test)]
mod testing;
mod time;

pub use backoff::Backoff;
pub use balance::{
    Admission, Asker, Balance, Expired, Grant, ListenerView, Load, Mode, Panic, REFUSAL_PAUSE,
    Shed, ShedTally, Stalled, Standing, Tally, UNACKED_WINDOW, Wish, WorkerBounds, WorkerView,
};
pub use duty::Duty;
pub use fleet::{
    Action, Cause, Event, Failure, Finish, Fleet, FleetSettings, Handover, LiveWorker, MAX_WORKERS,
    Note, Phase, Proof, ReloadFailure, ReloadOutcome, ReloadSettings, SlotState, SlotView, Spares,
    StopKind, StopStep, StopTimes, StormSettings, Surge, Verdict, Why, WorkerExit, WorkerLife,
};
pub use health::{
    CrashKind, Diagnosis, EjectionSettings, Ejections, Finding, Flow, HangTimes, Health,
    Heartbeats, LastSeen, Looks, MemorySoft, Past, PoolVitals, QuotaPeriods, QuotaWatch, Recycle,
    RecycleSettings, Recycling, RequestKey, Sign, Startup, Stop, Suspects, Turnover, Vitals,
    ramped,
};
pub use ids::{Generation, ListenerId, Slot, Ticket, WorkerId};
pub use queue::QueueBounds;
pub use random::SplitMix64;
