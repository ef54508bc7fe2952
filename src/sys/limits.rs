//! Finds what this host lets us use: open files, CPUs, and the CPU and memory limits of our cgroup.
//!
//! Nothing here fails for want of a facility: what cannot be read is no limit (`None`).

use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::spawn::Nofile;

/// The limits that our cgroup and its ancestors set, the strictest of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CgroupLimits {
    /// CPUs' worth of time, e.g. 1.5.
    pub cpus: Option<f64>,
    /// Bytes of memory before the kernel kills.
    pub memory_bytes: Option<u64>,
}

/// Limits on open files, before and after [`raise_nofile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaisedNofile {
    /// What we were started with, and what workers get back.
    pub original: Nofile,
    /// The soft limit now in force for us.
    pub soft: u64,
}

/// Raises our soft limit on open files to the hard one.
///
/// # Errors
/// Those of getrlimit(2). If the raise itself is denied, the limit stays as it was and says so.
pub fn raise_nofile() -> io::Result<RaisedNofile> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let original = Nofile { soft, hard };
    Ok(RaisedNofile { original, soft: if raised { original.hard } else { original.soft } })
}

/// The number of CPUs that we may run on (the affinity mask), whatever the quota.
#[must_use]
pub fn affinity() -> Option<NonZeroU32> {
    // From /proc and not sched_getaffinity(2), whose usual mask ends at 1024 CPUs.
    parse_affinity(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The limits of the cgroup we are in, version 1 or 2.
#[must_use]
pub fn cgroup() -> CgroupLimits {
    limits(&hierarchies(), |path| fs::read_to_string(path).ok())
}

/// Our soft limit on open files as it is now.
#[must_use]
pub fn nofile() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

/// A mounted cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The group that shows at the mount point; not `/` in a container without a namespace.
    root: String,
    point: PathBuf,
    /// `cgroup` or `cgroup2`.
    kind: String,
    /// Comma-separated; for version 1 they name the controllers.
    options: String,
}

/// A cgroup hierarchy that holds CPU or memory, as we see it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Those of our own group and of all its ancestors that are mounted, from the inside out.
    pub(super) directories: Vec<PathBuf>,
    /// Version 2.
    pub(super) is_unified: bool,
}

/// The hierarchies that we are in.
pub(super) fn hierarchies() -> Vec<Hierarchy> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    parse_hierarchies(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

fn parse_hierarchies(membership: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(parse_mount).collect();
    let hierarchy = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let mount = mounts.iter().find(|mount| holds(mount, controllers))?;
        let directories = ancestors(mount, group);
        Some(Hierarchy { directories, is_unified: controllers.is_empty() })
    };
    membership.lines().filter_map(hierarchy).collect()
}

fn limits(hierarchies: &[Hierarchy], read: impl Fn(&Path) -> Option<String>) -> CgroupLimits {
    let mut limits = CgroupLimits::default();
    for Hierarchy { directories, is_unified } in hierarchies {
        for directory in directories {
            let number = |name: &str| read(&directory.join(name));
            let (cpus, memory) = if *is_unified {
                (number("cpu.max").as_deref().and_then(parse_cpu_max), number("memory.max"))
            } else {
                let quota = number("cpu.cfs_quota_us");
                let period = number("cpu.cfs_period_us");
                let cpus = quota.zip(period).and_then(|(quota, period)| ratio(&quota, &period));
                (cpus, number("memory.limit_in_bytes"))
            };
            limits.cpus = strictest(limits.cpus, cpus, f64::min);
            let memory = memory.as_deref().and_then(parse_memory);
            limits.memory_bytes = strictest(limits.memory_bytes, memory, u64::min);
        }
    }
    limits
}

fn strictest<T>(known: Option<T>, found: Option<T>, least: impl Fn(T, T) -> T) -> Option<T> {
    match (known, found) {
        (Some(known), Some(found)) => Some(least(known, found)),
        (known, found) => known.or(found),
    }
}

/// Whether a hierarchy is the one that a line of /proc/self/cgroup speaks of.
fn holds(mount: &Mount, controllers: &str) -> bool {
    if controllers.is_empty() {
        return mount.kind == "cgroup2";
    }
    let mut options = mount.options.split(',');
    mount.kind == "cgroup"
        && options.any(|option| {
            ["cpu", "cpuacct", "memory"].contains(&option)
                && controllers.split(',').any(|one| one == option)
        })
}

/// The directories of a group and of all its ancestors that the mount shows.
fn ancestors(mount: &Mount, group: &str) -> Vec<PathBuf> {
    // Outside of what is mounted (another namespace's path, `/../..`): the mount point is our best
    // knowledge, and in a container it is our own group.
    let below = Path::new(group).strip_prefix(&mount.root).unwrap_or(Path::new(""));
    let below = if group.contains("..") { Path::new("") } else { below };
    below.ancestors().map(|part| mount.point.join(part)).collect()
}

