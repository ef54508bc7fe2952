//! Carries out a schedule on a running pool, and mends in the end whatever it broke.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::clients::pause;
use super::schedule::{Action, Fault, Flaw, Step, index};
use super::support::faults::{Faults, REACTOR};
use super::support::http::Connection;
use super::support::{Tenfold, processes};

/// What a worker keeps each time it is told to grow; two are more than `memory.soft`.
const GROWTH_MIB: u64 = 130;

/// While this file is in the test's directory, no worker comes up.
pub(crate) const DOOM: &str = "doom";

/// In this file of the test's directory workers note which requests they were given.
pub(crate) const SEEN: &str = "seen";

/// What is wrong now and ends later.
enum Ailment {
    Stopped(i32),
    Doomed,
    Starved { pid: i32, limit: String },
    Traced(Faults),
}

/// See the module.
pub(crate) struct Havoc {
    tenfold: Arc<Tenfold>,
    port: u16,
    started: Instant,
    ailments: BTreeMap<(Instant, usize), Ailment>,
    /// Commands and requests whose ends nobody waits for while the schedule runs.
    asides: Vec<JoinHandle<String>>,
    releases: u32,
    done: usize,
    /// What was done, for people.
    story: Vec<String>,
}

impl Havoc {
    pub(crate) fn new(tenfold: Arc<Tenfold>, port: u16) -> Self {
        Self {
            tenfold,
            port,
            started: Instant::now(),
            ailments: BTreeMap::default(),
            asides: Vec::new(),
            releases: 1,
            done: 0,
            story: Vec::new(),
        }
    }

    /// Does everything in time, and heals whatever is left. Gives what was done, line by line.
    pub(crate) fn run(mut self, steps: &[Step]) -> Vec<String> {
        for step in steps {
            let due = self.started + step.at;
            self.heal_until(due);
            pause(due.saturating_duration_since(Instant::now()));
            let noted = self.act(step.action);
            self.tell(format!("{:?}: {noted}", step.action));
        }
        while let Some((at, _)) = self.ailments.keys().next().copied() {
            self.heal_until(at);
        }
        for aside in std::mem::take(&mut self.asides) {
            let said = aside.join().expect("commands and requests do not panic");
            self.story.push(said);
        }
        self.story
    }

    fn tell(&mut self, what: String) {
        let at = self.started.elapsed().as_millis();
        self.story.push(format!("{at:>6} ms {what}"));
    }

    /// Ends what is due to end by then.
    fn heal_until(&mut self, due: Instant) {
        while let Some(entry) = self.ailments.first_entry() {
            let (at, number) = *entry.key();
            if at > due {
                return;
            }
            let ailment = entry.remove();
            pause(at.saturating_duration_since(Instant::now()));
            let told = self.heal(ailment);
            self.tell(format!("healed {number}: {told}"));
        }
    }

