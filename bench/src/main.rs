//! Reads the command line, runs what it asks for, and leaves nothing behind, however it ends.

mod compare;
mod document;
mod files;
mod host;
mod load;
mod losses;
mod machine;
mod names;
mod peer;
mod plot;
mod process;
mod profile;
mod provenance;
mod report;
mod results;
mod scenario;
mod signals;
mod sim;
mod targets;
mod wrk;

use std::mem::take;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use document::Document;
use machine::Machine;
use peer::{Peer, Tools};
use provenance::{Began, commit};
use results::Results;
use scenario::{Bench, Depth, Plan, Scenario, Wanted};
use signals::Interrupts;

/// Runs tenfold and what it would replace side by side, under the same load, in one run.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to run.
    #[arg(required = true)]
    scenarios: Vec<Scenario>,
    /// Only these; several by commas.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Windows per cell; each pairs one window of every peer.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// As many rounds as fit into about so many minutes with all peers, instead of --rounds.
    #[arg(long, conflicts_with = "rounds")]
    minutes: Option<u32>,
    /// One short round of each, to see that it runs: the numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// Where results go, renewing those that are there: bench/results, or target/bench with
    /// --quick.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Every arrival and every service time is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Beside the scenarios.
#[derive(Debug, Subcommand)]
enum Command {
    /// How many ratio intervals of two runs overlap; fails below 90 %.
    Compare {
        /// The results.json of one run.
        one: PathBuf,
        /// That of the other.
        other: PathBuf,
    },
    /// Writes the page anew from the numbers that are there.
    Report {
        /// Where results.json is.
        directory: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Compare { one, other }) => return compare::compare(one, other),
        Some(Command::Report { directory }) => return report::rewrite(directory),
        None => {}
    }
    raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut interrupts = Interrupts::listen()?;
        tokio::select! {
            // Dropping the run ends what it started.
            ended = run(&arguments) => ended,
            why = interrupts.next() => bail!(why),
        }
    });
    // A simulation under way goes with the process: it holds nothing, and takes minutes.
    runtime.shutdown_background();
    ended
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let all = arguments.scenarios.contains(&Scenario::All);
    let wanted = Scenario::value_variants()
        .iter()
        .filter(|scenario| **scenario != Scenario::All)
        .filter(|scenario| all || arguments.scenarios.contains(scenario));
    let (simulated, real): (Vec<_>, Vec<_>) =
        wanted.copied().partition(|scenario| *scenario == Scenario::Sim);
    let depth = if arguments.quick { Depth::Smoke } else { Depth::Full };
    // Before anything runs: nobody should wait for minutes to hear what is missing.
    let Wanted { able: real, left_out } = scenario::able(real, depth)?;
    let tools = Tools::find().await?;
    let rounds = match (arguments.quick, arguments.minutes) {
        (true, _) => 1,
        (false, Some(minutes)) => {
            let time = Duration::from_secs(60 * u64::from(minutes));
            rounds_within(time, &[&simulated[..], &real[..]].concat())
        }
        (false, None) => arguments.rounds.max(1),
    };
    let machine = Machine::look(&tools);
    let (peers, seed) = (arguments.peers.clone(), arguments.seed);
    let plan = Plan { rounds, depth, peers, seed, commit: commit() };
    let directory = arguments.directory();
    let mut in_virtual_time = Results::default();
    if !simulated.is_empty() {
        let effort = if arguments.quick { sim::Effort::Smoke } else { sim::Effort::Full };
        let began = Began::now();
        let (directory, seed) = (directory.clone(), arguments.seed);
        // On a thread of its own: signals are seen meanwhile.
        let simulation = move || sim::simulate(&directory, seed, effort);
        tokio::task::spawn_blocking(simulation).await.context("the simulation")??;
        in_virtual_time.ran.push(began.ended(Scenario::Sim, &plan));
    }
    let (mut document, lost) = Document::resume(&directory, machine);
    if real.is_empty() && document.results.ran.is_empty() {
        // Virtual time is that of any machine: a report of another one, or none, stays as it is.
        return Ok(());
    }
    if let Some(why) = lost {
        eprintln!("nothing is kept of the results in {}: {why}", directory.display());
    }
    if !simulated.is_empty() {
        document.renew(Scenario::Sim, in_virtual_time, &[]);
    }
    for (scenario, note) in left_out {
        // It can have no results: those from before wrk was gone were not kept.
        document.renew(scenario, note, &[]);
    }
    if real.is_empty() {
        report::write_all(&directory, &document, &[])?;
    }
    let mut bench = Bench::new(tools, plan);
    for scenario in real {
        bench.run(scenario).await?;
        // After each: an interrupted run keeps what it has, and of the others what was there.
        let (results, charts) = (take(&mut bench.results), take(&mut bench.figures));
        document.renew(scenario, results, &charts);
        report::write_all(&directory, &document, &charts)?;
    }
    println!("{}", directory.join(report::PAGE).display());
    Ok(())
}

impl Arguments {
    /// What a quick run measures means nothing, and does not belong among what does.
    fn directory(&self) -> PathBuf {
        let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scratch = bench.with_file_name("target").join("bench");
        let usual = if self.quick { scratch } else { bench.join("results") };
        self.results.clone().unwrap_or(usual)
    }
}

/// At least two, or there would be no ratio.
fn rounds_within(time: Duration, scenarios: &[Scenario]) -> usize {
    let once: Duration = scenarios.iter().map(|scenario| scenario.lasts().once).sum();
    let per_round: Duration = scenarios.iter().map(|scenario| scenario.lasts().per_round).sum();
    let rounds = time.saturating_sub(once).as_secs() / per_round.as_secs().max(1);
    usize::try_from(rounds).unwrap_or(usize::MAX).max(2)
}

/// A flood holds thousands of connections here, and as many in the peer, which inherits the limit.
fn raise_file_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 20), hard).context("cannot raise nofile")
}
