//! Carries out what the fleet decides, and tells of it.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::announce::millis;
use super::events::{Transition, What};
use super::guardian::{Guardian, INSTANCE_VARIABLE, WORKER_VARIABLE};
use super::health::PageBeats;
use super::launch::{LaunchError, Launched, Which};
use super::obituary::Sequel;
use super::stack::StackSource;
use super::{Bypass, Process, Supervisor};
use crate::clock::{self, Pulse};
use crate::link::orders::{Attachment, Expects, Order};
use crate::policy::{
    Action, Cause, Duty, Event, Failure, Finish, Generation, Handover, Note, Past, Slot, StopStep,
    WorkerId, WorkerLife,
};
use crate::sys::{child, process};

/// What a worker is taken to need that says by itself that it stops: as long as a pool's stop.
const LEAVING: Duration = Duration::from_secs(22);

/// A guardian that lives shorter is not replaced: the next would end as soon, and so on.
const GUARDIAN_LIFE_MIN: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, slot, generation } => self.spawn(worker, slot, generation),
            Action::Assign { worker } => {
                let duty = self.duty_of(worker);
                self.order(Order::Assign { worker, duty });
            }
            Action::Drain { worker } => {
                let until = self.leaves_by(Some(worker));
                self.order(Order::Drain { worker, until });
                let for_ms = millis(until.saturating_duration_since(clock::now()));
                self.announce_worker(worker, What::WorkerDraining { for_ms });
            }
            Action::Terminate { worker } => {
                self.announce_worker(worker, What::WorkerStopping { signal: "TERM" });
                self.signal(worker, Signal::SIGTERM);
                // A stopped process would not hear it.
                self.signal(worker, Signal::SIGCONT);
            }
            Action::Abort { worker } => {
                let until = self.leaves_by(Some(worker));
                self.order(Order::Drain { worker, until });
                self.announce_worker(worker, What::WorkerStopping { signal: "ABRT" });
                self.signal(worker, Signal::SIGABRT);
                self.signal(worker, Signal::SIGCONT);
            }
            Action::Kill { worker } => {
                self.announce_worker(worker, What::WorkerKilled);
                self.signal(worker, Signal::SIGKILL);
            }
            Action::Probe { worker } => self.probe_canary(worker),
            Action::Commit { generation } => self.commit(generation),
            Action::Reloaded(outcome) => self.reloaded(outcome),
            Action::StopAccepting => {
                let until = self.leaves_by(None);
                self.order(Order::StopAccepting { until });
            }
            Action::Finish(finish) => self.finish = Some(finish),
            Action::Note(note) => self.tell(note),
        }
    }

    /// What a worker is there for now; a decision about it may be carried out after a later one.
    fn duty_of(&self, worker: WorkerId) -> Duty {
        let live = self.parts.fleet.workers().find(|live| live.worker == worker);
        live.map(|live| live.duty).unwrap_or_default()
    }

    /// Until when a worker, or the one with the most time, may finish what it has.
    pub(super) fn leaves_by(&self, worker: Option<WorkerId>) -> Instant {
        let ends = self.parts.fleet.workers().filter_map(|live| match live.state {
            WorkerLife::Draining { until } if worker.is_none_or(|it| it == live.worker) => {
                Some(until)
            }
            WorkerLife::Starting { .. }
            | WorkerLife::Ready { .. }
            | WorkerLife::Draining { .. }
            | WorkerLife::Stopping { .. }
            | WorkerLife::Killed { .. } => None,
        });
        // Who leaves by itself, unasked, has no end set; a stop's own default is as good as any.
        let otherwise = || clock::now() + worker.map_or(Duration::ZERO, |_| LEAVING);
        ends.max().unwrap_or_else(otherwise)
    }

    /// Tells dispatch what is in force, for as many workers as there are to be now.
    pub(super) fn retune(&mut self) {
        let terms = &self.parts.terms;
        let mut tuning = terms.tuning.clone();
        if let Some(count) = NonZeroU16::new(self.parts.fleet.count()) {
            tuning.requests = terms.config.queue.of_requests(count, tuning.bounds.limit);
        }
        self.order(Order::Retune(tuning));
    }

    fn spawn(&mut self, worker: WorkerId, slot: Slot, generation: Generation) {
        let which = Which { worker, slot, pool: self.parts.fleet.size() };
        let watched = self.processes.values().filter_map(|process| process.watched.as_ref());
        let taken = watched.map(|watched| watched.upstream().clone()).collect();
        let launcher = self.parts.launchers.get(&generation);
        let launcher = launcher.expect("a generation stays while the fleet may start it");
        let expects = launcher.expects;
        match launcher.launch(which, &taken) {
            Ok(launched) => self.spawned(worker, slot, (generation, expects), launched),
            Err(error) => {
                self.spawn_failed(&error);
                self.on(Event::SpawnFailed { worker });
            }
        }
    }

    fn spawned(
        &mut self,
        worker: WorkerId,
        slot: Slot,
        (generation, expects): (Generation, Expects),
        launched: Launched,
    ) {
        let Launched { spawned, channel, token, load, stack, private, notify, output } = launched;
        let pid = spawned.child.pid();
        for denied in &spawned.denied {
            if self.denied.insert(denied.to_string()) {
                tracing::warn!("workers run without it: {denied}");
            }
        }
        if let Some(guardian) = &mut self.parts.guardian
            && let Err(error) = guardian.watch(pid)
        {
            self.guardian_lost(&error);
        }
        if let Some((stdout, stderr)) = output {
            self.parts.logs.attach(worker, slot, stdout, stderr);
        }
        let started = clock::now();
        let heard = Arc::new(Pulse::new(started));
        let upstream = private.as_ref().map(|private| private.upstream.clone());
        let watched = private.zip(notify).map(|it| self.watch(worker, pid, generation, it));
        let process = Process {
            child: spawned.child,
            slot,
            generation,
            started,
            load: Arc::clone(&load),
            stack: StackSource::new(stack),
            evidence: None,
            page_beats: PageBeats::Yes,
            heard: Arc::clone(&heard),
            past: Past::NeverReady,
            dialect: None,
            runtime: None,
            bypass: Bypass::Check(started + super::BYPASS_CHECK),
            watched,
        };
        self.processes.insert(worker, process);
        let duty = self.duty_of(worker);
        self.order(Order::Attach(Attachment {
            worker,
            generation,
            duty,
            pid,
            channel,
            token,
            load,
            expects,
            heard,
            upstream,
        }));
        self.announce_worker(worker, What::WorkerStarted { generation: generation.0 });
        self.on(Event::Spawned { worker });
    }

    /// The guardian died or does not read: a new one learns of every group.
    pub(super) fn guardian_lost(&mut self, error: &std::io::Error) {
        let age = self.parts.guardian.take().map(Guardian::discard);
        if age.is_some_and(|age| age < GUARDIAN_LIFE_MIN) {
            tracing::warn!(%error, "the guardian does not stay up; running without one");
            return;
        }
        tracing::warn!(%error, "the guardian is gone; starting another");
        self.parts.guardian = match Guardian::start(&self.parts.instance) {
            Ok(mut guardian) => {
                let mut pids = self.processes.values().map(|process| process.child.pid());
                match pids.try_for_each(|pid| guardian.watch(pid)) {
                    Ok(()) => Some(guardian),
                    Err(error) => {
                        tracing::warn!(%error, "running without a guardian");
                        None
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "running without a guardian");
                None
            }
        };
    }

    fn spawn_failed(&mut self, error: &LaunchError) {
        let text = error.to_string();
        tracing::warn!(error = text, "cannot start a worker");
        self.last_words = Some(text);
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: Signal) {
        let Some(process) = self.processes.get(&worker) else {
            return;
        };
        // The group is named by the leader's pid, which is ours until we reap it.
        if let Err(error) = child::signal_group(process.child.pid(), signal) {
            tracing::warn!(%worker, %signal, %error, "cannot signal a worker's group");
            if let Err(error) = process.child.signal(signal) {
                tracing::warn!(%worker, %signal, %error, "cannot signal a worker");
            }
        }
    }

    /// Tells of a note; those about a death are told with the dead worker's last words.
    fn tell(&mut self, note: Note) {
        match note {
            Note::Restarting { failure, delay, failures } => {
                match self.lives.oom_victim {
                    Some(victim) if victim == failure.worker => self.restarts.count_oom(),
                    Some(_) | None => self.restarts.count(failure.cause),
                }
                let kind = self.kind_of(failure);
                let cause = failure.cause;
                let sequel = Sequel::Restart { cause, delay, failures, kind };
                let told = self.sequels.insert(failure.worker, sequel);
                debug_assert!(told.is_none(), "a worker dies once");
                self.tell_of_no_process(failure, delay);
            }
            Note::Replacing { slot, old, why, handover } => {
                let first = match handover {
                    Handover::StartFirst => "start",
                    Handover::StopFirst => "stop",
                };
                let what = What::WorkerReplacing { why: why.to_string(), first };
                self.announce_of(self.who(old, slot), what);
            }
            Note::Replaced { slot, old, new, why } => {
                self.restarts.count_recycle(why);
                let farewell = self.lives.farewell(old);
                let what = What::WorkerReplaced { why: why.to_string(), by: new.0, farewell };
                self.announce_of(self.who(old, slot), what);
            }
            Note::TookOver { slot, worker, vacated } => {
                self.takeovers += 1;
                let what = What::WorkerTookOver { vacated: vacated.0 };
                self.announce_of(self.who(worker, slot), what);
            }
            Note::SuccessorFailed { failure, delay } => {
                let sequel = Sequel::Again { cause: failure.cause, delay };
                self.sequels.insert(failure.worker, sequel);
                self.tell_of_no_process(failure, delay);
            }
            Note::SlotFailed { failure } => {
                self.sequels.insert(failure.worker, Sequel::Failed);
            }
            Note::StartTimedOut { slot, worker } => {
                self.announce_of(self.who(worker, slot), What::StartTimedOut);
            }
            Note::DrainTimedOut { slot, worker } => {
                self.announce_of(self.who(worker, slot), What::DrainTimedOut);
            }
            Note::TermTimedOut { slot, worker } => {
                self.announce_of(self.who(worker, slot), What::StopTimedOut);
            }
            Note::Abandoned { slot, worker } => {
                self.announce_of(self.who(worker, slot), What::WorkerAbandoned);
            }
            Note::StormBegan => self.announce(&Transition::StormBegan),
            Note::StormEnded => self.announce(&Transition::StormEnded),
            Note::Scaled { from, to } => {
                self.announce(&Transition::Scaled { from, to });
                self.retune();
            }
            Note::Stopping { step, left } => {
                if step == StopStep::Delaying {
                    self.order(Order::WindDown);
                }
                self.announce(&Transition::Stopping { step: step.into(), left });
            }
        }
    }

    /// A worker that could not even be started has no obituary.
    fn tell_of_no_process(&mut self, failure: Failure, delay: Duration) {
        if failure.cause == Cause::SpawnFailed {
            self.sequels.remove(&failure.worker);
            let who = self.who(failure.worker, failure.slot);
            self.announce_of(who, What::StartFailed { restart_in_ms: millis(delay) });
            let why = self.last_words.clone().unwrap_or_default();
            self.recycle_failed(who, &failure.cause.to_string(), &why);
        }
    }
}

