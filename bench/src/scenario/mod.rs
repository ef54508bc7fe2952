//! The scenarios, and what they share: the plan of a run, windows, and the results.

mod crash;
mod flood;
mod handover;
pub(crate) mod hello;
mod idle;
mod memory;
mod skew;
mod start;
mod tail;

use std::time::{Duration, Instant};

use anyhow::Context;

use tenfold::policy::SplitMix64;

use crate::host::{Spare, Turn};
use crate::load::Record;
use crate::peer::{Deployment, Peer, Setup, Tools};
use crate::plot::Chart;
use crate::process::{Members, Usage, generator_cpu, usage};
use crate::provenance::Began;
use crate::results::{Metric, Place, Results};

/// What is run, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Peak rate, CPU and memory of an app that does nothing.
    Hello,
    /// Waiting at 60, 80 and 90 % load.
    Tail,
    /// Few pooled connections of uneven use, as from an ingress.
    KeepaliveSkew,
    /// A page of 1 MB that waits for 100 ms, by the number of connections.
    Memory,
    /// 10 and 60 times the capacity beside users and probes.
    Flood,
    /// Workers killed, two seconds apart, at 80 % load.
    Crash,
    /// CPU per connection, at a rate that all can serve and at the most.
    Handover,
    /// Memory and wake-ups while nothing happens, of new processes in each round.
    Idle,
    /// From exec to the first answer.
    Start,
    /// Policies in virtual time.
    Sim,
    /// All of them.
    All,
}

/// About how long a scenario takes with every peer, on two CPUs with nothing else to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasts {
    /// Starting, warming up and ending what stays up over all rounds.
    pub(crate) once: Duration,
    pub(crate) per_round: Duration,
}

impl Scenario {
    /// In tables and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Tail => "tail",
            Self::KeepaliveSkew => "keepalive-skew",
            Self::Memory => "memory",
            Self::Flood => "flood",
            Self::Crash => "crash",
            Self::Handover => "handover",
            Self::Idle => "idle",
            Self::Start => "start",
            Self::Sim => "sim",
            Self::All => "all",
        }
    }

    /// Whether it finds a peak, which wrk does.
    fn needs_wrk(self) -> bool {
        match self {
            Self::Hello | Self::Handover | Self::Idle => true,
            Self::Tail
            | Self::KeepaliveSkew
            | Self::Memory
            | Self::Flood
            | Self::Crash
            | Self::Start
            | Self::Sim
            | Self::All => false,
        }
    }

    /// For plans; measured, and rounded up.
    pub(crate) fn lasts(self) -> Lasts {
        let (once, per_round) = match self {
            Self::Hello => (60, 34),
            Self::Tail => (20, 80),
            Self::KeepaliveSkew => (8, 12),
            Self::Memory => (0, 38),
            Self::Flood => (0, 61),
            Self::Crash => (10, 21),
            Self::Handover => (10, 17),
            Self::Idle => (0, 42),
            Self::Start => (0, 12),
            Self::Sim => (180, 0),
            Self::All => (0, 0),
        };
        Lasts { once: Duration::from_secs(once), per_round: Duration::from_secs(per_round) }
    }
}

/// What is asked for, by whether its tools are here.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) able: Vec<Scenario>,
    /// Each with a note of what it lacks.
    pub(crate) left_out: Vec<(Scenario, Results)>,
}

/// Looks for the tools of scenarios, and tells of what is missing the command that installs it.
///
/// # Errors
/// Nothing is left; in a smoke run anything missing.
pub(crate) fn able(wanted: Vec<Scenario>, depth: Depth) -> anyhow::Result<Wanted> {
    let Some(why) = crate::wrk::missing() else {
        return Ok(Wanted { able: wanted, left_out: Vec::new() });
    };
    let (without, able): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|one| one.needs_wrk());
    let enough = without.is_empty() || depth == Depth::Full && !able.is_empty();
    anyhow::ensure!(enough, why);
    let noted = |scenario: Scenario| {
        let mut results = Results::default();
        results.note(format!("{} was not run: {why}", scenario.name()));
        (scenario, results)
    };
    Ok(Wanted { able, left_out: without.into_iter().map(noted).collect() })
}

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Windows per cell.
    pub(crate) rounds: usize,
    pub(crate) depth: Depth,
    /// Only these, where the scenario has them; empty: all.
    pub(crate) peers: Vec<Peer>,
    pub(crate) seed: u64,
    /// Of the sources that are measured, as [`crate::provenance::commit`] tells it.
    pub(crate) commit: String,
}

/// Whether numbers are wanted, or only that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Full,
    /// Windows of a second at most, fewer cases, and a peer that cannot run is an error.
    Smoke,
}

/// A run under way.
pub(crate) struct Bench {
    pub(crate) tools: Tools,
    pub(crate) plan: Plan,
    /// Of the scenario that runs; whoever runs it takes them after each.
    pub(crate) results: Results,
    /// Its plots, by the names of their files.
    pub(crate) figures: Vec<(String, Chart)>,
    /// What it may spend on windows that the host disturbed.
    spare: Spare,
}

