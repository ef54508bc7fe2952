//! Keeps the counts of workers true: reads what they write, and hears from the kernel of those that
//! write nothing.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::AsFd;
use std::time::Instant;

use super::observe::Observer;
use super::{Counted, Observing, Reactor, Standing, Watched, tasks};
use crate::link::Told;
use crate::policy::{Load, WorkerId};
use crate::sys::destroy::{self, DestroyEvents};
use crate::sys::socket;

impl Reactor {
    /// Takes in what every worker that writes its own counts has written.
    pub(super) fn refresh_loads(&mut self, now: Instant) {
        let ready: Vec<WorkerId> = self
            .links
            .iter()
            .filter(|(_, member)| member.standing == Standing::Ready)
            .map(|(worker, _)| *worker)
            .collect();
        for worker in ready {
            self.refresh_load(now, worker);
        }
    }

    /// Takes in one worker's counts, where nobody sends them.
    pub(super) fn refresh_load(&mut self, now: Instant, worker: WorkerId) {
        let Some(member) = self.links.get(&worker) else {
            return;
        };
        let load = match &member.counted {
            Counted::Page => match member.link.load.read() {
                // Of its counts, those of clients: it does not tell our own connections apart.
                Some(page) => Load {
                    seen: page.seen.saturating_sub(member.private_seen),
                    open: u32::try_from(page.open)
                        .unwrap_or(u32::MAX)
                        .saturating_sub(member.private_open.get()),
                    active: u32::try_from(page.active).unwrap_or(u32::MAX),
                },
                // Caught in the middle of a write: the last counts stand.
                None => return,
            },
            Counted::Kernel(count) => count.load(member.link.pid),
            Counted::Messages => return,
        };
        let grants = self.balance().report(now, worker, load);
        self.deliver(now, grants);
    }

    /// Asks workers that are full to say when a connection of theirs closes, if somebody waits.
    pub(super) fn watch_for_room(&mut self, now: Instant) {
        let mut stuck = Vec::new();
        for (worker, member) in &mut self.links {
            if member.standing != Standing::Ready || member.watched == Watched::Asked {
                continue;
            }
            let balance = crate::link::lock(&self.balance);
            if !balance.wants_room(*worker) {
                continue;
            }
            drop(balance);
            let read = member.link.load.read();
            let told =
                read.map_or(Told::default(), |page| Told { seen: page.seen, open: page.open });
            member.watched = Watched::Asked;
            if let Err(reason) = member.link.watch(told) {
                stuck.push((*worker, reason));
            }
        }
        for (worker, reason) in stuck {
            self.after_send(now, worker, Err(reason));
        }
    }

    /// Asks the kernel to tell which sockets are gone, once.
    pub(super) fn observe(&mut self) {
        if !matches!(self.observing, Observing::NotNeeded) {
            return;
        }
        self.observing = match DestroyEvents::subscribe() {
            Ok(events) => {
                self.change(tasks::Change::WatchDestroyed(events));
                Observing::Since(Observer::default())
            }
            Err(error) => {
                tracing::debug!(%error, "the kernel does not tell which connections end");
                Observing::Denied
            }
        };
    }

    /// The kernel says which sockets are gone.
    pub(super) fn destroyed(&mut self, now: Instant, cookies: &[u64]) {
        let Some(observer) = self.observing.observer() else {
            return;
        };
        let holders: Vec<WorkerId> =
            cookies.iter().filter_map(|cookie| observer.destroyed(*cookie)).collect();
        self.closed(now, holders);
    }

    /// Some of the kernel's events were lost: compares with what lives.
    pub(super) fn resync(&mut self, now: Instant) {
        let ports: BTreeSet<u16> = self
            .listeners
            .values()
            .filter_map(|listener| listener.socket.as_ref())
            .filter_map(|socket| socket::local_address(socket.as_fd()).ok().flatten())
            .map(|address| address.port())
            .collect();
        let mut living = HashSet::new();
        for port in ports {
            match destroy::live_cookies(port) {
                Ok(cookies) => living.extend(cookies),
                Err(error) => {
                    tracing::warn!(%error, "cannot list living connections; counts may be high");
                    return;
                }
            }
        }
        if let Some(observer) = self.observing.observer() {
            let holders = observer.resync(&living);
            self.closed(now, holders);
        }
    }

    fn closed(&mut self, now: Instant, holders: Vec<WorkerId>) {
        let mut touched = BTreeSet::new();
        for worker in holders {
            if let Some(member) = self.links.get_mut(&worker)
                && let Counted::Kernel(count) = &mut member.counted
            {
                count.closed();
                touched.insert(worker);
            }
        }
        for worker in touched {
            self.refresh_load(now, worker);
        }
    }
}
