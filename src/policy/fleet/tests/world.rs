//! Processes that obey a `Fleet`, and every invariant checked on each action it returns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::*;
use crate::policy::{Duty, Stalled};

/// A fleet with its processes.
#[derive(Clone)]
pub(super) struct World {
    pub(super) fleet: Fleet,
    pub(super) now: Instant,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    pub(super) count: u16,
    /// Slots when the fleet was last asked, spares included.
    size: u16,
    pub(super) settings: FleetSettings,
    start: Instant,
    last_spawned: WorkerId,
    asked_to_stop: Option<Instant>,
    stops_accepting: u32,
    finish: Option<Finish>,
    storm: Weather,
    storms_ended: u32,
    spawns: u32,
    committed: Generation,
    reloading: Option<Generation>,
    /// Who is to be probed.
    probed: Option<WorkerId>,
    /// The most workers beyond the slots that any reload allowed.
    surge: usize,
    /// A reload failed by this event: its canary leaves, whoever serves beside it.
    aborted: bool,
    /// Who makes place before the successor is there.
    stopped_first: Option<WorkerId>,
    /// Starts that no crash brought about, beyond the first of each slot.
    asked_spawns: u32,
    /// Slots that ever came to be; each has one start that is no restart.
    slots: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    slot: Slot,
    generation: Generation,
    /// As it was last told.
    duty: Duty,
    pub(super) exists: Existence,
    pub(super) state: State,
    /// Whether the fleet has been told that it is ready, ever and now.
    ever_ready: bool,
    pub(super) ready: bool,
    pub(super) stalled: Stalled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existence {
    /// The fleet waits for `Spawned` or `SpawnFailed`.
    Asked,
    Yes,
}

/// What the fleet last told a process, in the order in which it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Wanted,
    Draining,
    Terminated,
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Calm,
    Storm,
}

