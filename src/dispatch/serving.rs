//! Opens and closes what the app's servers are fed from, as workers ask for it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use super::layout::EntryId;
use super::listener::{self, Listener, Origin, Purpose};
use super::servers::{Identity, Lifetime, Server};
use super::{Accepting, Reactor, Standing, tasks};
use crate::config::{self, Backlog, ListenOptions, MaxClients};
use crate::link::bound::Bound;
use crate::link::orders::{OpenListener, Report};
use crate::link::said::{ListenRequest, Place, ServerKey, ServerKind};
use crate::policy::{Generation, ListenerId, Mode, Shed, WorkerId};
use crate::sys::socket;

/// A socket to be served, the entry that asks for it (none: the app), and how.
pub(super) type Wanted = (Option<EntryId>, Bound, ListenOptions);

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
            self.complete(key, worker, request.backlog)?;
            return Ok(key);
        }
        if self.accepting == Accepting::Stopped {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        let generation = self.generation_of(worker);
        let (replacing, options) = self.servers.configured_for(&identity, generation);
        let key = self.servers.next_key();
        let configured = self.take_bound(&replacing);
        let is_configured = !configured.is_empty() || self.is_promised(&replacing);
        let (lifetime, bound) = match is_configured {
            true => (Lifetime::Configured, configured),
            false => {
                let how = with_backlog(options, request.backlog);
                let bound = self.bind_asked((&request.place, index), how)?;
                (Lifetime::App, vec![(None, bound, options)])
            }
        };
        let mut server = Server::new(identity, lifetime, request.data.clone());
        server.workers.insert(worker);
        server.kind = request.kind;
        self.install(key, server, bound, generation);
        Ok(key)
    }

    /// Binds what the app asked for, unless an old master has it.
    fn bind_asked(
        &mut self,
        (place, index): (&Place, u64),
        options: ListenOptions,
    ) -> io::Result<Bound> {
        let asked = format!("{}#{index}", describe(place));
        let mut bound = match self.inherit(&asked)? {
            Some(inherited) => inherited,
            None => listener::bind_place(place, options)?,
        };
        bound.key = asked;
        Ok(bound)
    }

    /// Whether one of these entries is bound, and opened once a reload is committed.
    fn is_promised(&self, entries: &[EntryId]) -> bool {
        entries.iter().any(|entry| self.bound.contains_key(entry))
    }

    /// Opens what the app asks for, if no entry stands in for it any more as this worker's
    /// generation is configured.
    pub(super) fn complete(
        &mut self,
        key: ServerKey,
        worker: WorkerId,
        backlog: Option<u32>,
    ) -> io::Result<()> {
        let Some(server) = self.servers.get(key) else {
            return Ok(());
        };
        let (identity, ids) = (server.identity.clone(), server.listeners.clone());
        let generation = self.generation_of(worker);
        let (replacing, options) = self.servers.configured_for(&identity, generation);
        let feeds = |listener: &Listener| {
            let is_configured = listener.entry.is_none_or(|entry| replacing.contains(&entry));
            listener.purpose == Purpose::Accepts && is_configured
        };
        let is_fed = ids.iter().filter_map(|id| self.listeners.get(id)).any(feeds);
        if is_fed || self.is_promised(&replacing) || self.accepting == Accepting::Stopped {
            return Ok(());
        }
        let bound = match &identity {
            Identity::App { place, index } => {
                self.bind_asked((place, *index), with_backlog(options, backlog))?
            }
            Identity::Native => listener::bind(&self.fallback, options)?,
        };
        self.feed(key, vec![(None, bound, options)], generation);
        Ok(())
    }

    /// Opens the listeners of a new server.
    fn install(
        &mut self,
        key: ServerKey,
        mut server: Server,
        bound: Vec<Wanted>,
        since: Generation,
    ) {
        server.sockname = bound.first().and_then(|(_, bound, _)| bound.sockname);
        self.servers.insert(key, server);
        self.feed(key, bound, since);
    }

    /// Opens more listeners of a server, for workers of this generation and later ones.
    pub(super) fn feed(&mut self, key: ServerKey, bound: Vec<Wanted>, since: Generation) {
        for (entry, bound, options) in bound {
            let kind = self.servers.get(key).and_then(|server| server.kind);
            let mode = self.mode_of(options, kind);
            let origin = Origin { entry, since };
            let id = self.open_listener((key, origin), bound, (options, mode));
            if let Some(server) = self.servers.get_mut(key) {
                server.listeners.push(id);
            }
        }
    }

    fn open_listener(
        &mut self,
        server: (ServerKey, Origin),
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
        worker: WorkerId,
        kind: Option<ServerKind>,
    ) -> Result<ServerKey, (String, io::Error)> {
        let generation = self.generation_of(worker);
        let (replacing, options) = self.servers.configured_for(&Identity::Native, generation);
        let mut bound = self.take_bound(&replacing);
        if bound.is_empty() && !self.is_promised(&replacing) {
            let address = self.fallback.to_string();
            let opened = match self.inherit(&address) {
                Ok(Some(inherited)) => Ok(inherited),
                Ok(None) => listener::bind(&self.fallback, options),
                Err(error) => Err(error),
            };
            match opened {
                Ok(socket) => bound.push((None, socket, options)),
                Err(error) => return Err((address, error)),
            }
        }
        let key = self.servers.next_key();
        let mut server = Server::new(Identity::Native, Lifetime::Configured, Value::Null);
        server.kind = kind;
        self.install(key, server, bound, generation);
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
    pub(super) fn take_bound(&mut self, entries: &[EntryId]) -> Vec<Wanted> {
        let layout = self.servers.layouts.current();
        let taken = entries.iter().flat_map(|entry| {
            // One that is not in force yet waits for the commit of its reload.
            let Some(options) = layout.options_of(*entry) else {
                return Vec::new();
            };
            let bound = self.bound.remove(entry).unwrap_or_default();
            bound.into_iter().map(|bound| (Some(*entry), bound, options)).collect()
        });
        taken.collect()
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
