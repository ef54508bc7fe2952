//! Says of each scenario when it ran, of which commit and with what: a report may hold several.

use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::host::Ticks;
use crate::peer::Peer;
use crate::scenario::{Plan, Scenario};

/// The last run of a scenario. What it does not say is not known, or there is no such thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ran {
    pub(crate) scenario: String,
    /// With its starts and warm-ups.
    pub(crate) seconds: u64,
    #[serde(default)]
    pub(crate) rounds: Option<usize>,
    #[serde(default)]
    pub(crate) seed: Option<u64>,
    /// When it began, in UTC, to the second.
    #[serde(default)]
    pub(crate) date: Option<String>,
    /// What [`commit`] said.
    #[serde(default)]
    pub(crate) commit: Option<String>,
    /// Those asked for, as on the command line; empty: all that it has.
    #[serde(default)]
    pub(crate) peers: Option<Vec<String>>,
    /// What others on the host got of all CPUs meanwhile, in percent.
    #[serde(default)]
    pub(crate) taken: Option<f64>,
}

/// A scenario under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began {
    date: SystemTime,
    at: Instant,
    host: Ticks,
}

impl Began {
    pub(crate) fn now() -> Self {
        Self { date: SystemTime::now(), at: tenfold::clock::now(), host: Ticks::now() }
    }

    pub(crate) fn ended(self, scenario: Scenario, plan: &Plan) -> Ran {
        let name = |peer: &Peer| Some(peer.to_possible_value()?.get_name().to_owned());
        // Virtual time has neither.
        let real = scenario != Scenario::Sim;
        Ran {
            scenario: scenario.name().to_owned(),
            seconds: tenfold::clock::now().saturating_duration_since(self.at).as_secs(),
            rounds: real.then_some(plan.rounds),
            seed: Some(plan.seed),
            date: Some(humantime::format_rfc3339_seconds(self.date).to_string()),
            commit: Some(plan.commit.clone()),
            peers: real.then(|| plan.peers.iter().filter_map(name).collect()),
            taken: real.then(|| 100.0 * Ticks::now().taken_since(self.host)),
        }
    }
}

/// The commit of the sources, `+changes` if they are not known to be the same; results are no
/// source. `unknown` where there is no repository, or no git.
pub(crate) fn commit() -> String {
    commit_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
}

/// That of the tree whose top is `top`.
fn commit_of(top: &Path) -> String {
    let Some(head) = git(top, &["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let others = [".", ":!bench/results"];
    let status = ["status", "--porcelain", "--untracked-files=no", "--"];
    match git(top, &[&status[..], &others[..]].concat()) {
        Some(changes) if changes.is_empty() => head,
        Some(_) | None => head + "+changes",
    }
}

/// What it prints; none if it fails.
fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Asking must not write to the index, which somebody else may be using.
    command.arg("--no-optional-locks").args(arguments).current_dir(directory);
    // Those of a hook name another tree.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_commit_says_whether_sources_were_changed_and_results_are_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let top = directory.path();
        assert_eq!(commit_of(&top.join("absent")), "unknown");
        let done = |arguments: &[&str]| {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=no"];
            git(top, &[&identity[..], arguments].concat()).expect("git is installed")
        };
        let write = |file: &str, text: &str| fs::write(top.join(file), text).expect("it is ours");
        fs::create_dir_all(top.join("bench/results")).expect("it is ours");
        done(&["init", "--quiet"]);
        write("source", "one");
        write("bench/results/report.md", "one");
        done(&["add", "."]);
        done(&["commit", "--quiet", "-m", "one"]);
        let clean = commit_of(top);
        assert!(clean.len() >= 10 && clean.chars().all(|c| c.is_ascii_hexdigit()), "{clean}");
        write("bench/results/report.md", "longer");
        write("untracked", "");
        assert_eq!(commit_of(top), clean);
        write("source", "longer");
        assert_eq!(commit_of(top), clean + "+changes");
    }
}
