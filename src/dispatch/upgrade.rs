//! Lends listening sockets to a new master, moves idle clients to it, and takes them from an old
//! one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::listener::Purpose;
use super::request::stream::{Kind as StreamKind, Stream};
use super::request::{Arrival, Counted};
use super::{Accepting, Reactor, Shared, tasks};
use crate::config::ProxyProtocol;
use crate::link::bound::Holder;
use crate::policy::{ListenerId, Mode};
use crate::sys::{channel, socket, wait};
use crate::upgrade::{Kind, Lent, Moved};

/// The longest message: the key of a listener on the longest path, and an address.
const MESSAGE_MAX: usize = 4096;

/// How long to wait while the kernel is short of something, or while there is no number left for a
/// descriptor that we would receive: nothing tells when that ends.
const PAUSE: Duration = Duration::from_millis(10);

/// The way for idle clients to the new master.
#[derive(Debug)]
pub(in crate::dispatch) struct Successor {
    socket: AsyncFd<Rc<OwnedFd>>,
    keys: BTreeMap<ListenerId, String>,
}

impl Successor {
    /// Whether it takes the clients of this listener.
    pub(in crate::dispatch) fn takes(&self, listener: ListenerId) -> bool {
        self.keys.contains_key(&listener)
    }

    /// Moves one idle client. Where it cannot be moved, its connection is closed. A new master that
    /// does not take it is waited for no longer than the old one's stop may last: that ends every
    /// client's task.
    pub(in crate::dispatch) async fn take(
        &self,
        listener: ListenerId,
        peer: Option<SocketAddr>,
        client: BorrowedFd<'_>,
    ) {
        let Some(key) = self.keys.get(&listener) else {
            return;
        };
        let Ok(message) = serde_json::to_vec(&Moved { listener: key.clone(), peer }) else {
            return;
        };
        loop {
            match channel::send(self.socket.as_fd(), &message, Some(client)) {
                Ok(_) => return,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.socket.writable().await {
                        Ok(mut ready) => ready.clear_ready(),
                        Err(_) => return,
                    }
                }
                Err(error) if channel::is_exhausted(&error) => tokio::time::sleep(PAUSE).await,
                // It has ended; the client asks again.
                Err(_) => return,
            }
        }
    }
}

impl Reactor {
    /// Copies of all listening sockets, with what was asked for.
    pub(super) fn lend(&self) -> Vec<Lent> {
        let open = self.listeners.values().filter_map(|listener| {
            let socket = listener.socket.as_ref()?;
            Some((&listener.key, socket.as_fd()))
        });
        let waiting = self.bound.values().flatten();
        let waiting = waiting.map(|bound| (&bound.key, bound.socket.as_fd()));
        let lent = open.chain(waiting).filter_map(|(key, socket)| {
            let fd = socket.try_clone_to_owned().ok()?;
            Some(Lent { kind: Kind::Listener, key: key.clone(), fd })
        });
        lent.collect()
    }

    /// Leaves the listening sockets to a new master, and clients once they are idle.
    pub(super) fn bequeath(&mut self, clients: OwnedFd) {
        if self.accepting != Accepting::Yes {
            return;
        }
        self.accepting = Accepting::Bequeathed;
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            self.change(tasks::Change::ForgetListener(id));
        }
        for listener in self.listeners.values_mut() {
            listener.hold(Holder::Another);
        }
        // A listener that a reload removed is none of the new master's: its clients stay.
        let moving = self.listeners.values().filter(|it| it.purpose == Purpose::Accepts);
        let keys = moving.map(|listener| (listener.id, listener.key.clone())).collect();
        for bound in self.bound.values_mut().flatten() {
            bound.hold(Holder::Another);
        }
        match wait::shared(Rc::new(clients), Interest::WRITABLE) {
            Ok(socket) => self.front.pass_clients_to(Successor { socket, keys }),
            // They are asked to leave, as in any stop.
            Err(error) => tracing::warn!(%error, "idle clients cannot be moved"),
        }
    }

    /// The pool is ours: accepts.
    pub(super) fn begin_accepting(&mut self) {
        if self.accepting == Accepting::NotYet {
            self.accepting = Accepting::Yes;
            // What no worker has asked for by now, the app no longer serves.
            self.inherited.clear();
            for bound in self.bound.values_mut().flatten() {
                bound.hold(Holder::Us);
            }
            for listener in self.listeners.values_mut() {
                listener.hold(Holder::Us);
            }
            for listener in self.listeners.values() {
                if let Some(socket) = listener.socket.clone() {
                    self.change(tasks::Change::watch_listener(listener, socket));
                }
            }
        }
    }

    /// A client comes from the old master, between two requests.
    fn moved_here(&mut self, moved: &Moved, socket: OwnedFd) {
        let is_its = |listener: &&super::Listener| {
            listener.key == moved.listener && listener.mode == Mode::Request
        };
        let Some(listener) = self.listeners.values().find(is_its) else {
            return;
        };
        let kind = match socket::local_address(socket.as_fd()) {
            Ok(Some(_)) => StreamKind::Tcp,
            Ok(None) | Err(_) => StreamKind::Unix,
        };
        // It has a place already, which the old master gave it: there is no asking whether
        // connections have room.
        match Stream::register(socket, kind) {
            Ok(stream) => self.change(tasks::Change::Serve(Arrival {
                stream,
                open: self.front.client_opened(Some(Counted::new(Rc::clone(&listener.clients)))),
                listener: listener.id,
                server: listener.server,
                peer: moved.peer,
                // It has named its client already.
                proxied: ProxyProtocol::Off,
                // Most have been served before.
                patience: self.front.keep_alive(),
            })),
            Err(error) => tracing::debug!(%error, "client lost"),
        }
    }
}

/// Takes clients from the old master until it has ended.
pub(super) async fn take_clients(reactor: Shared, from: OwnedFd) {
    let Ok(from) = wait::shared(Rc::new(from), Interest::READABLE) else {
        return;
    };
    let mut buffer = vec![0; MESSAGE_MAX];
    while let Ok(mut ready) = from.readable().await {
        // A descriptor that finds no number is closed by the kernel, and with it the client's
        // connection; as long as we do not ask for it, it is safe.
        if from.as_fd().try_clone_to_owned().is_err() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let mut fds = Vec::new();
        match channel::recv(from.as_fd(), &mut buffer, &mut fds) {
            Ok(0) => return,
            Ok(count) => {
                if let (Ok(moved), Some(socket)) =
                    (serde_json::from_slice(&buffer[..count]), fds.pop())
                {
                    reactor.borrow_mut().moved_here(&moved, socket);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) if channel::is_exhausted(&error) => tokio::time::sleep(PAUSE).await,
            Err(_) => return,
        }
    }
}
