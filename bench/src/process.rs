//! Starts processes that cannot outlive the bench, and reads what the kernel says they use.
//!
//! Everything started for one deployment carries the same mark in its environment, so that it is
//! found again however deep it forked or whichever session it moved to.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use tenfold::sys::process::{children, signal_with_variable, with_variable};

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
}

impl Group {
    pub(crate) fn new(path: OsString) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { mark: format!("{}.{count}", std::process::id()), path, children: Vec::new() }
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
        self.children.push(child);
        Ok(pid)
    }

    /// The first process that has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.children.iter_mut().find_map(|child| child.try_wait().ok().flatten())
    }

    /// Every living process of this deployment.
    pub(crate) fn members(&self) -> Members {
        let mut members = Members::default();
        for pid in self.living() {
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
    /// By the mark, and by descent: nginx writes its title over its environment.
    fn living(&self) -> Vec<i32> {
        let mut pids = with_variable(MARK, &self.mark);
        let mut unseen = self.unreaped();
        while let Some(pid) = unseen.pop() {
            // None of a process that has ended.
            unseen.extend(children(pid).unwrap_or_default());
            pids.push(pid);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Children that nobody has waited for, so that their pids are theirs.
    fn unreaped(&self) -> Vec<i32> {
        let pids = self.children.iter().filter_map(|child| i32::try_from(child.id()).ok());
        pids.filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // "pid (name) state parent …"; a zombie has nothing left to end.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let mut fields = fields.split_whitespace();
            let alive = fields.next().is_some_and(|state| state != "Z");
            alive && fields.next() == Some(&std::process::id().to_string())
        })
        .collect()
    }

    fn signal(&self, signal: Signal) {
        signal_with_variable(MARK, &self.mark, signal);
        for pid in self.unreaped() {
            // It may have ended just now, which is what is wanted.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
        }
    }

    fn reap(&mut self) {
        for child in &mut self.children {
            // Only to turn zombies into nothing: a failure changes nothing.
            let _ = child.try_wait();
        }
    }
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
