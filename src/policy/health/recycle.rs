//! Decides which healthy worker has served, lived or grown enough to be replaced, one at a time.
//!
//! Each life draws how much earlier than its bounds it ends, so that workers that started together
//! do not leave together. Nobody is replaced while a queue stands, since a start takes CPU from
//! those who serve; near the limit of memory that is no reason any more, and the order turns.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::policy::{Handover, SplitMix64, Why, WorkerId};

/// A life ends up to this share earlier than its bounds.
const JITTER: f64 = 0.1;

/// The share of the cgroup's limit that all workers together should hold at most.
const SHARE: f64 = 0.85;

/// The share of the cgroup's limit from which on the kernel may soon kill somebody.
const RED_LINE: f64 = 0.92;

/// A worker younger than this is never replaced for its memory: a new one would be as large.
const MEMORY_AGE_MIN: Duration = Duration::from_secs(10);

/// When a worker is replaced although it could go on. None: never for that reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecycleSettings {
    /// After so many requests (connections, in connection mode).
    pub max_requests: Option<NonZeroU64>,
    /// After so long.
    pub max_age: Option<Duration>,
    /// When it holds so much memory.
    pub soft: MemorySoft,
    /// Seed of the jitter.
    pub seed: u64,
}

/// How much memory one worker should hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemorySoft {
    Off,
    /// Its part of 85 % of the cgroup's limit; any amount where there is no limit.
    Auto,
    /// So many bytes.
    Bytes(NonZeroU64),
}

/// One ready worker at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    pub worker: WorkerId,
    /// Since it was started.
    pub age: Duration,
    /// What it was given in all its life.
    pub requests: u64,
    /// Bytes of its own; none: not known.
    pub memory: Option<u64>,
}

/// The pool at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolVitals {
    /// How many slots there are.
    pub slots: u16,
    /// What its cgroup holds, without what the kernel drops before it kills anybody.
    pub used: Option<u64>,
    /// What its cgroup may hold.
    pub limit: Option<NonZeroU64>,
    pub queue: Flow,
    pub turnover: Turnover,
}

/// Whether somebody has waited for a worker for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Standing,
    Moving,
}

/// Whether some worker is being replaced, or is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turnover {
    UnderWay,
    None,
}

/// Whom to replace, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recycle {
    pub vitals: Vitals,
    pub why: Why,
    pub handover: Handover,
    /// The memory that one worker should hold at most, if that is bounded.
    pub soft: Option<u64>,
}

/// The draws of all lives.
#[derive(Clone, Debug)]
pub struct Recycling {
    settings: RecycleSettings,
    random: SplitMix64,
    /// By how much earlier than its bounds a worker is due: above 0.9, up to 1.
    shares: BTreeMap<WorkerId, f64>,
}

impl RecycleSettings {
    /// The memory that one of so many workers should hold at most, where the cgroup has this limit.
    pub fn soft_of(&self, slots: u16, limit: Option<NonZeroU64>) -> Option<u64> {
        match self.soft {
            MemorySoft::Off => None,
            MemorySoft::Auto => Some((share(limit?, SHARE) / u64::from(slots.max(1))).max(1)),
            MemorySoft::Bytes(bytes) => Some(bytes.get()),
        }
    }
}

impl Recycling {
    /// Nobody lives yet.
    pub fn new(settings: RecycleSettings) -> Self {
        let random = SplitMix64::new(settings.seed);
        Self { settings, random, shares: BTreeMap::new() }
    }

    /// Whether a worker of a pool of so many is measured at all.
    pub fn bounds_memory(&self, slots: u16, limit: Option<NonZeroU64>) -> bool {
        self.settings.soft_of(slots, limit).is_some()
    }

    /// Whether anybody is ever replaced; without it nothing needs to be measured.
    pub fn is_on(&self) -> bool {
        let RecycleSettings { max_requests, max_age, soft, .. } = self.settings;
        max_requests.is_some() || max_age.is_some() || soft != MemorySoft::Off
    }

    /// Whom to replace now, if anybody. `workers` are all that are ready.
    pub fn choose(&mut self, workers: &[Vitals], pool: PoolVitals) -> Option<Recycle> {
        self.shares.retain(|id, _| workers.iter().any(|it| it.worker == *id));
        for vitals in workers {
            let draw = || 1.0 - JITTER * self.random.unit();
            self.shares.entry(vitals.worker).or_insert_with(draw);
        }
        if pool.turnover == Turnover::UnderWay {
            return None;
        }
        let soft = self.settings.soft_of(pool.slots, pool.limit);
        if let Some(soft) = soft
            && is_above_red_line(pool)
        {
            return most_memory(workers, soft).map(|vitals| Recycle {
                vitals,
                why: Why::RedLine,
                handover: Handover::StopFirst,
                soft: Some(soft),
            });
        }
        if pool.queue == Flow::Standing {
            return None;
        }
        let due = workers.iter().filter_map(|vitals| {
            let (spent, why) = self.spent(vitals, soft)?;
            (spent >= self.shares[&vitals.worker]).then_some((spent, vitals, why))
        });
        let (_, vitals, why) = due.max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some(Recycle { vitals: *vitals, why, handover: Handover::StartFirst, soft })
    }

