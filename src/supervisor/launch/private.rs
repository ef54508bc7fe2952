//! Gives a worker that cannot receive sockets a listener of its own, which only its master knows.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::config::placeholder::Values;
use crate::link::orders::Upstream;
use crate::policy::WorkerId;
use crate::sys::private;

/// Numbers that are drawn until one is not with another worker that may not listen yet: with 256
/// workers among some 4,500 ports a single draw meets one with a chance below 6 %.
const DRAWS_MAX: usize = 16;

/// How the workers of one generation get a private listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrivateListener {
    /// They listen on the loopback port that `PORT` and `{port}` name.
    Port,
    /// They listen on a path in this directory, which `{socket}` names.
    Socket(PathBuf),
    /// They inherit a listening socket as descriptor 3.
    Inherited,
}

/// One worker's private listener. A path goes with it.
#[derive(Debug)]
pub(crate) struct Private {
    pub(crate) kind: PrivateListener,
    pub(crate) upstream: Upstream,
}

impl Private {
    /// Makes the listener of one worker, and what it inherits of it; `taken` are the addresses of
    /// all living workers, some of which may not listen yet.
    pub(super) fn make(
        kind: &PrivateListener,
        instance: &str,
        worker: WorkerId,
        taken: &BTreeSet<Upstream>,
    ) -> io::Result<(Self, Option<OwnedFd>)> {
        let (upstream, inherited) = match kind {
            PrivateListener::Port => (reserve(taken)?, None),
            // Not `.sock`: that is an instance's control socket.
            PrivateListener::Socket(directory) => {
                (Upstream::Unix(directory.join(format!("{instance}-{worker}.socket"))), None)
            }
            PrivateListener::Inherited => {
                let (socket, address) = private::listen_for_child()?;
                (Upstream::Tcp(address), Some(socket))
            }
        };
        Ok((Self { kind: kind.clone(), upstream }, inherited))
    }

    /// What stands for the words in braces.
    pub(super) fn values(&self) -> Values {
        let port = self.port().map(|port| OsString::from(port.to_string()));
        let socket = match &self.upstream {
            Upstream::Unix(path) => Some(path.clone().into_os_string()),
            Upstream::Tcp(_) => None,
        };
        Values { port, socket, slot: None }
    }

    /// The port that the worker is told to listen on.
    pub(super) fn port(&self) -> Option<u16> {
        match (&self.kind, &self.upstream) {
            (PrivateListener::Port, Upstream::Tcp(address)) => Some(address.port()),
            (
                PrivateListener::Port | PrivateListener::Socket(_) | PrivateListener::Inherited,
                _,
            ) => None,
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Upstream::Unix(path) = &self.upstream {
            // Most servers leave it behind; one that was never made, or is gone, is fine too.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn reserve(taken: &BTreeSet<Upstream>) -> io::Result<Upstream> {
    for _ in 0..DRAWS_MAX {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, private::reserve_port()?));
        let upstream = Upstream::Tcp(address);
        if !taken.contains(&upstream) {
            return Ok(upstream);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no loopback port is free"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(kind: &PrivateListener) -> (Private, Option<OwnedFd>) {
        Private::make(kind, "1f", WorkerId(7), &BTreeSet::new()).expect("loopback has ports")
    }

    #[test]
    fn only_a_port_to_listen_on_is_told_as_one() {
        let (port, inherited) = make(&PrivateListener::Port);
        assert!(inherited.is_none());
        let number = port.port().expect("it is a port");
        assert_eq!(port.values().port, Some(number.to_string().into()));
        let (fd, inherited) = make(&PrivateListener::Inherited);
        assert!(inherited.is_some());
        assert_eq!((fd.port(), fd.values()), (None, Values::default()));
    }

    #[test]
    fn a_path_is_named_after_the_worker_and_removed_with_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (private, _) = make(&PrivateListener::Socket(directory.path().to_owned()));
        let path = directory.path().join("1f-7.socket");
        assert_eq!(private.values().socket, Some(path.clone().into_os_string()));
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("it is new");
        drop(private);
        assert!(!path.exists());
    }
}
