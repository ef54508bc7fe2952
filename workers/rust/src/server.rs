//! One accept loop for both lives of a program: under a master, and alone on a port of its own.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::connection::{Connection, Peer, Stream};
use crate::environment::Identity;
use crate::shared::{Handle, Shared, Wake};
use crate::sys::{self, Interest};
use crate::worker::{self, Worker};

/// The name of the listener where no master gave it one.
pub(crate) const OWN_LISTENER: &str = "main";

/// After running out of descriptors or memory, accepting is tried again when a connection closes
/// here, or after this time: what ran out may be the whole machine's.
pub(crate) const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Connections from a master if there is one, else from a port that this process binds.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
///
/// let mut server = tenfold_worker::Server::bind_or_receive("127.0.0.1:3000")?;
/// while let Some(connection) = server.accept()? {
///     std::thread::spawn(move || drop(connection));
/// }
/// server.finish(Duration::from_secs(20))?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Server(Source);

#[derive(Debug)]
enum Source {
    Master(Box<Worker>),
    Own(Own),
}

/// A listener of our own, with the same counts and the same bound.
#[derive(Debug)]
struct Own {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Server {
    /// Takes the master's channel, or binds `address` if there is no master. Under a master the
    /// address is not looked at: the master listens where its own configuration says.
    ///
    /// # Errors
    /// Those of [`Worker::from_env`] and of binding.
    pub fn bind_or_receive(address: impl ToSocketAddrs) -> io::Result<Self> {
        if let Some(worker) = Worker::from_env()? {
            return Ok(Self(Source::Master(Box::new(worker))));
        }
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let wake = Wake::Thread(sys::eventfd()?);
        let shared = Shared::new(Identity::default(), wake);
        Ok(Self(Source::Own(Own { listener, shared })))
    }

    /// See [`Worker::max_connections`]. Without a master further clients wait in the kernel's
    /// backlog.
    #[must_use]
    pub fn max_connections(self, max: u32) -> Self {
        match self.0 {
            Source::Master(worker) => Self(Source::Master(Box::new(worker.max_connections(max)))),
            Source::Own(own) => {
                own.shared.limit_connections(max);
                Self(Source::Own(own))
            }
        }
    }

    /// See [`Worker::ready`]. Nothing to do without a master.
    ///
    /// # Errors
    /// See [`Worker::ready`].
    pub fn ready(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Source::Master(worker) => worker.ready(),
            Source::Own(_) => Ok(()),
        }
    }

    /// See [`Worker::accept`]. Without a master it never answers None.
    ///
    /// # Errors
    /// Those of `poll` and `accept` that will not pass by themselves.
    pub fn accept(&mut self) -> io::Result<Option<Connection>> {
        match &mut self.0 {
            Source::Master(worker) => worker.accept(),
            Source::Own(own) => own.accept().map(Some),
        }
    }

    /// See [`Worker::finish`].
    ///
    /// # Errors
    /// See [`Worker::finish`].
    pub fn finish(self, grace: Duration) -> io::Result<u32> {
        match self.0 {
            Source::Master(worker) => worker.finish(grace),
            Source::Own(own) => own.finish(grace),
        }
    }

    /// A view that any thread may keep.
    pub fn handle(&self) -> Handle {
        match &self.0 {
            Source::Master(worker) => worker.handle(),
            Source::Own(own) => Handle { shared: Arc::clone(&own.shared) },
        }
    }

    /// Where this process listens by itself; None under a master.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Source::Master(_) => None,
            Source::Own(own) => own.listener.local_addr().ok(),
        }
    }
}

impl Own {
    fn accept(&self) -> io::Result<Connection> {
        loop {
            self.shared.look();
            let mut exhausted = false;
            if self.shared.has_room() {
                match self.listener.accept() {
                    Ok((stream, peer)) => {
                        stream.set_nonblocking(false)?;
                        let (stream, peer) = (Stream::Tcp(stream), Peer::Address(peer));
                        let name = OWN_LISTENER.to_owned();
                        return Ok(Connection::new(stream, name, peer, &self.shared));
                    }
                    Err(error) => exhausted = passing(error)?,
                }
            }
            self.wait(exhausted)?;
        }
    }

    fn wait(&self, exhausted: bool) -> io::Result<()> {
        let changes = worker::changes(&self.shared);
        let clients = Interest { fd: self.listener.as_fd(), read: true, write: false };
        if exhausted {
            sys::wait(&[changes], EXHAUSTED_PAUSE)
        } else if self.shared.has_room() {
            sys::wait(&[clients, changes], Duration::MAX)
        } else {
            sys::wait(&[changes], Duration::MAX)
        }
    }

    fn finish(self, grace: Duration) -> io::Result<u32> {
        let Self { listener, shared } = self;
        drop(listener);
        let deadline = sys::now() + grace;
        loop {
            shared.look();
            let open = shared.counts().0;
            let left = deadline.saturating_duration_since(sys::now());
            if open == 0 || left.is_zero() {
                return Ok(open);
            }
            sys::wait(&[worker::changes(&shared)], left)?;
        }
    }
}

/// Sorts an error of accept: true, something ran out and will come back; false, try again at once.
///
/// # Errors
/// `error` itself if it will not pass.
pub(crate) fn passing(error: io::Error) -> io::Result<bool> {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Ok(true),
        // A client that left again, a signal, nobody there, or the network errors that accept(2)
        // passes on from the new connection.
        Some(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::AGAIN
            | Errno::NETDOWN
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::PERM,
        ) => Ok(false),
        _ => Err(error),
    }
}
