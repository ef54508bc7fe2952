//! Runs in the child between fork and execve: only async-signal-safe calls, and no allocation.
//!
//! The master has threads; at the fork any of them may hold the allocator's lock, for ever as far
//! as the child can tell. So everything is laid out before ([`Launch::new`]), and the child only
//! makes system calls on it. A failure is two numbers written into a close-on-exec pipe.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;
use nix::sys::stat::umask;

use super::spawn::{Leads, Leash, ListenPid, SpawnPlan, Step, umask_bits};

/// What the child reports about one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) step: Step,
    pub(super) errno: Errno,
}

/// One step's outcome in the child.
type Done = Result<(), Report>;

const LISTEN_PID: &[u8] = b"LISTEN_PID=";
/// Room for the name, the digits of any pid and the closing NUL.
const LISTEN_PID_SPACE: usize = 32;
/// Every signal's number; KILL and STOP among them refuse a change and need none.
const SIGNALS: std::ops::RangeInclusive<c_int> = 1..=64;
/// Up to where descriptors are marked one by one if close_range(2) is missing (before Linux 5.11).
/// Our own are close-on-exec from birth; this is for what the shell left us, at low numbers.
const SWEEP: RawFd = 1024;

/// A plan laid out for the child: plain pointers and numbers.
pub(super) struct Launch<'a> {
    plan: &'a SpawnPlan,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// `LISTEN_PID=` and the digits, written by the child; part of `environment` if wanted.
    listen_pid: Box<[u8; LISTEN_PID_SPACE]>,
    oom_score_adj: Option<CString>,
    /// Source and target of each descriptor; the child overwrites the sources.
    moves: Vec<(RawFd, RawFd)>,
    report: RawFd,
    master: libc::pid_t,
}

impl<'a> Launch<'a> {
    pub(super) fn new(plan: &'a SpawnPlan, moves: Vec<(RawFd, RawFd)>, report: RawFd) -> Self {
        let mut listen_pid = Box::new([0; LISTEN_PID_SPACE]);
        listen_pid[..LISTEN_PID.len()].copy_from_slice(LISTEN_PID);
        let pointers = |texts: &[CString]| -> Vec<*const c_char> {
            texts.iter().map(|text| text.as_ptr()).collect()
        };
        let mut arguments = pointers(&plan.arguments);
        arguments.push(ptr::null());
        let mut environment = pointers(&plan.environment);
        if plan.listen_pid == ListenPid::OfChild {
            // The place that `name_child` fills.
            environment.push(ptr::null());
        }
        environment.push(ptr::null());
        let oom_score_adj = plan.oom_score_adj.map(|score| {
            CString::new(score.to_string()).expect("digits and a sign have no NUL byte")
        });
        let master = nix::unistd::getpid().as_raw();
        Self { plan, arguments, environment, listen_pid, oom_score_adj, moves, report, master }
    }
}

/// Forks; the child goes on to the program or ends, and only the parent returns, with its pid.
pub(super) fn fork(launch: &mut Launch<'_>) -> Result<libc::pid_t, Errno> {
    let pid = match launch.plan.leash {
        // SAFETY: the child calls nothing but `run`, which is async-signal-safe and never returns.
        Leash::DieWithParent | Leash::Survive => unsafe { libc::fork() },
        Leash::Sibling => fork_sibling(),
    };
    let pid = Errno::result(pid)?;
    if pid != 0 {
        return Ok(pid);
    }
    if let Err(report) = run(launch) {
        send(launch.report, report);
    }
    // SAFETY: ends this process at once, without the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

/// As fork(2), but the child's parent is ours. The C library does not know of this child, which
/// matters to its locks and to changes of user; `run` takes none and is kept from the other.
fn fork_sibling() -> libc::pid_t {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM and a stack it is a fork: the child goes on here with copies of
    // everything, and calls nothing but `run`, which is async-signal-safe and never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    // Pids are below 2^22; -1 stays what it is.
    pid as libc::pid_t
}

/// Reads what a child reported until its program runs or it has ended.
pub(super) fn reports(mut pipe: File) -> Vec<Report> {
    let mut bytes = Vec::new();
    // A read can only fail for reasons that do not exist for a pipe of our own; what was read
    // counts in any case, and the child's end shows in its exit status.
    let _ = pipe.read_to_end(&mut bytes);
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, i32::from_ne_bytes);
    let parse = |record: &[u8]| {
        let step = STEPS.into_iter().find(|&step| step as i32 == number(&record[..4]))?;
        Some(Report { step, errno: Errno::from_raw(number(&record[4..])) })
    };
    bytes.chunks_exact(8).filter_map(parse).collect()
}

