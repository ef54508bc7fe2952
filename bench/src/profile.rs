//! Says why a peak rate is what it is: where the CPU goes, and what no front could exceed.
//!
//! On a machine with few CPUs the workers and the load generator need most of them. What they
//! spend per request bounds every rate, and so every ratio, however little the front costs.

use std::fmt::Write as _;

use crate::report::number;
use crate::results::{Metric, Results};
use crate::scenario::hello::{RATE, WORKERS};
use crate::scenario::{FRONT_CPU, GENERATOR_CPU, WORKER_CPU};
use crate::targets::{Goal, verdicts};

const SCENARIO: &str = "hello";

/// Medians of one peer in one case; CPU in µs per request.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Costs {
    rate: f64,
    /// 0 if nothing stands in front of the workers.
    front: f64,
    workers: f64,
    generator: f64,
}

impl Costs {
    fn of(results: &Results, case: &str, peer: &str) -> Option<Self> {
        let median = |metric: Metric| {
            Some(results.find(SCENARIO, case, peer, metric.name)?.summary()?.median)
        };
        Some(Self {
            rate: median(RATE)?,
            front: median(FRONT_CPU).unwrap_or(0.0),
            workers: median(WORKER_CPU)?,
            generator: median(GENERATOR_CPU)?,
        })
    }

    /// CPUs that were busy with it.
    fn busy(self) -> f64 {
        self.rate * (self.front + self.workers + self.generator) / 1e6
    }

    /// What a front that cost nothing would reach with these workers and this generator, which is
    /// one thread, as each of the workers is.
    fn without_front(self, cpus: f64) -> f64 {
        let shared = cpus / (self.workers + self.generator);
        let alone = (1.0 / self.generator).min(f64::from(WORKERS) / self.workers);
        1e6 * shared.min(alone)
    }
}

/// Appends the section to `page`, if there is something to tell.
pub(crate) fn tell(page: &mut String, results: &Results, cpus: usize) {
    let mut cases: Vec<&str> = Vec::new();
    for cell in results.cells.iter().filter(|cell| cell.scenario == SCENARIO) {
        if !cases.contains(&cell.case.as_str()) {
            cases.push(&cell.case);
        }
    }
    let tables: Vec<String> =
        cases.iter().filter_map(|case| table(results, case, cpus as f64)).collect();
    if tables.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "\n## Why peak rates are what they are\n\n\
         CPU per request, medians. Front, workers and load generator share {cpus} CPUs; the front \
         and the generator have one thread each, Watt's workers are threads of its one process. \
         The last column is the most by which any front could be ahead, were it to cost nothing: \
         the {cpus} CPUs over what the workers and the generator of the first row spend.\n"
    );
    page.extend(tables);
    for line in goals_out_of_reach(results, cpus as f64) {
        let _ = writeln!(page, "\n{line}");
    }
}

fn table(results: &Results, case: &str, cpus: f64) -> Option<String> {
    let mut peers: Vec<&str> = Vec::new();
    for cell in results.cells.iter().filter(|c| c.scenario == SCENARIO && c.case == case) {
        if !peers.contains(&cell.peer) {
            peers.push(cell.peer);
        }
    }
    let all: Vec<(&str, Costs)> =
        peers.iter().filter_map(|peer| Some((*peer, Costs::of(results, case, peer)?))).collect();
    let free = all.first()?.1.without_front(cpus);
    let mut text = format!(
        "\n| {case} | rate, requests/s | front, µs | workers, µs | generator, µs | CPUs busy | \
         front's share of a CPU | a free front over it |\n|---|---|---|---|---|---|---|---|\n"
    );
    for (peer, costs) in all {
        let Costs { rate, front, workers, generator } = costs;
        let numbers = [rate, front, workers, generator, costs.busy(), rate * front / 1e6];
        let numbers = numbers.map(number).join(" | ");
        let _ = writeln!(text, "| {peer} | {numbers} | {:.2} |", free / rate);
    }
    Some(text)
}

/// A sentence for each broken goal on a rate that a front without any cost would break as well.
fn goals_out_of_reach(results: &Results, cpus: f64) -> Vec<String> {
    let broken = verdicts(results).into_iter().filter(|verdict| !verdict.kept);
    broken
        .filter_map(|verdict| {
            let target = verdict.target;
            let Goal::RatioAtLeast(bound, rival) = target.goal else { return None };
            if target.scenario != SCENARIO || target.metric != RATE.name {
                return None;
            }
            let ours = Costs::of(results, target.case, target.ours.name())?;
            let theirs = Costs::of(results, target.case, rival.name())?;
            let reachable = ours.without_front(cpus) / theirs.rate;
            (reachable < bound).then(|| {
                format!(
                    "**Out of reach here**: {} asks for {}; with these workers and this \
                     generator a front that cost nothing would reach {reachable:.2}x.",
                    target.what(),
                    target.goal()
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_front_is_bounded_by_cpus_or_by_the_one_thread_of_the_generator() {
        // 40 µs of workers and 10 of the generator on 2 CPUs: 40,000 per second.
        let costs = Costs { rate: 25_000.0, front: 30.0, workers: 40.0, generator: 10.0 };
        assert!((costs.without_front(2.0) - 40_000.0).abs() < 1e-6);
        assert!((costs.busy() - 2.0).abs() < 1e-9);
        // With many CPUs its two workers are what limits, and with cheap ones its generator.
        assert!((costs.without_front(64.0) - 50_000.0).abs() < 1e-6);
        let cheap = Costs { workers: 2.0, ..costs };
        assert!((cheap.without_front(64.0) - 100_000.0).abs() < 1e-6);
    }
}
