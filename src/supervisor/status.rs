//! Answers what people ask: puts together what control, dispatch and the workers know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::request::{
    AppAsked, CrashStatus, Facts, ListenerStatus, QueueStatus, Request, RequestsAsked, Status,
    Totals, WorkerStatus,
};
use super::{Process, Supervisor, memory};
use crate::clock;
use crate::link::orders::{Accepts, Order};
use crate::policy::{
    Duty, Event, Health, ListenerView, LiveWorker, Phase, Slot, SlotState, SlotView, Stalled,
    Standing, Stop, Tally, WorkerLife, WorkerView,
};

impl Supervisor {
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            // A client that has gone away needs no answer.
            Request::Status(reply) => drop(reply.send(self.status(clock::now()))),
            Request::Scale(count, reply) => {
                self.on(Event::ScaleTo(count));
                let _ = reply.send(self.parts.fleet.count());
            }
            // With an answer at once, or when it is over.
            Request::Reload(reply) => self.reload(Some(reply)),
            Request::Recycle(slots, reply) => drop(reply.send(self.recycle_slots(slots))),
            Request::Drain(slot, reply) => drop(reply.send(self.drain_slot(slot))),
            Request::RecycleAndWait(slots, reply) => self.recycle_and_wait(slots, reply),
            Request::Signal { slot, signal, recipient, reply } => {
                drop(reply.send(self.signal_slot(slot, signal, recipient)));
            }
            Request::Stack(slot, reply) => self.stack_of(slot, reply),
            Request::Heap(request, reply) => self.write_heap(&request, reply),
            Request::Stop(kind, reply) => {
                let _ = reply.send(());
                self.stop(kind);
            }
            Request::Upgrade(when, reply) => self.upgrade(Some((when, reply))),
            Request::Health(reply) => drop(reply.send(self.health())),
            Request::Requests(reply) => drop(reply.send(self.ask_for_requests())),
            Request::Facts(reply) => drop(reply.send(self.facts(clock::now()))),
            Request::Events(reply) => drop(reply.send(self.subscribe())),
            Request::Logs(slot, since, reply) => drop(reply.send(self.read_logs(slot, since))),
            Request::FetchApp(path, reply) => drop(reply.send(self.ask_apps(&path))),
        }
    }

    /// Lets dispatch know, which answers probes at the public listeners.
    pub(super) fn publish_health(&self) {
        let health = self.health();
        self.parts.health.send_if_modified(|known| std::mem::replace(known, health) != health);
    }

    fn health(&self) -> Health {
        Health {
            startup: self.startup,
            stop: match self.parts.fleet.phase() {
                Phase::Starting | Phase::Running | Phase::Reloading => Stop::No,
                Phase::Stopping(_) | Phase::Finished => Stop::Begun,
            },
            ready: self.ready_count(),
            wanted: self.parts.fleet.count().into(),
        }
    }

    /// Lets a slot's worker finish and starts none there.
    fn drain_slot(&mut self, slot: u16) -> Result<(), String> {
        let slot = self.slot(slot)?;
        self.on(Event::Drain { slot });
        let view = self.parts.fleet.slots().find(|view| view.slot == slot);
        match view.map(|view| view.state) {
            Some(SlotState::Drained | SlotState::Draining { .. }) => Ok(()),
            Some(
                SlotState::Running { .. } | SlotState::Waiting { .. } | SlotState::Failed { .. },
            )
            | None => Err(format!("slot {slot} stays: no other serves")),
        }
    }

    fn ask_for_requests(&mut self) -> RequestsAsked {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Requests(reply));
        let slots = self.parts.fleet.workers().map(|live| (live.worker, live.slot)).collect();
        RequestsAsked { slots, answer }
    }

    /// Asks every ready worker's app for `path`.
    fn ask_apps(&mut self, path: &Arc<str>) -> Vec<AppAsked> {
        let ready: Vec<LiveWorker> = self
            .parts
            .fleet
            .workers()
            .filter(|live| matches!(live.state, WorkerLife::Ready { .. }))
            .collect();
        let ask = |live: LiveWorker| {
            let (reply, answer) = oneshot::channel();
            let path = Arc::clone(path);
            let (worker, accepts) = (live.worker, Accepts::Ok);
            self.order(Order::FetchApp { worker, path, accepts, reply });
            AppAsked { slot: live.slot, answer }
        };
        ready.into_iter().map(ask).collect()
    }

    fn facts(&self, now: Instant) -> Facts {
        let pid = nix::unistd::getpid().as_raw();
        let mut status = self.status_without_memory(now);
        let memory = fill_in_memory(&mut status, Some(pid));
        Facts {
            tally: crate::link::lock(&self.parts.balance).tally(),
            restarts: self.restarts,
            dropped: self.parts.logs.dropped(),
            pid,
            rss_bytes: memory.get(&pid).copied().unwrap_or(0),
            status,
        }
    }

    fn status(&self, now: Instant) -> Status {
        let mut status = self.status_without_memory(now);
        fill_in_memory(&mut status, None);
        status
    }

    /// The status, without the memory of processes.
    fn status_without_memory(&self, now: Instant) -> Status {
        let (accounts, queues, tally) = self.dispatch_views();
        let fleet = &self.parts.fleet;
        let slots: Vec<SlotView> = fleet.slots().collect();
        let mut workers: Vec<WorkerStatus> =
            fleet.workers().map(|live| self.live_status(now, &live, &accounts, &slots)).collect();
        workers.extend(slots.iter().filter_map(|slot| empty_slot(now, slot)));
        workers.sort_by_key(|worker| (worker.slot, worker.id));
        for worker in &mut workers {
            worker.last_crash = self.crashes.get(&Slot(worker.slot)).map(|crash| CrashStatus {
                kind: crash.kind.to_string(),
                exit: crash.exit.to_string(),
                age_ms: millis(now, crash.at),
            });
        }
        Status {
            name: self.parts.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase: phase_name(fleet.phase()).to_owned(),
            generation: fleet.generation().0,
            directory: self.directory().unwrap_or_default(),
            last_reload: self.reloads.last.clone(),
            uptime_s: now.duration_since(self.parts.started).as_secs(),
            admin: self.parts.admin.clone(),
            listeners: self.listener_statuses(now, &queues),
            totals: self.totals(&workers, &slots, tally),
            workers,
        }
    }

    /// Everything that the lock protects, copied in one go.
    fn dispatch_views(&self) -> (Vec<WorkerView>, Vec<ListenerView>, Tally) {
        let balance = crate::link::lock(&self.parts.balance);
        (balance.workers().collect(), balance.listeners().collect(), balance.tally())
    }

    fn listener_statuses(&self, now: Instant, queues: &[ListenerView]) -> Vec<ListenerStatus> {
        let queue_of = |id| queues.iter().find(|view| view.id == id);
        self.listeners
            .values()
            .map(|listener| ListenerStatus {
                address: listener.address.clone(),
                url: listener.url.clone(),
                mode: listener.mode.to_string(),
                queue: queue_of(listener.id).map_or(
                    QueueStatus { length: 0, max: 0, oldest_ms: 0 },
                    |view| QueueStatus {
                        length: view.length,
                        max: view.bounds.max,
                        oldest_ms: view.oldest.map_or(0, |since| millis(now, since)),
                    },
                ),
            })
            .collect()
    }

    fn live_status(
        &self,
        now: Instant,
        live: &LiveWorker,
        accounts: &[WorkerView],
        slots: &[SlotView],
    ) -> WorkerStatus {
        let slot = slots.iter().find(|view| view.slot == live.slot);
        let mut status = blank(live.slot.0, state_name(live), slot);
        status.spare = live.duty == Duty::Spare;
        status.id = Some(live.worker.0);
        status.generation = Some(live.generation.0);
        if let Some(account) = accounts.iter().find(|account| account.id == live.worker) {
            status.in_flight = account.in_flight;
            status.streams = account.streams;
            (status.open, status.active) = self.counts_now(account);
            status.unacked = account.unacked;
            status.stalled = account.stalled == Stalled::Yes;
            status.ejected_ms = account.ejected.map(|until| millis(until, now));
            status.accepted = account.accepted;
            status.limit = account.bounds.limit.get();
            status.max_connections = account.bounds.max_connections.get();
        }
        status.memory_bytes = self.lives.memory_of(live.worker);
        if let Some(process) = self.processes.get(&live.worker) {
            fill_from_process(now, &mut status, process);
        }
        status
    }

    /// Open and active connections: of its load page, where a worker writes one. The dispatcher
    /// reads that only when it has something to decide, so its account may be older. What a worker
    /// that starts again (behind a wrapper) finds in its page is its predecessor's.
    pub(super) fn counts_now(&self, account: &WorkerView) -> (u32, u32) {
        let is_its_own = account.standing != Standing::Starting;
        let process = self.processes.get(&account.id).filter(|_| is_its_own);
        let page = process.and_then(|process| process.load.read());
        match page.filter(|page| page.version > 0) {
            Some(page) => {
                let unseen = account.sent.saturating_sub(page.seen);
                (saturated(page.open.saturating_add(unseen)), saturated(page.active))
            }
            None => (account.open, account.active),
        }
    }

    fn totals(&self, workers: &[WorkerStatus], slots: &[SlotView], tally: Tally) -> Totals {
        let dropped = self.parts.logs.dropped();
        Totals {
            workers: self.parts.fleet.count().into(),
            ready: workers.iter().filter(|worker| worker.state == "ready").count(),
            spares: workers.iter().filter(|worker| worker.state == "spare").count(),
            takeovers: self.takeovers,
            open: workers.iter().map(|worker| u64::from(worker.open)).sum(),
            accepted: self.parts.counts.accepted(),
            taken: tally.accepted,
            requests: tally.leased,
            shed: tally.shed.total(),
            restarts: slots.iter().map(|slot| u64::from(slot.restarts)).sum(),
            recycles: self.restarts.recycled_by_reason().map(|(_, count)| count).sum(),
            stalls: self.health.stalls,
            ejections: tally.ejections,
            panics: tally.panics,
            dropped_log_lines: dropped.own + dropped.workers,
        }
    }

    /// Workers that serve now.
    pub(super) fn ready_count(&self) -> usize {
        let is_ready = |live: &LiveWorker| {
            matches!(live.state, WorkerLife::Ready { .. }) && live.duty == Duty::Serve
        };
        self.parts.fleet.workers().filter(is_ready).count()
    }
}