/// The steps that a child can report.
const STEPS: [Step; 11] = [
    Step::Lead,
    Step::Descriptors,
    Step::OomScore,
    Step::Nice,
    Step::Nofile,
    Step::Groups,
    Step::Group,
    Step::User,
    Step::DeathSignal,
    Step::Directory,
    Step::Execute,
];

fn run(launch: &mut Launch<'_>) -> Done {
    lead(launch.plan.leads)?;
    default_signals();
    place_fds(launch)?;
    if let Some(bits) = launch.plan.umask {
        umask(umask_bits(bits));
    }
    for optional in [score_oom(launch), be_nice(launch.plan.nice)] {
        if let Err(report) = optional {
            send(launch.report, report);
        }
    }
    limit_files(launch.plan)?;
    become_user(launch.plan)?;
    leash(launch)?;
    if let Some(directory) = &launch.plan.directory {
        // SAFETY: the path is NUL-terminated and outlives the call.
        check(Step::Directory, unsafe { libc::chdir(directory.as_ptr()) })?;
    }
    name_child(launch);
    unblock_signals();
    let program = launch.plan.program.as_ptr();
    let (arguments, environment) = (launch.arguments.as_ptr(), launch.environment.as_ptr());
    // SAFETY: both arrays end with a null pointer, and all their strings belong to the plan or to
    // the launch, which this process keeps until it is replaced.
    check(Step::Execute, unsafe { libc::execve(program, arguments, environment) })
}

fn check(step: Step, result: c_int) -> Done {
    if result < 0 { Err(Report { step, errno: Errno::last() }) } else { Ok(()) }
}

fn send(pipe: RawFd, report: Report) {
    let mut record = [0; 8];
    record[..4].copy_from_slice(&(report.step as i32).to_ne_bytes());
    record[4..].copy_from_slice(&(report.errno as i32).to_ne_bytes());
    // SAFETY: the pointer and length are those of `record`. Eight bytes go into a pipe whole, and
    // if the parent is gone nobody misses them.
    unsafe { libc::write(pipe, record.as_ptr().cast(), record.len()) };
}

fn lead(leads: Leads) -> Done {
    let result = match leads {
        // SAFETY: takes no pointer.
        Leads::Group => unsafe { libc::setpgid(0, 0) },
        // SAFETY: takes no pointer.
        Leads::Session => unsafe { libc::setsid() },
    };
    check(Step::Lead, result)
}

/// Sets every signal to its default action: handlers end with execve anyway, but what the master
/// ignores (SIGPIPE) would stay ignored in the program.
///
/// By system call, because libc refuses the two numbers it uses itself, and a parent of ours may
/// have left those ignored.
fn default_signals() {
    // The kernel's struct sigaction has another layout on each architecture, but everywhere zeros
    // mean the default action, no flags and an empty mask; this is larger than any of them.
    let action = [0u64; 8];
    for signal in SIGNALS {
        let (old, mask_bytes) = (ptr::null_mut::<u64>(), size_of::<u64>());
        let new = action.as_ptr();
        // SAFETY: the kernel reads no more than `action`, and installs no code.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, mask_bytes) };
    }
}

fn unblock_signals() {
    // SAFETY: all-zero bytes are a valid sigset_t, the empty one on Linux.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call, and the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, ptr::null_mut()) };
}

/// Puts every descriptor at its target and marks all others close-on-exec.
///
/// First copies above every target, then moves down: so a target may equal the number of another
/// source, or of the report pipe.
fn place_fds(launch: &mut Launch<'_>) -> Done {
    close_on_exec_from(3);
    let mut floor = 3;
    for &(_, target) in &launch.moves {
        floor = floor.max(target + 1);
    }
    launch.report = copy_above(launch.report, floor)?;
    for (source, _) in &mut launch.moves {
        *source = copy_above(*source, floor)?;
    }
    for &(source, target) in &launch.moves {
        // SAFETY: takes no pointer; whatever was open at the target belongs to this process, which
        // runs no code that would use it.
        check(Step::Descriptors, unsafe { libc::dup2(source, target) })?;
    }
    Ok(())
}

fn copy_above(fd: RawFd, floor: RawFd) -> Result<RawFd, Report> {
    // SAFETY: this command takes a number.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, floor) };
    check(Step::Descriptors, copy)?;
    Ok(copy)
}