    fn act(&mut self, action: Action) -> String {
        self.done += 1;
        match action {
            Action::Kill { pick } => self.signal_one(pick, Signal::SIGKILL),
            Action::KillTwo { pick } => {
                let first = self.signal_one(pick, Signal::SIGKILL);
                format!("{first}, {}", self.signal_one(pick + 1, Signal::SIGKILL))
            }
            Action::Freeze { pick } => self.signal_one(pick, Signal::SIGSTOP),
            Action::Pause { pick, ms } => {
                let Some(pid) = self.worker(pick) else { return "nobody there".to_owned() };
                processes::signal(pid, Signal::SIGSTOP);
                self.ail(ms, Ailment::Stopped(pid))
            }
            Action::Hang { ms } => self.misdeed(format!("/hang?ms={ms}")),
            Action::Exit => self.misdeed("/exit".to_owned()),
            Action::Grow => self.misdeed(format!("/leak?mib={GROWTH_MIB}")),
            Action::Say => self.misdeed("/say?lines=2000".to_owned()),
            Action::Doom { pick, ms } => {
                std::fs::write(self.tenfold.dir().join(DOOM), "").expect("the directory is ours");
                let killed = self.signal_one(pick, Signal::SIGKILL);
                format!("{killed}; {}", self.ail(ms, Ailment::Doomed))
            }
            Action::PauseMaster { ms } => {
                let pid = newest(&self.tenfold);
                processes::signal(pid, Signal::SIGSTOP);
                self.ail(ms, Ailment::Stopped(pid))
            }
            Action::Starve { spare, ms } => self.starve(spare, ms),
            Action::Inject { fault, ms } => self.inject(fault, ms),
            Action::Reload => self.deploy(None),
            Action::ReloadBad { flaw } => self.deploy(Some(flaw)),
            // The last slot may be gone by then: that it is refused is fine.
            Action::Recycle { pick } => self.command(["recycle", &(pick % 4).to_string()]),
            Action::RecycleAll => self.command(["recycle", "all"]),
            Action::Scale { workers } => self.command(["scale", &workers.to_string()]),
            Action::Upgrade => {
                // The new master goes by what is deployed now: something that can run.
                self.releases += 1;
                write_release(self.tenfold.dir(), self.releases, None);
                self.command(["upgrade", "--wait"])
            }
        }
    }

    fn ail(&mut self, ms: u64, ailment: Ailment) -> String {
        let until = Instant::now() + Duration::from_millis(ms);
        self.ailments.insert((until, self.done), ailment);
        format!("as {}", self.done)
    }

    fn heal(&mut self, ailment: Ailment) -> String {
        match ailment {
            Ailment::Stopped(pid) => {
                processes::signal(pid, Signal::SIGCONT);
                format!("{pid} goes on")
            }
            Ailment::Doomed => {
                // Two may overlap; the first to end ends both.
                let _ = std::fs::remove_file(self.tenfold.dir().join(DOOM));
                "workers come up".to_owned()
            }
            Ailment::Starved { pid, limit } => {
                // An old master may have ended.
                let done = prlimit(pid, &limit) || !processes::is_alive(pid);
                assert!(done, "prlimit --nofile={limit} failed");
                "descriptors again".to_owned()
            }
            Ailment::Traced(faults) => format!("{} calls had failed", faults.end()),
        }
    }

    /// The worker that `pick` means, among those that live: found without asking the master, which
    /// may not answer just now.
    fn worker(&self, pick: u64) -> Option<i32> {
        let all = masters(&self.tenfold).into_iter().flat_map(processes::children);
        let alive = all.filter(|child| child.state != 'Z').map(|child| child.pid);
        let is_worker = |pid: &i32| processes::environment_of(*pid, "TENFOLD_SLOT").is_some();
        let workers: Vec<i32> = alive.filter(is_worker).collect();
        (!workers.is_empty()).then(|| workers[index(pick, workers.len())])
    }

    fn signal_one(&self, pick: u64, signal: Signal) -> String {
        match self.worker(pick) {
            Some(pid) => {
                processes::signal(pid, signal);
                format!("{signal} to {pid}")
            }
            None => "nobody there".to_owned(),
        }
    }