/// Reads the memory of all workers, and of `another` process, at once: asking for one at a time
/// costs as much again for each.
fn fill_in_memory(status: &mut Status, another: Option<i32>) -> BTreeMap<i32, u64> {
    let pids = status.workers.iter().filter_map(|worker| worker.pid);
    let memory = memory::resident_bytes(pids.chain(another));
    for worker in &mut status.workers {
        let bytes = worker.pid.and_then(|pid| memory.get(&pid));
        worker.rss_bytes = bytes.copied().unwrap_or(0);
    }
    memory
}

fn fill_from_process(now: Instant, status: &mut WorkerStatus, process: &Process) {
    let pid = process.child.pid();
    status.pid = Some(pid);
    status.dialect = process.dialect.map(str::to_owned);
    status.runtime.clone_from(&process.runtime);
    if let Some(watched) = &process.watched {
        status.upstream = Some(watched.upstream().to_string());
        status.status.clone_from(&watched.status);
        status.watchdog_age_ms = watched.alive_at.map(|at| millis(now, at));
    }
    status.uptime_s = Some(now.duration_since(process.started).as_secs());
    if let Some(page) = process.load.read().filter(|page| page.version > 0) {
        status.requests = page.finished;
        status.loop_delay_ms = Some(page.loop_delay_ms);
        status.loop_utilization = Some(page.utilization);
        status.heap_used_bytes = Some(page.heap_used);
        status.heap_limit_bytes = Some(page.heap_limit);
    }
}

