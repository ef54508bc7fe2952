//! Waits for descriptors, orders and deadlines, and calls the reactor: the only awaits of dispatch.
//!
//! One parent joins every task; a task holds the reactor for one call at a time. A panic in one is
//! passed on: the reactor's state is shared, and half a change must not serve on.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::connection::Turn;
use super::listener::Listener;
use super::request::{self, Arrival, Question};
use super::{Member, Shared, upgrade};
use crate::clock;
use crate::link::Channel;
use crate::link::orders::Order;
use crate::link::said::ServerKey;
use crate::policy::{ListenerId, WorkerId};
use crate::sys::destroy::{DestroyEvents, Received};
use crate::sys::wait;

/// Changes under way from the reactor to its tasks: a few per order, and orders are bounded too.
pub(super) const CHANGES_MAX: usize = 4096;

/// Whether the reactor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    End,
}

/// What must be waited on from now on, or no longer.
#[derive(Debug)]
pub(super) enum Change {
    WatchChannel {
        worker: WorkerId,
        socket: Rc<OwnedFd>,
        flush: Rc<Notify>,
    },
    /// A process other than the worker's own holds the channel.
    WatchClaimant {
        worker: WorkerId,
        pid: i32,
    },
    ForgetChannel(WorkerId),
    WatchListener {
        id: ListenerId,
        socket: Rc<OwnedFd>,
        resume: Rc<Notify>,
    },
    ForgetListener(ListenerId),
    WatchDestroyed(DestroyEvents),
    /// Idle clients come from an old master.
    TakeClients(OwnedFd),
    /// A client of request mode.
    Serve(Arrival),
    /// Somebody wants to know something of an app.
    Fetch(Question),
    /// A new worker is asked for these paths before it is ready.
    WarmUp {
        worker: WorkerId,
        through: (ListenerId, ServerKey),
        paths: Arc<[String]>,
    },
}

impl Change {
    pub(super) fn watch_channel(member: &Member) -> Self {
        Self::WatchChannel {
            worker: member.link.worker,
            socket: member.link.socket(),
            flush: Rc::clone(&member.flush),
        }
    }

    pub(super) fn watch_listener(listener: &Listener, socket: Rc<OwnedFd>) -> Self {
        Self::WatchListener { id: listener.id, socket, resume: Rc::clone(&listener.resume) }
    }
}

/// Runs the reactor until it is told to quit or control is gone. Call it within a local runtime.
pub(super) async fn run(
    reactor: Shared,
    orders: mpsc::Receiver<Order>,
    changes: mpsc::Receiver<Change>,
) {
    Tasks::new(reactor).run(orders, changes).await;
}

struct Tasks {
    reactor: Shared,
    set: JoinSet<()>,
    channels: HashMap<WorkerId, Vec<AbortHandle>>,
    listeners: HashMap<ListenerId, AbortHandle>,
}