/// The share of a scenario's time that it may take longer for these.
const SPARE: u32 = 8;

pub(crate) const FAILED: Metric = Metric::lower("failed", "requests");
pub(crate) const FRONT_CPU: Metric = Metric::lower("front CPU", "µs/request");
pub(crate) const WORKER_CPU: Metric = Metric::lower("worker CPU", "µs/request");
/// Without Node's threads for its garbage and its compiler, which use what is left of the CPUs.
const MAIN_CPU: Metric = Metric::lower("worker CPU, main thread", "µs/request");
/// Of the bench itself, and of wrk.
pub(crate) const GENERATOR_CPU: Metric = Metric::of_the_bench("generator CPU", "µs/request");
pub(crate) const FRONT_MEMORY: Metric = Metric::lower("front memory", "MB");
pub(crate) const WORKER_MEMORY: Metric = Metric::lower("worker memory", "MB");
pub(crate) const LAG: Metric = Metric::of_the_bench("generator lag, p99", "ms");

/// How late the generator may be at its 99th percentile before a note says so: above it the waits
/// of a few milliseconds that are told here say as much about the generator as about the peer.
const LAG_MAX: Duration = Duration::from_millis(1);

impl Bench {
    pub(crate) fn new(tools: Tools, plan: Plan) -> Self {
        let (results, figures) = (Results::default(), Vec::new());
        Self { tools, plan, results, figures, spare: Spare::default() }
    }

    /// Runs one scenario; its cells are added to the results.
    ///
    /// # Errors
    /// Something of the bench itself failed; in a smoke run also a peer.
    pub(crate) async fn run(&mut self, scenario: Scenario) -> anyhow::Result<()> {
        eprintln!("== {scenario:?}");
        let began = Began::now();
        self.spare = match self.plan.depth {
            Depth::Full => Spare::new(scenario.lasts().per_round * self.plan.rounds as u32 / SPARE),
            Depth::Smoke => Spare::default(),
        };
        match scenario {
            Scenario::Hello => hello::run(self).await,
            Scenario::Tail => tail::run(self).await,
            Scenario::KeepaliveSkew => skew::run(self).await,
            Scenario::Memory => memory::run(self).await,
            Scenario::Flood => flood::run(self).await,
            Scenario::Crash => crash::run(self).await,
            Scenario::Handover => handover::run(self).await,
            Scenario::Idle => idle::run(self).await,
            Scenario::Start => start::run(self).await,
            // Not a run of processes; the caller knows.
            Scenario::Sim | Scenario::All => Ok(()),
        }
        .with_context(|| format!("{scenario:?}"))?;
        let ran = began.ended(scenario, &self.plan);
        eprintln!("   {} s", ran.seconds);
        self.results.ran.push(ran);
        Ok(())
    }

    /// The windows of a round in its order, those that the host disturbed again; see [`Turn`].
    fn turn<'a, T>(
        &self,
        round: usize,
        all: &'a [T],
    ) -> Turn<impl Iterator<Item = &'a T> + use<'a, T>> {
        Turn::new(turn(round, all), self.spare.clone())
    }

    /// Of those a scenario compares, the ones that are asked for and can run here.
    fn peers(&mut self, wanted: &[Peer]) -> anyhow::Result<Vec<Peer>> {
        let mut peers = Vec::new();
        for peer in wanted {
            if !self.plan.peers.is_empty() && !self.plan.peers.contains(peer) {
                continue;
            }
            match peer.missing(&self.tools) {
                None => peers.push(*peer),
                Some(why) if self.plan.depth == Depth::Full => self.results.note(why),
                Some(why) => anyhow::bail!(why),
            }
        }
        Ok(peers)
    }

    /// Starts one; in a full run a failure becomes a note. The second try is for a port that
    /// somebody else took in between.
    async fn start(&mut self, peer: Peer, setup: Setup) -> anyhow::Result<Option<Deployment>> {
        if let Ok(deployment) = Deployment::start(peer, setup, &self.tools).await {
            return Ok(Some(deployment));
        }
        match Deployment::start(peer, setup, &self.tools).await {
            Ok(deployment) => Ok(Some(deployment)),
            Err(error) => self.did_not_run(error).map(|()| None),
        }
    }

    /// A peer failed: a note in a full run, an error in a smoke run.
    fn did_not_run(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        match self.plan.depth {
            Depth::Full => {
                self.results.note(format!("did not run: {error:#}"));
                Ok(())
            }
            Depth::Smoke => Err(error),
        }
    }

    /// Starts all at once: while one is measured the others are idle.
    async fn start_all(&mut self, peers: &[Peer], setup: Setup) -> anyhow::Result<Vec<Deployment>> {
        let mut deployments = Vec::new();
        for peer in self.peers(peers)? {
            deployments.extend(self.start(peer, setup).await?);
        }
        Ok(deployments)
    }

    fn add(&mut self, place: Place<'_>, metric: Metric, value: f64) {
        self.results.add(place, metric, value);
    }

    /// Adds how late the generator was, and says so if that matters.
    fn add_lag(&mut self, place: Place<'_>, records: &[Record]) {
        let lag = crate::load::quantile(records.iter().map(|record| record.lag).collect(), 0.99);
        self.add(place, LAG, lag.as_secs_f64() * 1e3);
        if lag > LAG_MAX && self.plan.depth == Depth::Full {
            let Place { scenario, case, .. } = place;
            let late = "in some windows 1 % of the requests went out more than 1 ms late";
            self.results.note(format!("{scenario}, {case}: {late}"));
        }
    }

    /// A full window, or a short one in a smoke run.
    fn window(&self, full: Duration) -> Duration {
        match self.plan.depth {
            Depth::Full => full,
            Depth::Smoke => full.min(Duration::from_secs(1)),
        }
    }

    /// All of these, or in a smoke run the last.
    fn cases<T: Copy>(&self, all: &[T]) -> Vec<T> {
        match self.plan.depth {
            Depth::Full => all.to_vec(),
            Depth::Smoke => all.last().copied().into_iter().collect(),
        }
    }

    /// The same arrivals for every peer, others in every round.
    fn seed(&self, round: usize) -> u64 {
        self.plan.seed.wrapping_mul(1_000_003).wrapping_add(round as u64)
    }
}

