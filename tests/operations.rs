//! Documents say what the tables in the code say; `UPDATE=1` writes docs/OPERATIONS.md so.

#[allow(dead_code, reason = "what is sent is sent by the tests of request mode")]
#[path = "support/abuse.rs"]
mod abuse;
#[path = "operations/migration.rs"]
mod migration;

use std::path::Path;

use tenfold::admin::METRICS;
use tenfold::config::{Change, Example, KEYS};
use tenfold::supervisor::events::EVENTS;

use abuse::{ROWS, SLOW};

#[test]
fn settings_in_the_document_are_those_of_the_table() {
    let mut text =
        String::from("| key | default | values | fixed while it runs |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = match key.example {
            Example::Default(value) => format!("`{value}`"),
            Example::Unset(_) => "unset".to_owned(),
        };
        let fixed = match key.change {
            Change::Reload => "",
            Change::Restart => "yes",
        };
        text.push_str(&format!("| `{}` | {default} | {} | {fixed} |\n", key.name, key.range));
    }
    check("settings", &text);
}

#[test]
fn metrics_in_the_document_are_those_of_the_table() {
    let mut text = String::from("| metric | labels | what it is |\n|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels) = (metric.shown_name(), labels.join(", "));
        text.push_str(&format!("| `{name}` | {labels} | {} |\n", metric.help));
    }
    check("metrics", &text);
}

#[test]
fn events_in_the_document_are_those_of_the_table() {
    let mut text = String::from("| event | fields | what happened |\n|---|---|---|\n");
    for (name, fields, what) in EVENTS {
        let fields: Vec<_> = fields.split(", ").filter(|field| !field.is_empty()).collect();
        let fields: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
        text.push_str(&format!("| `{name}` | {} | {what} |\n", fields.join(", ")));
    }
    check("events", &text);
}

#[test]
fn abuses_in_the_document_are_those_that_are_tested() {
    let mut text = String::from("| what comes | answer |\n|---|---|\n");
    for row in ROWS {
        text.push_str(&format!("| {} | {} `{}` |\n", row.what, row.status, row.code));
    }
    for (what, answer) in SLOW {
        text.push_str(&format!("| {what} | {answer} |\n"));
    }
    check("abuses", &text);
}

/// Compares what stands between the marks of `part`, or writes it there if asked to.
#[track_caller]
fn check(part: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let (begin, end) = (format!("<!-- {part} -->\n"), format!("<!-- end of {part} -->"));
    let (before, rest) = text.split_once(&begin).expect("it has the mark");
    let (found, after) = rest.split_once(&end).expect("it has the mark's end");
    if std::env::var_os("UPDATE").is_some() {
        let text = format!("{before}{begin}{expected}{end}{after}");
        std::fs::write(&path, text).expect("the repository is ours");
        return;
    }
    assert_eq!(found, expected, "run: UPDATE=1 cargo test --test operations -- --test-threads 1");
}
