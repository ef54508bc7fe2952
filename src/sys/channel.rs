//! Sends and receives bytes with descriptors attached over a Unix stream socket pair.
//!
//! One descriptor per message at most: Node serves only the first of several, and a stream socket
//! delivers a descriptor with the first byte it was sent with. Nothing here ever blocks on a send.
//! There is no batch (sendmmsg): in a batch of eight a descriptor costs 0.48 µs, alone 0.61 µs,
//! while handing a connection over costs tens of microseconds altogether.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Descriptors that one [`recv`] keeps; more of them in one message are closed.
///
/// Our protocols never attach more than one. A few are tolerated so that a peer which batches is
/// answered by its dialect ("one descriptor per message"), not by silence.
pub const MAX_RECEIVED_FDS: usize = 4;

const FD_BYTES: usize = size_of::<RawFd>();
const SEND_SPACE: usize = cmsg_space(FD_BYTES);
const RECV_SPACE: usize = cmsg_space(MAX_RECEIVED_FDS * FD_BYTES);

/// The two ends of a control channel; both are close-on-exec.
#[derive(Debug)]
pub struct Pair {
    /// Our end, non-blocking.
    pub master: OwnedFd,
    /// The end a worker inherits. Blocking, as an inherited pipe would be: a simple worker may
    /// read it in a loop, a runtime sets what it needs.
    pub worker: OwnedFd,
}

/// Makes a connected pair of Unix stream sockets.
///
/// # Errors
/// Those of socketpair(2) and fcntl(2), above all EMFILE and ENFILE.
pub fn pair() -> io::Result<Pair> {
    let (master, worker) =
        socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    master.set_nonblocking(true)?;
    Ok(Pair { master: master.into(), worker: worker.into() })
}

/// Makes a connected pair of sockets for whole messages (SOCK_SEQPACKET), close-on-exec and
/// non-blocking.
///
/// # Errors
/// As [`pair`].
pub fn packets() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) =
        socket2::Socket::pair(socket2::Domain::UNIX, socket2::Type::SEQPACKET, None)?;
    one.set_nonblocking(true)?;
    other.set_nonblocking(true)?;
    Ok((one.into(), other.into()))
}

/// Sends `bytes`, with `passed` attached to the first of them, and returns how many were taken.
///
/// After a partial send the descriptor is already on its way: the caller sends the rest of the
/// bytes without it, before anything else. The caller keeps its copy of `passed`.
///
/// # Errors
/// `WouldBlock` if the peer's buffer is full, `BrokenPipe` or `ConnectionReset` if it is gone (no
/// SIGPIPE is raised), `InvalidInput` for a descriptor with no byte to carry it, and one for which
/// [`is_exhausted`] is true if the kernel is short of something.
pub fn send(
    channel: BorrowedFd<'_>,
    bytes: &[u8],
    passed: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    if bytes.is_empty() {
        let empty = "a message without bytes cannot be sent";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, empty));
    }
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0u8; SEND_SPACE]);
    let mut header = empty_header(&mut iov);
    if let Some(passed) = passed {
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = SEND_SPACE as _;
        write_rights(&header, passed.as_raw_fd());
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    retry_interrupted(|| {
        // SAFETY: the header points at `iov`, `bytes` and `control`, all of which outlive the call;
        // the kernel only reads through them.
        unsafe { libc::sendmsg(channel.as_raw_fd(), &raw const header, flags) }
    })
}

/// Whether the kernel is short of something, and the same call may succeed a little later: the peer
/// is there, and nothing was sent or taken.
///
/// ENOBUFS and ENOMEM are memory. ETOOMANYREFS counts descriptors that nobody has received, per
/// user against our soft nofile limit (root is exempt); it heals when workers read, so the caller
/// waits as for a full buffer, but polls instead of awaiting POLLOUT.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETOOMANYREFS | libc::ENOBUFS | libc::ENOMEM))
}

/// Reads into `buffer`, appends received descriptors (close-on-exec) to `fds`, and returns the
/// number of bytes; 0 means that the peer closed its end.
///
/// At most [`MAX_RECEIVED_FDS`] descriptors are kept per call. The kernel never joins two messages
/// that carry descriptors, so those belong to the last message that begins in these bytes.
///
/// # Errors
/// `WouldBlock` if nothing is there (whatever the descriptor's own blocking flag);
/// `ConnectionReset`, once and instead of the first 0, if the peer ended with bytes of ours unread
/// (everything it had sent has been read by then); `InvalidInput` for an empty buffer; else those
/// of recvmsg(2).
pub fn recv(
    channel: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    if buffer.is_empty() {
        let empty = "an empty buffer cannot tell the end of the channel";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, empty));
    }
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0u8; RECV_SPACE]);
    let mut header = empty_header(&mut iov);
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = RECV_SPACE as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let taken = retry_interrupted(|| {
        // SAFETY: the header points at `iov`, `buffer` and `control`, which outlive the call and
        // are not used by anybody else meanwhile.
        unsafe { libc::recvmsg(channel.as_raw_fd(), &raw mut header, flags) }
    })?;
    take_rights(&header, fds);
    Ok(taken)
}

