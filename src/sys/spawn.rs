//! Starts one process with exactly the descriptors, identity and limits its plan names.
//!
//! Why not `std::process::Command`: LISTEN_PID must hold the child's own pid, PDEATHSIG must be set
//! after the change of user, and nothing but the plan's descriptors may be inherited. The half that
//! runs between fork and execve is in `exec.rs`.

use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::Mode;
use thiserror::Error;

use super::child::{self, Child};
use super::exec::{self, Launch, Report};

/// Everything about a process to be started. Whatever is not named here is not inherited, but for
/// the master's own stdout and stderr (see [`Output`]), its cgroup and its namespaces.
#[derive(Debug)]
pub struct SpawnPlan {
    /// File to execute, as [`super::program::resolve`] found it.
    pub program: CString,
    /// Arguments, the first being the name the process sees as its own.
    pub arguments: Vec<CString>,
    /// The whole environment, one `NAME=value` each.
    pub environment: Vec<CString>,
    /// Working directory; `None` for ours. Entered as the new user.
    pub directory: Option<CString>,
    /// Where its stdin comes from.
    pub stdin: Input,
    /// Where its stdout goes.
    pub stdout: Output,
    /// Where its stderr goes.
    pub stderr: Output,
    /// Further descriptors, each with the number (3 or more) it has in the process.
    pub fds: Vec<PassedFd>,
    /// Whether LISTEN_PID is set to the new process's pid.
    pub listen_pid: ListenPid,
    /// Limit on open files; `None` for ours.
    pub nofile: Option<Nofile>,
    /// User to become; `None` to stay who we are.
    pub credentials: Option<Credentials>,
    /// Added to our own nice value; 0 to leave it.
    pub nice: i32,
    /// The kernel's preference for this process when memory ends, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// File mode creation mask; `None` for ours.
    pub umask: Option<u32>,
    /// What the process leads.
    pub leads: Leads,
    /// What happens to it when we die.
    pub leash: Leash,
}

/// Where the stdin of a process comes from; never from ours.
#[derive(Debug, Default)]
pub enum Input {
    /// Nowhere: it reads an end of file.
    #[default]
    Null,
    /// Out of this descriptor.
    From(OwnedFd),
}

/// Where a standard stream of a process goes.
#[derive(Debug, Default)]
pub enum Output {
    /// Where ours goes.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// Into this descriptor.
    To(OwnedFd),
}

/// A descriptor that a process inherits under a number of our choice.
#[derive(Debug)]
pub struct PassedFd {
    /// Ours; it stays open here until the plan is dropped.
    pub source: OwnedFd,
    /// Its number there, 3 or more. It may equal the number of another source.
    pub target: RawFd,
}

/// Whether the environment names the process's own pid, as LISTEN_FDS programs check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ListenPid {
    /// No LISTEN_PID is added.
    #[default]
    Absent,
    /// `LISTEN_PID=<pid of the new process>` is added.
    OfChild,
}

/// RLIMIT_NOFILE: open files, soft and hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nofile {
    /// The limit in force.
    pub soft: u64,
    /// What an unprivileged process may raise it to.
    pub hard: u64,
}

/// A user to become, with groups already looked up (that cannot be done after a fork).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Real, effective and saved user.
    pub uid: u32,
    /// Real, effective and saved group.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
}

/// What a new process leads, so that signals to it reach its descendants and not us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Leads {
    /// A process group of its own, whose id is its pid.
    #[default]
    Group,
    /// A session of its own as well, without a terminal.
    Session,
}

/// What happens to a process when the *thread* that started it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Leash {
    /// It gets SIGKILL (PDEATHSIG). Start workers from a thread that lives as long as the master.
    #[default]
    DieWithParent,
    /// Nothing.
    Survive,
    /// Nothing: it is a child of *our* parent (CLONE_PARENT), who reaps it, and for a service
    /// manager that may become the main process of a unit. For plans without credentials.
    Sibling,
}

/// A process that runs its program, and what it had to do without.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub child: Child,
    /// Steps that the system denied and that are no reason to give up: nice, oom_score_adj.
    pub denied: Vec<SpawnError>,
}

/// What was being done when a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    /// Making pipes and opening /dev/null, in the master.
    Prepare = 1,
    /// fork(2).
    Fork,
    /// setpgid(2) or setsid(2).
    Lead,
    /// dup2(2) of the plan's descriptors.
    Descriptors,
    /// Writing /proc/self/oom_score_adj.
    OomScore,
    /// nice(2).
    Nice,
    /// setrlimit(2).
    Nofile,
    /// setgroups(2).
    Groups,
    /// setresgid(2).
    Group,
    /// setresuid(2).
    User,
    /// prctl(2) with PR_SET_PDEATHSIG.
    DeathSignal,
    /// chdir(2).
    Directory,
    /// execve(2).
    Execute,
}

/// A start that failed, by step, cause and the thing it failed on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot {}: {}", self.action(), self.reason())]
pub struct SpawnError {
    /// What was being done.
    pub step: Step,
    /// Why it failed.
    pub errno: Errno,
    /// The path, user or value in question; empty where there is none.
    pub subject: String,
}

impl SpawnPlan {
    /// A plan with no descriptors, no limits and an empty environment for `program`, which is also
    /// the first argument.
    ///
    /// # Errors
    /// `InvalidInput` if the path has a NUL byte.
    pub fn new(program: &Path) -> io::Result<Self> {
        let program = CString::new(program.as_os_str().as_bytes())?;
        Ok(Self {
            arguments: vec![program.clone()],
            program,
            environment: Vec::new(),
            directory: None,
            stdin: Input::Null,
            stdout: Output::Inherit,
            stderr: Output::Inherit,
            fds: Vec::new(),
            listen_pid: ListenPid::Absent,
            nofile: None,
            credentials: None,
            nice: 0,
            oom_score_adj: None,
            umask: None,
            leads: Leads::Group,
            leash: Leash::DieWithParent,
        })
    }
}

