//! Moves the pool's listeners to those of a new generation, and back: what is new is served from
//! the commit on, what is not wanted any more is closed when there is no way back.
//!
//! Workers serve what the configuration of their generation says. A listener that was closed stays
//! until its clients have gone: they are served by every worker, and asked to leave.

use std::io;
use std::time::{Duration, Instant};

use super::listener::{Listener, Purpose};
use super::servers::{Identity, Lifetime};
use super::upstream::Via;
use super::{Accepting, Reactor, Standing, Timer, tasks};
use crate::link::orders::{Outlook, Report, Settled};
use crate::link::said::ServerKey;
use crate::policy::{Generation, ListenerId, Mode, WorkerId};

/// How often a removed listener is looked at: nothing tells when its last client goes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What an upgraded connection of a removed listener may take to end: as long as in a stop.
const LEAVING: Duration = Duration::from_secs(22);

impl Reactor {
    /// A new generation is about to be tried, and this is where it listens.
    pub(super) fn foresee(&mut self, outlook: Outlook) {
        let Outlook { from, to, listeners, bound } = outlook;
        self.servers.layouts.foresee(from, to, listeners);
        let ids: Vec<_> = self.servers.layouts.of(to).entries().map(|(id, _)| id).collect();
        for (place, sockets) in bound {
            if let Some(id) = ids.get(place) {
                self.bound.insert(*id, sockets);
            }
        }
    }

    /// Listens as this generation does.
    pub(super) fn relisten(&mut self, now: Instant, generation: Generation) {
        self.servers.layouts.put_in_force(generation);
        for key in self.servers.keys() {
            let Some(identity) = self.servers.get(key).map(|server| server.identity.clone()) else {
                continue;
            };
            let (replacing, by_app) = self.servers.configured_for(&identity, generation);
            let layout = self.servers.layouts.current();
            let its = self.listeners.values_mut().filter(|listener| listener.server == key);
            for listener in its {
                let configured = listener.entry.map(|entry| layout.options_of(entry));
                listener.options = configured.unwrap_or(Some(by_app)).unwrap_or(listener.options);
            }
            let bound = self.take_bound(&replacing);
            if self.accepting != Accepting::Stopped && !bound.is_empty() {
                self.feed(key, bound, generation);
                self.serve_again(now, key);
            }
        }
    }

    /// Has a server's workers serve those of its listeners that are for them.
    fn serve_again(&mut self, now: Instant, key: ServerKey) {
        let its = self.listeners.values().filter(|listener| listener.server == key);
        let its: Vec<ListenerId> = its.map(|listener| listener.id).collect();
        let workers: Vec<WorkerId> = self.links.keys().copied().collect();
        for listener in its {
            let serving: Vec<WorkerId> = workers
                .iter()
                .copied()
                .filter(|worker| self.may_serve(*worker, listener))
                .collect();
            for worker in serving {
                let grants = self.balance().serve(now, worker, listener);
                self.deliver(now, grants);
            }
        }
    }

    /// The generation in force stays.
    pub(super) fn settle_listeners(&mut self, now: Instant, end: Settled) {
        self.servers.layouts.settle();
        let layout = self.servers.layouts.current();
        self.bound.retain(|entry, _| layout.has(*entry));
        for key in self.servers.keys() {
            let is_left = end == Settled::Done && self.is_left(key);
            for id in self.unwanted(key, is_left) {
                self.retire(now, id);
            }
            self.forget_if_unused(key);
        }
        self.report(Report::Settled);
    }

    /// Whether the app listens there no more: no worker does, although there are workers.
    fn is_left(&self, key: ServerKey) -> bool {
        let stays = |worker: &WorkerId| {
            let standing = self.links.get(worker).map(|member| member.standing);
            matches!(standing, Some(Standing::Starting | Standing::Ready))
        };
        let is_served = self.links.values().any(|member| member.standing == Standing::Ready);
        self.servers.get(key).is_some_and(|server| {
            server.lifetime == Lifetime::App && is_served && !server.workers.iter().any(stays)
        })
    }