/// A buffer for control messages, aligned as the kernel lays them out.
#[repr(C, align(8))]
pub(super) struct Control<const SPACE: usize>(pub(super) [u8; SPACE]);

pub(super) const fn cmsg_space(payload: usize) -> usize {
    // SAFETY: CMSG_SPACE is arithmetic on its argument and touches no memory.
    unsafe { libc::CMSG_SPACE(payload as u32) as usize }
}

/// A header for one slice of bytes, with no address and no control message.
pub(super) fn empty_header(iov: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid msghdr: null pointers with zero lengths. (musl's has
    // private padding, hence no struct literal.)
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = iov;
    header.msg_iovlen = 1;
    header
}

/// Writes one SCM_RIGHTS message into the control buffer of `header`, which has room for it.
fn write_rights(header: &libc::msghdr, fd: RawFd) {
    // SAFETY: `header` describes a zeroed, aligned control buffer of SEND_SPACE bytes.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: CMSG_LEN is arithmetic on its argument and touches no memory.
    let length = unsafe { libc::CMSG_LEN(FD_BYTES as u32) };
    // SAFETY: `first` is not null, because the buffer is larger than one cmsghdr, and is aligned.
    let message = unsafe { &mut *first };
    message.cmsg_level = libc::SOL_SOCKET;
    message.cmsg_type = libc::SCM_RIGHTS;
    message.cmsg_len = length as _;
    // SAFETY: the payload of `first` begins inside the buffer.
    let payload = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: SEND_SPACE leaves FD_BYTES there; the write needs no alignment.
    unsafe { ptr::write_unaligned(payload.cast::<RawFd>(), fd) };
}

/// Takes ownership of every descriptor that recvmsg left in the control buffer of `header`.
///
/// All of them must be taken, also after MSG_CTRUNC, or they would stay open for ever. (Those that
/// found no room in the buffer were never installed by the kernel.)
pub(super) fn take_rights(header: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    let mut room = MAX_RECEIVED_FDS;
    // SAFETY: recvmsg has set the header to describe the control messages it wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: `next` is null or points at a control message inside the buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: the payload of `next` begins inside the buffer.
            let payload = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            // SAFETY: CMSG_LEN is arithmetic on its argument and touches no memory.
            let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
            // size_t with glibc, socklen_t with musl.
            #[allow(clippy::unnecessary_cast)]
            let length = message.cmsg_len as usize;
            let count = length.saturating_sub(overhead) / FD_BYTES;
            for index in 0..count {
                // SAFETY: the kernel wrote `count` descriptors of 4 bytes at `payload`.
                let place = unsafe { payload.add(index) };
                // SAFETY: as above; the read needs no alignment.
                let fd = unsafe { ptr::read_unaligned(place) };
                // SAFETY: the kernel has just installed this descriptor for us alone.
                let owned = unsafe { OwnedFd::from_raw_fd(fd) };
                if room > 0 {
                    room -= 1;
                    fds.push(owned);
                }
            }
        }
        // SAFETY: `next` points at a control message of `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
}

