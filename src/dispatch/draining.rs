//! Lets workers go one by one, and the whole pool: who may still bring something is served first.
//!
//! A worker that leaves alone gets nothing new at once; its clients stay, for others serve them.
//! When the pool stops there are no others. So its workers are held: they serve what waits and what
//! still comes over connections that are open, and are let go when nobody can bring more.

use std::time::{Duration, Instant};

use super::{Accepting, Leaving, Reactor, Standing, Timer, tasks};
use crate::link::Dialect;
use crate::link::orders::Report;
use crate::policy::{ListenerId, Mode, WorkerId};

/// How often a leaving worker is looked at: nothing tells when the last of its leases ends, or when
/// it has closed its last connection.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Reactor {
    /// Takes what has connected, then accepts no more. Who waits, and who is connected, is served
    /// for as long as somebody can.
    pub(super) fn stop_accepting(&mut self, now: Instant, until: Instant) {
        if self.accepting == Accepting::Stopped {
            return;
        }
        let is_ours = self.accepting == Accepting::Yes;
        self.accepting = Accepting::Stopped;
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        // What another master accepts from is left to it.
        for id in ids.iter().filter(|_| is_ours) {
            self.accept_rest(now, *id);
        }
        for listener in self.listeners.values_mut() {
            listener.close();
        }
        for id in ids {
            self.change(tasks::Change::ForgetListener(id));
            self.report(Report::Closed(id));
        }
        self.bound.clear();
        self.front.close_down();
        let idle_until = self.idle_until(now, until);
        self.after(idle_until, Timer::CloseIdle);
    }

    /// A worker is to finish what it has.
    pub(super) fn drain(&mut self, now: Instant, worker: WorkerId, until: Instant) {
        self.front.depart(worker, until);
        let idle_until = self.idle_until(now, until);
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        if member.leaving != Leaving::No {
            return;
        }
        member.leaving = Leaving::Untold { idle_until };
        match self.accepting {
            Accepting::NotYet | Accepting::Yes | Accepting::Bequeathed => self.let_go(now, worker),
            Accepting::Stopped => {
                self.held.insert(worker);
                self.deadline_moved.notify_one();
            }
        }
    }

    /// Lets the workers of a stopping pool go, if nobody can bring anything any more.
    pub(super) fn settle_stop(&mut self, now: Instant) {
        let is_over = self.held.is_empty() && self.listeners.is_empty();
        if self.accepting != Accepting::Stopped || is_over {
            return;
        }
        let serves = self.links.values().any(|member| member.standing == Standing::Ready);
        if serves && self.may_bring_more() {
            return;
        }
        for key in self.servers.keys() {
            self.close_server(now, key);
        }
        for worker in std::mem::take(&mut self.held) {
            self.let_go(now, worker);
        }
    }

    /// Whether a connection waits, or a client is there that may ask for something. One with a
    /// stream has what it came for.
    fn may_bring_more(&self) -> bool {
        let balance = self.balance();
        let streams: u32 = balance.workers().map(|worker| worker.streams).sum();
        let waiting = balance.listeners().any(|listener| listener.length > 0);
        waiting || self.front.clients() > streams
    }

    /// Gives a worker nothing new from now on.
    fn let_go(&mut self, now: Instant, worker: WorkerId) {
        let grants = self.balance().drain(now, worker);
        self.deliver(now, grants);
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        if member.standing == Standing::Ended {
            return;
        }
        member.standing = Standing::Draining;
        self.front.forget_worker(worker);
        self.end_if_idle(worker);
        self.leave(now, worker);
    }

    /// Takes a leaving worker as far as what it has allows.
    pub(super) fn leave(&mut self, now: Instant, worker: WorkerId) {
        self.refresh_load(now, worker);
        let held = self.balance().worker(worker).map_or((0, 0), |it| (it.in_flight, it.open));
        let (in_flight, open) = held;
        let has_clients = self.serves_connections(worker);
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        if member.standing != Standing::Draining {
            return;
        }
        // What a worker is told to finish it may cut off where it has not read it yet; Node does
        // not before phase two.
        let may_be_told = in_flight == 0 || has_clients;
        if let Leaving::Untold { idle_until } = member.leaving
            && (may_be_told || matches!(member.link.dialect, Dialect::Node(_)))
        {
            member.leaving = Leaving::Told { idle_until };
            let sent = member.link.drain();
            self.after_send(now, worker, sent);
        }
        let Some(member) = self.links.get_mut(&worker) else {
            return;
        };
        match member.leaving {
            Leaving::Told { idle_until } if in_flight == 0 && (open == 0 || idle_until <= now) => {
                member.leaving = Leaving::Closed;
                let sent = member.link.disconnect();
                self.after_send(now, worker, sent);
            }
            Leaving::Told { .. } | Leaving::Untold { .. } => {
                self.after(now + LOOK_EVERY, Timer::Leave(worker));
            }
            Leaving::No | Leaving::Closed => {}
        }
    }

    /// Whether a worker has clients' own connections, whom it must tell by itself.
    fn serves_connections(&self, worker: WorkerId) -> bool {
        self.listeners.values().any(|listener| {
            let server = self.servers.get(listener.server);
            listener.mode == Mode::Connection
                && server.is_some_and(|server| server.workers.contains(&worker))
        })
    }

    /// Until when kept connections may stay silent that must be closed by `until`: half of a short
    /// grace is left for what comes on them.
    fn idle_until(&self, now: Instant, until: Instant) -> Instant {
        now + self.idle.min(until.saturating_duration_since(now) / 2)
    }
}
