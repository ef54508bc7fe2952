//! Writes a run down: all numbers as JSON, a page in Markdown that begins with what was not kept.

use std::fmt::{Display, Write as _};
use std::path::Path;

use anyhow::Context;

use crate::document::{Document, FILE};
use crate::files::write;
use crate::plot::Chart;
use crate::provenance::Ran;
use crate::results::{Cell, Metric, Pair, Ratio, Summary};
use crate::targets::{Outcome, verdicts};
use crate::{losses, profile};

/// Its name in the directory of results.
pub(crate) const PAGE: &str = "report.md";

/// Fewer pairs than this are no basis for an interval; the page says so.
const PAIRS_WANTED: usize = 10;

/// Writes `results.json`, the plots that were just drawn, and the page.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write_all(
    directory: &Path,
    document: &Document,
    charts: &[(String, Chart)],
) -> anyhow::Result<()> {
    write(&directory.join(FILE), &document.json()?)?;
    for (name, chart) in charts {
        write(&directory.join(format!("{name}.svg")), &chart.render())?;
    }
    write_page(directory, document)
}

/// Writes the page anew from `results.json` of `directory`, and tells where it is.
///
/// # Errors
/// There is none, it holds something else, or the page cannot be written.
pub(crate) fn rewrite(directory: &Path) -> anyhow::Result<()> {
    let document = Document::read(directory)?;
    let document =
        document.with_context(|| format!("there is no {}", directory.join(FILE).display()))?;
    write_page(directory, &document)?;
    println!("{}", directory.join(PAGE).display());
    Ok(())
}

fn write_page(directory: &Path, document: &Document) -> anyhow::Result<()> {
    write(&directory.join(PAGE), &page(document))
}

/// The page, which says nothing that the document does not.
pub(crate) fn page(document: &Document) -> String {
    let Document { machine, results, figures } = document;
    let pairs = results.pairs();
    let mut page = String::from("# Measured\n\n");
    page.push_str(&machine.describe());
    rounds(&mut page, document);
    targets(&mut page, document);
    losses::tell(&mut page, &pairs);
    profile::tell(&mut page, results, machine.cpus);
    notes(&mut page, document);
    if !figures.is_empty() {
        page.push_str("\n## Plots\n\n");
        for figure in figures {
            let _ = writeln!(page, "![{}]({}.svg)\n", figure.title, figure.name);
        }
    }
    tables(&mut page, document, &pairs);
    times(&mut page, &results.ran);
    page
}

/// How often and from which seed, of each scenario if they differ, and what is made of that.
fn rounds(page: &mut String, document: &Document) {
    let results = &document.results;
    let measured =
        |ran: &&Ran| results.cells.iter().any(|cell| cell.scenario == ran.scenario.as_str());
    let mut alike: Vec<(&Ran, Vec<&str>)> = Vec::new();
    for ran in results.ran.iter().filter(measured) {
        let of = |ran: &Ran| (ran.rounds, ran.seed);
        match alike.iter().position(|(one, _)| of(one) == of(ran)) {
            Some(at) => alike[at].1.push(&ran.scenario),
            None => alike.push((ran, vec![ran.scenario.as_str()])),
        }
    }
    let one = |ran: &Ran| {
        let rounds = if ran.rounds == Some(1) { "round" } else { "rounds" };
        format!("{} {rounds}, seed {}", known(ran.rounds), known(ran.seed))
    };
    let told = match alike.as_slice() {
        [] => return,
        [(ran, _)] => one(ran),
        several => {
            let told = |(ran, scenarios): &(&Ran, Vec<&str>)| {
                format!("{}: {}", scenarios.join(", "), one(ran))
            };
            several.iter().map(told).collect::<Vec<_>>().join("; ")
        }
    };
    let _ = writeln!(
        page,
        "\n{told}. Within a round peers are measured one after the other. A ratio is the geometric \
         mean over rounds of ours over theirs, with the interval that holds 95 % of its bootstrap. \
         Other numbers are medians over rounds, with the least and the greatest."
    );
    let few: Vec<&str> = (results.ran.iter().filter(measured))
        .filter(|ran| ran.rounds.is_some_and(|rounds| rounds < PAIRS_WANTED))
        .map(|ran| ran.scenario.as_str())
        .collect();
    if !few.is_empty() {
        let _ = writeln!(
            page,
            "\n**Fewer than {PAIRS_WANTED} rounds of {}: the intervals there are narrower than the \
             truth.**",
            few.join(", ")
        );
    }
}

