//! Reads the command line and runs what it asks for.

mod files;
mod plot;
mod sim;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Runs tenfold and what it would replace side by side, under the same load, in one run.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where results go.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
    /// Every arrival and every service time is drawn from it.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Policies against each other in virtual time.
    Sim,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Sim => sim::simulate(&arguments.results, arguments.seed),
    }
}
