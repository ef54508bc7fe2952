//! Decides from samples who is stalled, who hangs, who fails and who has grown too large.
//!
//! Each file judges one thing and only finds; what follows is for `Fleet` (processes) and `Balance`
//! (who gets what) to decide. Absent on purpose: how a sample is taken.

mod ejection;
mod heartbeat;
mod recycle;

pub use ejection::{EjectionSettings, Ejections};
pub use heartbeat::{Finding, HangTimes, Heartbeats, Sign};
pub use recycle::{
    Flow, MemorySoft, PoolVitals, Recycle, RecycleSettings, Recycling, Turnover, Vitals,
};
