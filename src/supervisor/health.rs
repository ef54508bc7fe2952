//! Looks at workers' signs of life, and acts on those who show none.
//!
//! A worker is judged only while it is ready, and only by what it has shown before: one that never
//! had a heartbeat is not missed.

use std::time::{Duration, Instant};

use super::announce::millis;
use super::events::{Transition, What};
use super::{Process, Supervisor};
use crate::link::orders::{Clients, Forsaken, Order};
use crate::policy::{
    Cause, Event, Finding, HangTimes, Heartbeats, LiveWorker, Looks, Panic, Sign, Stalled,
    WorkerId, WorkerLife, WorkerView,
};
use crate::sys::thread::{self, MainThread};

/// The reactor beats every second and hears native workers; while it is later than this, nobody
/// can be said to be silent.
const REACTOR_LATE: Duration = Duration::from_secs(2);

/// One WATCHDOG=1 may be all that a worker ever says; two are a heartbeat.
const WATCHDOG_BEATS: u64 = 2;

/// The most of a stack that an event tells, in characters: its innermost frames, some forty.
const STACK_MAX: usize = 4000;

/// What control knows of its workers' health.
#[derive(Debug)]
pub(super) struct Health {
    heartbeats: Heartbeats,
    /// How often workers are looked at.
    interval: Option<Duration>,
    due: Option<Instant>,
    /// How often a worker was found stalled.
    pub(super) stalls: u64,
    panic: Panic,
    pub(super) looks: Looks,
}

/// Whether the heartbeat of a worker's load page can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageBeats {
    Yes,
    /// The preload said that something failed: its silence means nothing any more.
    No,
}

impl Health {
    /// `others` is how often something else about workers is due.
    pub(super) fn new(times: HangTimes, others: Option<Duration>, now: Instant) -> Self {
        let heartbeats = Heartbeats::new(times);
        let interval = heartbeats.interval().into_iter().chain(others).min();
        let due = interval.map(|interval| now + interval);
        Self { heartbeats, interval, due, stalls: 0, panic: Panic::No, looks: Looks::default() }
    }

    /// Whether its heartbeat is late.
    pub(super) fn is_stalled(&self, worker: WorkerId) -> bool {
        self.heartbeats.is_stalled(worker)
    }

    /// When workers are next looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Supervisor {
    /// Looks at all workers, if it is time.
    pub(super) fn check_health(&mut self, now: Instant) {
        let Some(interval) = self.health.interval else {
            return;
        };
        if self.health.due.is_some_and(|due| due > now) {
            return;
        }
        self.health.due = Some(now + interval);
        self.check_lives(now);
        self.check_heartbeats(now);
    }

    fn check_heartbeats(&mut self, now: Instant) {
        if self.parts.pulse.age(now) > REACTOR_LATE {
            return;
        }
        let (accounts, panic) = self.accounts();
        self.note_panic(panic);
        self.health.looks.look(&accounts, |worker| self.processes.contains_key(&worker));
        let signs: Vec<(WorkerId, Sign)> = self
            .parts
            .fleet
            .workers()
            .map(|live| (live.worker, self.sign_of(&live, &accounts)))
            .collect();
        for finding in self.health.heartbeats.sample(now, signs) {
            self.found(finding);
        }
    }

    fn accounts(&self) -> (Vec<WorkerView>, Panic) {
        let balance = crate::link::lock(&self.parts.balance);
        (balance.workers().collect(), balance.panic())
    }

    fn sign_of(&self, live: &LiveWorker, accounts: &[WorkerView]) -> Sign {
        let Some(process) = self.processes.get(&live.worker) else {
            return Sign::Exempt;
        };
        if self.writes_heap(live.worker) {
            return Sign::Exempt;
        }
        match live.state {
            WorkerLife::Ready { .. } => {}
            WorkerLife::Draining { .. } => return leaving(process),
            WorkerLife::Starting { .. }
            | WorkerLife::Stopping { .. }
            | WorkerLife::Killed { .. } => return Sign::Exempt,
        }
        let account = accounts.iter().find(|account| account.id == live.worker);
        heartbeat(process).unwrap_or(match account {
            Some(account) if account.in_flight > 0 => Sign::Progress(account.released),
            Some(_) | None => Sign::Exempt,
        })
    }

    fn found(&mut self, finding: Finding) {
        match finding {
            Finding::Stalled { worker } => {
                self.health.stalls += 1;
                let alone = !self.has_others(worker);
                self.announce_worker(worker, What::WorkerStalled { alone });
                self.set_stalled(worker, Stalled::Yes);
            }
            Finding::Recovered { worker, silent } => {
                let silent_ms = millis(silent);
                self.announce_worker(worker, What::WorkerRecovered { silent_ms });
                self.bring_back(worker);
            }
            // It is not alive again: nothing is told.
            Finding::Excused { worker } => self.bring_back(worker),
            Finding::Suspect { worker, silent } => self.suspected(worker, silent),
            Finding::Hung { worker, silent } => self.hangs(worker, silent),
        }
    }

