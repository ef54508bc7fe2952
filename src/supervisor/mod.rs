//! Runs control: carries out what `Fleet` decides about processes, and tells it what becomes of
//! them.
//!
//! One loop on the main thread, which alone forks. Every turn takes one thing that happened, gives
//! it to the fleet, and carries out the answer. Absent on purpose: a second loop for stopping, and
//! any knowledge of connections.

mod act;
mod announce;
mod end;
pub mod events;
pub mod guardian;
mod health;
pub mod heap;
mod heard;
pub mod inspect;
pub(crate) mod launch;
mod memory;
mod notify;
mod obituary;
mod probe;
mod quota;
mod readiness;
mod recycle;
pub mod recycles;
pub mod reload;
pub mod request;
pub(crate) mod restarts;
mod signals;
pub mod stack;
mod status;
mod strangers;
mod systemd;
mod terms;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::{self, Pulse};
use crate::link::orders::{Evidence, OpenListener, Order, Report};
use crate::logs::LogHandle;
use crate::metrics::Reader;
use crate::policy::{
    Balance, Event, Finish, Fleet, Generation, HangTimes, LastSeen, ListenerId, Past,
    RecycleSettings, Slot, Startup, StopKind, Verdict, WorkerExit, WorkerId,
};
use crate::sys::child::{self, Child, Ended};
use crate::sys::load::LoadPage;
use crate::upgrade::Predecessor;
pub(crate) use act::explain;
use announce::Ejected;
use events::{Events, What};
use guardian::Guardian;
use health::{Health, PageBeats};
use heap::HeapWish;
use launch::Launcher;
use obituary::{Crash, Obituary, Sequel};
use quota::Quota;
use readiness::{Sign, Watched};
use recycle::Lives;
use recycles::Recycles;
pub(crate) use reload::Renew;
use reload::{Reloads, Terms};
use request::Request;
use restarts::Restarts;
pub(crate) use signals::Signals;
use signals::Told;
use stack::{Looked, StackSource};
pub(crate) use systemd::Systemd;
use terms::ForeignTerms;
pub(crate) use upgrade::{Charge, Estate};

/// A worker that is not ready after this may listen past us: its sockets are looked at.
const BYPASS_CHECK: Duration = Duration::from_secs(3);

/// What control is made of.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) fleet: Fleet,
    /// How workers of each generation that lives, or may come back, are started.
    pub(crate) launchers: BTreeMap<Generation, Launcher>,
    /// Names this master's life.
    pub(crate) instance: String,
    /// What is in force.
    pub(crate) terms: Terms,
    /// Reads the configuration again.
    pub(crate) renew: Renew,
    pub(crate) guardian: Option<Guardian>,
    pub(crate) logs: LogHandle,
    pub(crate) events: Events,
    pub(crate) balance: Arc<Mutex<Balance>>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) started: Instant,
    /// When the reactor last went round.
    pub(crate) pulse: Arc<Pulse>,
    /// What the reactor has counted.
    pub(crate) counts: Reader,
    /// By what silence workers are judged.
    pub(crate) hang_times: HangTimes,
    /// When one that could go on is replaced.
    pub(crate) recycling: RecycleSettings,
    pub(crate) terminal: Terminal,
    /// What probes at the public listeners are told from.
    pub(crate) health: watch::Sender<crate::policy::Health>,
    /// Where the admin listener is.
    pub(crate) admin: Option<String>,
    /// Who started us and wants to be told.
    pub(crate) systemd: Option<Systemd>,
    /// What another master would need to take our place.
    pub(crate) estate: Estate,
    /// The old master, which gives the pool away once our workers are ready.
    pub(crate) blessing: Option<Predecessor>,
}

/// Whether a person watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terminal {
    Yes,
    No,
}

/// How the pool ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) finish: Finish,
    /// What the last worker that died unasked had written.
    pub(crate) last_words: Option<String>,
    /// Why a stop that nobody asked for began.
    pub(crate) failure: Option<String>,
}

