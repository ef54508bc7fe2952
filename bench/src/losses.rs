//! Tells where tenfold is behind, in all that was measured, whether or not there is a goal for it.

use std::fmt::Write as _;

use clap::ValueEnum;

use crate::peer::Peer;
use crate::report::{interval, number};
use crate::results::{Better, Cell, Pair};

/// A metric of a case in which a rival is better, beyond doubt.
#[derive(Clone, Copy, Debug)]
struct Loss<'a> {
    pair: Pair<'a>,
    /// How many times as bad; 1 where a value of 0 leaves that open.
    times: f64,
}

/// Appends the section to `page`, if there is anything to compare.
pub(crate) fn tell(page: &mut String, pairs: &[Pair<'_>]) {
    let compared = pairs.iter().filter(|pair| is_compared(pair));
    let counted = compared.clone().count();
    if counted == 0 {
        return;
    }
    let losses: Vec<Loss<'_>> = compared.filter_map(|pair| loss(*pair)).collect();
    let _ = write!(
        page,
        "\n## Where tenfold is behind\n\n\
         In {} of {counted} comparisons, with or without a goal: those in which the whole interval \
         of the ratio is on the losing side, or, where a 0 leaves no ratio, every round of ours is \
         worse than every one of theirs. Worst first: the cases by their worst row, and the rows \
         of each.\n",
        losses.len()
    );
    if losses.is_empty() {
        return;
    }
    page.push_str("\n| where | what | ours | rival | ratio |\n|---|---|---|---|---|\n");
    for case in by_case(losses) {
        for (row, Loss { pair, .. }) in case.iter().enumerate() {
            let Pair { ours, theirs, ratio } = pair;
            let place =
                if row == 0 { format!("{}: {}", ours.scenario, ours.case) } else { String::new() };
            let metric = ours.metric;
            let (our, their) = (told(ours), told(theirs));
            let ratio = interval(*ratio);
            let (name, unit) = (metric.name, metric.unit);
            let _ = writeln!(page, "| {place} | {name}, {unit} | {our} | {their} | {ratio} |");
        }
    }
}

fn told(cell: &Cell) -> String {
    let median = cell.summary().map_or("–".to_owned(), |summary| number(summary.median));
    format!("{}: {median}", cell.peer)
}

/// Whether it says anything of tenfold and a rival: not what tells of the bench, nor what was
/// looked at once, nor what is no program.
fn is_compared(pair: &Pair<'_>) -> bool {
    let ours = [Peer::Tenfold, Peer::TenfoldConnection].map(Peer::name);
    let Pair { ours: our, theirs, .. } = pair;
    let several = |cell: &Cell| cell.rounds.len() > 1;
    ours.contains(&our.peer)
        && Peer::value_variants().iter().any(|peer| peer.name() == theirs.peer)
        && our.metric.better != Better::Neither
        && several(our)
        && several(theirs)
}

fn loss(pair: Pair<'_>) -> Option<Loss<'_>> {
    let Pair { ours, theirs, ratio } = pair;
    let times = match (ours.metric.better, ratio) {
        (Better::Neither, _) => None,
        (Better::Higher, Some(ratio)) => (ratio.high < 1.0).then(|| 1.0 / ratio.value),
        (Better::Lower, Some(ratio)) => (ratio.low > 1.0).then_some(ratio.value),
        (Better::Higher, None) => is_wholly_above(theirs, ours).then_some(1.0),
        (Better::Lower, None) => is_wholly_above(ours, theirs).then_some(1.0),
    };
    Some(Loss { pair, times: times? })
}

fn is_wholly_above(one: &Cell, other: &Cell) -> bool {
    let (Some(one), Some(other)) = (one.summary(), other.summary()) else { return false };
    one.min > other.max
}

/// The losses of each case, worst first in both.
fn by_case(mut losses: Vec<Loss<'_>>) -> Vec<Vec<Loss<'_>>> {
    losses.sort_by(|one, other| other.times.total_cmp(&one.times));
    let mut cases: Vec<Vec<Loss<'_>>> = Vec::new();
    let place = |loss: &Loss<'_>| (loss.pair.ours.scenario, loss.pair.ours.case.clone());
    for loss in losses {
        match cases.iter_mut().find(|case| place(&case[0]) == place(&loss)) {
            Some(case) => case.push(loss),
            None => cases.push(vec![loss]),
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Metric, Place, Results};

    const RATE: Metric = Metric::higher("rate", "1/s");
    const WAIT: Metric = Metric::lower("wait", "ms");
    const LAG: Metric = Metric::of_the_bench("lag", "ms");

    /// Adds a metric of a case: what tenfold shows in each round, and what nginx does.
    fn add(results: &mut Results, case: &str, metric: Metric, rounds: &[(f64, f64)]) {
        for (round, (ours, theirs)) in rounds.iter().enumerate() {
            let place = Place { scenario: "hello", case, peer: "tenfold", round };
            results.add(place, metric, *ours);
            results.add(Place { peer: "nginx", ..place }, metric, *theirs);
        }
    }

    fn told(results: &Results) -> String {
        let mut page = String::new();
        tell(&mut page, &results.pairs());
        page
    }

    #[test]
    fn losses_are_told_worst_case_first_and_nothing_else_is() {
        let mut results = Results::default();
        // Ahead, and in doubt.
        add(&mut results, "a", RATE, &[(2.0, 1.0), (3.0, 1.0)]);
        add(&mut results, "a", WAIT, &[(2.0, 1.0), (1.0, 2.0)]);
        add(&mut results, "a", LAG, &[(9.0, 1.0), (9.0, 1.0)]);
        // Behind by a half, by three times, and by four times.
        add(&mut results, "b", RATE, &[(2.0, 3.0), (20.0, 30.0)]);
        add(&mut results, "c", WAIT, &[(3.0, 1.0), (30.0, 10.0)]);
        add(&mut results, "c", RATE, &[(1.0, 4.0), (10.0, 40.0)]);
        let text = told(&results);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("tenfold: ")).collect();
        let expected = [
            "| hello: c | rate, 1/s | tenfold: 5.50 | nginx: 22 | 0.25 [0.25–0.25] |",
            "|  | wait, ms | tenfold: 16.5 | nginx: 5.50 | 3.00 [3.00–3.00] |",
            "| hello: b | rate, 1/s | tenfold: 11 | nginx: 16.5 | 0.67 [0.67–0.67] |",
        ];
        assert_eq!(rows, expected, "{text}");
        assert!(text.contains("In 3 of 5 comparisons"), "{text}");
    }

    #[test]
    fn without_a_ratio_every_round_must_be_worse() {
        let mut results = Results::default();
        add(&mut results, "apart", WAIT, &[(8.0, 0.0), (12.0, 6.0)]);
        add(&mut results, "not apart", WAIT, &[(8.0, 0.0), (12.0, 9.0)]);
        // One look at each is none.
        add(&mut results, "once", WAIT, &[(8.0, 0.0)]);
        for round in 0..2 {
            let place = Place { scenario: "hello", case: "not apart", peer: "no peer", round };
            results.add(place, WAIT, 1.0);
        }
        let text = told(&results);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("tenfold: ")).collect();
        assert_eq!(rows, ["| hello: apart | wait, ms | tenfold: 10 | nginx: 3 | – |"], "{text}");
    }

    #[test]
    fn a_case_without_tenfold_is_nobodys_loss() {
        let mut results = Results::default();
        for (peer, value) in [("nginx", 9.0), ("Node cluster", 1.0)] {
            for round in 0..2 {
                let place = Place { scenario: "hello", case: "a", peer, round };
                results.add(place, WAIT, value);
            }
        }
        assert_eq!(told(&results), "");
    }
}
