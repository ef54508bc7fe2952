//! Measures workers, and has those replaced that have served, lived or grown enough.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::{Supervisor, memory};
use crate::policy::{
    Event, Flow, MAX_WORKERS, PoolVitals, Recycle, RecycleSettings, Recycling, Turnover, Vitals,
    Why, WorkerExit, WorkerId, WorkerLife, WorkerView,
};
use crate::sys::{limits, usage};

/// How often memory is read: a file per process, and three of the cgroup.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// Who has waited for so long stands in a queue; a shorter wait is a burst.
const STANDING: Duration = Duration::from_millis(100);

/// How often it is decided who is replaced, where nothing else wakes control.
const DECIDE_EVERY: Duration = Duration::from_millis(250);

/// What control knows of its workers' lives.
#[derive(Debug)]
pub(super) struct Lives {
    recycling: Recycling,
    measured: Option<Instant>,
    memory: BTreeMap<WorkerId, u64>,
    used: Option<u64>,
    limit: Option<NonZeroU64>,
    oom_kills: OomKills,
    /// Whom of the workers it has killed, until that is counted.
    pub(super) oom_victim: Option<WorkerId>,
    /// What is told of a worker when its successor has taken over.
    farewells: BTreeMap<WorkerId, String>,
}

/// How many processes the kernel has killed in our cgroup for want of memory.
///
/// A death is the kernel's doing only if the number has grown shortly before it: what it killed
/// earlier, or beside the workers, explains nothing. The number is read once a second, and what was
/// read less than that ago may hold the very death that is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OomKills {
    before: Option<u64>,
    latest: Option<u64>,
}

impl OomKills {
    fn new(now: Option<u64>) -> Self {
        Self { before: now, latest: now }
    }

    fn measured(&mut self, now: Option<u64>) {
        self.before = std::mem::replace(&mut self.latest, now);
    }

    fn has_grown(self, now: Option<u64>) -> bool {
        now.zip(self.before).is_some_and(|(now, before)| now > before)
    }
}

impl Lives {
    pub(super) fn new(settings: RecycleSettings) -> Self {
        Self {
            recycling: Recycling::new(settings),
            measured: None,
            memory: BTreeMap::new(),
            used: None,
            limit: None,
            oom_kills: OomKills::new(usage::cgroup().oom_kills),
            oom_victim: None,
            farewells: BTreeMap::new(),
        }
    }

    /// How often [`Supervisor::check_lives`] is due; none if nobody is ever replaced.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.recycling.is_on().then_some(DECIDE_EVERY)
    }

    /// What a worker held of its own when it was last measured.
    pub(super) fn memory_of(&self, worker: WorkerId) -> Option<u64> {
        self.memory.get(&worker).copied()
    }

    /// What is to be told of a worker that was replaced.
    pub(super) fn farewell(&mut self, worker: WorkerId) -> Option<String> {
        self.farewells.remove(&worker)
    }
}

impl Supervisor {
    /// Has one worker replaced, if one is due.
    pub(super) fn check_lives(&mut self, now: Instant) {
        if !self.lives.recycling.is_on() {
            return;
        }
        self.measure(now);
        let (accounts, queue) = self.accounts_and_queue(now);
        let pool = PoolVitals {
            slots: self.parts.fleet.size(),
            used: self.lives.used,
            limit: self.lives.limit,
            queue,
            turnover: self.turnover(),
        };
        let vitals = self.vitals(now, &accounts);
        if let Some(recycle) = self.lives.recycling.choose(&vitals, pool) {
            self.recycle(recycle);
        }
    }

    /// Who killed a worker that has just died, if it was the kernel, for want of memory: it counts
    /// them before anybody can know of the death.
    pub(super) fn killer_of(&mut self, worker: WorkerId, exit: WorkerExit) -> Option<String> {
        self.lives.oom_victim = None;
        let mut fleet = self.parts.fleet.workers();
        let is_ours = fleet
            .any(|live| live.worker == worker && matches!(live.state, WorkerLife::Killed { .. }));
        if exit != WorkerExit::Signal(libc::SIGKILL) || is_ours {
            return None;
        }
        let kills = usage::cgroup().oom_kills;
        if !self.lives.oom_kills.has_grown(kills) {
            return None;
        }
        if !self.lives.recycling.is_on() {
            // Nothing else reads the number then.
            self.lives.oom_kills = OomKills::new(kills);
        }
        self.lives.oom_victim = Some(worker);
        let mib = |bytes: Option<u64>| {
            bytes.map_or_else(|| "an unknown amount".to_owned(), |it| format!("{} MiB", it >> 20))
        };
        let (held, limit) = (mib(self.lives.memory_of(worker)), mib(limits::cgroup().memory_bytes));
        Some(format!(
            "the kernel, for want of memory: the cgroup may hold {limit}; this worker held {held} \
             of its own when last measured"
        ))
    }

