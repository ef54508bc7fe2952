//! Serves workers that cannot receive sockets: they listen for us alone, and request mode connects.
//!
//! A listener in connection mode never goes to such a worker: it has no way to take a socket.

use std::io;
use std::time::Instant;

use super::servers::Identity;
use super::{Counted, Reactor, Standing};
use crate::config::Address;
use crate::link::Dialect;
use crate::link::orders::{Report, Upstream};
use crate::link::said::{Place, ServerKind};
use crate::policy::{ListenerId, Mode, WorkerId};

/// How a worker gets what it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// Sockets, over its channel.
    Channel,
    /// It was told to listen here; whether it does or speaks on its channel first, decides.
    Undecided(Upstream),
    /// We connect to it here.
    Upstream(Upstream),
}

impl Reactor {
    /// A worker serves where we can connect to it: it gets what listeners in request mode accept.
    pub(super) fn serve_upstream(&mut self, now: Instant, worker: WorkerId, upstream: Upstream) {
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        // One that spoke on its channel meanwhile is served there.
        if !matches!(member.link.dialect, Dialect::Unheard) {
            return;
        }
        member.via = Via::Upstream(upstream);
        // Nothing is handed to it, so there is nothing to count but leases.
        member.counted = Counted::Messages;
        if let Err(error) = self.open_for_upstream(worker) {
            return self.report(error);
        }
        let listeners: Vec<ListenerId> = self
            .balance()
            .listeners()
            .filter(|listener| listener.mode == Mode::Request)
            .map(|listener| listener.id)
            .collect();
        let listeners: Vec<ListenerId> =
            listeners.into_iter().filter(|id| self.is_for(worker, *id)).collect();
        for listener in listeners {
            let grants = self.balance().serve(now, worker, listener);
            self.deliver(now, grants);
        }
        self.ready(now, worker);
    }

    /// Opens what is configured, or the default address: such a worker asks for nothing.
    fn open_for_upstream(&mut self, worker: WorkerId) -> Result<(), Report> {
        if let Some(key) = self.servers.key_of(&Identity::Native) {
            let address = self.fallback.to_string();
            let refused = |error: io::Error| Report::CannotListen {
                worker,
                address,
                error: error.to_string(),
            };
            return self.complete(key, worker, None).map_err(refused);
        }
        match self.open_native(worker, Some(ServerKind::Http)) {
            Ok(_) => Ok(()),
            Err((address, error)) => {
                Err(Report::CannotListen { worker, address, error: error.to_string() })
            }
        }
    }

    /// A worker that we connect to says nothing when it has finished: with its last exchange it
    /// has. Call it when it begins to drain, and every second then.
    pub(super) fn end_if_idle(&self, worker: WorkerId) {
        let Some(member) = self.links.get(&worker) else {
            return;
        };
        let held = self.balance().worker(worker).map_or(0, |it| it.in_flight + it.streams);
        match (&member.via, member.standing) {
            (Via::Upstream(_), Standing::Draining) if held == 0 => {
                self.report(Report::Drained(worker));
            }
            (Via::Channel | Via::Undecided(_) | Via::Upstream(_), _) => {}
        }
    }

    /// A channel has ended. A worker that need not speak on it may well close what it does not
    /// know; its process tells when it ends.
    pub(super) fn channel_ended(&mut self, now: Instant, worker: WorkerId) {
        let is_silent = self.links.get(&worker).is_some_and(|member| match member.via {
            Via::Undecided(_) => matches!(member.link.dialect, Dialect::Unheard),
            Via::Upstream(_) => true,
            Via::Channel => false,
        });
        if !is_silent {
            self.end_channel(now, worker);
        }
    }

    /// Where an app means to listen that asks for the private port we gave its wrapper (`sh -c
    /// 'node app.js $PORT'`): for clients that is where everything listens that names no port.
    pub(super) fn meant(&self, worker: WorkerId, place: &Place) -> Place {
        let told = match self.links.get(&worker).map(|member| &member.via) {
            Some(Via::Undecided(Upstream::Tcp(address))) => Some(address.port()),
            Some(Via::Undecided(Upstream::Unix(_)) | Via::Channel | Via::Upstream(_)) | None => {
                None
            }
        };
        match (place, &self.fallback) {
            (Place::Tcp { address, port, family }, Address::Tcp { port: public, .. })
                if told == Some(*port) =>
            {
                Place::Tcp { address: address.clone(), port: *public, family: *family }
            }
            (Place::Tcp { .. } | Place::Udp { .. } | Place::Path(_) | Place::Descriptor(_), _) => {
                place.clone()
            }
        }
    }
}
