//! What a worker's health is judged by.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::policy::{EjectionSettings, HangTimes, MemorySoft, RecycleSettings};

/// When a worker is stalled, hangs, fails too often, or has lived long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerHealth {
    /// Silence of its heartbeat after which it gets nothing new; none: never.
    pub stall: Option<Duration>,
    /// Silence after which it is killed.
    pub hang: Hang,
    /// Failures in a row after which it gets nothing for a while; none: never.
    pub eject_after: Option<NonZeroU32>,
    /// How long that while is, the first time.
    pub eject_time: Duration,
    /// How long its limit rises after it is ready; zero: it has it at once.
    pub ramp: Duration,
    /// Requests after which it is replaced; none: never.
    pub max_requests: Option<NonZeroU64>,
    /// Age at which it is replaced; none: never.
    pub max_age: Option<Duration>,
    /// Memory with which it is replaced.
    pub memory_soft: MemorySoft,
}

/// When a worker is killed for its silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// After 30 s, if it has a heartbeat.
    Auto,
    /// Never.
    Off,
    /// After this, with a heartbeat or without.
    After(Duration),
}

/// Long enough for any garbage collection and any page; short enough that a balancer's patience,
/// 60 s as a rule, outlasts it.
const HANG: Duration = Duration::from_secs(30);

impl WorkerHealth {
    /// The times by which silence is judged.
    pub fn hang_times(&self) -> HangTimes {
        let (hang, hang_without_heartbeat) = match self.hang {
            Hang::Auto => (Some(self.stall.map_or(HANG, |stall| stall.max(HANG))), None),
            Hang::Off => (None, None),
            Hang::After(time) => (Some(time), Some(time)),
        };
        HangTimes { stall: self.stall, hang, hang_without_heartbeat }
    }

    /// The longest silence that sd_notify's WATCHDOG=1 may leave; programs say it twice as often.
    pub fn watchdog(&self) -> Option<Duration> {
        let times = self.hang_times();
        times.stall.or(times.hang)
    }

    /// When a worker that could go on is replaced.
    pub fn recycling(&self, seed: u64) -> RecycleSettings {
        let Self { max_requests, max_age, memory_soft: soft, .. } = *self;
        RecycleSettings { max_requests, max_age, soft, seed }
    }

    /// When failures eject.
    pub fn ejection(&self) -> EjectionSettings {
        EjectionSettings { failures: self.eject_after, time: self.eject_time }
    }
}