    /// Reads the memory of all workers and of the cgroup, at most once a second.
    fn measure(&mut self, now: Instant) {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < MEASURE_EVERY;
        if self.lives.measured.is_some_and(is_fresh) {
            return;
        }
        self.lives.measured = Some(now);
        self.lives.oom_kills.measured(usage::cgroup().oom_kills);
        let own = |(worker, process): (&WorkerId, &super::Process)| {
            Some((*worker, memory::own_bytes(process.child.pid())?))
        };
        self.lives.limit = limits::cgroup().memory_bytes.and_then(NonZeroU64::new);
        if !self.lives.recycling.bounds_memory(self.parts.fleet.size(), self.lives.limit) {
            return;
        }
        self.lives.memory = self.processes.iter().filter_map(own).collect();
        self.lives.used = usage::cgroup().memory_bytes;
    }

    fn accounts_and_queue(&self, now: Instant) -> (Vec<WorkerView>, Flow) {
        let balance = crate::link::lock(&self.parts.balance);
        let oldest = balance.listeners().filter_map(|listener| listener.oldest).min();
        let stands = oldest.is_some_and(|since| now.saturating_duration_since(since) >= STANDING);
        let queue = if stands { Flow::Standing } else { Flow::Moving };
        (balance.workers().collect(), queue)
    }

    fn turnover(&self) -> Turnover {
        let is_replaced = self.parts.fleet.slots().any(|slot| slot.replacing.is_some());
        let leaves = self.parts.fleet.workers().any(|live| match live.state {
            WorkerLife::Starting { .. } | WorkerLife::Ready { .. } => false,
            WorkerLife::Draining { .. }
            | WorkerLife::Stopping { .. }
            | WorkerLife::Killed { .. } => true,
        });
        // Its memory comes and goes with that, and whoever leaves now would lose it.
        let is_under_way = is_replaced || leaves || self.heap.is_some();
        if is_under_way { Turnover::UnderWay } else { Turnover::None }
    }

    fn vitals(&self, now: Instant, accounts: &[WorkerView]) -> Vec<Vitals> {
        let ready = self
            .parts
            .fleet
            .workers()
            .filter(|live| matches!(live.state, WorkerLife::Ready { .. }));
        let vitals = ready.filter_map(|live| {
            let process = self.processes.get(&live.worker)?;
            let account = accounts.iter().find(|account| account.id == live.worker)?;
            Some(Vitals {
                worker: live.worker,
                age: now.saturating_duration_since(process.started),
                requests: account.leased + account.accepted,
                memory: self.lives.memory_of(live.worker),
            })
        });
        vitals.collect()
    }

    fn recycle(&mut self, recycle: Recycle) {
        let Recycle { vitals, why, handover, soft: _ } = recycle;
        let worker = vitals.worker;
        let text = describe(&recycle);
        tracing::debug!(%worker, ?handover, "worker is to be replaced: {text}");
        // Of workers that died before their turn nobody asks; they are the oldest.
        while self.lives.farewells.len() >= usize::from(MAX_WORKERS) {
            self.lives.farewells.pop_first();
        }
        self.lives.farewells.insert(worker, text);
        self.on(Event::Replace { worker, why, handover });
    }
}

/// `812 MiB of 600 MiB soft, 14,210 requests, age 2h`.
fn describe(recycle: &Recycle) -> String {
    let Recycle { vitals, why, handover: _, soft } = recycle;
    let memory = match (vitals.memory, soft) {
        (Some(memory), Some(soft)) if matches!(why, Why::MemorySoft | Why::RedLine) => {
            format!("{} MiB of {} MiB soft, ", memory >> 20, soft >> 20)
        }
        (Some(memory), _) => format!("{} MiB, ", memory >> 20),
        (None, _) => String::new(),
    };
    let requests = thousands(vitals.requests);
    format!("{memory}{requests} requests, age {}", age(vitals.age))
}

/// `14,210`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In its largest unit: `2h`, `14m`, `9s`.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Handover;

    #[test]
    fn a_farewell_says_why_and_what_was() {
        let vitals = Vitals {
            worker: WorkerId(3),
            age: Duration::from_secs(7_260),
            requests: 14_210,
            memory: Some(812 << 20),
        };
        for (why, expected) in [
            (Why::MemorySoft, "812 MiB of 600 MiB soft, 14,210 requests, age 2h"),
            (Why::MaxRequests, "812 MiB, 14,210 requests, age 2h"),
        ] {
            let handover = Handover::StartFirst;
            let recycle = Recycle { vitals, why, handover, soft: Some(600 << 20) };
            assert_eq!(describe(&recycle), expected);
        }
    }

    #[test]
    fn only_kills_of_the_last_moment_explain_a_death() {
        let mut kills = OomKills::new(Some(4));
        assert!(!kills.has_grown(Some(4)) && kills.has_grown(Some(5)));
        kills.measured(Some(5));
        assert!(kills.has_grown(Some(5)), "it was read between the kill and our looking into it");
        kills.measured(Some(5));
        assert!(!kills.has_grown(Some(5)), "that one was somebody else");
        assert!(!kills.has_grown(None) && !OomKills::new(None).has_grown(Some(1)));
    }

    #[test]
    fn numbers_are_grouped_and_ages_have_one_unit() {
        let shown = [0, 999, 1_000, 1_234_567].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        let shown = [9, 120, 7_199, 7_200, 172_800].map(|s| age(Duration::from_secs(s)));
        assert_eq!(shown, ["9s", "2m", "119m", "2h", "2d"]);
    }
}
