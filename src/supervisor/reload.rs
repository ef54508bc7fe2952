//! Carries out a reload: reads the configuration again, gives the fleet a new generation, and tells
//! what came of it.
//!
//! One at a time. Who asks while one runs is answered with what comes of the next, which reads the
//! configuration when the first has ended. What the new configuration needs is complete before the
//! fleet hears of it, so a configuration that is wrong changes nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Supervisor;
use super::announce::millis;
use super::events::Transition;
use super::launch::Launcher;
use crate::clock;
use crate::config::Config;
use crate::link::bound::Bound;
use crate::link::orders::{Accepts, Order, Outlook, Settled, Tuning};
use crate::policy::{
    Cause, Event, FleetSettings, Generation, Phase, ReloadFailure, ReloadOutcome, Verdict, WorkerId,
};

/// How long after a probe that was not answered well the canary is asked again. The fleet says
/// when to give up.
const PROBE_AGAIN: Duration = Duration::from_millis(250);

/// The most who wait for the end of a reload; each is one connection of a person or a script.
const WAITING_MAX: usize = 64;

/// Reads the configuration again; given the one in force, which says what cannot change.
pub(crate) type Renew = Box<dyn FnMut(&Config) -> anyhow::Result<Renewed>>;

/// A configuration that a pool can be moved to, and what is made of it.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) launcher: Launcher,
    pub(crate) fleet: FleetSettings,
    pub(crate) terms: Terms,
    /// The keys whose new values need a new master.
    pub(crate) kept: Vec<&'static str>,
    pub(crate) warnings: Vec<String>,
    /// Sockets of the addresses that are new, by their place in the list of listeners.
    pub(crate) bound: HashMap<usize, Vec<Bound>>,
}

/// What is in force for the whole pool, as opposed to one worker.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) config: Config,
    /// How many slots that means.
    pub(crate) count: u16,
    pub(crate) tuning: Tuning,
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// `done` or `failed`.
    pub outcome: String,
    /// The generation that serves since.
    pub generation: u32,
    /// Why it failed.
    pub reason: Option<String>,
    /// What the worker that it failed by wrote last.
    pub last_output: Option<String>,
    /// How long it took.
    pub took_ms: u64,
}

/// Whether a reload failed by this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mourned {
    Yes,
    No,
}

/// Who waits for the end of a reload.
pub(super) type Waiter = oneshot::Sender<ReloadStatus>;

/// The reload that runs, the one that follows, and the last one.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    running: Option<Running>,
    /// Somebody asked meanwhile.
    next: Option<Vec<Waiter>>,
    pub(super) last: Option<ReloadStatus>,
    /// How many were begun, whatever came of them.
    pub(super) begun: u64,
    /// The latest generation that was tried.
    tried: u32,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    /// Those that are not in force: the new ones before the commit, the old ones after it.
    other: Terms,
    waiters: Vec<Waiter>,
    /// It failed by this worker, whose last words are awaited.
    mourned: Option<(WorkerId, String)>,
    /// A worker of the new generation that could not be served, and why.
    blamed: Option<(WorkerId, String)>,
    end: End,
}

/// A reload has ended when what came of it is known, and the listeners are those of the generation
/// that goes on: a next one may want the addresses of those that are not.
#[derive(Debug)]
enum End {
    Open,
    /// The listeners are settled.
    Settled,
    /// What came of it is known.
    Known(ReloadStatus),
}

impl Supervisor {
    /// Somebody wants the configuration and the code as they are now.
    pub(super) fn reload(&mut self, waiter: Option<Waiter>) {
        if self.reloads.running.is_some() {
            let next = self.reloads.next.get_or_insert_default();
            if next.len() < WAITING_MAX {
                next.extend(waiter);
            }
            tracing::info!("a reload is under way; another follows it");
            return;
        }
        self.begin_reload(waiter.into_iter().collect());
    }

    fn begin_reload(&mut self, waiters: Vec<Waiter>) {
        let since = clock::now();
        self.reloads.begun += 1;
        let renewed = match self.parts.fleet.phase() {
            // The new master has read the configuration, before or after it was changed.
            _ if self.changes_masters() => {
                Err("an upgrade is under way; try again when it has ended".to_owned())
            }
            Phase::Stopping(_) | Phase::Finished => Err("the pool stops".to_owned()),
            Phase::Starting | Phase::Running | Phase::Reloading => {
                let renewed = (self.parts.renew)(&self.parts.terms.config);
                renewed.map_err(|error| format!("{error:#}"))
            }
        };
        match renewed {
            Ok(renewed) => self.try_generation(since, renewed, waiters),
            Err(reason) => {
                let status = self.failed(since, reason, None);
                self.conclude(&status, waiters);
            }
        }
    }

