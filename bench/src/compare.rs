//! Compares two runs: how many of their ratio intervals overlap, and which do not.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// What a repeated run has to show of the first, in percent of the intervals.
const OVERLAP_WANTED: f64 = 90.0;

#[derive(Debug, Deserialize)]
struct Run {
    ratios: Vec<Comparison>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Comparison {
    scenario: String,
    case: String,
    metric: String,
    ours: String,
    theirs: String,
    ratio: Interval,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Interval {
    low: f64,
    high: f64,
}

/// Prints what two `results.json` have in common.
///
/// # Errors
/// A file cannot be read, they have no ratio in common, or fewer than 90 % overlap.
pub(crate) fn compare(one: &Path, other: &Path) -> anyhow::Result<()> {
    let (text, percent) = told(&read(one)?, &read(other)?)?;
    print!("{text}");
    ensure!(percent >= OVERLAP_WANTED, "{percent:.1} % overlap, {OVERLAP_WANTED} % are wanted");
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Run> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{}: no results", path.display()))
}

/// What to print, and the share that overlaps, in percent.
fn told(one: &Run, other: &Run) -> anyhow::Result<(String, f64)> {
    let pairs: Vec<_> = (one.ratios.iter())
        .filter_map(|ratio| Some((ratio, other.ratios.iter().find(|o| o.is_of(ratio))?)))
        .collect();
    ensure!(!pairs.is_empty(), "the two runs have no ratio in common");
    let (same, apart): (Vec<_>, Vec<_>) =
        pairs.iter().partition(|(one, other)| one.ratio.overlaps(other.ratio));
    let percent = 100.0 * same.len() as f64 / pairs.len() as f64;
    let mut text =
        format!("{} of {} ratio intervals overlap: {percent:.1} %\n", same.len(), pairs.len());
    for (one, other) in apart {
        let Comparison { scenario, case, metric, ours, theirs, .. } = one;
        let (a, b) = (one.ratio, other.ratio);
        let _ = writeln!(
            text,
            "  {scenario}, {case}, {metric}, {ours} over {theirs}: {:.2}–{:.2} and {:.2}–{:.2}",
            a.low, a.high, b.low, b.high
        );
    }
    Ok((text, percent))
}

impl Comparison {
    fn is_of(&self, other: &Self) -> bool {
        Self { ratio: other.ratio, ..self.clone() } == *other
    }
}

impl Interval {
    fn overlaps(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Metric, Place, Results};

    /// A run of two metrics against one rival, as it is written down.
    fn run(rates: [f64; 3], waits: [f64; 3]) -> Run {
        let mut results = Results::default();
        for (metric, values) in
            [(Metric::higher("rate", "1/s"), rates), (Metric::lower("wait", "ms"), waits)]
        {
            for (round, value) in values.into_iter().enumerate() {
                let place = Place { scenario: "s", case: "c", peer: "ours", round };
                results.add(place, metric, value);
                results.add(Place { peer: "theirs", ..place }, metric, 1.0);
            }
        }
        let ratios = serde_json::to_value(results.comparisons()).expect("it is plain data");
        serde_json::from_value(serde_json::json!({ "ratios": ratios })).expect("its own format")
    }

    #[test]
    fn intervals_that_share_a_value_overlap_and_others_are_named() {
        let one = run([1.0, 1.2, 1.4], [2.0, 2.1, 2.2]);
        let (text, percent) = told(&one, &run([1.3, 1.1, 1.2], [2.1, 2.1, 2.0])).expect("pairs");
        assert_eq!((text.lines().count(), percent), (1, 100.0), "{text}");
        let (text, percent) = told(&one, &run([1.3, 1.1, 1.2], [5.1, 5.0, 5.2])).expect("pairs");
        assert_eq!((text.lines().count(), percent), (2, 50.0), "{text}");
        assert!(text.contains("s, c, wait, ours over theirs: 2.00–2.20 and 5.00–5.20"), "{text}");
    }

    #[test]
    fn runs_with_nothing_in_common_are_no_agreement() {
        let nothing = Run { ratios: Vec::new() };
        assert!(told(&run([1.0; 3], [1.0; 3]), &nothing).is_err());
    }
}
