//! Reads what our cgroup has used: CPU time, throttling, memory.
//!
//! Nothing here fails for want of a facility: what cannot be read is not known (`None`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::limits::{self, Hierarchy};

/// What our cgroup has used, versions 1 and 2 alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupUsage {
    /// CPU time of all its processes, living and dead.
    pub cpu_time: Option<Duration>,
    /// None: no quota is being accounted.
    pub throttling: Option<Throttling>,
    /// Memory without inactive file cache, which the kernel drops before it kills anybody.
    pub memory_bytes: Option<u64>,
    /// How many processes the kernel has killed in it for want of memory.
    pub oom_kills: Option<u64>,
}

/// How often the CPU quota was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods (of 100 ms usually) in which the group ran.
    pub periods: u64,
    /// Those in which it was stopped.
    pub throttled_periods: u64,
    /// For how long in all, summed over CPUs.
    pub throttled: Duration,
}

/// What the cgroup that we are in has used; where a hierarchy shows only a part of it, the nearest
/// part around us.
#[must_use]
pub fn cgroup() -> CgroupUsage {
    let read = |path: &Path| fs::read_to_string(path).ok();
    usage(&limits::hierarchies(), read)
}

fn usage(hierarchies: &[Hierarchy], read: impl Fn(&Path) -> Option<String>) -> CgroupUsage {
    let mut usage = CgroupUsage::default();
    for Hierarchy { directories, .. } in hierarchies {
        let nearest = |name: &str| nearest(directories, name, &read);
        if let Some(stat) = nearest("cpu.stat") {
            usage.throttling = throttling(&stat).or(usage.throttling);
            let time = field(&stat, "usage_usec").map(Duration::from_micros);
            usage.cpu_time = time.or(usage.cpu_time);
        }
        if let Some(time) = nearest("cpuacct.usage").and_then(|text| number(&text)) {
            usage.cpu_time = Some(Duration::from_nanos(time));
        }
        let current = nearest("memory.current").or_else(|| nearest("memory.usage_in_bytes"));
        if let Some(current) = current.and_then(|text| number(&text)) {
            let stat = nearest("memory.stat").unwrap_or_default();
            // Version 1 has the numbers of the whole tree under names of their own.
            let inactive =
                field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file"));
            usage.memory_bytes = Some(current.saturating_sub(inactive.unwrap_or(0)));
        }
        let events = nearest("memory.events").or_else(|| nearest("memory.oom_control"));
        usage.oom_kills = events.and_then(|text| field(&text, "oom_kill")).or(usage.oom_kills);
    }
    usage
}

/// A file of our own group, or of the nearest ancestor that has it.
fn nearest(
    directories: &[PathBuf],
    name: &str,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<String> {
    directories.iter().find_map(|directory| read(&directory.join(name)))
}

fn throttling(stat: &str) -> Option<Throttling> {
    let throttled = match field(stat, "throttled_usec") {
        Some(us) => Duration::from_micros(us),
        // Version 1, in nanoseconds.
        None => Duration::from_nanos(field(stat, "throttled_time")?),
    };
    Some(Throttling {
        periods: field(stat, "nr_periods")?,
        throttled_periods: field(stat, "nr_throttled")?,
        throttled,
    })
}

/// The number behind a name in a file of `name number` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name).and_then(|(_, value)| number(value))
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn check(directories: &[&[&str]], files: &[(&str, &str)], expected: CgroupUsage) {
        let files: HashMap<&Path, &str> =
            files.iter().map(|&(path, text)| (Path::new(path), text)).collect();
        let hierarchies: Vec<Hierarchy> = directories
            .iter()
            .map(|all| Hierarchy {
                directories: all.iter().map(PathBuf::from).collect(),
                is_unified: true,
            })
            .collect();
        let found = usage(&hierarchies, |path| files.get(path).map(|&text| text.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn version_2_has_all_in_one_directory() {
        let cpu = "usage_usec 2500000\nuser_usec 1\nnr_periods 40\nnr_throttled 4\n\
                   throttled_usec 1500\n";
        let files = [
            ("/c/app/cpu.stat", cpu),
            ("/c/app/memory.current", "1000\n"),
            ("/c/app/memory.stat", "anon 1\ninactive_file 300\nactive_file 5\n"),
            ("/c/app/memory.events", "low 0\noom 3\noom_kill 2\n"),
            ("/c/memory.current", "9000\n"),
        ];
        let throttling = Throttling {
            periods: 40,
            throttled_periods: 4,
            throttled: Duration::from_micros(1500),
        };
        let expected = CgroupUsage {
            cpu_time: Some(Duration::from_millis(2500)),
            throttling: Some(throttling),
            memory_bytes: Some(700),
            oom_kills: Some(2),
        };
        check(&[&["/c/app", "/c"]], &files, expected);
    }

    #[test]
    fn version_1_has_a_hierarchy_for_each() {
        let files = [
            ("/cpu/cpu.stat", "nr_periods 7\nnr_throttled 1\nthrottled_time 9000\n"),
            ("/acct/cpuacct.usage", "123000000\n"),
            ("/mem/memory.usage_in_bytes", "500\n"),
            ("/mem/memory.stat", "inactive_file 1\ntotal_inactive_file 600\n"),
            ("/mem/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
        ];
        let throttling =
            Throttling { periods: 7, throttled_periods: 1, throttled: Duration::from_micros(9) };
        let expected = CgroupUsage {
            cpu_time: Some(Duration::from_millis(123)),
            throttling: Some(throttling),
            memory_bytes: Some(0),
            oom_kills: Some(1),
        };
        check(&[&["/cpu"], &["/acct"], &["/mem"]], &files, expected);
    }

    #[test]
    fn without_a_quota_or_a_cgroup_nothing_is_known() {
        let files = [("/c/cpu.stat", "usage_usec 5\nuser_usec 5\n")];
        let cpu_time = Some(Duration::from_micros(5));
        check(&[&["/c"]], &files, CgroupUsage { cpu_time, ..CgroupUsage::default() });
        check(&[], &[], CgroupUsage::default());
        check(&[&["/c"]], &[("/c/cpu.stat", "nr_periods x")], CgroupUsage::default());
    }
}
