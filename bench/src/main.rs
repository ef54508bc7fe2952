//! Reads the command line, runs what it asks for, and leaves nothing behind, however it ends.

mod compare;
mod files;
mod load;
mod machine;
mod peer;
mod plot;
mod process;
mod profile;
mod report;
mod results;
mod scenario;
mod sim;
mod targets;
mod wrk;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use machine::Machine;
use peer::{Peer, Tools};
use report::Report;
use results::Results;
use scenario::{Bench, Depth, Plan, Scenario};

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
    /// Where results go.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
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
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Compare { one, other }) = &arguments.command {
        return compare::compare(one, other);
    }
    raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            // Dropping the run ends what it started.
            ended = run(&arguments) => ended,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let all = arguments.scenarios.contains(&Scenario::All);
    let wanted = Scenario::value_variants()
        .iter()
        .filter(|scenario| **scenario != Scenario::All)
        .filter(|scenario| all || arguments.scenarios.contains(scenario));
    let (simulated, real): (Vec<_>, Vec<_>) =
        wanted.copied().partition(|scenario| *scenario == Scenario::Sim);
    if !simulated.is_empty() {
        let effort = if arguments.quick { sim::Effort::Smoke } else { sim::Effort::Full };
        sim::simulate(&arguments.results, arguments.seed, effort)?;
    }
    if real.is_empty() {
        return Ok(());
    }
    let rounds = match (arguments.quick, arguments.minutes) {
        (true, _) => 1,
        (false, Some(minutes)) => {
            rounds_within(Duration::from_secs(60 * u64::from(minutes)), &real)
        }
        (false, None) => arguments.rounds.max(1),
    };
    let tools = Tools::find()?;
    let machine = Machine::look(&tools);
    let depth = if arguments.quick { Depth::Smoke } else { Depth::Full };
    let plan = Plan { rounds, depth, peers: arguments.peers.clone(), seed: arguments.seed };
    let mut bench = Bench { tools, plan, results: Results::default(), figures: Vec::new() };
    for scenario in real {
        bench.run(scenario).await?;
        // After each: an interrupted run keeps what it has.
        let Bench { results, figures, .. } = &bench;
        let seed = arguments.seed;
        Report { machine: &machine, rounds, seed, results, figures }.write(&arguments.results)?;
    }
    println!("{}", arguments.results.join("report.md").display());
    Ok(())
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
