//! A run that is interrupted ends everything that it started, and nothing listens any more.
#![allow(clippy::disallowed_methods, reason = "only shipped code takes time as an argument")]

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tenfold::sys::process::{children, cpu_ticks, listening_sockets, with_variable};

const PATIENCE: Duration = Duration::from_secs(60);

/// A port that one run has left must not be taken by the next before it was looked at.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn an_interrupted_run_leaves_no_process_and_no_port_behind() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Two workers each: the cluster listens once, workers behind HAProxy have ports of their own,
    // and nginx has a worker of its own, which no mark tells.
    for (signal, peer, processes, ports) in [
        (Signal::SIGINT, "cluster", 3, 1),
        (Signal::SIGTERM, "haproxy", 3, 3),
        (Signal::SIGHUP, "nginx", 4, 1),
    ] {
        let run = Run::start(&["hello", "--peers", peer, "--rounds", "1000"]);
        let serving = run.until_measured();
        assert_eq!(serving.processes.len(), processes, "{peer}: {serving:?}");
        assert_eq!(serving.ports.len(), ports, "{peer}: {serving:?}");
        run.end(signal);
        serving.assert_gone();
    }
}

#[test]
fn a_proxys_worker_is_ended_though_its_master_was_killed() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = Run::start(&["hello", "--peers", "nginx", "--rounds", "1000"]);
    let serving = run.until_measured();
    let has_child = |pid: &&i32| children(**pid).is_ok_and(|children| !children.is_empty());
    let of_bench = children(run.pid()).expect("the bench lives");
    let master = *of_bench.iter().find(has_child).expect("nginx has a worker");
    let worker = children(master).expect("it lives")[0];
    kill(Pid::from_raw(master), Signal::SIGKILL).expect("it lives");
    wait_until("orphan", || parent(worker).is_some_and(|parent| parent != master));
    run.end(Signal::SIGTERM);
    serving.assert_gone();
}

#[test]
fn a_simulation_ends_at_once() {
    let run = Run::start(&["sim"]);
    // It begins with minutes of work in this build, and nothing before it takes a second of CPU.
    wait_until("work", || cpu_ticks(run.pid()).is_ok_and(|ticks| ticks > 100));
    let asked = Instant::now();
    run.end(Signal::SIGINT);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

/// A bench under way; dropping it ends it.
struct Run {
    bench: Child,
    _results: tempfile::TempDir,
}

impl Run {
    fn start(arguments: &[&str]) -> Self {
        let results = tempfile::tempdir().expect("a directory");
        // A signal that we ignore, as under nohup, would be ignored by the bench, too.
        let bench = Command::new("env")
            .arg("--default-signal=HUP,INT,TERM")
            .arg(env!("CARGO_BIN_EXE_tenfold-bench"))
            .args(arguments)
            .arg("--results")
            .arg(results.path())
            // Not what cargo told us: the bench must not build in the middle of tests.
            .env_remove("CARGO")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the bench starts");
        Self { bench, _results: results }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.bench.id()).expect("a pid fits")
    }

    /// Waits until the generator runs, which it does once all that it started serves.
    fn until_measured(&self) -> Serving {
        let is_generator = |pid: &i32| name(*pid).is_some_and(|name| name == "wrk");
        let mut all = Vec::new();
        wait_until("load", || {
            all = descendants(self.pid());
            // Alone it only tells its version.
            all.len() > 1 && all.iter().any(is_generator)
        });
        all.retain(|pid| !is_generator(pid));
        let ports = listening_sockets(&all).into_iter().map(|socket| socket.address).collect();
        let processes = all.into_iter().filter_map(|pid| Some((pid, started(pid)?))).collect();
        Serving { mark: format!("{}.0", self.pid()), processes, ports }
    }

    fn end(mut self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it lives");
        let status = self.ended();
        assert_eq!(status.code(), Some(1), "{signal}: {status}");
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("end of the bench", || {
            status = self.bench.try_wait().expect("it is ours");
            status.is_some()
        });
        status.expect("it was waited for")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Only a test that failed finds it alive here; what it started is ended by itself.
        if let Ok(None) = self.bench.try_wait() {
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
            let _ = self.bench.wait();
        }
    }
}

/// What one deployment consists of.
#[derive(Debug)]
struct Serving {
    mark: String,
    /// With the time at which each was started, so that nobody else is taken for it.
    processes: Vec<(i32, u64)>,
    ports: BTreeSet<SocketAddr>,
}

impl Serving {
    #[track_caller]
    fn assert_gone(&self) {
        let alive = |(pid, when): &&(i32, u64)| started(*pid) == Some(*when);
        let left: Vec<_> = self.processes.iter().filter(alive).collect();
        assert!(left.is_empty(), "{left:?} of {self:?}");
        assert_eq!(with_variable("BENCH_RUN", &self.mark), Vec::<i32>::new());
        for port in &self.ports {
            assert!(TcpStream::connect(port).is_err(), "somebody listens at {port}: {self:?}");
        }
    }
}

fn descendants(pid: i32) -> Vec<i32> {
    let mut all = children(pid).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children(pid).unwrap_or_default());
        next += 1;
    }
    all
}

fn name(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// One field of /proc/PID/stat, counted from the one behind the name; none of a zombie.
fn field(pid: i32, index: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    (fields.first() != Some(&"Z")).then(|| fields.get(index)?.parse().ok()).flatten()
}

fn parent(pid: i32) -> Option<i32> {
    i32::try_from(field(pid, 1)?).ok()
}

fn started(pid: i32) -> Option<u64> {
    field(pid, 19)
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