/// Runs a call that returns a length or -1, again for as long as a signal interrupts it.
pub(super) fn retry_interrupted(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        if let Ok(length) = usize::try_from(call()) {
            return Ok(length);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;
    use crate::sys::testing::without_forks;

    fn read_all(channel: &OwnedFd) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut buffer = [0; 4096];
        let mut fds = Vec::new();
        let length = recv(channel.as_fd(), &mut buffer, &mut fds).expect("something was sent");
        (buffer[..length].to_vec(), fds)
    }

    fn is_close_on_exec(fd: &OwnedFd) -> bool {
        let flags = fcntl(fd, FcntlArg::F_GETFD).expect("the descriptor is open");
        FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC)
    }

    #[test]
    fn a_passed_descriptor_arrives_usable_and_close_on_exec() {
        let pair = pair().expect("socketpair");
        assert!(is_close_on_exec(&pair.master) && is_close_on_exec(&pair.worker));
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        let sent = send(pair.master.as_fd(), b"line\n", Some(writer.as_fd())).expect("sent");
        assert_eq!(sent, 5);
        drop(writer);
        let (bytes, mut fds) = read_all(&pair.worker);
        assert_eq!(bytes, b"line\n");
        let received = fds.pop().expect("one descriptor");
        assert!(fds.is_empty() && is_close_on_exec(&received));
        File::from(received).write_all(b"through").expect("the pipe is open");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("every writer is closed now");
        assert_eq!(text, "through");
    }

    #[test]
    fn messages_with_descriptors_are_never_joined() {
        let pair = pair().expect("socketpair");
        for line in [b"a\n", b"b\n"] {
            send(pair.master.as_fd(), line, Some(pair.worker.as_fd())).expect("sent");
        }
        for line in [b"a\n", b"b\n"] {
            let (bytes, fds) = read_all(&pair.worker);
            assert_eq!((bytes.as_slice(), fds.len()), (line.as_slice(), 1));
        }
    }

    #[test]
    fn a_full_channel_takes_a_part_then_would_block() {
        let pair = pair().expect("socketpair");
        let big = vec![7; 1 << 20];
        let taken = send(pair.master.as_fd(), &big, None).expect("a part fits");
        assert!(taken > 0 && taken < big.len());
        let error = send(pair.master.as_fd(), &big, None).expect_err("no room is left");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn surplus_descriptors_are_closed() {
        let pair = pair().expect("socketpair");
        let (reader, writer) = std::io::pipe().expect("pipe");
        let copies = vec![writer.as_raw_fd(); 40];
        let rights = [nix::sys::socket::ControlMessage::ScmRights(&copies)];
        let bytes = [io::IoSlice::new(b"x")];
        let flags = nix::sys::socket::MsgFlags::empty();
        nix::sys::socket::sendmsg::<()>(pair.master.as_raw_fd(), &bytes, &rights, flags, None)
            .expect("40 descriptors fit one message");
        drop(writer);
        let (_, fds) = read_all(&pair.worker);
        assert_eq!(fds.len(), MAX_RECEIVED_FDS);
        drop(fds);
        // Only an end of file proves that no copy of the writer is left anywhere.
        let mut rest = Vec::new();
        let mut reader = reader;
        reader.read_to_end(&mut rest).expect("every copy is closed");
    }

    #[test]
    fn a_closed_peer_is_an_error_to_the_sender_and_zero_to_the_receiver() {
        let _only_copy = without_forks();
        let Pair { master, worker } = pair().expect("socketpair");
        drop(worker);
        let error = send(master.as_fd(), b"x", None).expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let read = recv(master.as_fd(), &mut [0; 8], &mut Vec::new()).expect("end of file");
        assert_eq!(read, 0);
    }

    #[test]
    fn what_a_peer_sent_before_its_death_is_read_before_the_end() {
        let _only_copy = without_forks();
        let Pair { master, worker } = pair().expect("socketpair");
        send(master.as_fd(), b"conn\n", None).expect("sent");
        send(worker.as_fd(), b"ack\n", None).expect("sent");
        drop(worker);
        let (mut fds, mut buffer) = (Vec::new(), [0; 16]);
        assert_eq!(recv(master.as_fd(), &mut buffer, &mut fds).expect("the ack"), 4);
        let end = recv(master.as_fd(), &mut buffer, &mut fds).expect_err("conn was not read");
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(recv(master.as_fd(), &mut buffer, &mut fds).expect("the end"), 0);
    }

    #[test]
    fn an_empty_channel_never_blocks_the_reader() {
        let pair = pair().expect("socketpair");
        let error = recv(pair.worker.as_fd(), &mut [0; 8], &mut Vec::new()).expect_err("empty");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_kernel_that_is_short_of_something_is_told_from_a_peer_that_is_full_or_gone() {
        for (errno, expected) in [
            (libc::ETOOMANYREFS, true),
            (libc::ENOBUFS, true),
            (libc::ENOMEM, true),
            (libc::EAGAIN, false),
            (libc::EPIPE, false),
            (libc::ECONNRESET, false),
        ] {
            assert_eq!(is_exhausted(&io::Error::from_raw_os_error(errno)), expected, "{errno}");
        }
    }

    #[test]
    fn empty_buffers_are_refused() {
        let pair = pair().expect("socketpair");
        let sent = send(pair.master.as_fd(), b"", None).expect_err("nothing to send");
        let read = recv(pair.worker.as_fd(), &mut [], &mut Vec::new()).expect_err("no room");
        assert_eq!(sent.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read.kind(), io::ErrorKind::InvalidInput);
    }
}