impl Tasks {
    fn new(reactor: Shared) -> Self {
        Self { reactor, set: JoinSet::new(), channels: HashMap::new(), listeners: HashMap::new() }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut changes: mpsc::Receiver<Change>) {
        self.reactor.borrow_mut().beat(clock::now());
        self.set.spawn_local(deadlines(Rc::clone(&self.reactor)));
        loop {
            tokio::select! {
                // Changes first: an order may depend on what an earlier one set up.
                biased;
                Some(change) = changes.recv() => self.apply(change),
                order = orders.recv() => {
                    let Some(order) = order else { return };
                    if self.reactor.borrow_mut().obey(clock::now(), order) == Next::End {
                        return;
                    }
                }
                Some(ended) = self.set.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
    }

    fn apply(&mut self, change: Change) {
        let reactor = Rc::clone(&self.reactor);
        match change {
            Change::WatchChannel { worker, socket, flush } => {
                let task = self.set.spawn_local(channel(reactor, worker, socket, flush));
                self.channels.entry(worker).or_default().push(task);
            }
            Change::WatchClaimant { worker, pid } => {
                let task = self.set.spawn_local(claimant(reactor, worker, pid));
                self.channels.entry(worker).or_default().push(task);
            }
            Change::ForgetChannel(worker) => {
                for task in self.channels.remove(&worker).into_iter().flatten() {
                    task.abort();
                }
            }
            Change::WatchListener { id, socket, resume } => {
                let task = self.set.spawn_local(listener(reactor, id, socket, resume));
                self.listeners.insert(id, task);
            }
            Change::Fetch(question) => {
                let front = Rc::clone(&reactor.borrow().front);
                self.set.spawn_local(request::fetch(front, question));
            }
            Change::WarmUp { worker, through, paths } => {
                let task = self.set.spawn_local(warm_up(reactor, (worker, through), paths));
                self.channels.entry(worker).or_default().push(task);
            }
            Change::TakeClients(from) => {
                self.set.spawn_local(upgrade::take_clients(reactor, from));
            }
            Change::Serve(arrival) => {
                let front = Rc::clone(&reactor.borrow().front);
                self.set.spawn_local(request::serve(front, arrival));
            }
            Change::WatchDestroyed(events) => {
                self.set.spawn_local(destroyed(reactor, events));
            }
            Change::ForgetListener(id) => {
                if let Some(task) = self.listeners.remove(&id) {
                    task.abort();
                }
            }
        }
    }
}

/// Reads one worker's channel, and writes to it when it has room again.
async fn channel(reactor: Shared, worker: WorkerId, socket: Rc<OwnedFd>, flush: Rc<Notify>) {
    let Some(socket) = register(socket, Interest::READABLE | Interest::WRITABLE) else {
        return;
    };
    loop {
        let wants_to_write = reactor.borrow().wants_to_write(worker);
        tokio::select! {
            // Reading first: answers make room for what waits to be written.
            biased;
            Ok(mut ready) = socket.readable() => {
                let heard = reactor.borrow_mut().hear(clock::now(), worker);
                match heard {
                    Channel::Empty => ready.clear_ready(),
                    Channel::More => tokio::task::yield_now().await,
                    Channel::Ended => {
                        reactor.borrow_mut().channel_ended(clock::now(), worker);
                        return;
                    }
                }
            }
            Ok(mut ready) = socket.writable(), if wants_to_write => {
                let mut reactor = reactor.borrow_mut();
                reactor.flush(clock::now(), worker);
                if reactor.wants_to_write(worker) {
                    ready.clear_ready();
                }
            }
            // Something began to wait: look again at whether to wait for room.
            () = flush.notified() => {}
        }
    }
}

/// Waits for the end of the process that claimed a wrapper's channel.
async fn claimant(reactor: Shared, worker: WorkerId, pid: i32) {
    // A pid that is gone already is the end that this task waits for.
    if let Ok(pidfd) = crate::sys::child::open_pidfd(pid)
        && let Some(pidfd) = register(Rc::new(pidfd), Interest::READABLE)
    {
        let _ = pidfd.readable().await;
    }
    reactor.borrow_mut().claimant_ended(clock::now(), worker);
}

/// Accepts on one listener.
async fn listener(reactor: Shared, id: ListenerId, socket: Rc<OwnedFd>, resume: Rc<Notify>) {
    let Some(socket) = register(socket, Interest::READABLE) else {
        return;
    };
    while let Ok(mut ready) = socket.readable().await {
        let turn = reactor.borrow_mut().accept(clock::now(), id);
        match turn {
            Turn::Empty => ready.clear_ready(),
            Turn::More => tokio::task::yield_now().await,
            Turn::Rest => resume.notified().await,
            Turn::Gone => return,
        }
    }
}

/// Hears from the kernel which sockets are gone.
async fn destroyed(reactor: Shared, events: DestroyEvents) {
    let Ok(mut events) = wait::destroy_events(events) else {
        return;
    };
    let mut cookies = Vec::new();
    while let Ok(mut ready) = events.readable_mut().await {
        cookies.clear();
        match ready.get_inner_mut().receive(&mut cookies) {
            Ok(Received::Events) => reactor.borrow_mut().destroyed(clock::now(), &cookies),
            Ok(Received::Overrun) => reactor.borrow_mut().resync(clock::now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => {
                tracing::warn!(%error, "the kernel no longer tells which connections end");
                return;
            }
        }
    }
}

/// Sleeps until the next deadline, whenever that moves.
async fn deadlines(reactor: Shared) {
    let moved = Rc::clone(&reactor.borrow().deadline_moved);
    loop {
        let due = reactor.borrow().deadline();
        match due {
            Some(due) => {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(due.into()) => {
                        reactor.borrow_mut().on_deadline(clock::now());
                    }
                    () = moved.notified() => {}
                }
            }
            None => moved.notified().await,
        }
        reactor.borrow_mut().settle_stop(clock::now());
    }
}

fn register(socket: Rc<OwnedFd>, interest: Interest) -> Option<AsyncFd<Rc<OwnedFd>>> {
    wait::shared(socket, interest)
        .inspect_err(|error| tracing::error!(%error, "cannot wait on a descriptor"))
        .ok()
}

/// Asks a new worker for each path, one after the other; it is ready when all were answered.
async fn warm_up(reactor: Shared, whom: (WorkerId, (ListenerId, ServerKey)), paths: Arc<[String]>) {
    let (worker, through) = whom;
    let front = Rc::clone(&reactor.borrow().front);
    for path in paths.iter() {
        request::visit(&front, whom.0, through, path).await;
    }
    reactor.borrow_mut().warmed_up(clock::now(), worker);
}
