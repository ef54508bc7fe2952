//! The blocking worker: who calls `accept` also reports, so the heartbeat says that it does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::channel::{Channel, Intake, Turn};
use crate::connection::Connection;
use crate::environment::{self, Claim};
use crate::shared::{Handle, Shared, Wake};
use crate::sys::{self, Interest};

/// A worker of a tenfold master, for threads.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
/// use tenfold_worker::Worker;
///
/// let Some(mut worker) = Worker::from_env()? else {
///     return Err(std::io::Error::other("start me with: tenfold -- PROGRAM"));
/// };
/// while let Some(connection) = worker.accept()? {
///     std::thread::spawn(move || {
///         let _active = connection.begin();
///         println!("{} came in by {}", connection.peer(), connection.listener());
///     });
/// }
/// worker.finish(Duration::from_secs(20))?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Worker {
    channel: Channel<OwnedFd>,
    /// When this worker last looked at its channel.
    looked: Instant,
}

impl Worker {
    /// Takes the control channel that this process was started with. None: there is no master, or
    /// the channel has been taken, by an earlier call or by the process that this one is a child
    /// of.
    ///
    /// # Errors
    /// The environment promises a channel that is not there, or a protocol version that this crate
    /// does not speak.
    pub fn from_env() -> io::Result<Option<Self>> {
        environment::claim()?.map(Self::new).transpose()
    }

    fn new(claim: Claim) -> io::Result<Self> {
        let shared = Shared::new(claim.identity, Wake::Thread(sys::eventfd()?));
        let now = sys::now();
        Ok(Self { channel: Channel::new(claim.channel, shared, now), looked: now })
    }

    /// Connections that may be open at once; the master gets the others back for another worker.
    /// No limit by default: the master has one of its own.
    #[must_use]
    pub fn max_connections(self, max: u32) -> Self {
        self.shared().limit_connections(max);
        self
    }

    /// Tells the master that connections may come. The first `accept` does it too; earlier only
    /// pays off if something lies between the two.
    ///
    /// # Errors
    /// Those of waiting; a lost master is no error, see [`Worker::accept`].
    pub fn ready(&mut self) -> io::Result<()> {
        self.shared().make_ready();
        self.channel.announce(sys::now());
        Ok(())
    }

    /// Waits for the next connection; its ack has been sent. None: this worker drains, because the
    /// master said so or is gone ([`Handle::drain`] tells which). Then finish what is open and
    /// leave.
    ///
    /// Reports are sent from here, so call it again soon: give connections to threads, or know that
    /// the master may take a worker that is silent for seconds for stuck.
    ///
    /// # Errors
    /// Those of `poll`, in practice none.
    pub fn accept(&mut self) -> io::Result<Option<Connection>> {
        self.shared().make_ready();
        loop {
            match self.turn(Intake::Take) {
                Turn::Connection(connection) => {
                    // It came O_NONBLOCK for the sake of event loops; here reads are to wait.
                    if connection.stream().set_nonblocking(false).is_ok() {
                        return Ok(Some(connection));
                    }
                }
                Turn::Draining(reason) => self.shared().start_drain(reason),
                Turn::Ended => return Ok(None),
                Turn::Wait { .. } if self.shared().drain().is_some() => return Ok(None),
                Turn::Wait { write, until } => self.wait(Interests::of(write), until)?,
            }
        }
    }

    /// Waits until every connection is closed, for at most `grace`, and keeps reporting meanwhile.
    /// Whatever still arrives goes back to the master. Returns how many are still open.
    ///
    /// # Errors
    /// Those of `poll`, in practice none.
    pub fn finish(mut self, grace: Duration) -> io::Result<u32> {
        let deadline = sys::now() + grace;
        loop {
            let turn = self.turn(Intake::Refuse);
            let open = self.shared().counts().0;
            if open == 0 || sys::now() >= deadline {
                return Ok(open);
            }
            match turn {
                Turn::Connection(connection) => drop(connection),
                Turn::Draining(reason) => self.shared().start_drain(reason),
                Turn::Ended => self.wait(Interests::Changes, deadline)?,
                Turn::Wait { write, until } => {
                    self.wait(Interests::of(write), until.min(deadline))?;
                }
            }
        }
    }

    /// A view that any thread may keep.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(self.shared()) }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.channel.shared()
    }

    fn turn(&mut self, intake: Intake) -> Turn {
        let now = sys::now();
        self.channel.note_lag(now.saturating_duration_since(self.looked));
        self.looked = now;
        self.channel.turn(now, intake)
    }

    fn wait(&mut self, interests: Interests, until: Instant) -> io::Result<()> {
        let timeout = until.saturating_duration_since(sys::now());
        let socket = Interest {
            fd: self.channel.socket().as_fd(),
            read: matches!(interests, Interests::Input),
            write: matches!(interests, Interests::Output),
        };
        let changes = changes(self.channel.shared());
        match interests {
            Interests::Changes => sys::wait(&[changes], timeout)?,
            Interests::Input | Interests::Output => sys::wait(&[socket, changes], timeout)?,
        }
        self.looked = sys::now();
        Ok(())
    }
}

/// What to wait for besides a change of the counts.
#[derive(Clone, Copy, Debug)]
enum Interests {
    Input,
    Output,
    Changes,
}

impl Interests {
    fn of(write: bool) -> Self {
        if write { Self::Output } else { Self::Input }
    }
}

/// The wake-up of a thread that owns `shared`.
pub(crate) fn changes(shared: &Shared) -> Interest<'_> {
    match &shared.wake {
        Wake::Thread(eventfd) => Interest { fd: eventfd.as_fd(), read: true, write: false },
        #[cfg(feature = "tokio")]
        Wake::Task(_) => unreachable!("a worker for threads is made with an eventfd"),
    }
}
