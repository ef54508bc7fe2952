//! The guardian: a second process that ends every worker's process tree if the master is killed.
//!
//! PDEATHSIG reaches only direct children, and a `kill -9` leaves the master no last word. So it
//! keeps a pipe to a process of its own binary, which knows all process groups and waits for the
//! end of the file. An orderly stop says `done` first. The guardian has a session of its own, is
//! deaf to the signals that stop a master, and holds nothing but the pipe.
//!
//! Not needed as PID 1 (the kernel ends the namespace) or as a systemd unit (systemd ends the
//! cgroup): see [`is_needed`].

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::clock;
use crate::sys::child::{self, Child};
use crate::sys::process;
use crate::sys::signals;
use crate::sys::spawn::{Input, Leads, Leash, Output, SpawnPlan, spawn};

/// First argument of the binary that makes it a guardian; the second is the instance.
pub const ARGUMENT: &str = "--guardian";

/// The variable by which a worker's descendants are known, even outside of their group.
pub const INSTANCE_VARIABLE: &str = "TENFOLD_INSTANCE";

/// The variable that names the worker whose descendant a process is.
pub const WORKER_VARIABLE: &str = "TENFOLD_WORKER";

/// From TERM to KILL. With PDEATHSIG the workers themselves are gone by then; this is for what they
/// started, and leaves room in the 3 s after which nothing of the tree may be alive.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at who is left.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks after KILL: processes that fork while they are killed need a few.
const LOOKS_AFTER_KILL: u32 = 10;
/// Bytes that may wait for a guardian that does not read: at 12 bytes a line, some 300 changes per
/// worker of the largest pool. A guardian so far behind is stopped or broken.
const PENDING_MAX: usize = 1 << 20;
/// Longest line the guardian accepts; a sign and ten digits are 11.
const LINE_MAX: usize = 32;

const DEAF_TO: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGTSTP,
];

/// The master's end. Dropping it without [`Guardian::dismiss`] has the same effect as dying.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
    pipe: File,
    pending: Vec<u8>,
    started: Instant,
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Dismissed,
    MasterDied,
}

/// Whether nobody else would end our process tree if we were killed.
///
/// `variable` reads our environment; `pid` is our own.
pub fn is_needed(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    pid != 1 && !is_unit(pid, variable)
}

/// Whether systemd started us as a unit of its own, and so ends what we leave behind.
pub fn is_unit(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_started = variable("SYSTEMD_EXEC_PID").is_some_and(|unit| unit == *pid.to_string());
    let is_notifier = variable("INVOCATION_ID").is_some() && variable("NOTIFY_SOCKET").is_some();
    is_started || is_notifier
}

impl Guardian {
    /// Starts a guardian for the master's life named `instance` (32 hexadecimal digits).
    ///
    /// If it dies, the pipe breaks: the caller starts another one and lists every group again.
    ///
    /// # Errors
    /// Those of starting a process; the master can run without, and says so.
    pub fn start(instance: &str) -> io::Result<Self> {
        Self::launch(plan(instance)?)
    }

