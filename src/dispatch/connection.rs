//! Connection mode: accepts, chooses a worker, hands the socket over, and answers for what no
//! worker takes.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Instant;

use super::observe::Tracked;
use super::request::stream::{Kind, Stream};
use super::request::{self, Arrival, desk};
use super::{Accepting, Counted, EXHAUSTED_PAUSE, Grants, Reactor, Timer, refuse, tasks};
use crate::clock;
use crate::config::{Backlog, Protocol};
use crate::link::{Connection, Owned};
use crate::policy::{Admission, Grant, ListenerId, Mode, Shed, Ticket, WorkerId};
use crate::sys::accept::{self, AcceptError, Accepted, Peer};
use crate::sys::socket::BACKLOG_MAX;

/// Connections accepted in one turn: enough to amortise the turn, few enough (about half a
/// millisecond) that answers and deadlines do not wait.
const ACCEPTS_PER_TURN: usize = 64;

/// How a worker answers for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken {
        seq: u64,
    },
    Refused {
        seq: u64,
    },
    /// Node got the message without its descriptor: it has no room for another.
    NeverReceived,
}

/// How an accepting turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing waits: await readiness.
    Empty,
    /// More may wait: others first.
    More,
    /// The kernel is out of something, or will not: await the listener's `resume`.
    Rest,
    /// The listener is gone.
    Gone,
}