    /// Asks some worker for something that is bad for it; what becomes of that is its own affair.
    fn misdeed(&mut self, target: String) -> String {
        let port = self.port;
        self.asides.push(std::thread::spawn(move || {
            let request = format!(
                "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let answer = Connection::open(port).and_then(|mut connection| {
                connection.send(request.as_bytes())?;
                connection.receive()
            });
            match answer {
                Ok(answer) => format!("{target}: {}", answer.status),
                Err(error) => format!("{target}: {error}"),
            }
        }));
        "asked for".to_owned()
    }

    fn command<const N: usize>(&mut self, words: [&str; N]) -> String {
        let (tenfold, words) = (Arc::clone(&self.tenfold), words.map(str::to_owned));
        self.asides.push(std::thread::spawn(move || {
            let finished = tenfold.cli(&words);
            let said = finished.stdout + &finished.stderr;
            format!("tenfold {}: {:?} {}", words.join(" "), finished.code, said.trim_end())
        }));
        "asked for".to_owned()
    }

    fn deploy(&mut self, flaw: Option<Flaw>) -> String {
        self.releases += 1;
        write_release(self.tenfold.dir(), self.releases, flaw);
        let asked = self.command(["reload"]);
        format!("release {}, {asked}", self.releases)
    }

    fn starve(&mut self, spare: u64, ms: u64) -> String {
        let pid = newest(&self.tenfold);
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let line = limits.lines().find(|line| line.starts_with("Max open files"));
        let soft = line.and_then(|line| line.split_whitespace().nth(3)).expect("proc(5)");
        // One that is starved already goes on as it was before that.
        let is_starved = |it: &Ailment| matches!(it, Ailment::Starved { .. });
        if self.ailments.values().any(is_starved) {
            return "starved already".to_owned();
        }
        let limit = format!("{soft}:");
        let left = processes::counters(pid).fds as u64 + spare;
        assert!(prlimit(pid, &format!("{left}:")), "prlimit cannot starve {pid}");
        format!("{left} descriptors; {}", self.ail(ms, Ailment::Starved { pid, limit }))
    }

    fn inject(&mut self, fault: Fault, ms: u64) -> String {
        // A process has one tracer.
        if self.ailments.values().any(|it| matches!(it, Ailment::Traced(_))) {
            return "traced already".to_owned();
        }
        let master = newest(&self.tenfold);
        let thread = match fault.thread {
            Some(name) => {
                processes::thread_of(master, name).unwrap_or_else(|| panic!("no thread {name}"))
            }
            None => master,
        };
        let notes = self.tenfold.dir().join(format!("strace.{}", self.done));
        let Fault { call, error, .. } = fault;
        self.ail(ms, Ailment::Traced(Faults::begin(thread, call, error, &notes)))
    }
}

/// All masters that run, the one that was started last at the end: while one gives the pool to
/// another there are two. Found without asking them, who may not answer just now.
fn masters(tenfold: &Tenfold) -> Vec<i32> {
    let mut all = tenfold.tree();
    all.push(tenfold.pid());
    all.retain(|pid| processes::is_alive(*pid) && processes::thread_of(*pid, REACTOR).is_some());
    all.sort_by_key(|pid| processes::start_time(*pid));
    all
}

/// The master that was started last.
pub(crate) fn newest(tenfold: &Tenfold) -> i32 {
    masters(tenfold).pop().expect("a master runs")
}

/// Whether that limit is in force now.
fn prlimit(pid: i32, nofile: &str) -> bool {
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={nofile}")])
        .stderr(Stdio::null())
        .status()
        .expect("util-linux is installed");
    status.success()
}

/// Puts another release in place, as a deployment script does, and points `current` at it.
pub(crate) fn write_release(root: &Path, release: u32, flaw: Option<Flaw>) {
    let directory = root.join(format!("releases/{release}"));
    std::fs::create_dir_all(&directory).expect("the directory is ours");
    let (server, config) = match flaw {
        None => ("require(process.env.CHAOS_APP);", ""),
        Some(Flaw::Throws) => ("throw new Error('a release that cannot run');", ""),
        Some(Flaw::NeverReady) => {
            ("setInterval(() => {}, 1000);", "workers.start_timeout = \"1s\"\n")
        }
        Some(Flaw::InvalidFile) => ("require(process.env.CHAOS_APP);", "workers.limit = 0\n"),
    };
    std::fs::write(directory.join("server.js"), server).expect("the directory is ours");
    std::fs::write(directory.join("tenfold.toml"), config).expect("the directory is ours");
    let link = root.join("next");
    std::os::unix::fs::symlink(format!("releases/{release}"), &link).expect("no link is there");
    std::fs::rename(link, root.join("current")).expect("both are in one directory");
}