fn close_on_exec_from(first: RawFd) {
    let flag = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: takes no pointer, and closes nothing before execve.
    if unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, flag) } == 0 {
        return;
    }
    for fd in first..SWEEP {
        // SAFETY: takes a number; an unused descriptor is an error without effect.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn score_oom(launch: &Launch<'_>) -> Done {
    const PATH: &CStr = c"/proc/self/oom_score_adj";
    let Some(score) = &launch.oom_score_adj else {
        return Ok(());
    };
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(PATH.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(Step::OomScore, fd)?;
    let text = score.as_bytes();
    // SAFETY: the pointer and length are those of `text`. The kernel judges the value here.
    let written = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
    let result = check(Step::OomScore, if written < 0 { -1 } else { 0 });
    // SAFETY: the descriptor is ours and not used after this.
    unsafe { libc::close(fd) };
    result
}

fn be_nice(by: c_int) -> Done {
    if by == 0 {
        return Ok(());
    }
    // -1 is also a valid nice value, so only errno tells.
    Errno::clear();
    // SAFETY: takes no pointer.
    let nice = unsafe { libc::nice(by) };
    if nice == -1 && Errno::last_raw() != 0 { check(Step::Nice, -1) } else { Ok(()) }
}

fn limit_files(plan: &SpawnPlan) -> Done {
    let Some(nofile) = plan.nofile else {
        return Ok(());
    };
    let limit = libc::rlimit {
        rlim_cur: nofile.soft as libc::rlim_t,
        rlim_max: nofile.hard as libc::rlim_t,
    };
    // SAFETY: the limit outlives the call.
    check(Step::Nofile, unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

/// Changes groups first and the user last: after that, nothing else may be changed.
///
/// By system call, because libc's wrappers would signal threads that do not exist in this copy of
/// the master.
fn become_user(plan: &SpawnPlan) -> Done {
    let Some(user) = &plan.credentials else {
        return Ok(());
    };
    let (count, groups) = (user.groups.len(), user.groups.as_ptr());
    // SAFETY: the pointer and count are those of `user.groups`.
    let result = unsafe { libc::syscall(numbers::SETGROUPS, count, groups) };
    check(Step::Groups, result as c_int)?;
    // SAFETY: takes no pointer.
    let result = unsafe { libc::syscall(numbers::SETRESGID, user.gid, user.gid, user.gid) };
    check(Step::Group, result as c_int)?;
    // SAFETY: takes no pointer.
    let result = unsafe { libc::syscall(numbers::SETRESUID, user.uid, user.uid, user.uid) };
    check(Step::User, result as c_int)
}

/// The plain calls take 16-bit ids on these two old architectures.
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
mod numbers {
    pub(super) const SETGROUPS: libc::c_long = libc::SYS_setgroups32;
    pub(super) const SETRESGID: libc::c_long = libc::SYS_setresgid32;
    pub(super) const SETRESUID: libc::c_long = libc::SYS_setresuid32;
}

#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
mod numbers {
    pub(super) const SETGROUPS: libc::c_long = libc::SYS_setgroups;
    pub(super) const SETRESGID: libc::c_long = libc::SYS_setresgid;
    pub(super) const SETRESUID: libc::c_long = libc::SYS_setresuid;
}

/// Asks for SIGKILL at the master's death: after the change of user, which clears the wish.
fn leash(launch: &Launch<'_>) -> Done {
    if launch.plan.leash != Leash::DieWithParent {
        return Ok(());
    }
    // SAFETY: this option takes a number.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    check(Step::DeathSignal, result)?;
    // SAFETY: takes nothing.
    if unsafe { libc::getppid() } != launch.master {
        // The master died before the wish was heard, so nobody will ever signal or reap this.
        // SAFETY: ends this process at once, without the parent's exit handlers.
        unsafe { libc::_exit(127) };
    }
    Ok(())
}

/// Completes the environment with LISTEN_PID, if the plan wants it.
fn name_child(launch: &mut Launch<'_>) {
    if launch.plan.listen_pid == ListenPid::Absent {
        return;
    }
    // SAFETY: takes nothing.
    let pid = unsafe { libc::getpid() };
    // Writing to a slice goes in place and formats integers on the stack; the NUL is there already.
    if let Some(mut room) = launch.listen_pid.get_mut(LISTEN_PID.len()..LISTEN_PID_SPACE - 1) {
        let _ = write!(room, "{pid}");
    }
    if let Some(place) = launch.environment.get_mut(launch.plan.environment.len()) {
        *place = launch.listen_pid.as_ptr().cast();
    }
}