/// Starts a process and waits until it runs its program.
///
/// The wait is that of one fork and execve, about a millisecond; it is longer only while the file
/// system that holds the program hangs.
///
/// # Errors
/// [`SpawnError`]; a child that failed on its way to the program is reaped here.
pub fn spawn(plan: &SpawnPlan) -> Result<Spawned, SpawnError> {
    let prepare = |error: io::Error| failure(plan, Step::Prepare, errno_of(&error));
    if plan.leash == Leash::Sibling && plan.credentials.is_some() {
        return Err(failure(plan, Step::Prepare, Errno::EINVAL));
    }
    let null = File::options().read(true).write(true).open("/dev/null").map_err(prepare)?;
    let flags = OFlag::O_CLOEXEC;
    let (reader, writer) = nix::unistd::pipe2(flags).map_err(|error| prepare(error.into()))?;
    let moves = moves(plan, null.as_fd()).map_err(|errno| failure(plan, Step::Prepare, errno))?;
    let mut launch = Launch::new(plan, moves, writer.as_raw_fd());
    // Blocked across the fork, so that no handler of ours runs in the child, where it would write
    // into pipes that it shares with us.
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
        .map_err(|errno| failure(plan, Step::Prepare, errno))?;
    let forked = exec::fork(&mut launch);
    let restored = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    debug_assert!(restored.is_ok(), "a mask that the kernel gave us is valid");
    let pid = forked.map_err(|errno| failure(plan, Step::Fork, errno))?;
    drop(writer);
    let child = Child::open(pid);
    let mut denied = Vec::new();
    for report in exec::reports(File::from(reader)) {
        let error = explain(plan, report);
        if !report.step.is_optional() {
            match plan.leash {
                Leash::DieWithParent | Leash::Survive => child::reap_blocking(pid),
                Leash::Sibling => {}
            }
            return Err(error);
        }
        denied.push(error);
    }
    Ok(Spawned { child, denied })
}

impl Step {
    /// Whether a worker can do without it.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::OomScore | Self::Nice)
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Prepare => "prepare to start",
            Self::Fork => "fork",
            Self::Lead => "make a process group",
            Self::Descriptors => "pass descriptors",
            Self::OomScore => "set oom_score_adj to",
            Self::Nice => "raise the nice value by",
            Self::Nofile => "limit open files to",
            Self::Groups => "take the groups of user",
            Self::Group => "become group",
            Self::User => "become user",
            Self::DeathSignal => "ask for a signal when the master dies",
            Self::Directory => "enter directory",
            Self::Execute => "execute",
        }
    }
}

impl SpawnError {
    fn action(&self) -> impl fmt::Display {
        let space = if self.subject.is_empty() { "" } else { " " };
        format!("{}{space}{}", self.step.describe(), self.subject)
    }

    fn reason(&self) -> String {
        // execve says ENOENT for a script whose interpreter is missing, too.
        if self.step == Step::Execute
            && self.errno == Errno::ENOENT
            && Path::new(&self.subject).exists()
        {
            return "the interpreter named in its first line does not exist".to_owned();
        }
        self.errno.desc().to_owned()
    }
}

/// Every descriptor the process gets, with its number there.
fn moves(plan: &SpawnPlan, null: BorrowedFd<'_>) -> Result<Vec<(RawFd, RawFd)>, Errno> {
    let stdin = match &plan.stdin {
        Input::Null => null.as_raw_fd(),
        Input::From(fd) => fd.as_raw_fd(),
    };
    let mut moves = vec![(stdin, 0)];
    for (output, target) in [(&plan.stdout, 1), (&plan.stderr, 2)] {
        match output {
            Output::Inherit => {}
            Output::Null => moves.push((null.as_raw_fd(), target)),
            Output::To(fd) => moves.push((fd.as_raw_fd(), target)),
        }
    }
    for passed in &plan.fds {
        let taken = moves.iter().any(|&(_, target)| target == passed.target);
        if taken || passed.target < 3 {
            return Err(Errno::EINVAL);
        }
        moves.push((passed.source.as_raw_fd(), passed.target));
    }
    Ok(moves)
}

fn explain(plan: &SpawnPlan, report: Report) -> SpawnError {
    failure(plan, report.step, report.errno)
}

fn failure(plan: &SpawnPlan, step: Step, errno: Errno) -> SpawnError {
    let text = |text: &CStr| OsStr::from_bytes(text.to_bytes()).to_string_lossy().into_owned();
    let credentials = plan.credentials.as_ref();
    let subject = match step {
        Step::Prepare | Step::Fork | Step::Execute => text(&plan.program),
        Step::Directory => plan.directory.as_deref().map(text).unwrap_or_default(),
        Step::Groups | Step::User => {
            credentials.map(|user| user.uid.to_string()).unwrap_or_default()
        }
        Step::Group => credentials.map(|user| user.gid.to_string()).unwrap_or_default(),
        Step::Nice => plan.nice.to_string(),
        Step::OomScore => plan.oom_score_adj.unwrap_or_default().to_string(),
        Step::Nofile => {
            plan.nofile.map(|limit| format!("{}:{}", limit.soft, limit.hard)).unwrap_or_default()
        }
        Step::Lead | Step::Descriptors | Step::DeathSignal => String::new(),
    };
    SpawnError { step, errno, subject }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The mode bits that a plan's umask names.
pub(super) fn umask_bits(umask: u32) -> Mode {
    Mode::from_bits_truncate(umask as libc::mode_t)
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
