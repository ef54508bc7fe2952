//! Accepts one connection and says what a failure means for the next attempt.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use socket2::SockAddr;
use thiserror::Error;

/// A connection just taken from a listener: non-blocking (a blocking one would freeze a Node
/// worker at its first slow reader) and close-on-exec.
#[derive(Debug)]
pub struct Accepted {
    /// The connected socket.
    pub stream: OwnedFd,
    /// Where it comes from.
    pub peer: Peer,
}

/// The other end of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// An IP client, as the listener's family writes it: an IPv4 one on a dual-stack listener is
    /// `::ffff:192.0.2.1`.
    Ip(SocketAddr),
    /// A client on a Unix path, which has no address worth naming.
    Unix,
}

/// Why no connection came, by what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AcceptError {
    /// Nothing waits (EAGAIN): await readiness.
    #[error("no connection waits")]
    Empty,
    /// This host or process is out of something (EMFILE, ENFILE, ENOBUFS, ENOMEM). The connection
    /// still waits in the backlog and the listener stays readable: pause, or the loop spins.
    #[error("out of resources: {}", describe(*.0))]
    Exhausted(i32),
    /// That one connection was lost before we took it (ECONNABORTED, a network error that Linux
    /// reports here, a firewall's EPERM): go on at once.
    #[error("the client went away: {}", describe(*.0))]
    Transient(i32),
    /// Nothing that accept(2) knows: a sandbox's filter may give any error. The listener may well
    /// be as it was: pause, as above.
    #[error("not accepted: {}", describe(*.0))]
    Unexpected(i32),
    /// The listener itself is unusable (EBADF, EINVAL, …): a bug, or somebody shut it down.
    #[error("the listener is unusable: {}", describe(*.0))]
    Fatal(i32),
}

/// Takes one connection from a listener, IP or Unix.
///
/// # Errors
/// See [`AcceptError`]; a signal's interruption is retried here.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Accepted, AcceptError> {
    loop {
        match accept_once(listener) {
            Ok(accepted) => return Ok(accepted),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(classify(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}

fn accept_once(listener: BorrowedFd<'_>) -> io::Result<Accepted> {
    let take = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: socket2 passes a zeroed storage and its length, both valid for writes.
        let fd = unsafe { libc::accept4(listener.as_raw_fd(), storage.cast(), length, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: accept4 has just given us this descriptor, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: after a success, accept4 has written an address of the length it stored.
    let (stream, address) = unsafe { SockAddr::try_init(take) }?;
    let peer = match address.as_socket() {
        Some(address) => Peer::Ip(address),
        None => Peer::Unix,
    };
    Ok(Accepted { stream, peer })
}

/// Whether this host or process was out of something: another attempt may go better.
pub fn is_exhaustion(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| matches!(classify(errno), AcceptError::Exhausted(_)))
}

fn classify(errno: i32) -> AcceptError {
    match errno {
        libc::EAGAIN => AcceptError::Empty,
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => AcceptError::Exhausted(errno),
        // accept(2): Linux passes pending network errors of the new socket on to the caller, which
        // is to treat them like EAGAIN and try again.
        libc::ECONNABORTED
        | libc::EPERM
        | libc::EPROTO
        | libc::ENOPROTOOPT
        | libc::ENETDOWN
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::ENONET
        | libc::ETIMEDOUT => AcceptError::Transient(errno),
        libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP => AcceptError::Fatal(errno),
        _ => AcceptError::Unexpected(errno),
    }
}

fn describe(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

    use super::*;

    #[test]
    fn an_accepted_socket_is_non_blocking_and_close_on_exec() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
        let accepted = accept(listener.as_fd()).expect("one waits");
        assert_eq!(accepted.peer, Peer::Ip(client.local_addr().expect("connected")));
        let status = fcntl(&accepted.stream, FcntlArg::F_GETFL).expect("open");
        assert!(OFlag::from_bits_truncate(status).contains(OFlag::O_NONBLOCK));
        let flags = fcntl(&accepted.stream, FcntlArg::F_GETFD).expect("open");
        assert!(FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC));
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_listener_is_written_as_ipv6() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let socket = super::super::socket::listen_tcp(any, &Default::default()).expect("IPv6");
        let listener = TcpListener::from(socket);
        let port = listener.local_addr().expect("bound").port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
        let accepted = accept(listener.as_fd()).expect("one waits");
        let port = client.local_addr().expect("connected").port();
        let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port));
        assert_eq!(accepted.peer, Peer::Ip(mapped));
    }

    #[test]
    fn a_unix_client_has_no_address() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).expect("bind");
        let _client = UnixStream::connect(&path).expect("connect");
        assert_eq!(accept(listener.as_fd()).expect("one waits").peer, Peer::Unix);
    }

    #[test]
    fn an_empty_backlog_is_told_apart_from_a_broken_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("a socket");
        assert_eq!(accept(listener.as_fd()).expect_err("empty"), AcceptError::Empty);
        let (pipe, _writer) = std::io::pipe().expect("pipe");
        let error = accept(pipe.as_fd()).expect_err("not a socket");
        assert_eq!(error, AcceptError::Fatal(libc::ENOTSOCK));
    }

    #[test]
    fn each_errno_says_what_to_do_next() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(classify(errno), AcceptError::Exhausted(errno));
        }
        for errno in [libc::ECONNABORTED, libc::EPROTO, libc::EHOSTUNREACH, libc::EPERM] {
            assert_eq!(classify(errno), AcceptError::Transient(errno));
        }
        for errno in [libc::ENOSYS, libc::EACCES] {
            assert_eq!(classify(errno), AcceptError::Unexpected(errno));
        }
        for errno in [libc::EBADF, libc::EINVAL, libc::EOPNOTSUPP] {
            assert_eq!(classify(errno), AcceptError::Fatal(errno));
        }
        let text = AcceptError::Exhausted(libc::EMFILE).to_string();
        assert!(text.starts_with("out of resources: Too many open files"), "{text}");
    }
}
