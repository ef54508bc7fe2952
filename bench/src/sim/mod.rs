//! Compares policies in virtual time, from a seed: the shipped `Balance`, its rivals, and mistakes.
//!
//! The simulator is checked against Erlang's formula before its numbers are believed: where both
//! apply, the mean wait must agree within [`TOLERANCE`].

mod engine;
pub(crate) mod erlang;
mod flood;
mod policies;
mod report;
pub(crate) mod service;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Mutex;

use anyhow::ensure;
use serde::Serialize;

use self::engine::{Setting, run};
use self::policies::Kind;
use self::service::Spread;

/// How far the simulated mean wait may be from Erlang's, over it.
const TOLERANCE: f64 = 0.02;

/// The same in service times, for means that are nearly 0: of them a sample says least in
/// proportion. With ten workers half busy the mean is 0.007, one job in 28 waits, and 400,000 jobs
/// miss it by 4e-4 or 6 % (root mean square of 16 seeds). This is two and a half of those. It rules
/// below a mean of 0.05 alone, and tells one queue from what is nearest to it, the fewest bound at
/// once, wherever one job in a thousand waits: that is off by 0.017 there, and by 0.0013 with 64
/// workers at 70 %.
const TOLERANCE_NEAR_ZERO: f64 = 1e-3;

const WORKERS: [usize; 3] = [2, 10, 64];
const LOADS: [f64; 6] = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
const SPREADS: [f64; 3] = [0.3, 1.0, 4.0];

/// Jobs per cell. The 99th percentile of a rival at 95 % load is good to some 5 % with these.
const JOBS: usize = 400_000;

/// One policy at one load, as a line of the result.
#[derive(Clone, Debug, Serialize)]
struct Cell {
    policy: &'static str,
    workers: usize,
    c2: f64,
    load: f64,
    /// In service times, as all waits.
    mean_wait: f64,
    p99_wait: f64,
    /// The busiest worker's share of the jobs, over an equal share.
    imbalance: f64,
    /// Erlang's mean, where it applies: one queue, C² = 1.
    erlang_mean: Option<f64>,
    erlang_p99: Option<f64>,
}

/// Everything that was simulated.
#[derive(Clone, Debug, Serialize)]
struct Simulation {
    seed: u64,
    /// Whether the means were held against Erlang's formula, which takes a full run.
    checked: bool,
    cells: Vec<Cell>,
    mistakes: Vec<Cell>,
    /// Goodput over capacity per window, with and without an age limit on the queue.
    flood_limited: Vec<f64>,
    flood_unlimited: Vec<f64>,
}

/// Whether numbers are wanted, or only that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    Full,
    /// Few jobs and no check against the formula, which needs many.
    Smoke,
}

/// Simulates everything, writes `sim.json`, `sim.md` and the plots into `directory`, prints the
/// summary.
///
/// # Errors
/// The simulator disagrees with Erlang's formula, or a file cannot be written.
pub(crate) fn simulate(directory: &Path, seed: u64, effort: Effort) -> anyhow::Result<()> {
    let setting = Setting {
        workers: 10,
        load: 0.5,
        spread: Spread::Exponential,
        connections: 1,
        jobs: match effort {
            Effort::Full => JOBS,
            Effort::Smoke => JOBS / 1000,
        },
        seed,
    };
    let mut questions = Vec::new();
    for workers in WORKERS {
        for c2 in SPREADS {
            for load in LOADS {
                let setting = Setting { workers, load, spread: Spread::of(c2), ..setting };
                questions.extend(Kind::PEERS.map(|kind| (kind, setting)));
            }
        }
    }
    let cells = answer(&questions);
    match effort {
        Effort::Full => check_against_erlang(&cells)?,
        Effort::Smoke => {}
    }
    let wrong: Vec<_> = LOADS
        .iter()
        .flat_map(|load| {
            let setting = Setting { connections: 30, load: *load, ..setting };
            let kinds = [Kind::Tenfold].into_iter().chain(Kind::MISTAKES);
            kinds.map(move |kind| (kind, setting))
        })
        .collect();
    let simulation = Simulation {
        seed,
        checked: effort == Effort::Full,
        cells,
        mistakes: answer(&wrong),
        flood_limited: flood::goodput(flood::Age::Limited, seed),
        flood_unlimited: flood::goodput(flood::Age::Unlimited, seed),
    };
    report::write_all(directory, &simulation)
}

/// How many times [`JOBS`] a cell with a formula gets. The closer to saturation, and the fewer the
/// workers, the longer one wait resembles the next: the relaxation time grows with 1/(1 − √load)²,
/// and so must the run for the same error.
fn effort(kind: Kind, setting: Setting) -> usize {
    if kind != Kind::Tenfold || setting.spread != Spread::Exponential || setting.connections > 1 {
        return 1;
    }
    let relaxation = 1.0 / (1.0 - setting.load.sqrt()).powi(2);
    (relaxation / 16.0).ceil() as usize
}

/// Runs all, on as many threads as there are CPUs; answers are in the order of the questions.
fn answer(questions: &[(Kind, Setting)]) -> Vec<Cell> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let answers: Mutex<Vec<Option<Cell>>> = Mutex::new(vec![None; questions.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some((kind, setting)) = questions.get(at) else { return };
                    let cell = cell(*kind, *setting);
                    answers.lock().expect("no thread panics with it")[at] = Some(cell);
                }
            });
        }
    });
    let answers = answers.into_inner().expect("no thread panicked with it");
    answers.into_iter().map(|cell| cell.expect("each question was taken once")).collect()
}

fn cell(kind: Kind, setting: Setting) -> Cell {
    let setting = Setting { jobs: setting.jobs * effort(kind, setting), ..setting };
    let mut policy = kind.build(setting.workers, setting.connections, setting.seed);
    let outcome = run(setting, policy.as_mut());
    let Setting { workers, load, .. } = setting;
    let formula = kind == Kind::Tenfold && setting.spread == Spread::Exponential;
    Cell {
        policy: kind.name(),
        workers,
        c2: setting.spread.c2(),
        load,
        mean_wait: outcome.mean(),
        p99_wait: outcome.quantile(0.99),
        imbalance: outcome.imbalance(),
        erlang_mean: formula.then(|| erlang::mean_wait(workers, load)),
        erlang_p99: formula.then(|| erlang::wait_quantile(workers, load, 0.99)),
    }
}

fn check_against_erlang(cells: &[Cell]) -> anyhow::Result<()> {
    for cell in cells {
        let Some(expected) = cell.erlang_mean else { continue };
        let error = (cell.mean_wait - expected).abs();
        ensure!(
            error <= (TOLERANCE * expected).max(TOLERANCE_NEAR_ZERO),
            "{} workers at {}: simulated mean wait {:.4}, Erlang says {expected:.4}",
            cell.workers,
            cell.load,
            cell.mean_wait
        );
    }
    Ok(())
}
