//! Says why a peak rate is what it is: where the CPU goes, and what no front could exceed.
//!
//! On a machine with few CPUs the workers and the load generator need most of them. What they
//! spend per request bounds every rate, and so every ratio, however little the front costs.

use std::fmt::Write as _;

use crate::report::number;
use crate::results::{Metric, Results};
use crate::scenario::hello::{RATE, WORKERS};
use crate::scenario::{FRONT_CPU, GENERATOR_CPU, WORKER_CPU};
use crate::targets::{Goal, Outcome, verdicts};

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

    /// What front and workers may spend together at another rate, with as many CPUs busy and this
    /// generator.
    fn allowed(self, rate: f64) -> f64 {
        1e6 * self.busy() / rate - self.generator
    }
}

/// What each peer of a case spends, in the order of the results.
fn rows<'a>(results: &'a Results, case: &str) -> Vec<(&'a str, Costs)> {
    let mut peers: Vec<&str> = Vec::new();
    for cell in results.cells.iter().filter(|c| c.scenario == SCENARIO && c.case == case) {
        if !peers.contains(&cell.peer) {
            peers.push(cell.peer);
        }
    }
    let costs = |peer| Some((peer, Costs::of(results, case, peer)?));
    peers.into_iter().filter_map(costs).collect()
}

/// The rate of a front that costs nothing, before the cheapest workers and the cheapest generator
/// that any row shows. No row is above it, but for what medians of several things may differ: its
/// rate is the CPUs that were busy over all that was spent. The generator is one thread, as each of
/// the workers is.
fn free_front(rows: &[(&str, Costs)], cpus: f64) -> Option<f64> {
    let least = |cost: fn(&Costs) -> f64| {
        let costs = rows.iter().map(|(_, costs)| cost(costs)).filter(|cost| *cost > 0.0);
        costs.min_by(f64::total_cmp)
    };
    let (workers, generator) = (least(|costs| costs.workers)?, least(|costs| costs.generator)?);
    let shared = cpus / (workers + generator);
    let alone = (1.0 / generator).min(f64::from(WORKERS) / workers);
    Some(1e6 * shared.min(alone))
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
        cases.iter().filter_map(|case| table(case, &rows(results, case), cpus as f64)).collect();
    if tables.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "\n## Why peak rates are what they are\n\n\
         CPU per request, medians. Front, workers and load generator share {cpus} CPUs; the front \
         and the generator have one thread each, Watt's workers are threads of its one process. \
         The last column bounds by how much any front could be ahead of a row: the {cpus} CPUs \
         over the least that workers spend in any row of the table and the least that the \
         generator does, with no front at all. Nobody has to be able to reach it: the cheapest \
         workers may be cheap because of what stands in front of them.\n"
    );
    page.extend(tables);
    for line in missed_rates(results, cpus as f64) {
        let _ = writeln!(page, "\n{line}");
    }
}

fn table(case: &str, rows: &[(&str, Costs)], cpus: f64) -> Option<String> {
    let free = free_front(rows, cpus)?;
    let mut text = format!(
        "\n| {case} | rate, requests/s | front, µs | workers, µs | generator, µs | CPUs busy | \
         front's share of a CPU | a free front over it |\n|---|---|---|---|---|---|---|---|\n"
    );
    for (peer, costs) in rows {
        let Costs { rate, front, workers, generator } = *costs;
        let numbers = [rate, front, workers, generator, costs.busy(), rate * front / 1e6];
        let numbers = numbers.map(number).join(" | ");
        let _ = writeln!(text, "| {peer} | {numbers} | {:.2} |", free / rate);
    }
    Some(text)
}

/// For each goal on a rate that is not kept: what would have to go, or that nothing could win it.
fn missed_rates(results: &Results, cpus: f64) -> Vec<String> {
    let missed = verdicts(results).into_iter().filter(|one| one.outcome != Outcome::Kept);
    missed
        .filter_map(|verdict| {
            let target = verdict.target;
            let Goal::RatioAtLeast(bound, rival) = target.goal else { return None };
            if target.scenario != SCENARIO || target.metric != RATE.name {
                return None;
            }
            let rows = rows(results, target.case);
            let of = |name: &str| rows.iter().find(|(peer, _)| *peer == name).map(|row| row.1);
            let (ours, theirs) = (of(target.ours.name())?, of(rival.name())?);
            let reachable = free_front(&rows, cpus)? / theirs.rate;
            let (what, goal) = (target.what(), target.goal());
            if reachable < bound {
                return Some(format!(
                    "**Out of reach here**: {what} asks for {goal}; with the cheapest workers and \
                     generator a front that cost nothing would reach {reachable:.2}x."
                ));
            }
            let (spent, allowed) = (ours.front + ours.workers, ours.allowed(bound * theirs.rate));
            // Of medians it may be within reach while the ratio of pairs is not.
            (allowed < spent).then(|| {
                format!(
                    "{what}, {goal}: with the CPUs as busy as they were, front and workers may \
                     spend {} µs together for that. They spend {}, those of {} {}.",
                    number(allowed.max(0.0)),
                    number(spent),
                    rival.name(),
                    number(theirs.front + theirs.workers)
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAR: Costs = Costs { rate: 25_000.0, front: 30.0, workers: 40.0, generator: 10.0 };

    #[test]
    fn a_free_front_is_bounded_by_cpus_or_by_the_one_thread_of_the_generator() {
        // 40 µs of workers and 10 of the generator on 2 CPUs: 40,000 per second.
        let free = |costs, cpus| free_front(&[("one", costs)], cpus).expect("there is a row");
        assert!((free(DEAR, 2.0) - 40_000.0).abs() < 1e-6);
        assert!((DEAR.busy() - 2.0).abs() < 1e-9);
        // With many CPUs its two workers are what limits, and with cheap ones its generator.
        assert!((free(DEAR, 64.0) - 50_000.0).abs() < 1e-6);
        let cheap = Costs { workers: 2.0, ..DEAR };
        assert!((free(cheap, 64.0) - 100_000.0).abs() < 1e-6);
    }

    #[test]
    fn no_row_is_above_the_rate_of_a_free_front() {
        // The second has no front, and cheaper workers and generator than the first.
        let rate = 1.9e6 / (20.0 + 9.0);
        let bare = Costs { rate, front: 0.0, workers: 20.0, generator: 9.0 };
        let free = free_front(&[("one", DEAR), ("bare", bare)], 2.0).expect("there are rows");
        assert!(free > bare.rate && free > DEAR.rate, "{free}");
        assert!((free - 2e6 / 29.0).abs() < 1e-6, "{free}");
        assert_eq!(free_front(&[], 2.0), None);
    }

    #[test]
    fn what_may_be_spent_is_what_the_same_cpus_leave_at_the_wanted_rate() {
        // 2 CPUs busy: at 40,000 per second 50 µs for each, of which the generator takes 10.
        assert!((DEAR.allowed(40_000.0) - 40.0).abs() < 1e-9);
        assert!((DEAR.allowed(DEAR.rate) - (DEAR.front + DEAR.workers)).abs() < 1e-9);
    }
}
