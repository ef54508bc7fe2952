//! One running tenfold: observed, signalled, and always reaped.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::builder::{Builder, Finished};
use super::events::Events;
use super::output::{Output, Stream};
use super::status::Status;
use super::{PATIENCE, http, processes, try_until};

/// The environment variable that marks every process of one test's tree; not `TENFOLD_…`, which the
/// master keeps from its workers.
pub(super) const MARK: &str = "TEST_TREE";

/// The commands that ask a running master, apart from `health`, which can do without an instance.
const ASKING: [&str; 13] = [
    "status", "requests", "events", "scale", "reload", "recycle", "drain", "signal", "stack",
    "heap", "logs", "stop", "upgrade",
];

/// A running tenfold. Dropping it kills every process that it started, wherever that went.
pub(crate) struct Tenfold {
    child: Child,
    exit: Option<ExitStatus>,
    mark: String,
    name: String,
    dir: TempDir,
    output: Arc<Output>,
    /// Whether a failed wait has already shown the output.
    told: AtomicBool,
}

impl Tenfold {
    pub(crate) fn builder() -> Builder {
        Builder::new()
    }

    /// Takes over a started child whose output is piped and whose tree bears `mark`.
    pub(super) fn new(child: Child, mark: String, name: String, dir: TempDir) -> Self {
        let output = Arc::new(Output::default());
        Self { child, exit: None, mark, name, dir, output, told: AtomicBool::new(false) }
    }

    pub(super) fn follow_both(mut self) -> Self {
        let stdout = self.child.stdout.take().expect("stdout is piped");
        self.output.follow(Stream::Stdout, stdout);
        self.follow_stderr()
    }

    pub(super) fn follow_stderr(mut self) -> Self {
        let stderr = self.child.stderr.take().expect("stderr is piped");
        self.output.follow(Stream::Stderr, stderr);
        self
    }