    /// How much of its life is over by the bound that it is closest to.
    fn spent(&self, vitals: &Vitals, soft: Option<u64>) -> Option<(f64, Why)> {
        let RecycleSettings { max_requests, max_age, .. } = self.settings;
        let requests =
            max_requests.map(|max| (vitals.requests as f64 / max.get() as f64, Why::MaxRequests));
        let age = max_age.map(|max| {
            (vitals.age.as_secs_f64() / max.as_secs_f64().max(f64::MIN_POSITIVE), Why::MaxAge)
        });
        let memory = vitals.memory.filter(|_| vitals.age >= MEMORY_AGE_MIN).zip(soft);
        let memory = memory.map(|(memory, soft)| (memory as f64 / soft as f64, Why::MemorySoft));
        [requests, age, memory].into_iter().flatten().max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

/// Who holds most, if that is much: else somebody who is not a worker fills the cgroup, and no
/// replacement helps.
fn most_memory(workers: &[Vitals], soft: u64) -> Option<Vitals> {
    let grown = workers.iter().filter(|vitals| vitals.age >= MEMORY_AGE_MIN);
    let most = grown.max_by_key(|vitals| vitals.memory)?;
    most.memory.is_some_and(|memory| memory >= soft / 2).then_some(*most)
}

fn is_above_red_line(pool: PoolVitals) -> bool {
    let (Some(used), Some(limit)) = (pool.used, pool.limit) else {
        return false;
    };
    used >= share(limit, RED_LINE)
}

fn share(limit: NonZeroU64, of: f64) -> u64 {
    (limit.get() as f64 * of) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const SETTINGS: RecycleSettings = RecycleSettings {
        max_requests: NonZeroU64::new(1_000),
        max_age: Some(Duration::from_secs(3_600)),
        soft: MemorySoft::Auto,
        seed: 7,
    };
    /// Four workers in 1 GiB: 217 MiB each.
    const POOL: PoolVitals = PoolVitals {
        slots: 4,
        used: Some(GIB / 2),
        limit: NonZeroU64::new(GIB),
        queue: Flow::Moving,
        turnover: Turnover::None,
    };

    fn vitals(worker: u64, age_s: u64, requests: u64, memory_mib: u64) -> Vitals {
        let age = Duration::from_secs(age_s);
        Vitals { worker: WorkerId(worker), age, requests, memory: Some(memory_mib << 20) }
    }

    #[track_caller]
    fn check(
        settings: RecycleSettings,
        pool: PoolVitals,
        workers: &[Vitals],
        expected: Option<(u64, Why, Handover)>,
    ) {
        let chosen = Recycling::new(settings).choose(workers, pool);
        let chosen = chosen.map(|it| (it.vitals.worker.0, it.why, it.handover));
        assert_eq!(chosen, expected, "{workers:?}");
    }

    #[test]
    fn who_is_beyond_a_bound_is_replaced_for_that_reason() {
        let young = vitals(1, 60, 10, 100);
        check(SETTINGS, POOL, &[young], None);
        for (old, why) in [
            (vitals(2, 60, 1_000, 100), Why::MaxRequests),
            (vitals(2, 3_600, 10, 100), Why::MaxAge),
            (vitals(2, 60, 10, 218), Why::MemorySoft),
        ] {
            check(SETTINGS, POOL, &[young, old], Some((2, why, Handover::StartFirst)));
        }
    }

    #[test]
    fn who_is_furthest_beyond_comes_first() {
        let workers = [vitals(1, 3_700, 0, 0), vitals(2, 0, 1_500, 0), vitals(3, 60, 0, 250)];
        check(SETTINGS, POOL, &workers, Some((2, Why::MaxRequests, Handover::StartFirst)));
    }

    #[test]
    fn nobody_is_replaced_while_another_is_or_while_a_queue_stands() {
        let old = [vitals(1, 9_999, 9_999, 999)];
        check(SETTINGS, PoolVitals { turnover: Turnover::UnderWay, ..POOL }, &old, None);
        check(SETTINGS, PoolVitals { queue: Flow::Standing, ..POOL }, &old, None);
    }

    #[test]
    fn above_the_red_line_the_largest_leaves_first_whatever_waits() {
        let red = PoolVitals { used: Some(GIB / 100 * 93), queue: Flow::Standing, ..POOL };
        let workers = [vitals(1, 60, 0, 150), vitals(2, 60, 0, 190), vitals(3, 5, 0, 400)];
        check(SETTINGS, red, &workers, Some((2, Why::RedLine, Handover::StopFirst)));
        let small = [vitals(1, 60, 0, 50), vitals(2, 60, 0, 60)];
        check(SETTINGS, red, &small, None);
    }

    #[test]
    fn a_new_worker_is_never_too_large() {
        check(SETTINGS, POOL, &[vitals(1, 9, 0, 900)], None);
    }

    #[test]
    fn without_bounds_nobody_is_replaced() {
        let off =
            RecycleSettings { max_requests: None, max_age: None, soft: MemorySoft::Off, seed: 1 };
        assert!(!Recycling::new(off).is_on());
        let red = PoolVitals { used: Some(GIB), ..POOL };
        check(off, red, &[vitals(1, 1 << 20, 1 << 30, 9_999)], None);
        let unlimited = PoolVitals { limit: None, ..POOL };
        check(SETTINGS, unlimited, &[vitals(1, 60, 0, 9_999)], None);
    }

    #[test]
    fn lives_that_began_together_end_up_to_a_tenth_early_and_apart() {
        let mut recycling = Recycling::new(SETTINGS);
        let mut living: Vec<u64> = (0..100).collect();
        let mut ends = Vec::new();
        for requests in 800..=1_000 {
            let all = |ids: &[u64]| ids.iter().map(|id| vitals(*id, 60, requests, 0)).collect();
            let mut workers: Vec<Vitals> = all(&living);
            while let Some(due) = recycling.choose(&workers, POOL) {
                living.retain(|id| *id != due.vitals.worker.0);
                workers = all(&living);
                ends.push(requests);
            }
        }
        assert_eq!(ends.len(), 100, "all have ended by the bound");
        let (first, last) = (ends[0], ends[99]);
        assert!((900..920).contains(&first) && (980..=1_000).contains(&last), "{first} {last}");
    }
}
