//! The worker for tokio.

mod connection;
mod task;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ::tokio::net::{TcpListener, ToSocketAddrs};
use ::tokio::sync::mpsc;

pub use self::connection::{Connection, Stream};
use self::task::{Given, Task, WAITING_MAX};
use crate::environment::{self, Claim, Identity};
use crate::server::{EXHAUSTED_PAUSE, passing};
use crate::shared::{Handle, Shared, Wake};

/// Connections from a master if there is one, else from a port that this process binds.
///
/// With the feature `axum` it is a listener for `axum::serve`.
///
/// ```no_run
/// # async fn serve() -> std::io::Result<()> {
/// use tenfold_worker::tokio::Listener;
///
/// let mut listener = Listener::bind_or_receive("127.0.0.1:3000").await?;
/// while let Some(mut connection) = listener.accept().await? {
///     tokio::spawn(async move {
///         let (mut from, mut to) = tokio::io::split(connection);
///         tokio::io::copy(&mut from, &mut to).await
///     });
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Listener {
    source: Source,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Source {
    Master(mpsc::Receiver<Given>),
    Own(TcpListener),
}

impl Listener {
    /// Takes the master's channel, or binds `address` if there is no master. Under a master the
    /// address is not looked at: the master listens where its own configuration says.
    ///
    /// # Errors
    /// Those of [`Listener::from_env`] and of binding.
    pub async fn bind_or_receive(address: impl ToSocketAddrs) -> io::Result<Self> {
        if let Some(listener) = Self::from_env()? {
            return Ok(listener);
        }
        let listener = TcpListener::bind(address).await?;
        let shared = Shared::new(Identity::default(), Wake::Task(Default::default()));
        Ok(Self { source: Source::Own(listener), shared })
    }

    /// Takes the control channel that this process was started with, and starts the task that owns
    /// it. See [`Worker::from_env`](crate::Worker::from_env).
    ///
    /// # Errors
    /// Those of [`Worker::from_env`](crate::Worker::from_env).
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without its I/O and time drivers.
    pub fn from_env() -> io::Result<Option<Self>> {
        let Some(Claim { channel, identity }) = environment::claim()? else {
            return Ok(None);
        };
        let shared = Shared::new(identity, Wake::Task(Default::default()));
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let task = Task::new(channel, Arc::clone(&shared), sender)?;
        // It must outlive this listener, whose end is where draining begins, and it ends by itself
        // with the last guard. Should it panic, `accept` ends and the master sees the channel end.
        #[allow(
            clippy::disallowed_methods,
            reason = "has no parent; its end is seen by both sides"
        )]
        drop(::tokio::spawn(task.run()));
        Ok(Some(Self { source: Source::Master(receiver), shared }))
    }

    /// See [`Worker::max_connections`](crate::Worker::max_connections).
    #[must_use]
    pub fn max_connections(self, max: u32) -> Self {
        self.shared.limit_connections(max);
        self
    }

    /// Tells the master that connections may come. The first `accept` does it too.
    pub fn ready(&self) {
        self.shared.make_ready();
    }

    /// Waits for the next connection. None: this worker drains. Cancel safe.
    ///
    /// # Errors
    /// Those of accepting on an own port that will not pass by themselves.
    pub async fn accept(&mut self) -> io::Result<Option<Connection>> {
        self.shared.make_ready();
        match &mut self.source {
            Source::Master(connections) => loop {
                let Some(given) = connections.recv().await else {
                    return Ok(None);
                };
                if let Ok(connection) = Connection::register(given) {
                    return Ok(Some(connection));
                }
            },
            Source::Own(listener) => accept_own(listener, &self.shared).await.map(Some),
        }
    }

    /// A view that any task may keep.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Where this process listens by itself; None under a master.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.source {
            Source::Master(_) => None,
            Source::Own(listener) => listener.local_addr().ok(),
        }
    }
}

async fn accept_own(listener: &TcpListener, shared: &Arc<Shared>) -> io::Result<Connection> {
    let Wake::Task(changes) = &shared.wake else {
        unreachable!("a listener for tasks is made with a Notify");
    };
    loop {
        shared.look();
        if !shared.has_room() {
            changes.notified().await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, peer)) => return Ok(Connection::own(stream, peer, shared)),
            Err(error) => {
                if passing(error)? {
                    let _ = ::tokio::time::timeout(EXHAUSTED_PAUSE, changes.notified()).await;
                }
            }
        }
    }
}