    fn try_generation(&mut self, since: Instant, renewed: Renewed, waiters: Vec<Waiter>) {
        let Renewed { launcher, fleet, terms, kept, warnings, bound } = renewed;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if !kept.is_empty() {
            let keys = kept.join(", ");
            tracing::warn!(keys, "these settings changed and need a new master; kept as they are");
        }
        self.reloads.tried = self.reloads.tried.max(self.parts.fleet.generation().0) + 1;
        let generation = Generation(self.reloads.tried);
        let directory = launcher.directory.display().to_string();
        self.announce(&Transition::ReloadBegan { generation: generation.0, directory });
        self.parts.launchers.insert(generation, launcher);
        self.order(Order::Foresee(Box::new(Outlook {
            from: self.parts.fleet.generation(),
            to: generation,
            listeners: terms.config.listen.clone(),
            bound,
        })));
        let running =
            Running { since, other: terms, waiters, mourned: None, blamed: None, end: End::Open };
        self.reloads.running = Some(running);
        self.on(Event::Reload { generation, settings: fleet });
    }

    /// Puts the terms of this generation in force, or those before it.
    pub(super) fn commit(&mut self, generation: Generation) {
        let Some(running) = &mut self.reloads.running else {
            return;
        };
        std::mem::swap(&mut running.other, &mut self.parts.terms);
        self.announce(&Transition::ReloadCommitted { generation: generation.0 });
        self.order(Order::Relisten(generation));
        self.retune();
    }

    /// Where workers that start now run.
    pub(super) fn directory(&self) -> Option<String> {
        let launcher = self.parts.launchers.get(&self.parts.fleet.generation())?;
        Some(launcher.directory.display().to_string())
    }

    /// The fleet has ended a reload.
    pub(super) fn reloaded(&mut self, outcome: ReloadOutcome) {
        let Some(running) = &mut self.reloads.running else {
            return;
        };
        let since = running.since;
        match outcome {
            ReloadOutcome::Done { generation } => {
                let (before, count) = (running.other.count, self.parts.terms.count);
                let took_ms = millis(clock::now().duration_since(since));
                let (outcome, generation) = ("done".to_owned(), generation.0);
                let (reason, last_output) = (None, None);
                let status = ReloadStatus { outcome, generation, reason, last_output, took_ms };
                self.order(Order::Settle(Settled::Done));
                self.finish_reload(status);
                // What somebody scaled by hand stays, unless the configuration says otherwise now.
                if count != before {
                    self.on(Event::ScaleTo(count));
                }
            }
            ReloadOutcome::Failed(failure) => {
                self.order(Order::Settle(Settled::Undone));
                let reason = self.explain_failure(failure);
                match failure {
                    ReloadFailure::Died(failure) if failure.cause != Cause::SpawnFailed => {
                        if let Some(running) = &mut self.reloads.running {
                            running.mourned = Some((failure.worker, reason));
                        }
                    }
                    ReloadFailure::Died(_)
                    | ReloadFailure::Unready { .. }
                    | ReloadFailure::Probe { .. }
                    | ReloadFailure::Storm
                    | ReloadFailure::Stopped => {
                        let status = self.failed(since, reason, None);
                        self.finish_reload(status);
                    }
                }
            }
        }
    }

    /// What the worker by which a reload failed wrote last is known now.
    pub(super) fn mourn(&mut self, worker: WorkerId, last_words: &str) -> Mourned {
        let running = self.reloads.running.as_mut();
        let Some((since, reason)) = running.and_then(|running| {
            let (_, reason) = running.mourned.take_if(|(mourned, _)| *mourned == worker)?;
            Some((running.since, reason))
        }) else {
            return Mourned::No;
        };
        let last_output = (!last_words.is_empty()).then(|| last_words.to_owned());
        let status = self.failed(since, reason, last_output);
        self.finish_reload(status);
        Mourned::Yes
    }