/// A line of /proc/self/mountinfo, if it is of a cgroup file system.
fn parse_mount(line: &str) -> Option<Mount> {
    let (mount, source) = line.split_once(" - ")?;
    let mut source = source.split(' ');
    let kind = source.next()?;
    if !["cgroup", "cgroup2"].contains(&kind) {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some(Mount {
        root: unescape(fields.next()?),
        point: unescape(fields.next()?).into(),
        kind: kind.to_owned(),
        options: source.nth(1).unwrap_or_default().to_owned(),
    })
}

/// Spaces, tabs, newlines and backslashes are written as octal (`\040`) in mountinfo.
fn unescape(text: &str) -> String {
    let named = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    named.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// `max 100000` or `150000 100000`: microseconds of CPU time per period.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

/// No number, or one below 1, is no limit (version 1 writes -1).
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let positive = |text: &str| text.trim().parse::<u64>().ok().filter(|&number| number > 0);
    Some(positive(quota)? as f64 / positive(period)? as f64)
}

fn parse_memory(text: &str) -> Option<u64> {
    /// Version 1 writes "no limit" as the greatest multiple of the page size, near 2^63.
    const UNLIMITED: u64 = 1 << 60;
    text.trim().parse().ok().filter(|&bytes| bytes < UNLIMITED)
}

/// Counts a list like `0-3,8,10-11`.
fn parse_affinity(status: &str) -> Option<NonZeroU32> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut count = 0u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        count = count.saturating_add(last.checked_sub(first)?.saturating_add(1));
    }
    NonZeroU32::new(count)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const V2: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "\
24 18 0:20 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 24 0:27 /docker/ab /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
33 24 0:29 /docker/ab /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset
";

    fn check(membership: &str, mounts: &str, files: &[(&str, &str)], cpus: f64, memory_mib: u64) {
        let files: HashMap<&Path, &str> =
            files.iter().map(|&(path, text)| (Path::new(path), text)).collect();
        let hierarchies = parse_hierarchies(membership, mounts);
        let found = limits(&hierarchies, |path| files.get(path).map(|&text| text.to_owned()));
        let expected = CgroupLimits {
            cpus: (cpus > 0.0).then_some(cpus),
            memory_bytes: (memory_mib > 0).then_some(memory_mib << 20),
        };
        assert_eq!(found, expected, "{membership}");
    }

    #[test]
    fn the_strictest_ancestor_counts() {
        let files = [
            ("/sys/fs/cgroup/pod/app/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/pod/app/memory.max", "1073741824\n"),
            ("/sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/pod/memory.max", "max\n"),
            ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ];
        check("0::/pod/app\n", V2, &files, 1.5, 1024);
    }

    #[test]
    fn a_container_with_its_own_namespace_sees_its_limits_at_the_mount_point() {
        let files = [
            ("/sys/fs/cgroup/cpu.max", "1000000 100000\n"),
            ("/sys/fs/cgroup/memory.max", "2147483648\n"),
        ];
        check("0::/\n", V2, &files, 10.0, 2048);
        check("0::/../../elsewhere\n", V2, &files, 10.0, 2048);
    }

    #[test]
    fn version_1_names_its_controllers_and_mounts_a_part() {
        let membership = "\
12:cpuset:/docker/ab
11:memory:/docker/ab
4:cpu,cpuacct:/docker/ab/inner
0::/docker/ab
";
        let files = [
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
        ];
        check(membership, V1, &files, 0.5, 512);
    }

    #[test]
    fn no_limit_and_nonsense_are_no_limit() {
        let unlimited = "9223372036854771712\n";
        let v1 = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", unlimited)];
        check("11:memory:/docker/ab\n", V1, &v1, 0.0, 0);
        let broken = [("/sys/fs/cgroup/cpu.max", "100000 0"), ("/sys/fs/cgroup/memory.max", "x")];
        check("0::/\n", V2, &broken, 0.0, 0);
        check("", "", &[], 0.0, 0);
        check("nonsense\n1:\n", "more - nonsense\n - cgroup2\n", &[], 0.0, 0);
    }

    #[test]
    fn a_mount_point_may_have_spaces() {
        let line = r"30 24 0:26 / /mnt/my\040groups rw shared:9 - cgroup2 none rw";
        let mount = parse_mount(line).expect("a cgroup mount");
        assert_eq!(mount.point, Path::new("/mnt/my groups"));
    }

    #[test]
    fn cpus_are_counted_from_ranges() {
        let count = |list: &str| {
            let status = format!("Name:\tx\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\n");
            parse_affinity(&status).map(NonZeroU32::get)
        };
        assert_eq!(count("0-3,8,10-11"), Some(7));
        assert_eq!(count("5"), Some(1));
        for broken in ["", "x", "3-1", "0-"] {
            assert_eq!(count(broken), None, "{broken}");
        }
        assert!(affinity().is_some(), "this process runs somewhere");
    }

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        let raised = raise_nofile().expect("we may always ask");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("we may always ask");
        assert_eq!((soft, raised.soft), (hard, hard));
        assert_eq!(raised.original.hard, hard);
        let again = raise_nofile().expect("we may always ask");
        assert_eq!(again.original, Nofile { soft: hard, hard });
    }
}
