//! What `results.json` holds, and what of it stays when some scenarios are run again.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::plot::Chart;
use crate::results::{Comparison, Note, Results};
use crate::scenario::Scenario;

/// Its name in the directory of results.
pub(crate) const FILE: &str = "results.json";

/// What was measured on one machine, in one run or several. The page is made of nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub(crate) machine: Machine,
    pub(crate) results: Results,
    pub(crate) figures: Vec<Figure>,
}

/// A plot, which is in a file beside: `NAME.svg`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) scenario: String,
    pub(crate) name: String,
    pub(crate) title: String,
}

/// What is written: the ratios can be made of the results, and are there for other programs.
#[derive(Serialize)]
struct Written<'a> {
    machine: &'a Machine,
    results: &'a Results,
    figures: &'a [Figure],
    ratios: Vec<Comparison<'a>>,
}

/// What is read. Files of earlier versions, which held one run, have its rounds and its seed here,
/// and no list of plots.
#[derive(Deserialize)]
struct Read {
    machine: Machine,
    rounds: Option<usize>,
    seed: Option<u64>,
    results: Results,
    figures: Option<Vec<Figure>>,
}

/// The plots beside files that have no list of them: scenario, name and title.
const FIGURES_UNLISTED: [[&str; 3]; 5] = [
    ["tail", "tail", "99th percentile of waiting by load, ten workers"],
    ["memory", "memory", "1 MB after 100 ms, limit 100: worker memory by connections"],
    ["memory", "memory-rate", "1 MB after 100 ms, limit 100: rate by connections"],
    ["flood", "flood-10x", "Answered within a second, through a flood of 10x the capacity"],
    ["flood", "flood-60x", "Answered within a second, through a flood of 60x the capacity"],
];

impl Document {
    fn new(machine: Machine) -> Self {
        Self { machine, results: Results::default(), figures: Vec::new() }
    }

    /// That in `directory`; none if there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Option<Self>> {
        let path = directory.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let read = Self::parse(&text).with_context(|| path.display().to_string())?;
        Ok(Some(read))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let read: Read = serde_json::from_str(text).context("no results of this bench")?;
        Ok(read.into())
    }

    /// That in `directory` if it is of this machine, for scenarios to be renewed; else an empty
    /// one, and why nothing is kept of what there is.
    pub(crate) fn resume(directory: &Path, machine: Machine) -> (Self, Option<String>) {
        let why = match Self::read(directory) {
            Ok(None) => None,
            Ok(Some(before)) => match before.machine.difference(&machine) {
                None => return (Self { machine, ..before }, None),
                Some(difference) => Some(format!("it is of another machine: {difference}")),
            },
            Err(error) => Some(format!("{error:#}")),
        };
        (Self::new(machine), why)
    }

    /// Puts what `scenario` gave, with its plots, in place of all that there was of it.
    pub(crate) fn renew(&mut self, scenario: Scenario, new: Results, charts: &[(String, Chart)]) {
        let scenario = scenario.name();
        let Results { cells, notes, ran } = &mut self.results;
        cells.retain(|cell| cell.scenario != scenario);
        ran.retain(|one| one.scenario != scenario);
        self.figures.retain(|figure| figure.scenario != scenario);
        // Only files of earlier versions have neither dates nor, in some notes, a scenario: such a
        // note stays as long as anything that it may be about.
        let early = ran.iter().any(|one| one.date.is_none());
        notes.retain(|note| note.scenario.as_deref().map_or(early, |of| of != scenario));
        cells.extend(new.cells);
        ran.extend(new.ran);
        let of_it = |note| Note { scenario: Some(scenario.to_owned()), ..note };
        notes.extend(new.notes.into_iter().map(of_it));
        self.figures.extend(charts.iter().map(|(name, chart)| Figure {
            scenario: scenario.to_owned(),
            name: name.clone(),
            title: chart.title.clone(),
        }));
        // Within a scenario everything stays in its order: these sorts are stable.
        cells.sort_by_key(|cell| rank(cell.scenario));
        ran.sort_by_key(|one| rank(&one.scenario));
        notes.sort_by_key(|note| note.scenario.as_deref().map_or(0, rank));
        self.figures.sort_by_key(|figure| rank(&figure.scenario));
    }

    /// As it is in the file.
    ///
    /// # Errors
    /// None is known for plain data.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        let Self { machine, results, figures } = self;
        let written = Written { machine, results, figures, ratios: results.comparisons() };
        Ok(serde_json::to_string_pretty(&written)? + "\n")
    }
}