/// The order of a round: as listed first, because whoever is measured first is compared with the
/// others; then another one each time, the same in every run. What one leaves behind, in caches and
/// in the machine below, is met by whoever comes next: that is not always the same one.
fn turn<T>(round: usize, all: &[T]) -> impl Iterator<Item = &T> {
    let mut order: Vec<&T> = all.iter().collect();
    if round > 0 {
        let mut random = SplitMix64::new(round as u64);
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u64 + 1) as usize);
        }
    }
    order.into_iter()
}

/// CPU and memory of a deployment over a window.
struct Meter {
    front: Vec<i32>,
    workers: Vec<i32>,
    at_start: (Usage, Usage),
    generator: Duration,
    started: Instant,
}

impl Meter {
    fn start(deployment: &Deployment) -> Self {
        let members = deployment.members();
        let at_start = (usage(&members.front), usage(&members.workers));
        let started = tenfold::clock::now();
        let Members { front, workers } = members;
        Self { front, workers, at_start, generator: generator_cpu(), started }
    }

    /// Adds CPU per request, and after the last round memory as it is then. A peer without
    /// processes in front has no cells for them.
    ///
    /// One life of a process is one sample of its memory, however often one looks: taken in each
    /// round, it gave an interval much narrower than two starts differ. Those have a scenario,
    /// [`idle`], in which each round has its own processes.
    fn finish(&self, bench: &mut Bench, place: Place<'_>, requests: u64) {
        if !self.front.is_empty() && place.round + 1 == bench.plan.rounds {
            let memory = usage(&self.front).memory_bytes;
            bench.add(place, FRONT_MEMORY, memory as f64 / 1e6);
        }
        self.finish_cpu(bench, place, requests);
    }

    /// Adds what the main threads of the workers spent per request.
    fn finish_main_cpu(&self, bench: &mut Bench, place: Place<'_>, requests: u64) {
        let (now, before) = (usage(&self.workers).main_cpu, self.at_start.1.main_cpu);
        bench.add(place, MAIN_CPU, each(now, before, requests));
    }

    /// Adds CPU per request alone.
    fn finish_cpu(&self, bench: &mut Bench, place: Place<'_>, requests: u64) {
        let (front, workers) = (usage(&self.front), usage(&self.workers));
        let per_request = |now, before| each(now, before, requests);
        if !self.front.is_empty() {
            bench.add(place, FRONT_CPU, per_request(front.cpu, self.at_start.0.cpu));
        }
        bench.add(place, WORKER_CPU, per_request(workers.cpu, self.at_start.1.cpu));
        bench.add(place, GENERATOR_CPU, per_request(generator_cpu(), self.generator));
    }

    /// Wake-ups per second of the front, and of the workers.
    fn wakeups(&self) -> (f64, f64) {
        let now = tenfold::clock::now();
        let lasted = now.saturating_duration_since(self.started).as_secs_f64();
        let since = |pids: &[i32], before: Usage| {
            usage(pids).wakeups.saturating_sub(before.wakeups) as f64 / lasted
        };
        (since(&self.front, self.at_start.0), since(&self.workers, self.at_start.1))
    }
}

/// Microseconds per request between two looks.
fn each(now: Duration, before: Duration, requests: u64) -> f64 {
    now.saturating_sub(before).as_secs_f64() * 1e6 / requests.max(1) as f64
}

/// Answers with another status than 200, and no answers.
fn failures(records: &[Record]) -> usize {
    records.iter().filter(|record| !record.is_good(Duration::MAX)).count()
}