/// A ready worker that stands by is no `ready` one: it serves nobody.
fn state_name(live: &LiveWorker) -> String {
    match (live.state, live.duty) {
        (WorkerLife::Ready { .. }, Duty::Spare) => "spare".to_owned(),
        (state, _) => state.to_string(),
    }
}

/// A slot without a worker, unless it has one.
fn empty_slot(now: Instant, slot: &SlotView) -> Option<WorkerStatus> {
    match slot.state {
        SlotState::Running { .. } | SlotState::Draining { .. } => None,
        SlotState::Waiting { until } => {
            let mut status = blank(slot.slot.0, "waiting".to_owned(), Some(slot));
            status.restart_in_ms = Some(millis(until, now));
            Some(status)
        }
        SlotState::Failed { .. } => Some(blank(slot.slot.0, "failed".to_owned(), Some(slot))),
        SlotState::Drained => Some(blank(slot.slot.0, "drained".to_owned(), Some(slot))),
    }
}

fn blank(slot: u16, state: String, view: Option<&SlotView>) -> WorkerStatus {
    WorkerStatus {
        slot,
        id: None,
        pid: None,
        state,
        spare: view.is_some_and(|view| view.duty == Duty::Spare),
        generation: None,
        dialect: None,
        upstream: None,
        status: None,
        watchdog_age_ms: None,
        runtime: None,
        in_flight: 0,
        streams: 0,
        open: 0,
        active: 0,
        unacked: 0,
        accepted: 0,
        limit: 0,
        max_connections: 0,
        stalled: false,
        ejected_ms: None,
        memory_bytes: None,
        restarts: view.map_or(0, |view| view.restarts),
        last_crash: None,
        requests: 0,
        rss_bytes: 0,
        loop_delay_ms: None,
        loop_utilization: None,
        heap_used_bytes: None,
        heap_limit_bytes: None,
        uptime_s: None,
        restart_in_ms: None,
    }
}

pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Reloading => "reloading",
        Phase::Stopping(_) => "stopping",
        Phase::Finished => "finished",
    }
}

fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn millis(later: Instant, earlier: Instant) -> u64 {
    u64::try_from(later.saturating_duration_since(earlier).as_millis()).unwrap_or(u64::MAX)
}
