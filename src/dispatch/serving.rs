//! Opens and closes what the app's servers are fed from, as workers ask for it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use super::listener::{self, Bound, Listener};
use super::servers::{Identity, Lifetime, Server};
use super::{Accepting, Reactor, Standing, tasks};
use crate::config::{self, Backlog, ListenOptions, MaxClients};
use crate::link::orders::{OpenListener, Report};
use crate::link::said::{ListenRequest, Place, ServerKey, ServerKind};
use crate::policy::{ListenerId, Mode, Shed, WorkerId};
use crate::sys::socket;

impl Reactor {
    /// Answers a listen request: with a server that exists, a new one, or the errno that the app's
    /// own bind would have met.
    pub(super) fn asked(&mut self, now: Instant, worker: WorkerId, mut request: ListenRequest) {
        let asked = request.place.clone();
        request.place = self.meant(worker, &asked);
        let outcome = match request.place {
            Place::Udp { .. } => self.open_datagram(&request),
            Place::Tcp { .. } | Place::Path(_) | Place::Descriptor(_) => {
                self.open_server(worker, &request)
            }
        };
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        let sent = match outcome {
            Ok(key) => {
                let server = self.servers.get(key).expect("it was just opened");
                match &server.datagram {
                    Some(socket) => member.link.grant_datagram(
                        request.seq,
                        key,
                        Rc::clone(socket),
                        &server.data,
                    ),
                    None => {
                        let sockname = answered_name(server.sockname, &asked);
                        member.link.grant_listen(request.seq, key, sockname, &server.data)
                    }
                }
            }
            Err(error) => {
                let errno = -socket::node_errno(&error);
                let sent = member.link.refuse_listen(request.seq, errno, &request.data);
                let place = describe(&request.place);
                self.report(Report::ListenRefused { worker, place, error: error.to_string() });
                sent
            }
        };
        self.after_send(now, worker, sent);
    }