impl World {
    /// `settings.storm.burst` must be set, to make the restart rate easy to bound.
    pub(super) fn begin(settings: FleetSettings) -> Self {
        let now = Instant::now();
        let mut world = Self {
            fleet: Fleet::new(now, settings),
            now,
            processes: BTreeMap::new(),
            count: settings.count.get(),
            size: 0,
            settings,
            start: now,
            last_spawned: WorkerId(0),
            asked_to_stop: None,
            stops_accepting: 0,
            finish: None,
            storm: Weather::Calm,
            storms_ended: 0,
            spawns: 0,
            committed: Generation(1),
            reloading: None,
            probed: None,
            surge: 1,
            aborted: false,
            stopped_first: None,
            asked_spawns: 0,
            slots: 0,
        };
        assert_eq!(world.fleet.deadline(), None);
        world.on(Event::Begin);
        world
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Goes to the deadline, if there is one, and ticks.
    pub(super) fn tick(&mut self) {
        if let Some(deadline) = self.fleet.deadline() {
            self.now = self.now.max(deadline);
            self.on(Event::Tick);
        }
    }

    /// Tells the fleet, obeys it, and checks everything.
    pub(super) fn on(&mut self, event: Event) {
        self.aborted = false;
        self.happen(event);
        let was_finished = self.is_finished();
        let actions = self.fleet.on(self.now, event);
        assert!(!was_finished || actions.is_empty(), "{actions:?} after the end");
        for action in actions {
            assert_eq!(self.finish, None, "{action:?} after Finish");
            self.obey(action, event);
        }
        self.check();
    }

    /// What the event itself changes in the world.
    fn happen(&mut self, event: Event) {
        match event {
            Event::Spawned { worker } => self.process(worker, |it| it.exists = Existence::Yes),
            Event::Ready { worker } => self.process(worker, |it| {
                it.ever_ready = true;
                it.ready = true;
            }),
            Event::Unready { worker } => self.process(worker, |it| {
                it.ready = false;
                it.stalled = Stalled::No;
            }),
            Event::Stalled { worker, stalled } => self.process(worker, |it| {
                it.stalled = if it.ready { stalled } else { Stalled::No };
            }),
            Event::SpawnFailed { worker } | Event::Exited { worker, .. } => {
                self.processes.remove(&worker);
            }
            // It may start a slot that waits, or stands empty.
            Event::Recycle { .. } => self.asked_spawns += 1,
            Event::Reload { generation, settings } => {
                self.surge = self.surge.max(settings.reload.surge.resolve(self.count).into());
                if matches!(self.fleet.phase(), Phase::Starting | Phase::Running) {
                    self.reloading = self.reloading.or(Some(generation));
                }
            }
            Event::Probed { .. } => self.probed = None,
            Event::Stop(_) => self.asked_to_stop = self.asked_to_stop.or(Some(self.now)),
            Event::Begin
            | Event::Leaves { .. }
            | Event::Drained { .. }
            | Event::Extend { .. }
            | Event::Replace { .. }
            | Event::Condemn { .. }
            | Event::Drain { .. }
            // It may start a slot that stands empty, which is what its own spawns are counted for.
            | Event::ScaleTo(_)
            | Event::ScaleBy(_)
            | Event::Tick => {}
        }
    }

    fn obey(&mut self, action: Action, event: Event) {
        match action {
            Action::Spawn { worker, slot, generation } => self.spawn(worker, slot, generation),
            Action::Assign { worker } => {
                let duty = self.duty_of(worker);
                self.process(worker, |it| it.duty = duty);
            }
            Action::Drain { worker } => self.tell(worker, State::Draining, event),
            Action::Terminate { worker } | Action::Abort { worker } => {
                self.tell(worker, State::Terminated, event);
            }
            Action::Kill { worker } => self.tell(worker, State::Killed, event),
            Action::Probe { worker } => {
                assert!(self.processes[&worker].ready);
                self.probed = Some(worker);
            }
            Action::Commit { generation } => {
                self.committed = generation;
                self.asked_spawns += u32::from(self.fleet.size());
            }
            Action::Reloaded(outcome) => {
                let reloading = self.reloading.take().expect("one outcome per reload");
                match outcome {
                    ReloadOutcome::Done { generation } => assert_eq!(generation, reloading),
                    ReloadOutcome::Failed(_) => self.aborted = true,
                }
            }
            Action::StopAccepting => self.stops_accepting += 1,
            Action::Finish(finish) => self.finish(finish),
            Action::Note(note) => self.note(note),
        }
    }

    fn spawn(&mut self, worker: WorkerId, slot: Slot, generation: Generation) {
        let is_canary = generation != self.committed;
        if is_canary {
            assert_eq!(self.reloading, Some(generation), "a start of no generation");
            self.asked_spawns += 1;
            let mut wanted = self.processes.values().filter(|it| it.state == State::Wanted);
            assert!(wanted.all(|it| it.generation != generation), "two canaries");
        }
        assert!(worker > self.last_spawned, "an id is never reused");
        self.last_spawned = worker;
        assert_eq!(self.asked_to_stop, None, "a spawn while stopping");
        assert!(slot.0 < self.fleet.size(), "{slot:?} of {}", self.fleet.size());
        let wanted = self.wanted_in(slot).filter(|it| it.generation == self.committed).count();
        assert!(self.wanted_in(slot).count() <= 1, "a third worker in {slot:?}");
        let slots = self.fleet.slots().filter(|it| it.slot == slot);
        let is_successor = slots.filter_map(|it| it.successor).any(|it| it == worker);
        // A canary stands beside the restarts of its slot.
        assert!(wanted == 0 || is_successor || is_canary, "two workers in {slot:?}");
        let is_calm = self.storm == Weather::Calm || is_canary;
        assert!(is_calm || !is_successor, "a replacement in a storm");
        let booting = self.booting();
        let gate = match self.storm {
            Weather::Calm => usize::from(self.settings.concurrent_starts.get()),
            Weather::Storm => 1,
        };
        assert!(booting < gate || is_canary, "{booting} start already");
        let process = Process {
            slot,
            generation,
            duty: self.duty_of(worker),
            exists: Existence::Asked,
            state: State::Wanted,
            ever_ready: false,
            ready: false,
            stalled: Stalled::No,
        };
        self.processes.insert(worker, process);
        self.spawns += 1;
    }

    fn duty_of(&self, worker: WorkerId) -> Duty {
        let live = self.fleet.workers().find(|live| live.worker == worker);
        live.expect("only live workers are told").duty
    }

    fn wanted_in(&self, slot: Slot) -> impl Iterator<Item = &Process> {
        self.processes.values().filter(move |it| it.state == State::Wanted && it.slot == slot)
    }

    fn booting(&self) -> usize {
        let is_booting = |it: &&Process| {
            it.state == State::Wanted && !it.ever_ready && it.generation == self.committed
        };
        self.processes.values().filter(is_booting).count()
    }

    fn tell(&mut self, worker: WorkerId, state: State, event: Event) {
        let process = self.processes.get_mut(&worker).expect("only live workers are told");
        let is_repeated = event == Event::Spawned { worker } && process.state == state;
        assert!(process.state < state || is_repeated, "{state:?} told to {process:?}");
        process.state = state;
        let (slot, served) = (process.slot, process.ready);
        let makes_place = match event {
            Event::Ready { .. } | Event::Tick | Event::Probed { .. } | Event::Exited { .. } => {
                state == State::Draining && self.asked_to_stop.is_none()
            }
            Event::Begin
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::Extend { .. }
            | Event::Unready { .. }
            | Event::Stalled { .. }
            | Event::Leaves { .. }
            | Event::Drained { .. }
            | Event::Replace { .. }
            | Event::Condemn { .. }
            | Event::Drain { .. }
            | Event::Recycle { .. }
            | Event::Reload { .. }
            | Event::ScaleTo(_)
            | Event::ScaleBy(_)
            | Event::Stop(_) => false,
        };
        let is_kept = slot.0 < self.fleet.size();
        if served && makes_place && is_kept && !self.aborted && self.stopped_first != Some(worker) {
            // It makes place for another, which must serve already.
            assert!(self.wanted_in(slot).any(|it| it.ready), "nobody serves in {slot:?}");
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::StormBegan => {
                assert_eq!(self.storm, Weather::Calm);
                self.storm = Weather::Storm;
            }
            Note::StormEnded => {
                assert_eq!(self.storm, Weather::Storm);
                self.storm = Weather::Calm;
                self.storms_ended += 1;
            }
            Note::Scaled { from, to } => {
                assert_eq!(from, self.count);
                self.count = to;
            }
            Note::Abandoned { worker, .. } => {
                let process = self.processes.remove(&worker).expect("it was alive");
                assert_eq!(process.state, State::Killed);
            }
            Note::Replacing { old, handover, .. } => {
                self.stopped_first = (handover == Handover::StopFirst).then_some(old);
                assert_eq!(self.processes[&old].state, State::Wanted);
                self.asked_spawns += 1;
            }
            Note::Replaced { new, .. } | Note::TookOver { worker: new, .. } => {
                assert!(self.processes[&new].ready);
            }
            Note::Restarting { .. }
            | Note::SuccessorFailed { .. }
            | Note::SlotFailed { .. }
            | Note::StartTimedOut { .. }
            | Note::DrainTimedOut { .. }
            | Note::TermTimedOut { .. }
            | Note::Stopping { .. } => {}
        }
    }

    fn finish(&mut self, finish: Finish) {
        assert!(self.processes.is_empty(), "{:?} left behind", self.processes);
        let was_asked = self.asked_to_stop.is_some();
        assert!(finish != Finish::Stopped || was_asked, "stopped unasked");
        self.finish = Some(finish);
    }

    fn check(&mut self) {
        let wanted = || self.processes.values().filter(|it| it.state == State::Wanted);
        // Of generations that come back.
        let surge = self.settings.reload.surge.resolve(self.count);
        self.surge = self.surge.max(surge.into());
        let successors: Vec<WorkerId> =
            self.fleet.slots().filter_map(|slot| slot.successor).collect();
        assert!(successors.len() <= self.surge, "replacements at once: {successors:?}");
        let serves = |id: &WorkerId| {
            let process = &self.processes[id];
            process.ready && process.state == State::Wanted
        };
        // A canary serves while it soaks.
        if matches!(self.fleet.phase(), Phase::Running) && self.reloading.is_none() {
            assert!(!successors.iter().any(serves), "{successors:?} of {:?}", self.processes);
        }
        let most = usize::from(self.fleet.size()) + successors.len();
        assert!(wanted().count() <= most, "{:?}", self.processes);
        assert_eq!(self.fleet.workers().count(), self.processes.len());
        assert!(self.stops_accepting <= 1);
        let phase = self.fleet.phase();
        if let Phase::Stopping(step) = phase
            && self.asked_to_stop.is_none()
        {
            let serving = wanted().filter(|it| it.ready).count();
            assert_eq!(serving, 0, "gave up at {step:?} while {serving} serve");
            // From here on it must behave as if asked.
            self.asked_to_stop = Some(self.now);
        }
        let is_pending = matches!(phase, Phase::Stopping(_))
            || self.fleet.slots().any(|it| matches!(it.state, SlotState::Waiting { .. }))
            || phase == Phase::Reloading && self.processes.is_empty()
            || self.fleet.workers().any(|it| matches!(it.state, WorkerLife::Starting { .. }));
        match self.fleet.deadline() {
            Some(deadline) => assert!(deadline > self.now, "the deadline is past"),
            None => assert!(self.is_finished() || !is_pending, "a wait without a deadline"),
        }
        self.slots += u32::from(self.fleet.size().saturating_sub(self.size));
        self.size = self.fleet.size();
        self.check_restarts();
        self.check_stop_time(phase);
        self.check_duties();
    }

    /// As many slots serve as are to, each worker knows its duty, and no spare stands by while a
    /// slot that is to serve cannot.
    fn check_duties(&self) {
        if self.asked_to_stop.is_some() || self.is_finished() {
            return;
        }
        let slots = |duty: Duty| self.fleet.slots().filter(move |it| it.duty == duty);
        assert_eq!(slots(Duty::Serve).count(), usize::from(self.count));
        assert!(slots(Duty::Spare).count() <= 2, "{:?}", self.fleet);
        for slot in self.fleet.slots() {
            let mut wanted = self.wanted_in(slot.slot);
            assert!(wanted.all(|it| it.duty == slot.duty), "{slot:?} of {:?}", self.processes);
        }
        let best = |slot: SlotView| {
            let fitness = |it: &Process| (it.ready, it.ready && it.stalled == Stalled::No);
            self.wanted_in(slot.slot).map(fitness).max()
        };
        let stands_by = slots(Duty::Spare).filter_map(best).max().unwrap_or_default();
        let serving = slots(Duty::Serve).map(|slot| best(slot).unwrap_or_default()).min();
        assert!(Some(stands_by) <= serving, "a spare could serve better: {:?}", self.fleet);
    }

    fn check_restarts(&self) {
        let burst = self.settings.storm.burst.expect("begin() asks for it").get();
        let refills =
            (self.now - self.start).as_secs_f64() / self.settings.storm.refill.as_secs_f64();
        let bound =
            self.slots + self.asked_spawns + burst * (1 + self.storms_ended) + refills as u32;
        assert!(self.spawns <= bound, "{} starts, at most {bound}", self.spawns);
    }

    fn check_stop_time(&self, phase: Phase) {
        if let (Phase::Stopping(_), Some(asked)) = (phase, self.asked_to_stop) {
            // The 2 s are the last wait for the kernel.
            let bound = self.settings.stop.total + Duration::from_secs(2);
            assert!(self.now - asked < bound, "stopping for {:?}", self.now - asked);
        }
    }

    fn process(&mut self, worker: WorkerId, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.processes.get_mut(&worker) {
            change(process);
        }
    }

    /// Everything behaves from now on: who starts becomes ready, who is told to go goes.
    pub(super) fn calm_down(&mut self) {
        for _ in 0..10_000 {
            let event = self.processes.iter().find_map(|(&worker, process)| {
                let Process { exists, state, ready, .. } = *process;
                if self.probed == Some(worker) {
                    return Some(Event::Probed { worker, verdict: Verdict::Passed });
                }
                match (exists, state) {
                    (Existence::Asked, _) => Some(Event::Spawned { worker }),
                    (Existence::Yes, State::Wanted) => (!ready).then_some(Event::Ready { worker }),
                    (Existence::Yes, State::Draining) => Some(Event::Drained { worker }),
                    (Existence::Yes, State::Terminated | State::Killed) => {
                        Some(Event::Exited { worker, exit: WorkerExit::Signal(15) })
                    }
                }
            });
            match event {
                Some(event) => self.on(event),
                None if self.fleet.deadline().is_some() => self.tick(),
                None => return,
            }
        }
        panic!("the fleet never comes to rest: {:?}", self.fleet);
    }

    /// The pool heals, or has ended; then it stops as asked.
    pub(super) fn wind_down(mut self) {
        self.calm_down();
        if !self.is_finished() {
            for slot in self.fleet.slots() {
                match slot.state {
                    SlotState::Running { worker } => assert!(self.processes[&worker].ready),
                    SlotState::Waiting { .. } => panic!("{slot:?} is not started"),
                    SlotState::Failed { .. } | SlotState::Drained => {}
                    SlotState::Draining { .. } => panic!("{slot:?} never ends"),
                }
                assert_eq!(slot.replacing, None, "{slot:?} is never replaced");
            }
            assert_eq!(self.reloading, None, "a reload never ends: {:?}", self.fleet);
            assert!(self.processes.values().all(|it| it.generation == self.committed));
            self.on(Event::Stop(StopKind::Graceful));
            self.calm_down();
            assert_eq!(self.finish, Some(Finish::Stopped));
        }
    }
}
