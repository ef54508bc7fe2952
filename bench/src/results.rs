//! What was measured, cell by cell and round by round, and the statistics of it.

use std::collections::BTreeMap;

use serde::Serialize;
use tenfold::policy::SplitMix64;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Better {
    Higher,
    Lower,
    /// It tells of the bench, not of a peer: no ratio is made of it.
    Neither,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

impl Metric {
    pub(crate) const fn higher(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Higher }
    }

    pub(crate) const fn lower(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Lower }
    }

    pub(crate) const fn of_the_bench(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, better: Better::Neither }
    }
}

/// One metric of one peer in one case, a value per round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) scenario: &'static str,
    pub(crate) case: String,
    pub(crate) peer: &'static str,
    pub(crate) metric: Metric,
    /// By round: pairs with those of other peers in the same case. Rounds that failed are absent.
    pub(crate) rounds: BTreeMap<usize, f64>,
}

/// All cells, in the order in which they were first measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Results {
    pub(crate) cells: Vec<Cell>,
    /// What a reader must know beside the numbers, in the order in which it happened.
    pub(crate) notes: Vec<String>,
    /// How long each scenario took, in the order in which they ran.
    pub(crate) took: Vec<Took>,
}

/// How long one scenario took, with its starts and warm-ups.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Took {
    pub(crate) scenario: &'static str,
    pub(crate) seconds: u64,
}

/// What the first peer of a case shows over what another one does.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Comparison<'a> {
    pub(crate) scenario: &'static str,
    pub(crate) case: &'a str,
    pub(crate) metric: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) theirs: &'static str,
    pub(crate) ratio: Ratio,
}

/// Where a value belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) scenario: &'static str,
    pub(crate) case: &'a str,
    pub(crate) peer: &'static str,
    pub(crate) round: usize,
}

impl Results {
    pub(crate) fn add(&mut self, place: Place<'_>, metric: Metric, value: f64) {
        let Place { scenario, case, peer, round } = place;
        let found = self.cells.iter_mut().find(|cell| {
            cell.scenario == scenario
                && cell.case == case
                && cell.peer == peer
                && cell.metric == metric
        });
        let cell = match found {
            Some(cell) => cell,
            None => {
                let case = case.to_owned();
                self.cells.push(Cell { scenario, case, peer, metric, rounds: BTreeMap::new() });
                self.cells.last_mut().expect("one was just added")
            }
        };
        cell.rounds.insert(round, value);
    }

    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            eprintln!("note: {note}");
            self.notes.push(note);
        }
    }

    /// Every case compared with its first peer, in the order of the cells.
    pub(crate) fn comparisons(&self) -> Vec<Comparison<'_>> {
        let compared = |theirs| {
            let ours = self.first_of(theirs)?;
            let Cell { scenario, case, peer, metric, .. } = theirs;
            let (scenario, metric, ours_name) = (*scenario, metric.name, ours.peer);
            let ratio = ratio(ours, theirs).filter(|_| ours.peer != *peer)?;
            Some(Comparison { scenario, case, metric, ours: ours_name, theirs: peer, ratio })
        };
        self.cells.iter().filter_map(compared).collect()
    }

    /// The cell of the same case and metric whose peer comes first in the case.
    fn first_of(&self, cell: &Cell) -> Option<&Cell> {
        let in_case = |other: &&Cell| other.scenario == cell.scenario && other.case == cell.case;
        let first = self.cells.iter().find(in_case)?.peer;
        self.find(cell.scenario, &cell.case, first, cell.metric.name)
    }

    pub(crate) fn find(
        &self,
        scenario: &str,
        case: &str,
        peer: &str,
        metric: &str,
    ) -> Option<&Cell> {
        self.cells.iter().find(|cell| {
            cell.scenario == scenario
                && cell.case == case
                && cell.peer == peer
                && cell.metric.name == metric
        })
    }
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Cell {
    /// `None` if no round was measured.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut values: Vec<f64> = self.rounds.values().copied().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Summary { median: middle(&values), min, max })
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

/// A ratio and the interval that holds 95 % of its bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) pairs: usize,
}

const RESAMPLES: usize = 4000;

/// The geometric mean of `ours / theirs` over the rounds that both have, and its percentile
/// bootstrap over those pairs. `None` without two pairs, if a value is not above 0, or for what
/// tells of the bench.
pub(crate) fn ratio(ours: &Cell, theirs: &Cell) -> Option<Ratio> {
    if ours.metric.better == Better::Neither {
        return None;
    }
    let logs: Vec<f64> = (ours.rounds.iter())
        .filter_map(|(round, our)| Some((*our, *theirs.rounds.get(round)?)))
        .map(|(our, their)| (our / their).ln())
        .collect();
    if logs.len() < 2 || logs.iter().any(|log| !log.is_finite()) {
        return None;
    }
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / logs.len() as f64;
    // A fixed seed: the same measurements give the same interval.
    let mut random = SplitMix64::new(95);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let draw = |_| logs[random.below(logs.len() as u64) as usize];
            mean(&mut (0..logs.len()).map(draw))
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize].exp();
    let value = mean(&mut logs.iter().copied()).exp();
    Some(Ratio { value, low: at(0.025), high: at(0.975), pairs: logs.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RPS: Metric = Metric::higher("requests", "1/s");

    fn cell(values: &[f64]) -> Cell {
        let mut results = Results::default();
        for (round, value) in values.iter().enumerate() {
            let place = Place { scenario: "s", case: "c", peer: "p", round };
            results.add(place, RPS, *value);
        }
        results.cells.pop().expect("one cell")
    }

    #[test]
    fn pairs_cancel_what_moves_both() {
        // The machine is ten times as fast in some rounds; ours is always twice as fast as theirs.
        let theirs = cell(&[10.0, 100.0, 11.0, 90.0, 10.5]);
        let ours = cell(&[20.0, 200.0, 22.0, 180.0, 21.0]);
        let ratio = ratio(&ours, &theirs).expect("five pairs");
        assert!((ratio.value - 2.0).abs() < 1e-9 && ratio.pairs == 5, "{ratio:?}");
        assert!((ratio.low - 2.0).abs() < 1e-9 && (ratio.high - 2.0).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        let mut random = SplitMix64::new(1);
        let mut noisy = || -> Vec<f64> { (0..12).map(|_| 100.0 + random.unit()).collect() };
        let held = (0..100)
            .filter_map(|_| ratio(&cell(&noisy()), &cell(&noisy())))
            .filter(|ratio| ratio.low <= 1.0 && 1.0 <= ratio.high)
            .count();
        // Of so few pairs a percentile bootstrap holds somewhat less than its 95 %.
        assert!((85..=99).contains(&held), "{held} of 100");
    }

    #[test]
    fn there_is_no_ratio_to_zero_or_of_one_pair() {
        assert_eq!(ratio(&cell(&[1.0, 0.0]), &cell(&[1.0, 1.0])), None);
        assert_eq!(ratio(&cell(&[1.0]), &cell(&[1.0])), None);
    }

    #[test]
    fn the_median_of_an_even_count_is_between_the_two() {
        let summary = cell(&[4.0, 1.0, 3.0, 2.0]).summary().expect("four rounds");
        assert_eq!(summary, Summary { median: 2.5, min: 1.0, max: 4.0 });
    }
}