/// See the module.
pub(crate) struct Supervisor {
    parts: Parts,
    processes: BTreeMap<WorkerId, Process>,
    listeners: BTreeMap<ListenerId, OpenListener>,
    obituaries: JoinSet<Obituary>,
    /// What watches workers with a private listener.
    watchers: JoinSet<()>,
    signs_in: mpsc::Sender<Sign>,
    signs: mpsc::Receiver<Sign>,
    /// What the most recent dead worker wrote last.
    last_words: Option<String>,
    finish: Option<Finish>,
    announced: Announced,
    startup: Startup,
    restarts: Restarts,
    /// How often a spare took the place of a worker that could not serve.
    takeovers: u64,
    health: Health,
    lives: Lives,
    quota: Quota,
    /// What was last seen of workers whose deaths the fleet is being told of.
    seen: BTreeMap<WorkerId, LastSeen>,
    /// The last crash of each slot.
    crashes: BTreeMap<Slot, Crash>,
    stops: Vec<Instant>,
    reloads: Reloads,
    /// What asks canaries whether they answer.
    probes: JoinSet<(WorkerId, Verdict)>,
    /// What follows the deaths that are still to be told of.
    sequels: BTreeMap<WorkerId, Sequel>,
    /// What the system denies to workers, each told once.
    denied: BTreeSet<String>,
    /// Ports on which workers listen although they were told another place, each told once.
    strangers: BTreeSet<u16>,
    /// What the app does past us, each told once.
    bypasses: BTreeSet<String>,
    reactor: Reactor,
    /// Why the pool is of no use: a listener that was configured cannot be opened, or nobody
    /// dispatches.
    useless: Option<String>,
    /// Deaths of a TERM that nobody here sent.
    foreign_terms: ForeignTerms,
    /// The change of masters that is under way: at most one step of it.
    successions: JoinSet<upgrade::Step>,
    ejected: Ejected,
    recycles: Recycles,
    /// Workers that were asked where they are.
    looks: JoinSet<Looked>,
    /// At most one worker writes its heap.
    heap: Option<HeapWish>,
}

/// Whether anybody dispatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reactor {
    Runs,
    Lost,
}

/// How much of the start banner is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    Nothing,
    AllReady,
}

/// A worker's process.
struct Process {
    child: Child,
    slot: Slot,
    generation: Generation,
    started: Instant,
    load: Arc<LoadPage>,
    stack: StackSource,
    /// What it was at while it gave no sign of life, if that lasts.
    evidence: Option<Evidence>,
    page_beats: PageBeats,
    /// Beats with its `ready` and `load` messages.
    heard: Arc<Pulse>,
    /// Whether it has ever been ready.
    past: Past,
    dialect: Option<&'static str>,
    runtime: Option<String>,
    bypass: Bypass,
    /// None for workers without a private listener.
    watched: Option<Watched>,
}

/// What we know of a worker's own listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bypass {
    /// To be looked at then, unless it is ready before.
    Check(Instant),
    /// Nothing to look for any more, or said already.
    Settled,
}

impl Supervisor {
    pub(crate) fn new(parts: Parts) -> Self {
        let (signs_in, signs) = readiness::signs();
        let lives = Lives::new(parts.recycling);
        let health = Health::new(parts.hang_times, lives.interval(), parts.started);
        let quota = Quota::new(parts.started);
        Self {
            parts,
            processes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            obituaries: JoinSet::new(),
            watchers: JoinSet::new(),
            signs_in,
            signs,
            last_words: None,
            finish: None,
            announced: Announced::Nothing,
            startup: Startup::Pending,
            restarts: Restarts::default(),
            takeovers: 0,
            health,
            lives,
            quota,
            seen: BTreeMap::new(),
            crashes: BTreeMap::new(),
            stops: Vec::new(),
            reloads: Reloads::default(),
            probes: JoinSet::new(),
            sequels: BTreeMap::new(),
            denied: BTreeSet::new(),
            strangers: BTreeSet::new(),
            bypasses: BTreeSet::new(),
            reactor: Reactor::Runs,
            useless: None,
            foreign_terms: ForeignTerms::default(),
            successions: JoinSet::new(),
            ejected: Ejected::default(),
            recycles: Recycles::default(),
            looks: JoinSet::new(),
            heap: None,
        }
    }