    /// The listeners of a server that nobody asks for; of one that the app has left, all.
    fn unwanted(&mut self, key: ServerKey, is_left: bool) -> Vec<ListenerId> {
        let layout = self.servers.layouts.current();
        let is_configured =
            |listener: &Listener| listener.entry.is_some_and(|entry| layout.has(entry));
        let its = || {
            let all = self.listeners.values().filter(|listener| listener.server == key);
            all.filter(|listener| listener.purpose == Purpose::Accepts)
        };
        let is_replaced = its().any(is_configured);
        let is_unwanted = |listener: &&Listener| match listener.entry {
            Some(_) => !is_configured(listener),
            None => is_replaced || is_left,
        };
        let unwanted = its().filter(is_unwanted).map(|listener| listener.id).collect();
        let lifetime = if is_replaced { Lifetime::Configured } else { Lifetime::App };
        if let Some(server) = self.servers.get_mut(key)
            && server.identity != Identity::Native
        {
            server.lifetime = lifetime;
        }
        unwanted
    }

    /// Takes what has connected, then accepts no more. Who is connected is served, and asked to
    /// leave.
    fn retire(&mut self, now: Instant, id: ListenerId) {
        if self.accepting == Accepting::Yes {
            self.accept_rest(now, id);
        }
        let Some(listener) = self.listeners.get_mut(&id) else {
            return;
        };
        listener.purpose = Purpose::Empties;
        listener.close();
        self.change(tasks::Change::ForgetListener(id));
        self.report(Report::Closed(id));
        self.front.close_listener(id, now + LEAVING);
        self.after(now + self.idle, Timer::CloseIdleOf(id));
        self.after(now + self.idle, Timer::Empty(id));
    }

    /// Forgets a removed listener that has no client left.
    pub(super) fn end_if_empty(&mut self, now: Instant, id: ListenerId) {
        let Some(listener) = self.listeners.get(&id) else {
            return;
        };
        let (key, clients) = (listener.server, listener.clients.get());
        let waits = self.balance().listener(id).is_some_and(|it| it.length > 0);
        if clients > 0 || waits {
            return self.after(now + LOOK_EVERY, Timer::Empty(id));
        }
        self.balance().close_listener(id);
        self.listeners.remove(&id);
        self.front.forget_listener(id);
        if let Some(server) = self.servers.get_mut(key) {
            server.listeners.retain(|listener| *listener != id);
        }
        self.forget_if_unused(key);
    }

    /// Forgets a server that nothing feeds and nobody serves.
    fn forget_if_unused(&mut self, key: ServerKey) {
        let is_unused = self.servers.get(key).is_some_and(|server| {
            server.listeners.is_empty() && server.datagram.is_none() && server.workers.is_empty()
        });
        if is_unused {
            self.servers.remove(key);
        }
    }

    /// The generation of a worker; of one that is gone, the first.
    pub(super) fn generation_of(&self, worker: WorkerId) -> Generation {
        self.links.get(&worker).map_or(Generation(1), |member| member.generation)
    }

    /// Whether a listener is for workers of this one's generation.
    pub(super) fn is_for(&self, worker: WorkerId, listener: ListenerId) -> bool {
        let since = self.listeners.get(&listener).map(|listener| listener.since);
        since.is_some_and(|since| self.generation_of(worker) >= since)
    }

    /// Whether a worker serves the server of a listener that is for it.
    fn may_serve(&self, worker: WorkerId, id: ListenerId) -> bool {
        let (Some(listener), Some(member)) = (self.listeners.get(&id), self.links.get(&worker))
        else {
            return false;
        };
        let server = self.servers.get(listener.server);
        let by_channel = server.is_some_and(|server| server.workers.contains(&worker));
        let by_address = match &member.via {
            Via::Upstream(_) => listener.mode == Mode::Request,
            Via::Channel | Via::Undecided(_) => false,
        };
        (by_channel || by_address) && self.is_for(worker, id)
    }

    /// There is no configured listener any more, and the default address cannot be had.
    pub(super) fn no_fallback(&self, worker: WorkerId, error: &io::Error) {
        let address = self.fallback.to_string();
        self.report(Report::CannotListen { worker, address, error: error.to_string() });
    }
}