    /// The master's pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where tenfold keeps its sockets and its preload.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("run/tenfold")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.runtime_dir().join(format!("{}.sock", self.name))
    }

    /// Another tenfold command in the same runtime directory: `status`, `scale`, ….
    pub(crate) fn cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Finished {
        let mut command = self.command(args);
        let output = command.stdin(Stdio::null()).output().expect("the binary under test starts");
        Finished {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Follows its events from now on.
    #[track_caller]
    pub(crate) fn events(&self) -> Events {
        Events::follow(self.command(["events", "--json"]))
    }

    /// Another tenfold command that goes on; its output is piped, and the caller reaps it.
    pub(crate) fn spawn_cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary under test starts")
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenfold"));
        command.args(args).env_clear();
        // Root sees the instances of all users, also those that no test started.
        let mut words = command.get_args();
        let asks = words.next().is_some_and(|word| ASKING.iter().any(|known| word == *known));
        if asks && !words.any(|word| word == "--name") {
            command.args(["--name", &self.name]);
        }
        command.env("XDG_RUNTIME_DIR", self.dir.path().join("run")).env(MARK, &self.mark);
        command
    }

    /// Asks the control socket; an error while the master is not up or has gone.
    pub(crate) fn status(&self) -> std::io::Result<Status> {
        http::get(self.control_socket().as_path(), "/status")?.json()
    }

    /// Waits for a status of which `wanted` is true.
    #[track_caller]
    pub(crate) fn wait_status(
        &self,
        bound: Duration,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Status {
        let mut last = None;
        let found = try_until(bound, || {
            // Looked at before asking: a master that ends in between is found out next time. After
            // an upgrade it is another process of the tree.
            let alive = processes::is_alive(self.pid()) || !self.tree().is_empty();
            let status = self.status();
            let found = status.as_ref().ok().filter(|status| wanted(status)).cloned();
            last = Some(status);
            if found.is_some() || !alive { Some(found) } else { None }
        });
        match found {
            Some(Some(status)) => status,
            Some(None) => self.fail(&format!("the master ended before {what}")),
            None => self.fail(&format!("waited {bound:?} for {what}; last status: {last:#?}")),
        }
    }

    /// Waits until `count` workers are ready.
    #[track_caller]
    pub(crate) fn wait_ready(&self, count: usize) -> Status {
        let what = format!("{count} ready workers");
        self.wait_status(PATIENCE, &what, |status| status.ready() == count)
    }

    /// How many lines have been read so far; see [`Self::wait_for_line_after`].
    pub(crate) fn line_count(&self) -> usize {
        self.output.lock().lines.len()
    }

    /// Waits for a line, on either stream, that is or has been written.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, bound: Duration, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_for_line_after(0, bound, wanted)
    }

    /// Waits for a line among those after the first `skip`.
    #[track_caller]
    pub(crate) fn wait_for_line_after(
        &self,
        skip: usize,
        bound: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let found = self.output.wait(bound, |seen| {
            let mut lines = seen.lines.iter().skip(skip);
            lines.find(|(_, line)| wanted(line)).map(|(_, line)| line.clone())
        });
        match found {
            Some(line) => line,
            None => self.fail(&format!("no such line came within {bound:?}, or can come")),
        }
    }

    /// What one stream has brought so far.
    pub(super) fn written(&self, stream: Stream) -> String {
        self.output.text(stream)
    }

    /// Everything written so far, both streams in the order of arrival.
    pub(crate) fn output(&self) -> String {
        self.output.both()
    }

    /// The share of one CPU that the master used while `work` ran, and what that gave.
    pub(crate) fn load_during<T>(&self, work: impl FnOnce() -> T) -> (f64, T) {
        let (started, before) = (Instant::now(), processes::cpu_time(self.pid()));
        let outcome = work();
        let used = processes::cpu_time(self.pid()) - before;
        (used.as_secs_f64() / started.elapsed().as_secs_f64(), outcome)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            processes::signal(self.pid(), signal);
        }
    }

    /// Kills the master alone, as the kernel's OOM killer would.
    pub(crate) fn kill9(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Waits until the master has ended.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, bound: Duration) -> ExitStatus {
        if let Some(status) = self.exit {
            return status;
        }
        let child = &mut self.child;
        self.exit = try_until(bound, || child.try_wait().expect("the child is ours"));
        match self.exit {
            Some(status) => status,
            None => self.fail(&format!("waited {bound:?} for the master to end")),
        }
    }

    /// Waits until every holder of the output pipes has closed them, so that all lines are in.
    #[track_caller]
    pub(crate) fn wait_output_end(&self, bound: Duration) {
        if self.output.wait(bound, |seen| (seen.open_pipes == 0).then_some(())).is_none() {
            self.fail(&format!("waited {bound:?} for the end of the output"));
        }
    }

    /// The living processes of this tree besides the master: guardian, workers, their children.
    pub(crate) fn tree(&self) -> Vec<i32> {
        let mut pids = processes::marked(MARK, &self.mark);
        pids.retain(|pid| *pid != self.pid());
        pids
    }

    /// Waits until nothing of this tree but the master, if that, is left.
    #[track_caller]
    pub(crate) fn wait_tree_gone(&self, bound: Duration) {
        if try_until(bound, || self.tree().is_empty().then_some(())).is_none() {
            self.fail(&format!("waited {bound:?} for the end of {:?}", self.tree()));
        }
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        self.told.store(true, Ordering::Relaxed);
        panic!("{what}\n--- output\n{}--- end of output", self.output())
    }
}

impl Drop for Tenfold {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.told.load(Ordering::Relaxed) {
            eprintln!("--- output\n{}--- end of output", self.output());
        }
        // Again and again: a process may be forking while we look.
        let gone = try_until(Duration::from_secs(5), || {
            let left = processes::marked(MARK, &self.mark);
            for pid in &left {
                processes::signal(*pid, Signal::SIGKILL);
            }
            left.is_empty().then_some(())
        });
        // The child is killed by now, or about to be: this wait ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if gone.is_none() {
            eprintln!("the tree {} survived SIGKILL for 5 s", self.mark);
        }
    }
}
