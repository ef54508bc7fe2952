//! What was measured on, and with which versions.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::peer::{Tools, on_path};
use crate::report::known;

/// A machine and the programs on it, as they were at the start of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    cpu: String,
    pub(crate) cpus: usize,
    /// Files of earlier versions do not say it.
    #[serde(default)]
    memory_gib: Option<f64>,
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
            memory_gib: gibibytes(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            versions: told.chain([npm("pm2"), npm("wattpm")].into_iter().flatten()).collect(),
        }
    }

    /// What makes `now` another machine, or one with other programs; none if numbers of both may
    /// stand in one report. The load of the moment does not.
    pub(crate) fn difference(&self, now: &Self) -> Option<String> {
        let cpus = [self.cpus, now.cpus].map(|cpus| cpus.to_string());
        let mut facts = vec![
            ("CPU", self.cpu.as_str(), now.cpu.as_str()),
            ("number of CPUs", cpus[0].as_str(), cpus[1].as_str()),
            ("kernel", self.kernel.as_str(), now.kernel.as_str()),
        ];
        for (name, _) in self.versions.iter().chain(&now.versions) {
            facts.push((name.as_str(), self.version(name), now.version(name)));
        }
        let other = facts.into_iter().find(|(_, before, now)| before != now);
        other.map(|(what, before, now)| format!("{what}: {before} then, {now} now"))
    }

    fn version(&self, program: &str) -> &str {
        let found = self.versions.iter().find(|(name, _)| name == program);
        found.map_or("none", |(_, version)| version)
    }

    /// A paragraph and a list.
    pub(crate) fn describe(&self) -> String {
        let Self { cpu, cpus, memory_gib, kernel, load, versions } = self;
        let mut text = format!(
            "{cpus} x {cpu}, {} GiB of memory, Linux {kernel}; load average before the run: \
             {load}.\n\n",
            known(*memory_gib)
        );
        for (name, version) in versions {
            let _ = writeln!(text, "* {name}: {version}");
        }
        text
    }
}

/// All the memory there is, to a tenth.
fn gibibytes(meminfo: &str) -> Option<f64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: f64 = total.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kibibytes / f64::from(1 << 20) * 10.0).round() / 10.0)
}

/// The first line that a program prints, on either stream.
fn said(tools: &Tools, program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).env("PATH", &tools.path).output().ok()?;
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both);
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_makes_another_machine_and_another_load_does_not() {
        let machine = |load: &str, versions: &[(&str, &str)]| Machine {
            cpu: "some".to_owned(),
            cpus: 2,
            memory_gib: None,
            kernel: "6.1".to_owned(),
            load: load.to_owned(),
            versions: versions.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        };
        let before = machine("0.1", &[("Node", "v22")]);
        assert_eq!(before.difference(&machine("9.0", &[("Node", "v22")])), None);
        let told = before.difference(&machine("0.1", &[("Node", "v24")]));
        assert_eq!(told.as_deref(), Some("Node: v22 then, v24 now"));
        let told = before.difference(&machine("0.1", &[("Node", "v22"), ("wrk", "4")]));
        assert_eq!(told.as_deref(), Some("wrk: none then, 4 now"));
        let told = before.difference(&Machine { cpus: 4, ..before.clone() });
        assert_eq!(told.as_deref(), Some("number of CPUs: 2 then, 4 now"));
    }

    #[test]
    fn memory_is_told_in_gibibytes() {
        let text = "MemTotal:        8145296 kB\nMemFree:         1 kB\n";
        assert_eq!(gibibytes(text), Some(7.8));
        assert_eq!(gibibytes("MemFree: 1 kB\n"), None);
    }
}