    /// Gives work to a worker that was stalled, unless it writes its heap.
    fn bring_back(&mut self, worker: WorkerId) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.evidence = None;
        }
        if !self.wants_heap_of(worker) {
            self.set_stalled(worker, Stalled::No);
        }
    }

    /// Has a worker get nothing, and a spare do its work if there is one; or takes that back.
    pub(super) fn set_stalled(&mut self, worker: WorkerId, stalled: Stalled) {
        // An end of its own is told to the fleet apart.
        if !self.processes.contains_key(&worker) {
            return;
        }
        // Who takes over comes first: or a pool of one would be without anybody in order.
        self.on(Event::Stalled { worker, stalled });
        self.order(Order::SetStalled { worker, stalled });
    }

    /// Whether anybody else is ready, be it a spare.
    fn has_others(&self, worker: WorkerId) -> bool {
        let is_ready = |live: &LiveWorker| matches!(live.state, WorkerLife::Ready { .. });
        let mut others = self.parts.fleet.workers().filter(|live| live.worker != worker);
        self.parts.fleet.count() > 1 || others.any(|live| is_ready(&live))
    }

    /// Gathers evidence; the reactor adds what the worker holds, and tells.
    fn suspected(&mut self, worker: WorkerId, silent: Duration) {
        let Some(process) = self.processes.get(&worker) else {
            return;
        };
        let clients = match heartbeat(process) {
            Some(_) => Clients::LetGo,
            None => Clients::Keep,
        };
        let main_thread = main_thread(process).map_or_else(String::new, |it| it.to_string());
        let (slot, stack) = (process.slot, None);
        self.forsake(Forsaken { worker, slot, silent, main_thread, stack, clients });
    }

    fn hangs(&mut self, worker: WorkerId, silent: Duration) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let (slot, silent_s) = (process.slot, silent.as_secs_f64());
        let main_thread = main_thread(process);
        if let Some(tracer) = main_thread.as_ref().and_then(|thread| thread.tracer) {
            tracing::warn!(%worker, %slot, silent_s, tracer, "worker hangs under a debugger");
            self.health.heartbeats.spare(worker);
            return;
        }
        let main_thread = main_thread.map_or_else(String::new, |thread| thread.to_string());
        let silent_ms = millis(silent);
        // Its clients may have gone since: what it held then is what it hangs on.
        let evidence = process.evidence.take();
        let (oldest, stack) = evidence.map(|it| (it.oldest, it.stack)).unzip();
        let stack = stack.flatten().map(|stack| stack.chars().take(STACK_MAX).collect());
        let what = What::WorkerHung { silent_ms, main_thread, oldest, stack };
        self.announce_worker(worker, what);
        self.on(Event::Condemn { worker, cause: Cause::Hung });
    }

    fn note_panic(&mut self, panic: Panic) {
        match (std::mem::replace(&mut self.health.panic, panic), panic) {
            (Panic::No, Panic::Yes) if self.parts.fleet.count() > 1 => {
                self.announce(&Transition::PanicBegan);
            }
            (Panic::Yes, Panic::No) if self.parts.fleet.count() > 1 => {
                self.announce(&Transition::PanicEnded);
            }
            (Panic::No | Panic::Yes, Panic::No | Panic::Yes) => {}
        }
    }
}

/// What a draining worker shows. Only a load page goes on until the end: a channel may be closed
/// before, and nobody feeds a watchdog while it stops.
fn leaving(process: &Process) -> Sign {
    match page_beat(process) {
        Some(Sign::Heartbeat(beat)) => Sign::Leaving(beat),
        Some(_) | None => Sign::Exempt,
    }
}

/// What the load page shows, where one is written.
fn page_beat(process: &Process) -> Option<Sign> {
    let page = process.load.read().filter(|page| page.version > 0)?;
    if page.inspected {
        return Some(Sign::Exempt);
    }
    (process.page_beats == PageBeats::Yes).then_some(Sign::Heartbeat(page.version))
}

/// What a worker's heartbeat shows, where it has one: its load page, its `ready` and `load`
/// messages, or its WATCHDOG=1.
fn heartbeat(process: &Process) -> Option<Sign> {
    if let Some(sign) = page_beat(process) {
        return Some(sign);
    }
    if process.heard.stamp() > 0 {
        return Some(Sign::Heartbeat(process.heard.stamp()));
    }
    let beats = process.watched.as_ref().map_or(0, |watched| watched.beats);
    (beats >= WATCHDOG_BEATS).then_some(Sign::Heartbeat(beats))
}

/// The main thread of what serves: a wrapper's child says in its page who it is.
fn main_thread(process: &Process) -> Option<MainThread> {
    let page = process.load.read().filter(|page| page.version > 0 && page.pid > 0);
    let speaker = page.and_then(|page| i32::try_from(page.pid).ok());
    thread::main_thread(speaker.unwrap_or(process.child.pid()))
}