    /// Asks the canary for the path that proves it, until the fleet has seen enough.
    pub(super) fn probe_canary(&mut self, worker: WorkerId) {
        let Some(path) =
            self.reloads.running.as_ref().and_then(|it| it.other.config.reload.probe.clone())
        else {
            return;
        };
        let (path, orders) = (std::sync::Arc::<str>::from(path), self.parts.orders.clone());
        self.probes.spawn(async move {
            loop {
                let (reply, answer) = oneshot::channel();
                let accepts = Accepts::NoError;
                let path = std::sync::Arc::clone(&path);
                if orders.try_send(Order::FetchApp { worker, path, accepts, reply }).is_err() {
                    return (worker, Verdict::Failed);
                }
                match answer.await {
                    Ok(Ok(_)) => return (worker, Verdict::Passed),
                    Ok(Err(error)) => tracing::debug!(%worker, error, "canary probed in vain"),
                    // It serves no listener of request mode, or is gone.
                    Err(_) => return (worker, Verdict::Failed),
                }
                tokio::time::sleep(PROBE_AGAIN).await;
            }
        });
    }

    /// A worker cannot be served, and why: ends the reload that tries its generation, if one does,
    /// instead of the pool.
    pub(super) fn blames_reload(&mut self, worker: WorkerId, why: &str) -> bool {
        let generation = self.processes.get(&worker).map(|process| process.generation);
        let is_new = generation.is_some_and(|it| it.0 == self.reloads.tried);
        let Some(running) = self.reloads.running.as_mut().filter(|_| is_new) else {
            return false;
        };
        running.blamed = Some((worker, why.to_owned()));
        self.signal(worker, Signal::SIGKILL);
        true
    }

    /// Forgets the generations that nobody needs any more.
    pub(super) fn prune_generations(&mut self) {
        let fleet = &self.parts.fleet;
        let mut needed: Vec<Generation> = fleet.workers().map(|live| live.generation).collect();
        needed.push(fleet.generation());
        // Running, it may be turned back.
        if self.reloads.running.is_none() {
            self.parts.launchers.retain(|generation, _| needed.contains(generation));
        }
    }

    fn explain_failure(&self, failure: ReloadFailure) -> String {
        match failure {
            ReloadFailure::Died(failure) => {
                let (worker, slot) = (failure.worker, failure.slot);
                let blamed = self.reloads.running.as_ref().and_then(|it| it.blamed.as_ref());
                if let Some((_, why)) = blamed.filter(|(blamed, _)| *blamed == worker) {
                    return why.clone();
                }
                let cause = failure.cause;
                format!("worker {worker} of the new generation (slot {slot}): {cause}")
            }
            ReloadFailure::Unready { worker } => {
                format!("worker {worker} of the new generation was ready, but did not stay so")
            }
            ReloadFailure::Probe { worker } => {
                let probe = self.reloads.running.as_ref();
                let path = probe.and_then(|it| it.other.config.reload.probe.clone());
                let path = path.unwrap_or_default();
                format!(
                    "worker {worker} of the new generation did not answer {path} with 2xx or 3xx"
                )
            }
            ReloadFailure::Storm => "workers of the new generation crash too often".to_owned(),
            ReloadFailure::Stopped => "the pool stops".to_owned(),
        }
    }

    fn failed(&self, since: Instant, reason: String, last_output: Option<String>) -> ReloadStatus {
        let generation = self.parts.fleet.generation().0;
        let took_ms = millis(clock::now().duration_since(since));
        self.announce(&Transition::ReloadFailed {
            generation,
            took_ms,
            reason: reason.clone(),
            last_output: last_output.clone(),
        });
        let outcome = "failed".to_owned();
        ReloadStatus { outcome, generation, reason: Some(reason), last_output, took_ms }
    }

    fn finish_reload(&mut self, status: ReloadStatus) {
        let Some(running) = &mut self.reloads.running else {
            return;
        };
        match running.end {
            End::Open | End::Known(_) => running.end = End::Known(status),
            End::Settled => self.close_reload(&status),
        }
    }

    /// The reactor listens where the generation that goes on does, and nowhere else.
    pub(super) fn settled(&mut self) {
        let Some(running) = &mut self.reloads.running else {
            return;
        };
        if let End::Known(status) = std::mem::replace(&mut running.end, End::Settled) {
            self.close_reload(&status);
        }
    }

    fn close_reload(&mut self, status: &ReloadStatus) {
        let &ReloadStatus { generation, took_ms, .. } = status;
        if status.reason.is_none() {
            self.announce(&Transition::ReloadDone { generation, took_ms });
        }
        let waiters = self.reloads.running.take().map(|running| running.waiters);
        self.conclude(status, waiters.unwrap_or_default());
    }

    fn conclude(&mut self, status: &ReloadStatus, waiters: Vec<Waiter>) {
        self.reloads.last = Some(status.clone());
        for waiter in waiters {
            // Who has gone away needs no answer.
            let _ = waiter.send(status.clone());
        }
        self.prune_generations();
        if let Some(waiters) = self.reloads.next.take() {
            self.begin_reload(waiters);
        }
    }
}
