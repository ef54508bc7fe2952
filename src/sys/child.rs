//! Names, signals and reaps children, adopted orphans included, and signals process groups.
//!
//! A pid stays ours until it is reaped, and nothing here reaps by accident: looking
//! ([`next_exited`]) and reaping ([`reap`]) are two calls, so the caller can settle what a process
//! held before its pid may name another.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

/// A direct child that has not been reaped.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

/// Whether a signal found anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It was sent. (To a process that has ended but is not reaped, too.)
    Sent,
    /// Nobody is there any more.
    Gone,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal, whose number may be one that has no name.
    Signal(i32),
}

/// A child that has ended and waits to be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited {
    /// Its pid, ours until it is reaped.
    pub pid: i32,
    /// How it ended.
    pub ended: Ended,
}

impl Child {
    /// Names a child of this process that has not been reaped.
    pub(super) fn open(pid: i32) -> Self {
        Self { pid, pidfd: pidfd_open(pid).ok() }
    }

    /// The process id; also the id of its group, if it was started to lead one.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Becomes readable when the process ends. `None` where the system denies pidfds (before Linux
    /// 5.3, some sandboxes); SIGCHLD tells as much.
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Sends a signal to this process alone.
    ///
    /// Through the pidfd, so it cannot reach another process, even after a reap. Without one it
    /// goes by pid, which is as safe for as long as the caller forgets a child when it reaps it.
    ///
    /// # Errors
    /// EPERM, for a process that has changed to a user out of our reach.
    pub fn signal(&self, signal: Signal) -> io::Result<Delivery> {
        let result = match &self.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd, signal),
            None => kill(Pid::from_raw(self.pid), signal),
        };
        delivery(result)
    }
}

/// Sends a signal to every process of a group.
///
/// # Errors
/// `InvalidInput` for a group below 2 (0 is our own, 1 would be everybody), EPERM if none of its
/// processes may be signalled.
pub fn signal_group(group: i32, signal: Signal) -> io::Result<Delivery> {
    delivery(killpg(named_group(group)?, signal))
}

/// Sends a signal to one process of a group, which need not be a child of ours.
///
/// # Errors
/// EPERM if it may not be signalled, ENOSYS where the system denies pidfds: by pid alone it could
/// reach whoever has that number next.
pub fn signal_member(group: i32, pid: i32, signal: Signal) -> io::Result<Delivery> {
    let pidfd = match pidfd_open(pid) {
        Ok(pidfd) => pidfd,
        Err(Errno::ESRCH) => return Ok(Delivery::Gone),
        Err(errno) => return Err(errno.into()),
    };
    // Named first, then looked at: whoever is named now is whoever was looked at.
    if group_of(pid) != Some(group) {
        return Ok(Delivery::Gone);
    }
    delivery(pidfd_send_signal(&pidfd, signal))
}

/// The group of a process; none if there is no such process.
#[must_use]
pub fn group_of(pid: i32) -> Option<i32> {
    getpgid(Some(Pid::from_raw(pid))).ok().map(Pid::as_raw)
}

/// Whether a group has any process, ended but not reaped ones included.
///
/// # Errors
/// `InvalidInput` as for [`signal_group`].
pub fn group_exists(group: i32) -> io::Result<bool> {
    // EPERM still says that somebody is there.
    Ok(killpg(named_group(group)?, None) != Err(Errno::ESRCH))
}

/// Looks for a child (or adopted orphan) that has ended, and leaves it unreaped.
///
/// Until it is reaped, the same one may be reported again. `None`: no child has ended, or there
/// are none.
///
/// # Errors
/// None known; those of waitid(2) would be passed on.
pub fn next_exited() -> io::Result<Option<Exited>> {
    wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Reaps one child that has ended; from here on its pid may name another process.
///
/// `None` if it still runs.
///
/// # Errors
/// ECHILD if it is no child of ours, or reaped already.
pub fn reap(pid: i32) -> io::Result<Option<Exited>> {
    let id = libc::id_t::try_from(pid).map_err(|_| Errno::ECHILD)?;
    wait(libc::P_PID, id, libc::WEXITED | libc::WNOHANG)
}

/// Waits for a child that is known to be ending at this moment, and reaps it.
pub(super) fn reap_blocking(pid: i32) {
    let Ok(id) = libc::id_t::try_from(pid) else {
        return;
    };
    // ECHILD, the only possible error, says that it is reaped.
    let _ = wait(libc::P_PID, id, libc::WEXITED);
}

/// Makes orphaned descendants ours to reap, instead of the init process's.
///
/// # Errors
/// Those of prctl(2); none known.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Whether this process is the init process of its pid namespace, as in a container.
#[must_use]
pub fn is_pid_1() -> bool {
    std::process::id() == 1
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

fn named_group(group: i32) -> io::Result<Pid> {
    if group > 1 {
        return Ok(Pid::from_raw(group));
    }
    let text = format!("process group {group} is below 2");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

fn delivery(result: Result<(), Errno>) -> io::Result<Delivery> {
    match result {
        Ok(()) => Ok(Delivery::Sent),
        Err(Errno::ESRCH) => Ok(Delivery::Gone),
        Err(errno) => Err(errno.into()),
    }
}

/// Names any process of this pid namespace; readable when it has ended.
///
/// # Errors
/// ESRCH if nobody has this pid (any more), ENOSYS before Linux 5.3.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    Ok(pidfd_open(pid)?)
}

pub(super) fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes no pointer.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just given us this descriptor (close-on-exec by definition).
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub(super) fn pidfd_send_signal(pidfd: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    let (fd, signal) = (pidfd.as_raw_fd(), signal as i32);
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for what kill(2) would send.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    Errno::result(result).map(drop)
}

/// waitid(2), with signals' interruptions retried; `None` for "nobody now".
///
/// Not nix's: it fails on a real-time signal's number, and so would never get past such a child.
fn wait(kind: libc::idtype_t, id: libc::id_t, flags: i32) -> io::Result<Option<Exited>> {
    loop {
        // SAFETY: all-zero bytes are a valid siginfo_t, and pid 0 in it means "nobody".
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: the pointer is to `info`, which outlives the call.
        let result = unsafe { libc::waitid(kind, id, &raw mut info, flags) };
        match Errno::result(result) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) if kind == libc::P_ALL => return Ok(None),
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        // SAFETY: waitid filled the fields of a SIGCHLD, or left the zeros.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        let ended = match info.si_code {
            libc::CLD_EXITED => Ended::Code(status),
            _ => Ended::Signal(status),
        };
        return Ok((pid != 0).then_some(Exited { pid, ended }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_and_our_own_group_cannot_be_signalled_by_accident() {
        for group in [1, 0, -1] {
            let error = signal_group(group, Signal::SIGKILL).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            group_exists(group).expect_err("refused");
        }
    }

    #[test]
    fn a_group_that_is_gone_is_no_error() {
        // Above the greatest pid that Linux gives out (2^22).
        let nobody = i32::MAX;
        assert_eq!(signal_group(nobody, Signal::SIGTERM).expect("no error"), Delivery::Gone);
        assert!(!group_exists(nobody).expect("no error"));
    }

    #[test]
    fn an_end_names_its_signal_if_that_has_a_name() {
        assert_eq!(Ended::Code(78).to_string(), "exit code 78");
        assert_eq!(Ended::Signal(9).to_string(), "SIGKILL");
        assert_eq!(Ended::Signal(40).to_string(), "signal 40");
    }
}