impl From<Read> for Document {
    fn from(read: Read) -> Self {
        let Read { machine, rounds, seed, mut results, figures } = read;
        for ran in &mut results.ran {
            ran.rounds = ran.rounds.or(rounds);
            ran.seed = ran.seed.or(seed);
        }
        let has = |scenario: &str| results.ran.iter().any(|ran| ran.scenario == scenario);
        let unlisted = FIGURES_UNLISTED.into_iter().filter(|[scenario, ..]| has(scenario));
        let listed = |figure: [&str; 3]| {
            let [scenario, name, title] = figure.map(str::to_owned);
            Figure { scenario, name, title }
        };
        let figures = figures.unwrap_or_else(|| unlisted.map(listed).collect());
        for note in &mut results.notes {
            // Most notes of earlier versions begin with the name of their scenario.
            let first = note.text.split([',', ':']).next().unwrap_or_default();
            if note.scenario.is_none() && has(first) {
                note.scenario = Some(first.to_owned());
            }
        }
        Self { machine, results, figures }
    }
}

/// Where a scenario comes in a report, whichever ran last; what has no name any more is last.
fn rank(scenario: &str) -> usize {
    let place = Scenario::value_variants().iter().position(|one| one.name() == scenario);
    place.unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::Scale;
    use crate::provenance::Ran;
    use crate::report::page;
    use crate::results::{Metric, Place};

    const RATE: Metric = Metric::higher("rate", "requests/s");

    fn machine(kernel: &str) -> Machine {
        let machine = serde_json::json!({
            "cpu": "some", "cpus": 2, "kernel": kernel, "load": "0.1", "versions": [["Node", "v22"]]
        });
        serde_json::from_value(machine).expect("all that is needed is there")
    }

    /// What a scenario gives of two peers whose rates are `ours` and 2.
    fn measured(scenario: Scenario, ours: f64) -> Results {
        let mut results = Results::default();
        for round in 0..3 {
            let place = Place { scenario: scenario.name(), case: "c", peer: "tenfold", round };
            results.add(place, RATE, ours);
            results.add(Place { peer: "nginx", ..place }, RATE, 2.0);
        }
        results.note(format!("of {}: {ours}", scenario.name()));
        results.ran.push(Ran {
            scenario: scenario.name().to_owned(),
            seconds: 90,
            rounds: Some(3),
            seed: Some(ours as u64),
            date: Some(format!("2026-01-0{ours}T00:00:00Z")),
            commit: Some("0123456789".to_owned()),
            peers: Some(vec!["tenfold".to_owned(), "nginx".to_owned()]),
            taken: Some(0.25),
        });
        results
    }

    fn chart(name: &str) -> (String, Chart) {
        let chart = Chart {
            title: format!("title of {name}"),
            x_label: String::new(),
            y_label: String::new(),
            x_scale: Scale::Linear,
            y_scale: Scale::Linear,
            shaded: None,
            series: Vec::new(),
        };
        (name.to_owned(), chart)
    }

    fn document() -> Document {
        let mut document = Document::new(machine("6.1"));
        // Not in the order of a report.
        document.renew(Scenario::Tail, measured(Scenario::Tail, 4.0), &[chart("tail")]);
        document.renew(Scenario::Hello, measured(Scenario::Hello, 1.0), &[]);
        document
    }

    /// As the version before scenarios were renewed wrote it.
    fn early() -> String {
        let rounds = serde_json::json!({ "0": 3.5, "1": 4.5, "2": null });
        let metric = serde_json::json!({ "name": "wait", "unit": "ms", "better": "Lower" });
        let cell = |peer: &str| {
            serde_json::json!({
                "scenario": "tail", "case": "60 %", "peer": peer, "metric": metric, "rounds": rounds
            })
        };
        let early = serde_json::json!({
            "machine": {
                "cpu": "some", "cpus": 2, "kernel": "6.1", "load": "1.2",
                "versions": [["Node", "v22"]],
            },
            "rounds": 10,
            "seed": 7,
            "results": {
                "cells": [cell("tenfold"), cell("nginx")],
                "notes": ["tail, 60 %: late", "PM2 is not installed"],
                "took": [{ "scenario": "tail", "seconds": 60 }],
            },
            "ratios": [],
        });
        early.to_string()
    }

    #[test]
    fn what_is_written_is_read_again_and_gives_the_same_page() {
        let written = document();
        let read = Document::parse(&written.json().expect("plain data")).expect("its own format");
        assert_eq!(read, written);
        assert_eq!(page(&read), page(&written));
        assert!(page(&read).contains("![title of tail](tail.svg)"), "{}", page(&read));
    }

    #[test]
    fn a_scenario_is_renewed_and_the_others_stay_in_the_order_of_a_report() {
        let before = document();
        let mut document = before.clone();
        document.renew(Scenario::Hello, measured(Scenario::Hello, 3.0), &[]);
        let scenarios: Vec<_> = document.results.ran.iter().map(|ran| &ran.scenario).collect();
        assert_eq!(scenarios, ["hello", "tail"]);
        assert_eq!(document.results.ran[0].seed, Some(3));
        assert_eq!(document.results.ran[1], before.results.ran[1]);
        let rate = |document: &Document, scenario: &str| {
            document.results.find(scenario, "c", "tenfold", "rate").cloned()
        };
        assert_eq!(rate(&document, "tail"), rate(&before, "tail"));
        let renewed = rate(&document, "hello").and_then(|cell| cell.summary());
        assert_eq!(renewed.map(|summary| summary.median), Some(3.0));
        let notes: Vec<_> = document.results.notes.iter().map(|note| note.text.as_str()).collect();
        assert_eq!(notes, ["of hello: 3", "of tail: 4"]);
        assert_eq!(document.figures, before.figures);
        document.renew(Scenario::Tail, measured(Scenario::Tail, 4.0), &[]);
        assert!(document.figures.is_empty(), "{:?}", document.figures);
    }

    #[test]
    fn a_file_of_the_version_before_is_read_and_what_it_lacks_is_unknown() {
        let mut read = Document::parse(&early()).expect("it is known");
        let ran = read.results.ran[0].clone();
        assert_eq!((ran.rounds, ran.seed, ran.seconds), (Some(10), Some(7), 60));
        assert_eq!((&ran.date, &ran.commit, &ran.peers), (&None, &None, &None));
        assert_eq!(read.results.cells[1].rounds.len(), 2);
        assert_eq!(read.figures.len(), 1, "{:?}", read.figures);
        let text = page(&read);
        assert!(text.contains("– GiB of memory") && text.contains("10 rounds, seed 7."), "{text}");
        assert!(text.contains("| tail | 1.0 | 10 | 7 | – | – | – |"), "{text}");
        assert!(text.contains("* PM2 is not installed"), "{text}");
        // Another scenario leaves its notes; itself renewed, none of them is about anything.
        read.renew(Scenario::Hello, measured(Scenario::Hello, 1.0), &[]);
        assert_eq!(read.results.notes.len(), 3);
        read.renew(Scenario::Tail, measured(Scenario::Tail, 2.0), &[]);
        let notes: Vec<_> = read.results.notes.iter().map(|note| note.text.as_str()).collect();
        assert_eq!(notes, ["of hello: 1", "of tail: 2"]);
    }

    #[test]
    fn results_of_this_machine_are_resumed_and_others_are_not_and_the_reason_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let resumed = |kernel| Document::resume(directory.path(), machine(kernel));
        let empty = (Document::new(machine("6.1")), None);
        assert_eq!(resumed("6.1"), empty);
        let write = |text: &str| {
            std::fs::write(directory.path().join(FILE), text).expect("it is ours");
        };
        write(&document().json().expect("plain data"));
        assert_eq!(resumed("6.1"), (document(), None));
        let (other, why) = resumed("6.2");
        assert_eq!(other, Document::new(machine("6.2")));
        let told = "it is of another machine: kernel: 6.1 then, 6.2 now";
        assert_eq!(why.as_deref(), Some(told));
        write("{}");
        let (other, why) = resumed("6.1");
        assert_eq!(other, empty.0);
        assert!(why.is_some_and(|why| why.contains("no results of this bench: missing field")));
    }
}
