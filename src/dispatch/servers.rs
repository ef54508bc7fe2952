//! Knows which servers the app has, who serves them, and which listeners feed them.
//!
//! A server is what the app listens on, the same for all workers (Node's cluster handle); a
//! listener is what the master listens on. One server has one listener where the app asked, or
//! those that the configuration puts in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use serde_json::Value;

use super::layout::{EntryId, Layouts};
use crate::config::{AppAddress, ListenOptions, Listeners};
use crate::link::said::{Place, ServerKey, ServerKind};
use crate::policy::{Generation, ListenerId, WorkerId};

/// What makes two listen requests mean the same server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// `index` is 0 unless the kernel chooses the port: then a worker's second request for port 0
    /// is a second server.
    App { place: Place, index: u64 },
    /// The one server of a native worker.
    Native,
}

/// One server of the app.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) identity: Identity,
    pub(super) listeners: Vec<ListenerId>,
    /// As far as the first worker's preload told.
    pub(super) kind: Option<ServerKind>,
    pub(super) sockname: Option<SocketAddr>,
    /// What the first worker sent along; all get it back (TLS session ticket keys must agree).
    pub(super) data: Value,
    pub(super) workers: BTreeSet<WorkerId>,
    pub(super) datagram: Option<Rc<OwnedFd>>,
    /// Configured listeners outlive the app's interest.
    pub(super) lifetime: Lifetime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Closed when the app closes it.
    App,
    /// Open for as long as the master accepts.
    Configured,
}

impl Server {
    /// A server that nobody serves and nothing feeds yet.
    pub(super) fn new(identity: Identity, lifetime: Lifetime, data: Value) -> Self {
        Self {
            identity,
            listeners: Vec::new(),
            kind: None,
            sockname: None,
            data,
            workers: BTreeSet::new(),
            datagram: None,
            lifetime,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Servers {
    known: BTreeMap<ServerKey, Server>,
    next_key: u64,
    pub(super) layouts: Layouts,
    /// The server that `listen` entries without `app` replace: the app's first on TCP.
    first_tcp: Option<Identity>,
}

impl Servers {
    pub(super) fn new(listeners: Listeners) -> Self {
        // Keys are numbers from 1: Node skips `getsockname` for a key of 0.
        Self {
            known: BTreeMap::new(),
            next_key: 1,
            layouts: Layouts::new(listeners),
            first_tcp: None,
        }
    }

    pub(super) fn key_of(&self, identity: &Identity) -> Option<ServerKey> {
        self.known.iter().find(|(_, server)| server.identity == *identity).map(|(key, _)| *key)
    }

    pub(super) fn get(&self, key: ServerKey) -> Option<&Server> {
        self.known.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: ServerKey) -> Option<&mut Server> {
        self.known.get_mut(&key)
    }

    pub(super) fn next_key(&mut self) -> ServerKey {
        let key = ServerKey(self.next_key);
        self.next_key += 1;
        key
    }

    pub(super) fn insert(&mut self, key: ServerKey, server: Server) {
        self.known.insert(key, server);
    }

    pub(super) fn remove(&mut self, key: ServerKey) -> Option<Server> {
        self.known.remove(&key)
    }

    /// The configured entries that take this server's place for workers of a generation, and the
    /// options of those that only say how.
    pub(super) fn configured_for(
        &mut self,
        identity: &Identity,
        generation: Generation,
    ) -> (Vec<EntryId>, ListenOptions) {
        let is_first_tcp = match identity {
            Identity::Native => true,
            Identity::App { place: Place::Tcp { .. }, .. } => {
                self.first_tcp.get_or_insert_with(|| identity.clone()) == identity
            }
            Identity::App { .. } => false,
        };
        let layout = self.layouts.of(generation);
        let (mut replacing, mut options) = (Vec::new(), layout.options());
        for (id, entry) in layout.entries() {
            let meant = match &entry.app {
                None => is_first_tcp,
                Some(app) => names(app, identity),
            };
            match (&entry.on, meant) {
                (Some(_), true) => replacing.push(id),
                (None, true) => options = entry.options,
                (_, false) => {}
            }
        }
        (replacing, options)
    }

    /// The servers that a worker serves.
    pub(super) fn served_by(&self, worker: WorkerId) -> Vec<ServerKey> {
        self.known
            .iter()
            .filter(|(_, server)| server.workers.contains(&worker))
            .map(|(key, _)| *key)
            .collect()
    }

    /// A worker is gone. Its servers stay: the next worker asks for them again.
    pub(super) fn forget_worker(&mut self, worker: WorkerId) {
        for server in self.known.values_mut() {
            server.workers.remove(&worker);
        }
    }

    pub(super) fn keys(&self) -> Vec<ServerKey> {
        self.known.keys().copied().collect()
    }
}

fn names(app: &AppAddress, identity: &Identity) -> bool {
    match (app, identity) {
        (AppAddress::Port(named), Identity::App { place: Place::Tcp { port, .. }, .. }) => {
            named == port
        }
        (AppAddress::Path(named), Identity::App { place: Place::Path(path), .. }) => named == path,
        (AppAddress::Port(_) | AppAddress::Path(_), _) => false,
    }
}