    fn open_server(&mut self, worker: WorkerId, request: &ListenRequest) -> io::Result<ServerKey> {
        let index = match request.place {
            Place::Tcp { port: 0, .. } => request.index,
            Place::Tcp { .. } | Place::Path(_) | Place::Udp { .. } | Place::Descriptor(_) => 0,
        };
        let identity = Identity::App { place: request.place.clone(), index };
        if let Some(key) = self.servers.key_of(&identity) {
            let server = self.servers.get_mut(key).expect("its key was just found");
            if !server.workers.insert(worker) {
                // One process listens twice on one address: its own bind would have failed so.
                return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
            }
            return Ok(key);
        }
        if self.accepting == Accepting::Stopped {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        let (replacing, options) = self.servers.configured_for(&identity);
        let key = self.servers.next_key();
        let configured = self.take_bound(&replacing);
        let lifetime = if configured.is_empty() { Lifetime::App } else { Lifetime::Configured };
        let bound = if configured.is_empty() {
            let backlogged = with_backlog(options, request.backlog);
            let asked = format!("{}#{index}", describe(&request.place));
            let mut bound = match self.inherit(&asked)? {
                Some(inherited) => inherited,
                None => listener::bind_place(&request.place, backlogged)?,
            };
            bound.key = asked;
            vec![(bound, options)]
        } else {
            configured
        };
        let mut server = Server::new(identity, lifetime, request.data.clone());
        server.workers.insert(worker);
        self.install(key, server, bound, request.kind);
        Ok(key)
    }

    /// Opens the listeners of a new server.
    fn install(
        &mut self,
        key: ServerKey,
        mut server: Server,
        bound: Vec<(Bound, ListenOptions)>,
        kind: Option<ServerKind>,
    ) {
        server.sockname = bound.first().and_then(|(bound, _)| bound.sockname);
        for (bound, options) in bound {
            let mode = self.mode_of(options, kind);
            server.listeners.push(self.open_listener(key, bound, (options, mode)));
        }
        self.servers.insert(key, server);
    }

    fn open_listener(
        &mut self,
        server: ServerKey,
        bound: Bound,
        how: (ListenOptions, Mode),
    ) -> ListenerId {
        let (options, mode) = how;
        if mode == Mode::Connection && options.max_connections != MaxClients::Auto {
            let address = &bound.address;
            tracing::warn!(
                %address,
                "listen.max_connections bounds clients of request mode; this listener dispatches \
                 connections, which workers.max_connections bounds"
            );
        }
        let id = ListenerId(self.next_listener);
        let name = if id.0 == 0 { "main".to_owned() } else { bound.address.clone() };
        self.next_listener += 1;
        let opened =
            OpenListener { id, address: bound.address.clone(), url: bound.url.clone(), mode };
        let listener = Listener::new(id, bound, server, name, how);
        let queue = match mode {
            Mode::Request => self.queues.requests,
            Mode::Connection => self.queues.connections,
        };
        self.balance().open_listener(id, mode, queue);
        if self.accepting == Accepting::Yes
            && let Some(socket) = listener.socket.clone()
        {
            self.change(tasks::Change::watch_listener(&listener, socket));
        }
        self.listeners.insert(id, listener);
        self.report(Report::Opened(opened));
        id
    }

    /// What is dispatched from a listener: as configured, else by the kind of its server, which the
    /// preload tells. Of a server of unknown kind only bytes can be promised.
    fn mode_of(&self, options: ListenOptions, kind: Option<ServerKind>) -> Mode {
        match (options.mode, kind) {
            (config::Mode::Request, _) => Mode::Request,
            (config::Mode::Connection, _) => Mode::Connection,
            (config::Mode::Auto, Some(ServerKind::Http)) => Mode::Request,
            (config::Mode::Auto, Some(ServerKind::Other) | None) => Mode::Connection,
        }
    }

    fn open_datagram(&mut self, request: &ListenRequest) -> io::Result<ServerKey> {
        let identity = Identity::App { place: request.place.clone(), index: request.index };
        if let Some(key) = self.servers.key_of(&identity) {
            return Ok(key);
        }
        let (socket, sockname) = listener::bind_datagram(&request.place)?;
        let key = self.servers.next_key();
        let mut server = Server::new(identity, Lifetime::App, request.data.clone());
        server.sockname = sockname;
        server.datagram = Some(Rc::new(socket));
        self.servers.insert(key, server);
        Ok(key)
    }

    pub(super) fn open_native(
        &mut self,
        kind: Option<ServerKind>,
    ) -> Result<ServerKey, (String, io::Error)> {
        let (replacing, options) = self.servers.configured_for(&Identity::Native);
        let mut bound = self.take_bound(&replacing);
        if bound.is_empty() {
            let address = self.fallback.to_string();
            let opened = match self.inherit(&address) {
                Ok(Some(inherited)) => Ok(inherited),
                Ok(None) => listener::bind(&self.fallback, options),
                Err(error) => Err(error),
            };
            match opened {
                Ok(socket) => bound.push((socket, options)),
                Err(error) => return Err((address, error)),
            }
        }
        let key = self.servers.next_key();
        let server = Server::new(Identity::Native, Lifetime::Configured, Value::Null);
        self.install(key, server, bound, kind);
        Ok(key)
    }

    /// What an old master listened on for the same wish.
    fn inherit(&mut self, key: &str) -> io::Result<Option<Bound>> {
        let Some(socket) = self.inherited.remove(key) else {
            return Ok(None);
        };
        listener::inherit(key.to_owned(), socket).map(Some).map_err(io::Error::other)
    }

    /// The sockets of these configured entries that no server has yet.
    fn take_bound(&mut self, entries: &[usize]) -> Vec<(Bound, ListenOptions)> {
        entries
            .iter()
            .flat_map(|index| {
                let options = self.servers.listed(*index).options;
                let bound = self.bound.remove(index).unwrap_or_default();
                bound.into_iter().map(move |bound| (bound, options))
            })
            .collect()
    }

    /// The app closed a server in one worker. When no worker serves it any more, its address is
    /// free, as it would be with Node's own cluster.
    pub(super) fn closed_by_app(&mut self, now: Instant, worker: WorkerId, key: ServerKey) {
        let standing = self.links.get(&worker).map(|member| member.standing);
        let Some(server) = self.servers.get_mut(key) else {
            return;
        };
        server.workers.remove(&worker);
        let unserved = server.workers.is_empty() && server.lifetime == Lifetime::App;
        let listeners = server.listeners.clone();
        for listener in &listeners {
            let grants = self.balance().unserve(now, worker, *listener);
            self.deliver(now, grants);
        }
        // A worker that drains closes its servers too; the next worker will want them.
        if unserved && standing == Some(Standing::Ready) {
            for listener in listeners.iter().filter_map(|id| self.listeners.get(id)) {
                // A new master may have the same socket.
                if self.accepting == Accepting::Yes {
                    listener.stop_listening();
                }
            }
            self.close_server(now, key);
        }
    }

    pub(super) fn close_server(&mut self, now: Instant, key: ServerKey) {
        let Some(server) = self.servers.remove(key) else {
            return;
        };
        for id in server.listeners {
            let turned_away = self.balance().close_listener(id);
            for ticket in turned_away {
                self.shed_waiting(now, ticket, Shed::Closing);
            }
            self.listeners.remove(&id);
            self.change(tasks::Change::ForgetListener(id));
            self.report(Report::Closed(id));
        }
    }
}

/// Node compares the answered port with the one it asked for, whatever the public one is.
fn answered_name(sockname: Option<SocketAddr>, place: &Place) -> Option<SocketAddr> {
    match (sockname, place) {
        (Some(mut name), Place::Tcp { port, .. }) if *port != 0 => {
            name.set_port(*port);
            Some(name)
        }
        // Served from a Unix path: the app still expects an address.
        (None, Place::Tcp { port, .. }) => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port))),
        (name, Place::Tcp { .. }) => name,
        (_, Place::Path(_) | Place::Udp { .. } | Place::Descriptor(_)) => None,
    }
}

fn with_backlog(mut options: ListenOptions, asked: Option<u32>) -> ListenOptions {
    if let (Backlog::Auto, Some(asked)) = (options.backlog, asked.and_then(NonZeroU32::new)) {
        options.backlog = Backlog::Fixed(asked);
    }
    options
}

pub(super) fn describe(place: &Place) -> String {
    match place {
        Place::Tcp { address, port, .. } => {
            format!("{}:{port}", address.as_deref().unwrap_or("*"))
        }
        Place::Udp { address, port, .. } => {
            format!("udp {}:{port}", address.as_deref().unwrap_or("*"))
        }
        Place::Path(path) => format!("unix:{}", path.display()),
        Place::Descriptor(fd) => format!("fd {fd}"),
    }
}
