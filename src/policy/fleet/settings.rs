//! The numbers a `Fleet` works by, each with its default.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::policy::Backoff;

/// Most slots a pool may have: every dispatch scans all workers.
pub const MAX_WORKERS: u16 = 256;

/// How a pool is started, restarted and stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetSettings {
    /// Slots at the start; taken as [`MAX_WORKERS`] if above.
    pub count: NonZeroU16,
    /// Slots besides, whose workers stand by.
    pub spares: Spares,
    /// A worker not ready this long after its start is killed, and counts as a crash. The same
    /// time after the beginning the pool ends if none was ever ready.
    pub start_timeout: Duration,
    /// The pool ends after this long without any ready worker.
    pub give_up: Duration,
    /// Waits between restarts of one slot.
    pub backoff: Backoff,
    /// Restarts of the whole pool.
    pub storm: StormSettings,
    /// Most workers that may be starting at once: boots are CPU-bound and starve who serves.
    pub concurrent_starts: NonZeroU16,
    /// How the pool, or one worker of it, is stopped.
    pub stop: StopTimes,
    /// How a new generation comes in.
    pub reload: ReloadSettings,
    /// Seed of the jitter.
    pub seed: u64,
}

/// How many workers stand by; with those that serve never more than [`MAX_WORKERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spares {
    Fixed(u16),
    /// One while even the fastest start of the generation took longer than 2 s, else none.
    WhereSlow,
}

/// How a new generation comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadSettings {
    /// How long the canary must stay ready before others follow.
    pub soak: Duration,
    /// What else it must do.
    pub proof: Proof,
    /// Workers beyond the slots while generations change, those that drain included.
    pub surge: Surge,
}

/// What proves a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// That it stays ready.
    Soak,
    /// That it answers a probe besides; see [`Action::Probe`](super::Action::Probe).
    Answer,
}

/// A number of workers, or a share of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surge {
    /// 0: each old worker leaves before its successor starts.
    Workers(u16),
    /// In percent, rounded up.
    Percent(u8),
}

impl Surge {
    /// The number for a pool of `count`.
    #[must_use]
    pub fn resolve(self, count: u16) -> u16 {
        match self {
            Self::Workers(number) => number,
            Self::Percent(share) => {
                let number = (u32::from(count) * u32::from(share)).div_ceil(100);
                u16::try_from(number).unwrap_or(u16::MAX)
            }
        }
    }
}

impl Default for ReloadSettings {
    fn default() -> Self {
        let soak = Duration::from_secs(5);
        // A quarter, as Deployments of Kubernetes have it.
        Self { soak, proof: Proof::Soak, surge: Surge::Percent(25) }
    }
}

/// When crashes are a storm: each restart takes a token, and the bucket is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StormSettings {
    /// Tokens in a full bucket; `None` is one per slot, at least 4 (in a pool of one, the second
    /// crash is no storm yet).
    pub burst: Option<NonZeroU32>,
    /// Time in which one token comes back.
    pub refill: Duration,
    /// A worker started in a storm that stays ready this long ends it.
    pub soak: Duration,
}

/// How long each step of a stop may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopTimes {
    /// From the stop until we stop accepting: not ready for balancers, but serving.
    pub delay: Duration,
    /// From the stop until who is left is killed; covers all other times here.
    pub total: Duration,
    /// From the TERM of a worker until its KILL; also the end of `total` kept free for it.
    pub kill_after_term: Duration,
    /// Drain time when a person at a terminal waits for the end.
    pub interactive_grace: Duration,
}

impl StopTimes {
    /// Time for one worker to finish what it has before it gets its TERM.
    pub(super) fn drain(&self) -> Duration {
        self.total.saturating_sub(self.kill_after_term)
    }
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            count: NonZeroU16::MIN,
            spares: Spares::Fixed(0),
            start_timeout: Duration::from_secs(60),
            give_up: Duration::from_secs(300),
            backoff: Backoff::default(),
            storm: StormSettings::default(),
            concurrent_starts: const { NonZeroU16::new(4).expect("4 is not 0") },
            stop: StopTimes::default(),
            reload: ReloadSettings::default(),
            seed: 0,
        }
    }
}

impl Default for StormSettings {
    fn default() -> Self {
        let (refill, soak) = (Duration::from_secs(2), Duration::from_secs(5));
        Self { burst: None, refill, soak }
    }
}

impl Default for StopTimes {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            // Kubernetes kills the container after 30 s; leave 5 s for its own overhead and ours.
            total: Duration::from_secs(25),
            kill_after_term: Duration::from_secs(3),
            interactive_grace: Duration::from_secs(2),
        }
    }
}