fn targets(page: &mut String, document: &Document) {
    let verdicts = verdicts(&document.results);
    if verdicts.is_empty() {
        return;
    }
    page.push_str(
        "\n## Goals, broken ones first\n\n\
         Broken: the whole interval of the ratio is beyond the goal, or, where the goal is no \
         ratio, the median is. Undecided: the interval spans the goal, or there are too few pairs \
         for one. Kept: everything else.\n\n\
         | | what | goal | measured | rival | ratio |\n|---|---|---|---|---|---|\n",
    );
    for verdict in &verdicts {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            match verdict.outcome {
                Outcome::Broken => "**broken**",
                Outcome::Undecided => "undecided",
                Outcome::Kept => "kept",
            },
            verdict.target.what(),
            verdict.target.goal(),
            number(verdict.measured),
            verdict.rival.map_or("–".to_owned(), |rival| {
                format!("{}: {}", verdict.target.rival(), number(rival))
            }),
            interval(verdict.ratio)
        );
    }
    let mut told = Vec::new();
    for verdict in verdicts.iter().filter(|verdict| verdict.outcome != Outcome::Kept) {
        let target = verdict.target;
        let Some(reason) = target.reason() else { continue };
        if !told.contains(&reason) {
            told.push(reason);
            let (scenario, metric, ours) = (target.scenario, target.metric, target.ours.name());
            let _ = writeln!(page, "\n*{scenario}, {metric} of {ours}:* {reason}");
        }
    }
}

/// Scenarios may have the same to say, such as that a peer is not installed.
fn notes(page: &mut String, document: &Document) {
    let mut told: Vec<&str> = Vec::new();
    for note in &document.results.notes {
        let text = note.text.lines().next().unwrap_or_default();
        if !told.contains(&text) {
            told.push(text);
        }
    }
    if !told.is_empty() {
        page.push_str("\n## To know beside the numbers\n\n");
    }
    for text in told {
        let _ = writeln!(page, "* {text}");
    }
}

