//! Decides from samples who is stalled, hangs, fails or has grown too large, and what kills.
//!
//! Each file judges one thing and only finds; what follows is for `Fleet` (processes) and `Balance`
//! (who gets what) to decide. Absent on purpose: how a sample is taken.

mod crash;
mod ejection;
mod heartbeat;
mod looks;
mod poison;
mod ramp;
mod readiness;
mod recycle;
mod throttle;

pub use crash::{CrashKind, LastSeen, Past};
pub use ejection::{EjectionSettings, Ejections};
pub use heartbeat::{Finding, HangTimes, Heartbeats, Sign};
pub use looks::Looks;
pub use poison::{RequestKey, Suspects};
pub use ramp::ramped;
pub use readiness::{Diagnosis, Health, Startup, Stop};
pub use recycle::{
    Flow, MemorySoft, PoolVitals, Recycle, RecycleSettings, Recycling, Turnover, Vitals,
};
pub use throttle::{QuotaPeriods, QuotaWatch};
