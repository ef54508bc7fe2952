//! Writes a run down: all numbers as JSON, a page in Markdown that begins with what was not kept.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::files::write;
use crate::machine::Machine;
use crate::plot::Chart;
use crate::profile;
use crate::results::{Cell, Comparison, Metric, Ratio, Results, Summary};
use crate::targets::verdicts;

/// Fewer pairs than this are no basis for an interval; the page says so.
const PAIRS_WANTED: usize = 10;

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    rounds: usize,
    seed: u64,
    results: &'a Results,
    ratios: Vec<Comparison<'a>>,
}

/// What a run has to tell.
pub(crate) struct Report<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
    pub(crate) results: &'a Results,
    pub(crate) figures: &'a [(String, Chart)],
}

impl Report<'_> {
    /// Writes `report.md`, `results.json` and a file per plot.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let Self { machine, rounds, seed, results, figures } = *self;
        let document = Document { machine, rounds, seed, results, ratios: results.comparisons() };
        let json = serde_json::to_string_pretty(&document)?;
        write(&directory.join("results.json"), &(json + "\n"))?;
        for (name, chart) in figures {
            write(&directory.join(format!("{name}.svg")), &chart.render())?;
        }
        write(&directory.join("report.md"), &self.page())
    }

    fn page(&self) -> String {
        let mut page = String::from("# Measured\n\n");
        page.push_str(&self.machine.describe());
        let _ = writeln!(
            page,
            "\n{} rounds, seed {}. Within a round peers are measured one after the other. A ratio \
             is the geometric mean over rounds of ours over theirs, with the interval that holds \
             95 % of its bootstrap. Other numbers are medians over rounds, with the least and \
             the greatest.",
            self.rounds, self.seed
        );
        if self.rounds < PAIRS_WANTED {
            let _ = writeln!(
                page,
                "\n**Fewer than {PAIRS_WANTED} rounds: the intervals are narrower than the truth.**"
            );
        }
        self.targets(&mut page);
        profile::tell(&mut page, self.results, self.machine.cpus);
        if !self.results.notes.is_empty() {
            page.push_str("\n## To know beside the numbers\n\n");
            for note in &self.results.notes {
                let _ = writeln!(page, "* {}", note.lines().next().unwrap_or_default());
            }
        }
        if !self.figures.is_empty() {
            page.push_str("\n## Plots\n\n");
            for (name, chart) in self.figures {
                let _ = writeln!(page, "![{}]({name}.svg)\n", chart.title);
            }
        }
        self.tables(&mut page);
        self.times(&mut page);
        page
    }

    /// How long each scenario took, for whoever plans a run.
    fn times(&self, page: &mut String) {
        let took = &self.results.took;
        page.push_str("\n## How long it took\n\n| scenario | minutes |\n|---|---|\n");
        for one in took {
            let _ = writeln!(page, "| {} | {:.1} |", one.scenario, one.seconds as f64 / 60.0);
        }
        let all: u64 = took.iter().map(|one| one.seconds).sum();
        let _ = writeln!(page, "| all of these | {:.1} |", all as f64 / 60.0);
    }

    fn targets(&self, page: &mut String) {
        let verdicts = verdicts(self.results);
        if verdicts.is_empty() {
            return;
        }
        page.push_str("\n## Goals, broken ones first\n\n");
        page.push_str("| | what | goal | measured | rival | ratio |\n|---|---|---|---|---|---|\n");
        for verdict in &verdicts {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} |",
                if verdict.kept { "kept" } else { "**broken**" },
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
        for verdict in verdicts.iter().filter(|verdict| !verdict.kept) {
            let Some(reason) = verdict.target.reason() else { continue };
            if !told.contains(&reason) {
                told.push(reason);
                let target = verdict.target;
                let _ = writeln!(page, "\n*{}, {}:* {reason}", target.scenario, target.metric);
            }
        }
    }

    /// The rivals of a case, and what the first peer shows over each.
    fn ratios(&self, page: &mut String, cells: &[&Cell], (scenario, case): (&str, &str)) {
        let comparisons = self.results.comparisons();
        let here: Vec<_> = (comparisons.iter())
            .filter(|one| one.scenario == scenario && one.case == case)
            .collect();
        let Some(first) = here.first() else { return };
        let found = |cell: &Cell| {
            let same =
                |one: &&&Comparison<'_>| one.theirs == cell.peer && one.metric == cell.metric.name;
            here.iter().find(same).map(|one| one.ratio)
        };
        let rivals: Vec<&Cell> =
            cells.iter().filter(|cell| found(cell).is_some()).copied().collect();
        table(page, &rivals, &format!("{} over it", first.ours), |cell| interval(found(cell)));
    }

    fn tables(&self, page: &mut String) {
        let mut told: Vec<(&str, &str)> = Vec::new();
        for cell in &self.results.cells {
            let key = (cell.scenario, cell.case.as_str());
            if !told.contains(&key) {
                told.push(key);
                let cells: Vec<&Cell> = (self.results.cells.iter())
                    .filter(|other| (other.scenario, other.case.as_str()) == key)
                    .collect();
                let _ = writeln!(page, "\n## {}: {}", key.0, key.1);
                table(page, &cells, "median (least–greatest)", |cell| {
                    cell.summary().map_or("–".to_owned(), summary)
                });
                self.ratios(page, &cells, key);
            }
        }
    }
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
