//! Starts processes that cannot outlive the bench, and reads what the kernel says they use.
//!
//! Everything started for one deployment carries the same mark in its environment, so that it is
//! found again however deep it forked or whichever session it moved to. Who wrote over that is
//! found by descent, and remembered: a child whose parent was killed descends from nobody here any
//! more.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use tenfold::sys::process::{children, environment_variable, with_variable};

/// The mark. Not one of `TENFOLD_*`, which tenfold keeps from its workers.
const MARK: &str = "BENCH_RUN";

/// What only workers have in their environment: Node's cluster, PM2, tenfold, Passenger, and our
/// own where a proxy stands in front.
const WORKER_MARKS: [&str; 5] =
    ["NODE_UNIQUE_ID", "NODE_APP_INSTANCE", "TENFOLD_SLOT", "IN_PASSENGER", "BENCH_WORKER"];

/// How long what was told to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// All processes of one deployment; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Group {
    mark: String,
    /// The PATH of every process, and where they are looked up.
    path: OsString,
    children: Vec<Child>,
    /// Who was there at the last look.
    seen: RefCell<BTreeSet<Process>>,
}

impl Group {
    pub(crate) fn new(path: OsString) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}.{count}", std::process::id());
        Self { mark, path, children: Vec::new(), seen: RefCell::default() }
    }

    /// Starts `command` with its output in `log`.
    ///
    /// # Errors
    /// It cannot be executed; the text names it.
    pub(crate) fn spawn(&mut self, command: &mut Command, log: &Path) -> anyhow::Result<u32> {
        let file = fs::File::create(log).with_context(|| format!("{}", log.display()))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .env(MARK, &self.mark)
            .env("PATH", &self.path)
            // As everybody deploys; React is several times as slow without.
            .env("NODE_ENV", "production")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = child.id();
        self.seen.get_mut().extend(Process::look(pid.cast_signed()).map(|(process, _)| process));
        self.children.push(child);
        Ok(pid)
    }

    /// Takes note of everybody who is there now, so that they are ended whatever becomes of their
    /// parents.
    pub(crate) fn remember(&self) {
        self.living();
    }

    /// The first process that has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.children.iter_mut().find_map(|child| child.try_wait().ok().flatten())
    }

    /// Every living process of this deployment.
    pub(crate) fn members(&self) -> Members {
        let mut members = Members::default();
        for Process { pid, .. } in self.living() {
            if is_worker(pid) { members.workers.push(pid) } else { members.front.push(pid) }
        }
        members
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let deadline = tenfold::clock::now() + GRACE;
        while tenfold::clock::now() < deadline && !self.living().is_empty() {
            self.reap();
            std::thread::park_timeout(Duration::from_millis(20));
        }
        while !self.living().is_empty() {
            self.signal(Signal::SIGKILL);
            self.reap();
            std::thread::park_timeout(Duration::from_millis(20));
        }
        for child in &mut self.children {
            // It was killed above, so this ends; its status is of no interest.
            let _ = child.wait();
        }
    }
}

impl Group {
    /// Everybody who was there at the last look and lives, who carries the mark, and who descends
    /// from either: nginx writes its title over its environment.
    fn living(&self) -> BTreeSet<Process> {
        let mut seen = self.seen.borrow_mut();
        let mut unvisited: Vec<Process> = self.marked();
        unvisited.extend(seen.iter().filter(|process| process.lives()));
        seen.clear();
        while let Some(process) = unvisited.pop() {
            if seen.insert(process) {
                unvisited.extend(process.children());
            }
        }
        seen.clone()
    }

    fn marked(&self) -> Vec<Process> {
        let found = with_variable(MARK, &self.mark).into_iter().filter_map(|pid| {
            let (process, _) = Process::look(pid)?;
            // Again, now that it is known who has this pid.
            let mark = environment_variable(pid, MARK).ok()??;
            (mark == self.mark.as_str()).then_some(process)
        });
        found.collect()
    }

    fn signal(&self, signal: Signal) {
        for process in self.living() {
            process.signal(signal);
        }
    }

    fn reap(&mut self) {
        for child in &mut self.children {
            // Only to turn zombies into nothing: a failure changes nothing.
            let _ = child.try_wait();
        }
    }
}