impl Supervisor {
    /// Kills what dead workers left behind outside their groups: orphans adopted by us whose
    /// environment names none that lives. One whose parent is still ending is adopted later, so
    /// this is done again whenever an adopted one has ended.
    pub(super) fn kill_escaped(&self) {
        let Ok(children) = process::children(own_pid()) else {
            return;
        };
        let living: BTreeSet<String> = self.processes.keys().map(WorkerId::to_string).collect();
        for pid in children {
            // Gone, or not ours to look into: then it is not of our workers either.
            let named = |name| process::environment_variable(pid, name).ok().flatten();
            let is_ours = named(INSTANCE_VARIABLE).is_some_and(|it| it == *self.parts.instance);
            let owner = named(WORKER_VARIABLE).and_then(|owner| owner.into_string().ok());
            if is_ours && owner.is_some_and(|owner| !living.contains(&owner)) {
                kill(pid);
            }
        }
    }
}

/// Kills whatever is left of all workers, wherever it has hidden; how much there was.
pub(super) fn kill_descendants(instance: &str) -> usize {
    let left = process::with_variable(INSTANCE_VARIABLE, instance);
    left.into_iter().map(kill).count()
}

fn kill(pid: i32) {
    // It is a child of ours that we have not reaped, or was found a moment ago; gone is fine too.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(i32::MAX)
}

/// Why the pool ended, as the last line says it.
pub(crate) fn explain(finish: Finish, command: &str) -> Option<String> {
    match finish {
        Finish::Stopped => None,
        Finish::NeverReady { last } => Some(format!(
            "no worker of `{command}` was ready within workers.start_timeout{}",
            because(last)
        )),
        Finish::NeverListened => {
            Some(format!("{command} ended and never listened; tenfold runs servers"))
        }
        Finish::GaveUp { last } => {
            Some(format!("no worker was ready for workers.give_up{}", because(last)))
        }
        Finish::AllRefused => {
            Some("every worker exited with 78: none can run with its configuration".to_owned())
        }
    }
}

fn because(last: Option<Failure>) -> String {
    last.map_or_else(String::new, |failure| format!("; the last one: {}", failure.cause))
}
