//! What was measured, cell by cell and round by round, and the statistics of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use tenfold::policy::SplitMix64;

use crate::names::{Name, name};
use crate::provenance::Ran;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Better {
    Higher,
    Lower,
    /// It tells of the bench, not of a peer: no ratio is made of it.
    Neither,
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metric {
    #[serde(deserialize_with = "name")]
    pub(crate) name: Name,
    #[serde(deserialize_with = "name")]
    pub(crate) unit: Name,
    pub(crate) better: Better,
}

impl Metric {
    pub(crate) const fn higher(name: Name, unit: Name) -> Self {
        Self { name, unit, better: Better::Higher }
    }

    pub(crate) const fn lower(name: Name, unit: Name) -> Self {
        Self { name, unit, better: Better::Lower }
    }

    pub(crate) const fn of_the_bench(name: Name, unit: Name) -> Self {
        Self { name, unit, better: Better::Neither }
    }
}

/// One metric of one peer in one case, a value per round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    #[serde(deserialize_with = "name")]
    pub(crate) scenario: Name,
    pub(crate) case: String,
    #[serde(deserialize_with = "name")]
    pub(crate) peer: Name,
    pub(crate) metric: Metric,
    /// By round: pairs with those of other peers in the same case. Rounds that failed are absent.
    #[serde(deserialize_with = "numbers")]
    pub(crate) rounds: BTreeMap<usize, f64>,
}

/// Without those that are no number, which JSON cannot say and files of earlier versions have as
/// null.
fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<usize, f64>, D::Error> {
    let rounds: BTreeMap<usize, Option<f64>> = Deserialize::deserialize(from)?;
    Ok(rounds.into_iter().filter_map(|(round, value)| Some((round, value?))).collect())
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// In the order in which they were first measured, scenario by scenario.
    pub(crate) cells: Vec<Cell>,
    /// What a reader must know beside the numbers, in the order in which it happened.
    pub(crate) notes: Vec<Note>,
    /// The last run of each scenario; its name was another one.
    #[serde(alias = "took")]
    pub(crate) ran: Vec<Ran>,
}

/// A remark on what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "AnyNote")]
pub(crate) struct Note {
    /// Whose run it was made in, where that is known.
    pub(crate) scenario: Option<String>,
    pub(crate) text: String,
}

/// A note as it may stand in a file: of earlier versions, its text alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnyNote {
    Text(String),
    Of { scenario: Option<String>, text: String },
}

impl From<AnyNote> for Note {
    fn from(note: AnyNote) -> Self {
        match note {
            AnyNote::Text(text) => Self { scenario: None, text },
            AnyNote::Of { scenario, text } => Self { scenario, text },
        }
    }
}

/// One metric of the first peer of a case, and of another one there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) ours: &'a Cell,
    pub(crate) theirs: &'a Cell,
    /// None where [`ratio`] says so.
    pub(crate) ratio: Option<Ratio>,
}

/// A pair that has a ratio, as it is written down.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Comparison<'a> {
    scenario: Name,
    case: &'a str,
    metric: Name,
    ours: Name,
    theirs: Name,
    ratio: Ratio,
}

/// Where a value belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) scenario: Name,
    pub(crate) case: &'a str,
    pub(crate) peer: Name,
    pub(crate) round: usize,
}

impl Results {
    /// What is no number, such as a share of nothing, is as absent as a round that failed.
    pub(crate) fn add(&mut self, place: Place<'_>, metric: Metric, value: f64) {
        if !value.is_finite() {
            return;
        }
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

    pub(crate) fn note(&mut self, text: String) {
        if !self.notes.iter().any(|note| note.text == text) {
            eprintln!("note: {text}");
            self.notes.push(Note { scenario: None, text });
        }
    }

    /// Every case beside its first peer, in the order of the cells.
    pub(crate) fn pairs(&self) -> Vec<Pair<'_>> {
        let paired = |theirs| {
            let ours = self.first_of(theirs).filter(|ours| ours.peer != theirs.peer)?;
            Some(Pair { ours, theirs, ratio: ratio(ours, theirs) })
        };
        self.cells.iter().filter_map(paired).collect()
    }

    /// Of every pair what the first peer shows over what the other one does.
    pub(crate) fn comparisons(&self) -> Vec<Comparison<'_>> {
        let compared = |Pair { ours, theirs, ratio }| {
            let Cell { scenario, case, metric, .. } = ours;
            let (scenario, metric) = (*scenario, metric.name);
            let (ours, theirs, ratio) = (ours.peer, theirs.peer, ratio?);
            Some(Comparison { scenario, case, metric, ours, theirs, ratio })
        };
        self.pairs().into_iter().filter_map(compared).collect()
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
