//! docs/MIGRATION.md names no command, setting or signal of ours that does not exist.

use std::path::Path;
use std::process::Command;

use tenfold::admin::METRICS;
use tenfold::config::KEYS;

/// What tenfold gives to workers in their environment, apart from settings.
const VARIABLES: [&str; 2] = ["NODE_APP_INSTANCE", "TENFOLD_SLOT"];

#[test]
fn what_the_tables_name_as_ours_exists() {
    let text = document("docs/MIGRATION.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 60, "only {} rows were found", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        // A bar within a cell would shift the columns.
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, ours, _] = cells[..] else {
            wrong.push(format!("not three columns: {row}"));
            continue;
        };
        wrong.extend(complaints(ours).into_iter().map(|why| format!("{why}: {row}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn complaints(cell: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (place, part) in cell.split('`').enumerate() {
        if place % 2 == 1 {
            wrong.extend(complaint(part));
            continue;
        }
        for word in part.split([',', ' ']).filter(|word| !word.is_empty()) {
            if !["none", "tenfold"].contains(&word) && !is_signal(word) {
                wrong.push(format!("{word} is no signal of ours"));
            }
        }
    }
    wrong
}

fn complaint(name: &str) -> Option<String> {
    let is_known = match name.strip_prefix("tenfold ") {
        Some(rest) => is_command(rest),
        None if name.starts_with("--") => help(&["run"]).contains(name),
        None if name.starts_with('/') => document("docs/OPERATIONS.md").contains(name),
        None if name.ends_with(".toml") => {
            Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists()
        }
        None => is_setting(name) || is_metric(name) || VARIABLES.contains(&name),
    };
    (!is_known).then(|| format!("`{name}` does not exist"))
}

/// Whether each word before `--` that names something of ours does.
fn is_command(words: &str) -> bool {
    let own: Vec<&str> = words.split(' ').take_while(|word| *word != "--").collect();
    let subcommand = own.first().filter(|word| !word.starts_with('-'));
    let help = match subcommand {
        Some(subcommand) => help(&[subcommand]),
        None => help(&["run"]),
    };
    let mut flags = own.iter().filter(|word| word.starts_with('-'));
    !help.is_empty() && flags.all(|flag| help.contains(flag))
}

/// What `tenfold WORDS --help` says; nothing if there is no such command.
fn help(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenfold"));
    let output = command.args(words).arg("--help").output().expect("the binary starts");
    match output.status.success() {
        true => String::from_utf8_lossy(&output.stdout).into_owned(),
        false => String::new(),
    }
}

fn is_setting(name: &str) -> bool {
    let section = format!("{name}.");
    KEYS.iter().any(|key| key.name == name || key.name.starts_with(&section))
}

fn is_metric(name: &str) -> bool {
    METRICS.iter().any(|metric| metric.shown_name() == name)
}

/// Whether the table of signals has it.
fn is_signal(word: &str) -> bool {
    let text = document("docs/OPERATIONS.md");
    let mut rows = text.lines().skip_while(|line| *line != "## Signals").skip(1);
    let rows = rows.by_ref().take_while(|line| !line.starts_with("## "));
    let mut named = rows.filter_map(|row| row.strip_prefix("| ")?.split(" | ").next());
    named.any(|cell| cell.split([',', ' ']).any(|name| name == word))
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).expect("the document is there")
}