/// IPv4 in its own form, also where an IPv6 socket accepted it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Reactor {
    /// Accepts one turn's worth of connections.
    pub(super) fn accept(&mut self, now: Instant, id: ListenerId) -> Turn {
        self.refresh_loads(now);
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(&id) else {
                return Turn::Gone;
            };
            let Some(socket) = &listener.socket else {
                return Turn::Gone;
            };
            match accept::accept(socket.as_fd()) {
                Ok(accepted) if listener.mode == Mode::Request => {
                    self.recorder.accepted();
                    self.arrive(id, accepted);
                }
                Ok(accepted) => {
                    self.recorder.accepted();
                    let peer = match accepted.peer {
                        Peer::Ip(address) => Some(canonical(address)),
                        Peer::Unix => None,
                    };
                    let connection = Connection {
                        ticket: self.ticket(),
                        listener: id,
                        socket: Rc::new(accepted.stream),
                        peer,
                        accepted_at: now,
                    };
                    self.admit(now, connection);
                }
                Err(AcceptError::Empty) => return Turn::Empty,
                Err(AcceptError::Transient(_)) => {}
                Err(error @ (AcceptError::Exhausted(_) | AcceptError::Unexpected(_))) => {
                    if self.exhausted.is_due(now) {
                        tracing::warn!(%error, "cannot accept, trying again every 50 ms");
                    }
                    self.after(now + EXHAUSTED_PAUSE, Timer::Resume(id));
                    return Turn::Rest;
                }
                Err(error @ AcceptError::Fatal(_)) => {
                    tracing::error!(listener = %id, %error, "listener lost");
                    return Turn::Gone;
                }
            }
        }
        Turn::More
    }

    /// Accepts what has connected by now, before a listener is closed: as many as the kernel can
    /// have kept. Others may go on connecting, and must not keep us from the end.
    pub(super) fn accept_rest(&mut self, now: Instant, id: ListenerId) {
        let backlog = match self.listeners.get(&id).map(|listener| listener.options.backlog) {
            Some(Backlog::Fixed(backlog)) => backlog.get(),
            Some(Backlog::Auto) | None => BACKLOG_MAX,
        };
        for _ in 0..=backlog as usize / ACCEPTS_PER_TURN {
            if self.accept(now, id) != Turn::More {
                return;
            }
        }
    }

    /// Gives a client of request mode to a task of its own.
    fn arrive(&mut self, id: ListenerId, accepted: Accepted) {
        let Some(listener) = self.listeners.get(&id) else {
            return;
        };
        let (peer, kind) = match accepted.peer {
            Peer::Ip(address) => (Some(address), Kind::Tcp),
            Peer::Unix => (None, Kind::Unix),
        };
        if !self.front.has_room(listener) {
            refuse::turn_away(accepted.stream, Protocol::Http);
            self.recorder.accepted_refused();
            return self.count_shed(clock::now(), "max_connections");
        }
        match Stream::register(accepted.stream, kind) {
            Ok(stream) => self.change(tasks::Change::Serve(Arrival {
                patience: self.front.header_read(),
                stream,
                open: self
                    .front
                    .client_opened(Some(request::Counted::new(Rc::clone(&listener.clients)))),
                listener: id,
                server: listener.server,
                peer,
                proxied: listener.options.proxy_protocol,
            })),
            // The client was gone before it was served.
            Err(error) => tracing::debug!(%error, "client lost"),
        }
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    fn admit(&mut self, now: Instant, connection: Connection) {
        let admission = self.balance().admit(now, connection.listener, connection.ticket);
        self.settle(now, connection, admission);
    }

    /// Gives back to the queue what a worker that died, refused or left had not answered for.
    pub(super) fn readmit(&mut self, now: Instant, connections: Vec<Connection>) {
        for connection in connections {
            let Connection { listener, ticket, accepted_at, .. } = connection;
            let admission = self.balance().readmit(now, listener, ticket, accepted_at);
            self.settle(now, connection, admission);
        }
    }

    fn settle(&mut self, now: Instant, connection: Connection, admission: Admission) {
        match admission {
            Admission::Granted(grant) => self.hand_over(now, grant, connection),
            Admission::Queued => {
                self.waiting.insert(connection.ticket, connection);
                self.deadline_moved.notify_one();
                self.watch_for_room(now);
            }
            Admission::Shed(reason) => self.shed(now, connection, reason),
        }
    }

    /// Hands waiting connections to the workers that got them.
    pub(super) fn deliver(&mut self, now: Instant, grants: Grants) {
        let (requests, connections): (Grants, Grants) =
            grants.into_iter().partition(|grant| desk::is_request(grant.ticket));
        self.desk.deliver(requests);
        for grant in connections {
            match self.waiting.remove(&grant.ticket) {
                Some(connection) => self.hand_over(now, grant, connection),
                None => {
                    // Every waiter of `Balance` has its connection here, so this cannot happen;
                    // if it did, the place in the account must not leak.
                    let more = self.balance().withdraw(now, grant.worker);
                    self.deliver(now, more);
                }
            }
        }
    }

    fn hand_over(&mut self, now: Instant, grant: Grant, connection: Connection) {
        let (Some(listener), Some(member)) =
            (self.listeners.get(&grant.listener), self.links.get_mut(&grant.worker))
        else {
            // A grant names an open listener and a living worker; without them nobody can serve
            // the client, and the account that the grant was counted in is gone too.
            return self.shed(now, connection, Shed::Closing);
        };
        if let Counted::Kernel(count) = &mut member.counted {
            let tracked = self.observing.observer().map_or(Tracked::No, |observer| {
                observer.track(connection.socket.as_fd(), connection.ticket, grant.worker)
            });
            count.handed(tracked);
        }
        let sent = member.link.hand_over(connection, listener.server, &listener.name);
        self.after_send(now, grant.worker, sent);
        if self.accepting == Accepting::Stopped {
            // This may be the last one that waited.
            self.deadline_moved.notify_one();
        }
    }

    /// A worker answered for a connection: it took it, or would not have it.
    pub(super) fn answered(&mut self, now: Instant, worker: WorkerId, answer: Answer) {
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        let owned = match answer {
            Answer::Taken { seq } | Answer::Refused { seq } => member.link.answered(seq),
            Answer::NeverReceived => member.link.handle_lost(),
        };
        let connection = match owned {
            Some(Owned::Client(connection)) => connection,
            // Of a pair that was refused our end hears the end; the exchange on it tries again.
            Some(Owned::Private(_)) => {
                member.private_seen += 1;
                return;
            }
            // An answer to nothing (a second one, or another's number) means nothing.
            None => return,
        };
        if let Counted::Kernel(count) = &mut member.counted {
            let held = self
                .observing
                .observer()
                .map_or(Tracked::No, |observer| observer.answered(connection.ticket, &answer));
            if answer != Answer::NeverReceived {
                count.answered(held);
            }
        }
        let grants = match answer {
            Answer::Taken { .. } => {
                // Our copy must go at once: while we hold it, the worker's close sends no FIN.
                drop(connection);
                self.balance().acked(now, worker)
            }
            Answer::Refused { .. } => {
                let grants = self.balance().refused(now, worker, connection.listener);
                self.readmit(now, vec![connection]);
                self.deadline_moved.notify_one();
                grants
            }
            Answer::NeverReceived => {
                let grants = self.balance().not_received(now, worker, connection.listener);
                self.readmit(now, vec![connection]);
                self.deadline_moved.notify_one();
                grants
            }
        };
        self.deliver(now, grants);
    }

    /// A connection that waited in vain.
    pub(super) fn shed_waiting(&mut self, now: Instant, ticket: Ticket, reason: Shed) {
        match self.waiting.remove(&ticket) {
            Some(connection) => self.shed(now, connection, reason),
            None => self.desk.shed(ticket, reason),
        }
    }

    fn shed(&mut self, now: Instant, connection: Connection, reason: Shed) {
        let protocol = self
            .listeners
            .get(&connection.listener)
            .map_or(self.servers.layouts.current().default_protocol(), |listener| {
                listener.options.protocol
            });
        self.count_shed(now, reason.code());
        // Nobody else holds the socket: it was never handed over, or was taken back.
        if let Some(socket) = Rc::into_inner(connection.socket) {
            refuse::turn_away(socket, protocol);
        }
    }
}
