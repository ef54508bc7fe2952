//! What was measured on, and with which versions.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::peer::{Tools, on_path};

/// A machine and the programs on it, as they were at the start of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    pub(crate) cpus: usize,
    kernel: String,
    /// Load average over a minute before anything was started.
    load: String,
    /// Program and what it says of its version.
    versions: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn look(tools: &Tools) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let cpu = info.lines().find_map(|line| line.strip_prefix("model name"));
        let npm = |name: &str| {
            let file = tools.bench.join("node_modules").join(name).join("package.json");
            let text = std::fs::read_to_string(file).ok()?;
            let package: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some((name.to_owned(), package["version"].as_str()?.to_owned()))
        };
        let told = [
            ("tenfold", said(tools, &tools.tenfold, "--version")),
            ("Node", said(tools, Path::new("node"), "--version")),
            ("HAProxy", said(tools, &on_path("haproxy"), "-v")),
            ("nginx", said(tools, &on_path("nginx"), "-v")),
            ("Passenger", said(tools, &on_path("passenger-config"), "--version")),
            ("wrk", said(tools, Path::new("wrk"), "-v")),
        ];
        let told = told.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?)));
        Self {
            cpu: cpu.map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':'])).to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            versions: told.chain([npm("pm2"), npm("wattpm")].into_iter().flatten()).collect(),
        }
    }

    /// A paragraph and a list.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "{} x {}, Linux {}; load average before the run: {}.\n\n",
            self.cpus, self.cpu, self.kernel, self.load
        );
        for (name, version) in &self.versions {
            let _ = writeln!(text, "* {name}: {version}");
        }
        text
    }
}

/// The first line that a program prints, on either stream.
fn said(tools: &Tools, program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).env("PATH", &tools.path).output().ok()?;
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both);
    text.lines().next().map(|line| line.trim().to_owned())
}
