//! What `/proc` says of a process and of the tree that a test started.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a leak would make grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) fds: usize,
    pub(crate) threads: usize,
    /// Ended children that nobody has waited for.
    pub(crate) zombies: usize,
    pub(crate) rss_bytes: u64,
}

/// Counts for `pid`; panics if it has ended.
#[track_caller]
pub(crate) fn counters(pid: i32) -> Counters {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("process {pid} has ended: no {name} in\n{status}"))
    };
    let rss_bytes = number("VmRSS:") * 1024;
    let threads = number("Threads:");
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap_or_else(|error| panic!("process {pid}: {error}"))
        .count();
    Counters {
        fds,
        threads: usize::try_from(threads).expect("a thread count fits"),
        zombies: children(pid).filter(|child| child.state == 'Z').count(),
        rss_bytes,
    }
}

/// The most memory that `pid` has ever had resident, in bytes.
#[track_caller]
pub(crate) fn peak_rss(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_else(|| panic!("process {pid} has ended: no VmHWM in\n{status}")) * 1024
}

/// CPU time that `pid` has used, user and system, in the kernel's ticks of 10 ms.
#[track_caller]
pub(crate) fn cpu_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let fields = after_name(&stat).unwrap_or_else(|| panic!("no name in {stat}"));
    let ticks: u64 = [11, 12]
        .iter()
        .map(|&at| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0))
        .sum();
    Duration::from_millis(ticks * 10)
}

/// The effective user of `pid`.
#[track_caller]
pub(crate) fn uid(pid: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_else(|error| panic!("process {pid}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let uid = line.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
    uid.unwrap_or_else(|| panic!("no Uid in\n{status}"))
}

/// Whether `pid` runs; a zombie does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    read(pid).is_some_and(|process| process.state != 'Z')
}

/// The living processes that were started with `name=value` in their environment.
///
/// A mark in the environment also finds what has left its parent, its group and its session; it
/// misses only a program that was given an empty environment.
pub(crate) fn marked(name: &str, value: &str) -> Vec<i32> {
    let wanted = format!("{name}={value}");
    let has_mark = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    };
    all()
        .filter(|process| process.state != 'Z')
        .map(|process| process.pid)
        .filter(has_mark)
        .collect()
}

/// How many living processes belong to the master whose life is named `instance`.
pub(crate) fn proc_count(instance: &str) -> usize {
    marked("TENFOLD_INSTANCE", instance).len()
}

/// The value of `name` in the environment that `pid` was started with.
pub(crate) fn environment_of(pid: i32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let entry = String::from_utf8_lossy(entry);
        entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)
    })
}

/// The direct children of `pid`, zombies included.
pub(crate) fn children(pid: i32) -> impl Iterator<Item = Process> {
    all().filter(move |process| process.parent == pid)
}

/// The id of the thread of `pid` that has this name.
pub(crate) fn thread_of(pid: i32, name: &str) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let found = tasks.flatten().find(|task| {
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        comm.trim() == name
    });
    let id = found?.file_name().to_string_lossy().parse();
    Some(id.expect("threads are named by numbers"))
}

/// When `pid` was started, in the kernel's ticks since boot; 0 for one that has ended.
pub(crate) fn start_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = after_name(&stat).unwrap_or_default();
    fields.get(19).and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Sends `signal`; a process that has already ended is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "signal to {pid} would reach more than one process");
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(error) => panic!("{signal} to {pid}: {error}"),
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// The letter of `ps`: R, S, D, Z, T.
    pub(crate) state: char,
}

fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|entry| read(entry.ok()?.file_name().to_str()?.parse().ok()?))
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = after_name(&stat)?;
    Some(Process {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
    })
}

/// The fields after the name, which is in parentheses and may hold spaces and parentheses itself.
fn after_name(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}