/// A process, and nobody who is given its pid later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl Process {
    /// Who has this pid now, and the pid of its parent. A zombie is nobody: it has nothing left to
    /// end.
    fn look(pid: i32) -> Option<(Self, i32)> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let (parent, started) = parent_and_start(&String::from_utf8_lossy(&stat))?;
        Some((Self { pid, started }, parent))
    }

    fn lives(self) -> bool {
        Self::look(self.pid).is_some_and(|(now, _)| now == self)
    }

    fn children(self) -> Vec<Self> {
        let pids = children(self.pid).unwrap_or_default();
        let found = pids.into_iter().filter_map(Self::look);
        let found = found.filter(|(_, parent)| *parent == self.pid).map(|(process, _)| process);
        let found: Vec<Self> = found.collect();
        // They are its own unless somebody else has its pid by now.
        let replaced = Self::look(self.pid).is_some_and(|(now, _)| now != self);
        if replaced { Vec::new() } else { found }
    }

    /// The kernel gives a pid out again only after all others, so it cannot have become somebody
    /// else's between the look and the signal.
    fn signal(self, signal: Signal) {
        if self.lives() {
            // It may have ended just now, which is what is wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Fields 4 and 22 of /proc/PID/stat, if it is no zombie's. The name in the second may hold spaces
/// and parentheses, so fields are counted from its end.
fn parent_and_start(stat: &str) -> Option<(i32, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    (!["Z", "X"].contains(&state)).then_some((parent, started))
}

/// The processes of a deployment: those that serve the app, and those in front of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    pub(crate) front: Vec<i32>,
    pub(crate) workers: Vec<i32>,
}

fn is_worker(pid: i32) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|byte| *byte == 0).any(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        WORKER_MARKS.iter().any(|mark| mark.as_bytes() == name)
    })
}

/// What processes have used so far, or hold now; those that ended count for nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of all threads.
    pub(crate) cpu: Duration,
    /// Of it, the first thread of each process: the one that runs the JavaScript of a Node app.
    pub(crate) main_cpu: Duration,
    /// Resident memory; pages of files once, because processes that run the same program share
    /// them: a sum of resident sets would count a program as often as it runs.
    pub(crate) memory_bytes: u64,
    /// Times a thread went to sleep by itself, and so was woken.
    pub(crate) wakeups: u64,
}

/// Sums over `pids`.
pub(crate) fn usage(pids: &[i32]) -> Usage {
    let mut sum = Usage::default();
    let mut files = 0;
    for pid in pids {
        let kib = |name| status_number(&format!("/proc/{pid}/status"), name);
        sum.memory_bytes += 1024 * (kib("RssAnon:") + kib("RssShmem:"));
        files = files.max(1024 * kib("RssFile:"));
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let path = task.path();
            let runtime = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            let nanos = runtime.split(' ').next().and_then(|first| first.parse().ok());
            let cpu = Duration::from_nanos(nanos.unwrap_or(0));
            sum.cpu += cpu;
            if task.file_name().to_str() == Some(&pid.to_string()) {
                sum.main_cpu += cpu;
            }
            let status = path.join("status");
            sum.wakeups += status_number(&status.to_string_lossy(), "voluntary_ctxt_switches:");
        }
    }
    sum.memory_bytes += files;
    sum
}

/// CPU time of the bench itself, and of those of its children that have ended: wrk, as long as
/// nothing else is ended meanwhile.
pub(crate) fn generator_cpu() -> Duration {
    let spent = |who| {
        let usage = getrusage(who).expect("both are asked of the kernel correctly");
        let (user, system) = (usage.user_time(), usage.system_time());
        let micros = user.num_microseconds() + system.num_microseconds();
        Duration::from_micros(u64::try_from(micros).expect("CPU time is not negative"))
    };
    spent(UsageWho::RUSAGE_SELF) + spent(UsageWho::RUSAGE_CHILDREN)
}

fn status_number(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[track_caller]
    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = tenfold::clock::now() + PATIENCE;
        while !holds() {
            assert!(tenfold::clock::now() < deadline, "no {what} within {PATIENCE:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_process_is_told_by_its_start_and_a_zombie_is_nobody() {
        let rest = "5 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 7 8";
        assert_eq!(parent_and_start(&format!("9 (a) b) S 5 {rest}")), Some((5, 123_456)));
        assert_eq!(parent_and_start(&format!("9 (a) Z 5 {rest}")), None);
        assert_eq!(parent_and_start("9 (a) S 5"), None);
        let (own, _) = Process::look(std::process::id().cast_signed()).expect("we live");
        assert!(own.lives());
        assert!(!Process { started: own.started + 1, ..own }.lives());
    }

    #[test]
    fn an_unmarked_child_is_ended_after_its_parent_was_killed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut group = Group::new(std::env::var_os("PATH").expect("every host has one"));
        let mut command = Command::new("sh");
        command.args(["-c", "env -i sleep 600 & wait"]);
        let parent = group.spawn(&mut command, &dir.path().join("log")).expect("sh is there");
        let unmarked = |group: &Group| {
            let marked = group.marked();
            let all = group.living();
            all.into_iter().find(|process| !marked.contains(process))
        };
        wait_until("child without the mark", || unmarked(&group).is_some());
        let child = unmarked(&group).expect("it was there a moment ago");
        kill(Pid::from_raw(parent.cast_signed()), Signal::SIGKILL).expect("our own child");
        wait_until("end of the parent", || group.ended().is_some());
        assert_eq!(group.living(), BTreeSet::from([child]));
        drop(group);
        assert!(!child.lives());
    }
}