    fn launch(mut plan: SpawnPlan) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let pipe = File::from(OwnedFd::from(writer));
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        plan.stdin = Input::From(reader.into());
        let spawned = spawn(&plan).map_err(io::Error::other)?;
        Ok(Self { child: spawned.child, pipe, pending: Vec::new(), started: clock::now() })
    }

    /// The guardian's process, which the master reaps like any child.
    #[must_use]
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Gives up a guardian that is gone or does not read, and tells how long it was there.
    ///
    /// It is killed: one that was only stopped would take the closed pipe for the master's death.
    pub fn discard(self) -> Duration {
        // Gone already is the usual case.
        let _ = self.child.signal(Signal::SIGKILL);
        clock::now().saturating_duration_since(self.started)
    }

    /// Puts a process group under guard. Never blocks.
    ///
    /// # Errors
    /// `BrokenPipe` if the guardian is gone, `OutOfMemory` if it has not read for far too long:
    /// both call for a new one.
    pub fn watch(&mut self, group: i32) -> io::Result<()> {
        self.say(&format!("+{group}\n"))
    }

    /// Releases a group, because all of it is gone: its number may soon name another.
    ///
    /// # Errors
    /// As for [`Guardian::watch`].
    pub fn forget(&mut self, group: i32) -> io::Result<()> {
        self.say(&format!("-{group}\n"))
    }

    /// Ends the guard without any signal; the guardian exits by itself, to be reaped.
    ///
    /// # Errors
    /// As for [`Guardian::watch`], and `WouldBlock` if the guardian is too far behind to be told:
    /// it will signal the groups that are still listed.
    pub fn dismiss(mut self) -> io::Result<()> {
        self.say("done\n")?;
        if self.pending.is_empty() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        if self.pending.len() + line.len() > PENDING_MAX {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.pending.extend_from_slice(line.as_bytes());
        while !self.pending.is_empty() {
            match self.pipe.write(&self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                // The rest goes with the next line.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The guardian process itself; `arguments` are those after [`ARGUMENT`].
///
/// Returns when it is dismissed, or when the master has died and its tree is gone.
pub fn guardian_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let instance = arguments.into_iter().next().and_then(|text| text.into_string().ok());
    let Some(instance) = instance.filter(|instance| is_instance(instance)) else {
        eprintln!("{ARGUMENT} is for tenfold itself");
        return ExitCode::from(78);
    };
    let pipe = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    match signals::ignore(&DEAF_TO).and(pipe) {
        Ok(pipe) => {
            guard(pipe, &instance);
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Anything shorter might name processes of another master.
fn is_instance(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn plan(instance: &str) -> io::Result<SpawnPlan> {
    // The file that runs now, even if an upgrade has replaced it under its name.
    let mut plan = SpawnPlan::new(Path::new("/proc/self/exe"))?;
    plan.arguments =
        vec![c"tenfold: guardian".to_owned(), CString::new(ARGUMENT)?, CString::new(instance)?];
    plan.directory = Some(c"/".to_owned());
    plan.stdout = Output::Null;
    plan.stderr = Output::Null;
    plan.leads = Leads::Session;
    plan.leash = Leash::Survive;
    Ok(plan)
}

fn guard(pipe: impl Read, instance: &str) {
    let mut groups = BTreeSet::new();
    if watch(pipe, &mut groups) == Watch::MasterDied {
        end_tree(&groups, instance);
    }
}

/// Follows the master's lines until it says `done` or its end of the pipe closes.
fn watch(pipe: impl Read, groups: &mut BTreeSet<i32>) -> Watch {
    let mut pipe = BufReader::new(pipe);
    let mut line = String::new();
    loop {
        line.clear();
        // A line cut off by the master's death has no newline; half a number must not count.
        match pipe.by_ref().take(LINE_MAX as u64).read_line(&mut line) {
            Ok(length) if length > 0 && line.ends_with('\n') => {}
            Ok(_) | Err(_) => return Watch::MasterDied,
        }
        let line = line.trim_end();
        let group = |digits: &str| digits.parse().ok().filter(|&group: &i32| group > 1);
        if line == "done" {
            return Watch::Dismissed;
        } else if let Some(group) = line.strip_prefix('+').and_then(group) {
            groups.insert(group);
        } else if let Some(group) = line.strip_prefix('-').and_then(group) {
            groups.remove(&group);
        }
    }
}

/// TERM, and KILL for who is left after the grace, until nobody is.
fn end_tree(groups: &BTreeSet<i32>, instance: &str) {
    signal_tree(groups, instance, Signal::SIGTERM);
    for _ in 0..GRACE.as_millis() / LOOK_EVERY.as_millis() {
        if is_gone(groups, instance) {
            return;
        }
        pause();
    }
    for _ in 0..LOOKS_AFTER_KILL {
        signal_tree(groups, instance, Signal::SIGKILL);
        if is_gone(groups, instance) {
            return;
        }
        pause();
    }
}

fn signal_tree(groups: &BTreeSet<i32>, instance: &str, signal: Signal) {
    for &group in groups {
        // Nobody is left to hear of a denial; the next group may still be ours to signal.
        let _ = child::signal_group(group, signal);
    }
    process::signal_with_variable(INSTANCE_VARIABLE, instance, signal);
}

fn is_gone(groups: &BTreeSet<i32>, instance: &str) -> bool {
    let is_over = |&group: &i32| !process::group_lives(group);
    groups.iter().all(is_over) && process::with_variable(INSTANCE_VARIABLE, instance).is_empty()
}

/// The processes belong to other parents by now, so there is no event to wait for.
fn pause() {
    let timeout = PollTimeout::try_from(LOOK_EVERY).expect("50 ms fit");
    let _ = poll(&mut [], timeout);
}

#[cfg(test)]
#[path = "guardian_tests.rs"]
mod tests;
