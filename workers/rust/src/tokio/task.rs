//! The task that owns the control channel, so that reports and drain do not depend on `accept`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::tokio::io::Interest;
use ::tokio::net::UnixStream;
use ::tokio::sync::mpsc;
use ::tokio::time::{Interval, MissedTickBehavior};

use crate::channel::{Channel, Intake, Turn};
use crate::shared::{Drain, Shared, Unread, Wake};
use crate::sys;

/// Acknowledged connections that wait for `accept`: the master's own window, so that neither side
/// waits for the other in between.
pub(super) const WAITING_MAX: usize = 8;

/// How often the task looks at the clock; a delay of the runtime longer than this is always
/// noticed.
const TICK: Duration = Duration::from_millis(100);

/// What a client sends right after it connects has arrived by then; the same as for Node workers.
const FIRST_READ_GRACE: Duration = Duration::from_millis(500);

/// What waits for `accept`.
pub(super) struct Given {
    pub(super) connection: crate::Connection,
    pub(super) unread: Unread,
}

/// The owner of the control channel on a runtime.
pub(super) struct Task {
    channel: Channel<UnixStream>,
    /// Where connections go; None once the app takes no more.
    app: Option<mpsc::Sender<Given>>,
    draining: Option<Draining>,
    shared: Arc<Shared>,
    ticks: Interval,
}

/// A drain that the app is to be told of once every connection that was acknowledged has been taken
/// and read from: whoever stops at that word (hyper does) resets those with an unread request.
#[derive(Clone, Copy)]
struct Draining {
    reason: Drain,
    /// Clients that have sent nothing until then are not waited for.
    until: Instant,
}

impl Task {
    /// # Errors
    /// Those of registering the channel with the runtime.
    pub(super) fn new(
        socket: OwnedFd,
        shared: Arc<Shared>,
        app: mpsc::Sender<Given>,
    ) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(socket)?;
        let channel = Channel::new(socket, Arc::clone(&shared), sys::now());
        let mut ticks = ::tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { channel, app: Some(app), draining: None, shared, ticks })
    }

    /// Ends with the channel, or once neither listener, connection nor handle is left.
    pub(super) async fn run(mut self) {
        loop {
            let intake = self.intake();
            match self.channel.turn(sys::now(), intake) {
                Turn::Connection(connection) => self.give(connection),
                Turn::Draining(reason) => {
                    self.draining = Some(Draining { reason, until: sys::now() + FIRST_READ_GRACE });
                }
                Turn::Ended if self.draining.is_none() => return,
                Turn::Ended => self.wait(self.awaited(Awaited::Change), None).await,
                Turn::Wait { write: true, .. } => self.wait(Awaited::Output, None).await,
                Turn::Wait { until, .. } if intake == Intake::Hold => {
                    self.wait(self.awaited(Awaited::Change), Some(until)).await;
                }
                Turn::Wait { until, .. } => {
                    self.wait(self.awaited(Awaited::Input), Some(until)).await;
                }
            }
            // Two are the task's own: here and in the channel.
            if Arc::strong_count(&self.shared) == 2 {
                return;
            }
        }
    }

    /// What to do with the next connection, after settling whether the app still takes any.
    fn intake(&mut self) -> Intake {
        let finished = |app: &mpsc::Sender<_>| {
            app.is_closed() || (self.draining.is_some() && app.capacity() == WAITING_MAX)
        };
        self.app.take_if(|app| finished(app));
        let Some(app) = &self.app else {
            self.tell_drain();
            return Intake::Refuse;
        };
        if self.draining.is_some() {
            return Intake::Refuse;
        }
        if app.capacity() == 0 || !self.shared.is_ready() {
            return Intake::Hold;
        }
        Intake::Take
    }

    fn tell_drain(&mut self) {
        let due =
            |draining: &mut Draining| self.shared.unread() == 0 || sys::now() >= draining.until;
        if let Some(draining) = self.draining.take_if(due) {
            self.shared.start_drain(draining.reason);
        }
    }

    fn give(&mut self, connection: crate::Connection) {
        if let Some(app) = &self.app {
            let unread = Unread::new(&self.shared);
            // It fails only if the listener went this very moment; then the connection closes, as
            // one in the backlog of a closed listener does.
            drop(app.try_send(Given { connection, unread }));
        }
    }

    /// What to wait for in view of what the app still has to take; `otherwise` if nothing.
    fn awaited(&self, otherwise: Awaited) -> Awaited {
        match &self.app {
            Some(_) if self.draining.is_some() => Awaited::Emptied,
            Some(app) if app.capacity() == 0 => Awaited::Room,
            Some(_) | None => otherwise,
        }
    }

    /// Waits for what is `awaited`, for the next tick, and for `report_at` if it is sooner.
    async fn wait(&mut self, awaited: Awaited, report_at: Option<Instant>) {
        let Wake::Task(changes) = &self.shared.wake else {
            unreachable!("a listener for tasks is made with a Notify");
        };
        let interest = match awaited {
            Awaited::Input => Some(Interest::READABLE),
            Awaited::Output => Some(Interest::WRITABLE),
            Awaited::Room | Awaited::Emptied | Awaited::Change => None,
        };
        // The clock first: it must not starve behind a busy channel, it is what measures the lag.
        ::tokio::select! { biased;
            due = self.ticks.tick() => {
                let lag = sys::now().saturating_duration_since(due.into_std());
                self.channel.note_lag(lag);
            }
            () = ready(self.channel.socket(), interest) => {}
            () = changes.notified() => {}
            () = due(report_at) => {}
            () = taken(self.app.as_ref(), awaited) => {}
        }
    }
}

/// What the task waits for besides the clock and changed counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Input,
    Output,
    /// The app takes one of the connections that wait for it.
    Room,
    /// The app takes the last of them.
    Emptied,
    Change,
}

/// Waits until the socket is ready, and forgets that it is: what follows is input or output that
/// goes on until it would block, and an event in between announces itself anew.
async fn ready(socket: &UnixStream, interest: Option<Interest>) {
    let Some(interest) = interest else {
        return std::future::pending().await;
    };
    if socket.ready(interest).await.is_err() {
        // The runtime is shutting down and will drop this task.
        return std::future::pending().await;
    }
    let forget = || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into());
    drop(socket.try_io(interest, forget));
}

/// Resolves at `report_at`, unless a tick comes first anyway.
async fn due(report_at: Option<Instant>) {
    match report_at {
        Some(at) if at < sys::now() + TICK => ::tokio::time::sleep_until(at.into()).await,
        Some(_) | None => std::future::pending().await,
    }
}

/// Resolves when the app has taken what the task waits for it to take, or has gone.
async fn taken(app: Option<&mpsc::Sender<Given>>, awaited: Awaited) {
    match (app, awaited) {
        (None, _) => std::future::pending().await,
        (Some(app), Awaited::Room) => drop(app.reserve().await),
        (Some(app), Awaited::Emptied) => drop(app.reserve_many(WAITING_MAX).await),
        (Some(app), Awaited::Input | Awaited::Output | Awaited::Change) => app.closed().await,
    }
}
