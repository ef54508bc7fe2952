//! Takes the sockets that a service manager passed when it started us (sd_listen_fds(3)).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use socket2::{Domain, SockRef, Type};

/// The number of the first passed descriptor (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;

/// More than any unit has; a larger number is not from a service manager.
const COUNT_MAX: i32 = 1024;

/// One passed descriptor; close-on-exec and non-blocking.
#[derive(Debug)]
pub struct Passed {
    /// `FileDescriptorName=`, by default the name of the socket unit; `unknown` where none is told.
    pub name: String,
    /// The descriptor.
    pub socket: OwnedFd,
}

/// Where a passed socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On TCP.
    Tcp(SocketAddr),
    /// On a path, or an abstract name with `@` before it.
    Unix(String),
}

/// Takes what was passed to this very process; nothing at the second call. `variable` reads the
/// environment.
///
/// # Errors
/// The environment names descriptors that are not open.
pub fn take(variable: impl Fn(&str) -> Option<String>) -> io::Result<Vec<Passed>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| variable(name).and_then(|text| text.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).ok();
    if own.is_none() || number("LISTEN_PID") != own {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").filter(|count| (0..=COUNT_MAX).contains(count)).unwrap_or(0);
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    // All are looked at before the first is owned: dropping one that was never open ends us.
    for fd in FIRST..FIRST + count {
        // SAFETY: only asked for its flags; a number that is not open is answered with EBADF.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let flags = OFlag::from_bits_retain(fcntl(borrowed, FcntlArg::F_GETFL)?);
        fcntl(borrowed, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let passed = (FIRST..FIRST + count).map(|fd| {
        let name = names.next().unwrap_or("unknown").to_owned();
        // SAFETY: it is open, and was passed to this process for whoever calls this first.
        Passed { name, socket: unsafe { OwnedFd::from_raw_fd(fd) } }
    });
    Ok(passed.collect())
}

impl Passed {
    /// Where it listens, or why connections cannot be accepted from it.
    ///
    /// # Errors
    /// What it is instead of a listening stream socket.
    pub fn place(&self) -> Result<Place, &'static str> {
        let socket = SockRef::from(&self.socket);
        let not_a_socket = |_| "is not a socket";
        if socket.r#type().map_err(not_a_socket)? != Type::STREAM {
            return Err("is not a stream socket; use ListenStream=");
        }
        if !socket.is_listener().map_err(not_a_socket)? {
            return Err("is a connection; use Accept=no");
        }
        let address = socket.local_addr().map_err(not_a_socket)?;
        if let Some(address) = address.as_socket() {
            return Ok(Place::Tcp(address));
        }
        if socket.domain().map_err(not_a_socket)? != Domain::UNIX {
            return Err("is neither of TCP nor a Unix socket");
        }
        let path = address.as_pathname().map(|path| path.display().to_string());
        let name = || {
            let name = address.as_abstract_namespace()?;
            Some(format!("@{}", String::from_utf8_lossy(name)))
        };
        Ok(Place::Unix(path.or_else(name).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn place(socket: impl Into<OwnedFd>) -> Result<Place, &'static str> {
        Passed { name: "web".to_owned(), socket: socket.into() }.place()
    }

    #[test]
    fn only_a_listening_stream_socket_has_a_place() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        assert_eq!(place(listener), Ok(Place::Tcp(address)));
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("web.sock");
        let listener = UnixListener::bind(&path).expect("the directory is ours");
        assert_eq!(place(listener), Ok(Place::Unix(path.display().to_string())));
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        assert_eq!(place(datagrams), Err("is not a stream socket; use ListenStream="));
        let (connection, _) = UnixStream::pair().expect("a pair");
        assert_eq!(place(connection), Err("is a connection; use Accept=no"));
        let (reader, _) = io::pipe().expect("a pipe");
        assert_eq!(place(reader), Err("is not a socket"));
    }

    #[test]
    fn what_was_passed_to_another_process_is_not_ours() {
        let pid = std::process::id().to_string();
        let variables = |name: &str| match name {
            "LISTEN_FDS" => Some("1".to_owned()),
            "LISTEN_PID" => Some(format!("{pid}0")),
            _ => None,
        };
        assert!(take(variables).expect("nothing is looked at").is_empty());
        assert!(take(|_| None).expect("nothing is looked at").is_empty());
    }
}