fn tables(page: &mut String, document: &Document, pairs: &[Pair<'_>]) {
    let all = &document.results.cells;
    let mut told: Vec<(&str, &str)> = Vec::new();
    for cell in all {
        let key = (cell.scenario, cell.case.as_str());
        if !told.contains(&key) {
            told.push(key);
            let cells: Vec<&Cell> =
                all.iter().filter(|other| (other.scenario, other.case.as_str()) == key).collect();
            let _ = writeln!(page, "\n## {}: {}", key.0, key.1);
            table(page, &cells, "median (least–greatest)", |cell| {
                cell.summary().map_or("–".to_owned(), summary)
            });
            ratios(page, &cells, pairs);
        }
    }
}

/// The rivals of a case, and what the first peer shows over each.
fn ratios(page: &mut String, cells: &[&Cell], pairs: &[Pair<'_>]) {
    let found = |cell: &Cell| {
        let pair = pairs.iter().find(|pair| std::ptr::eq(pair.theirs, cell))?;
        Some((pair.ours.peer, pair.ratio?))
    };
    let rivals: Vec<&Cell> = cells.iter().filter(|cell| found(cell).is_some()).copied().collect();
    let Some((ours, _)) = rivals.first().and_then(|cell| found(cell)) else { return };
    table(page, &rivals, &format!("{ours} over it"), |cell| {
        interval(found(cell).map(|(_, ratio)| ratio))
    });
}

/// How long each scenario took, for whoever plans a run, and which run it was.
fn times(page: &mut String, ran: &[Ran]) {
    page.push_str(
        "\n## How long it took\n\n| scenario | minutes | rounds | seed | peers | began, UTC | \
         commit | host took, % |\n|---|---|---|---|---|---|---|---|\n",
    );
    for one in ran {
        let Ran { scenario, seconds, rounds, seed, date, commit, peers, taken } = one;
        let peers = peers.as_ref().map(|peers| match peers.as_slice() {
            [] => "all".to_owned(),
            some => some.join(", "),
        });
        let _ = writeln!(
            page,
            "| {scenario} | {:.1} | {} | {} | {} | {} | {} | {} |",
            *seconds as f64 / 60.0,
            known(*rounds),
            known(*seed),
            known(peers),
            known(date.as_ref()),
            known(commit.as_ref()),
            known(taken.map(number))
        );
    }
    let all: u64 = ran.iter().map(|one| one.seconds).sum();
    let _ = writeln!(page, "| all of these | {:.1} | | | | | | |", all as f64 / 60.0);
}

/// One row per peer, one column per metric.
fn table(page: &mut String, cells: &[&Cell], title: &str, content: impl Fn(&Cell) -> String) {
    let mut metrics: Vec<Metric> = Vec::new();
    let mut peers: Vec<&str> = Vec::new();
    for cell in cells {
        if !metrics.contains(&cell.metric) {
            metrics.push(cell.metric);
        }
        if !peers.contains(&cell.peer) {
            peers.push(cell.peer);
        }
    }
    let heads: Vec<String> =
        metrics.iter().map(|metric| format!("{}, {}", metric.name, metric.unit)).collect();
    let _ = writeln!(page, "\n| {title} | {} |", heads.join(" | "));
    let _ = writeln!(page, "|---{}|", "|---".repeat(metrics.len()));
    for peer in peers {
        let row: Vec<String> = (metrics.iter())
            .map(|metric| {
                let cell = cells.iter().find(|cell| cell.peer == peer && cell.metric == *metric);
                cell.map_or("–".to_owned(), |cell| content(cell))
            })
            .collect();
        let _ = writeln!(page, "| {peer} | {} |", row.join(" | "));
    }
}

fn summary(summary: Summary) -> String {
    let Summary { median, min, max } = summary;
    if min == max {
        return number(median);
    }
    format!("{} ({}–{})", number(median), number(min), number(max))
}

/// What a file may not say.
pub(crate) fn known<T: Display>(value: Option<T>) -> String {
    value.map_or("–".to_owned(), |value| value.to_string())
}

pub(crate) fn interval(ratio: Option<Ratio>) -> String {
    let told = |r: Ratio| format!("{:.2} [{:.2}–{:.2}]", r.value, r.low, r.high);
    ratio.map_or("–".to_owned(), told)
}

/// Three digits that count, and none that do not.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value == value.trunc() {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Place, Results};

    /// One of scenarios with so many rounds each.
    fn document(rounds: &[(&'static str, usize)]) -> Document {
        let machine = serde_json::json!({
            "cpu": "some", "cpus": 2, "kernel": "6.1", "load": "0.1", "versions": []
        });
        let mut results = Results::default();
        for &(scenario, rounds) in rounds {
            for round in 0..rounds {
                let place = Place { scenario, case: "c", peer: "tenfold", round };
                results.add(place, Metric::higher("rate", "1/s"), 1.0);
            }
            results.ran.push(Ran {
                scenario: scenario.to_owned(),
                seconds: 60,
                rounds: Some(rounds),
                seed: Some(1),
                date: Some("2026-01-01T00:00:00Z".to_owned()),
                commit: Some("0123456789+changes".to_owned()),
                peers: Some(Vec::new()),
                taken: Some(0.25),
            });
        }
        let machine = serde_json::from_value(machine).expect("all that is needed is there");
        Document { machine, results, figures: Vec::new() }
    }

    #[test]
    fn rounds_that_differ_are_told_by_scenario_and_few_ones_are_named() {
        let text = page(&document(&[("hello", 12), ("tail", 12)]));
        assert!(text.contains("\n12 rounds, seed 1. Within") && !text.contains("Fewer"), "{text}");
        let text = page(&document(&[("hello", 12), ("tail", 4), ("start", 12)]));
        let told = "\nhello, start: 12 rounds, seed 1; tail: 4 rounds, seed 1. Within";
        assert!(text.contains(told), "{text}");
        assert!(text.contains("Fewer than 10 rounds of tail:"), "{text}");
        assert!(text.contains("| tail | 1.0 | 4 | 1 | all | 2026-01-01T00:00:00Z | 0123456789+"));
    }

    #[test]
    fn what_is_not_measured_in_rounds_has_only_its_time() {
        let mut document = document(&[("hello", 12), ("sim", 0)]);
        document.results.ran[1].rounds = None;
        let text = page(&document);
        assert!(text.contains("\n12 rounds, seed 1. Within"), "{text}");
        assert!(text.contains("| sim | 1.0 | – | 1 |"), "{text}");
    }
}