    /// Runs the pool until it has ended.
    pub(crate) async fn run(
        mut self,
        mut reports: mpsc::Receiver<Report>,
        mut requests: mpsc::Receiver<Request>,
        mut signals: Signals,
    ) -> Ending {
        self.on(Event::Begin);
        while self.finish.is_none() {
            let now = clock::now();
            self.publish_health();
            self.tell_systemd(now);
            let due = self.deadline(now);
            tokio::select! {
                // Deaths before anything that might address the dead, people before machines.
                biased;
                told = signals.next() => self.told(told),
                Some(request) = requests.recv() => self.answer(request),
                report = reports.recv(), if self.reactor == Reactor::Runs => match report {
                    Some(report) => self.heard(report),
                    None => self.reactor_lost(),
                },
                Some(Ok(obituary)) = self.obituaries.join_next() => self.bury(obituary),
                Some(probed) = self.probes.join_next() => match probed {
                    Ok((worker, verdict)) => self.on(Event::Probed { worker, verdict }),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                Some(looked) = self.looks.join_next() => self.looked(looked),
                Some(step) = self.successions.join_next() => self.succession(step),
                () = sleep_until(due) => self.tick(),
                // After the clock: workers may say as much as they like.
                Some(sign) = self.signs.recv() => self.noticed(sign),
                Some(ended) = self.watchers.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
        self.end().await
    }

    /// Gives one event to the fleet and carries out the answer.
    fn on(&mut self, event: Event) {
        let before = self.before(&event);
        let actions = self.parts.fleet.on(clock::now(), event);
        self.announce_changes(before);
        for action in actions {
            self.act(action);
        }
        self.check_recycles();
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let checks = self.processes.values().filter_map(|process| match process.bypass {
            Bypass::Check(at) => Some(at),
            Bypass::Settled => None,
        });
        let systemd = self.parts.systemd.as_ref().and_then(|systemd| systemd.deadline(now));
        let fleet = self.parts.fleet.deadline();
        let ejections = self.ejected.due();
        let heap = self.heap.as_ref().map(HeapWish::due);
        let looks = [self.health.due(), self.quota.due(), systemd, ejections, heap];
        checks.chain(fleet).chain(looks.into_iter().flatten()).min()
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.look_for_bypasses(now);
        self.check_health(now);
        self.check_quota(now);
        self.check_heap(now);
        self.readmit(now);
        self.on(Event::Tick);
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::ChildEnded => self.reap(),
            Told::Stop(kind) => self.stop(kind),
            Told::Reload => self.reload(None),
            Told::ScaleBy(difference) => self.on(Event::ScaleBy(difference)),
            Told::Upgrade => self.upgrade(None),
            Told::Reopen => tracing::info!("logs go to stdout and stderr; nothing to reopen"),
        }
    }

    /// A stop was asked for. The terminal and npm both pass Ctrl-C on, so the same wish within half
    /// a second counts once.
    fn stop(&mut self, kind: StopKind) {
        const SAME_WISH: Duration = Duration::from_millis(500);
        let now = clock::now();
        let echo = self.stops.last().is_some_and(|last| now.duration_since(*last) < SAME_WISH);
        // Nothing sends that twice for one wish, and who cannot wait does not mean the one before.
        if echo && kind != StopKind::Now {
            return;
        }
        self.stops.push(now);
        self.note_stop(now);
        self.on(Event::Stop(kind));
    }

    /// Reaps every child that has ended: workers, and orphans that were adopted.
    fn reap(&mut self) {
        while let Ok(Some(exited)) = child::next_exited() {
            let worker = self
                .processes
                .iter()
                .find(|(_, process)| process.child.pid() == exited.pid)
                .map(|(worker, _)| *worker);
            match worker {
                Some(worker) => self.worker_ended(worker, exited.ended),
                None => {
                    if let Err(error) = child::reap(exited.pid) {
                        tracing::error!(pid = exited.pid, %error, "cannot reap");
                        return;
                    }
                    self.stranger_ended(exited.pid);
                }
            }
        }
    }

    /// A child that is no worker has ended and is reaped: the guardian, or an orphan.
    fn stranger_ended(&mut self, pid: i32) {
        let guardian = self.parts.guardian.as_ref();
        if guardian.is_some_and(|guardian| guardian.child().pid() == pid) {
            self.guardian_lost(&std::io::ErrorKind::BrokenPipe.into());
        } else {
            // What it had started is ours by now.
            self.kill_escaped();
        }
    }

    /// A worker's process has ended and is not reaped yet, so its pid still names its group.
    fn worker_ended(&mut self, worker: WorkerId, ended: Ended) {
        let asked = self.is_leaving(worker);
        let Some(process) = self.processes.remove(&worker) else {
            return;
        };
        self.ejected.forget(worker);
        self.heap_lost(worker, heap::GONE);
        let pid = process.child.pid();
        // What it left behind holds its sockets and memory, and must not outlive it.
        let _ = child::signal_group(pid, nix::sys::signal::Signal::SIGKILL);
        if let Err(error) = child::reap(pid) {
            tracing::error!(pid, %error, "cannot reap");
        }
        self.kill_escaped();
        if let Some(guardian) = &mut self.parts.guardian
            && let Err(error) = guardian.forget(pid)
        {
            self.guardian_lost(&error);
        }
        self.order(Order::Detach(worker));
        let exit = match ended {
            Ended::Code(code) => WorkerExit::Code(code),
            Ended::Signal(signal) => WorkerExit::Signal(signal),
        };
        let who = events::Who { slot: process.slot.0, worker: worker.0, pid: Some(pid) };
        self.announce_of(who, What::WorkerExited { exit: exit.to_string(), asked });
        self.note_death(clock::now(), worker, exit);
        let killer = self.killer_of(worker, exit);
        self.seen.insert(worker, self.last_seen(worker, process.past));
        self.expect_last_words((worker, who), (exit, killer));
        self.on(Event::Exited { worker, exit });
        self.seen.remove(&worker);
        self.prune_generations();
    }

    /// The reactor ended before it was told to: nobody is served any more, so whoever started us
    /// must know, and start us again.
    fn reactor_lost(&mut self) {
        self.reactor = Reactor::Lost;
        let failure = "the reactor has ended; nobody can be served".to_owned();
        tracing::error!("{failure}");
        self.useless = Some(failure);
        self.on(Event::Stop(StopKind::Now));
    }

    fn order(&mut self, order: Order) {
        if let Err(error) = self.parts.orders.try_send(order) {
            // Orders are bounded by workers' lives, so the reactor is stuck or gone: nothing that
            // control could still do would serve anybody.
            tracing::error!(%error, "the reactor does not hear control");
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
