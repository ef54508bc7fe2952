//! Every system call that is not plain std, and the only unsafe code: adopting a descriptor.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketType,
};

/// What one message may carry at most (SCM_MAX_FD of Linux). With room for all of them, the kernel
/// never installs a descriptor that we are not told about.
const DESCRIPTORS_MAX: usize = 253;

/// The time, read here and nowhere else; everything that decides takes it as an argument.
#[allow(clippy::disallowed_methods, reason = "the only clock of this crate")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Adopts a descriptor that this process was started with and keeps it from its own children.
///
/// The caller makes sure that a number is adopted only once.
///
/// # Errors
/// EBADF if nothing is open at that number.
pub(crate) fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: not negative, and borrowed for one fcntl, which answers EBADF for a closed number.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(probe, FdFlags::CLOEXEC)?;
    // SAFETY: just seen open; it was inherited, so nobody in this process owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes the one byte of the token pipe. False: another process took it before.
pub(crate) fn take_token(token: &OwnedFd) -> io::Result<bool> {
    // The flag belongs to the pipe's read end as a whole, which exists for this one read.
    rustix::io::ioctl_fionbio(token, true)?;
    match retry(|| rustix::io::read(token, &mut [0_u8; 1][..])) {
        Ok(count) => Ok(count == 1),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What kind of socket a descriptor is, or None if it is no stream socket that we know.
pub(crate) fn stream_family(fd: impl AsFd) -> Option<AddressFamily> {
    let kind = rustix::net::sockopt::socket_type(&fd).ok()?;
    let family = rustix::net::sockopt::socket_domain(&fd).ok()?;
    let known = [AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX];
    (kind == SocketType::STREAM && known.contains(&family)).then_some(family)
}

/// Reads once without waiting; the descriptors that came along are put into `passed`.
/// 0 is the end of the stream.
pub(crate) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    passed: &mut Vec<OwnedFd>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = retry(|| {
        let mut parts = [IoSliceMut::new(&mut *buffer)];
        rustix::net::recvmsg(&socket, &mut parts, &mut control, flags)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed.extend(descriptors);
        }
    }
    Ok(received.bytes)
}

/// Writes what fits without waiting, and without SIGPIPE.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    retry(|| rustix::net::send(&socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}

/// A counter that another thread can wake a poll with.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes `eventfd` readable. It can only fail when the counter is full, and then it is readable.
pub(crate) fn raise(eventfd: &OwnedFd) {
    let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
}

/// Makes `eventfd` unreadable until it is raised again.
pub(crate) fn lower(eventfd: &OwnedFd) {
    let _ = rustix::io::read(eventfd, &mut [0_u8; 8][..]);
}

/// One descriptor to wait for, and what for.
pub(crate) struct Interest<'fd> {
    pub(crate) fd: BorrowedFd<'fd>,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Waits until one of them is ready, or for `timeout`. Says nothing about which one: try them all.
pub(crate) fn wait(interests: &[Interest<'_>], timeout: Duration) -> io::Result<()> {
    let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(interests.len());
    for interest in interests {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, interest.write);
        polled.push(PollFd::from_borrowed_fd(interest.fd, flags));
    }
    // A day stands for "no limit": the callers look again and wait on.
    let timeout = timeout.min(Duration::from_secs(86_400));
    let timeout = Timespec::try_from(timeout).expect("a day fits any timespec");
    match rustix::event::poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
