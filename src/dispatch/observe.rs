//! Counts open connections from outside, for workers that do not report them: the kernel says when
//! a socket is destroyed, by its cookie.
//!
//! Needs no privilege. Where sock_diag is missing, or for Unix sockets (which have no such event),
//! the number of a worker's descriptors stands in.

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;

use super::connection::Answer;
use crate::policy::{Load, Ticket, WorkerId};
use crate::sys::{process, socket};

/// Which worker holds which socket.
#[derive(Debug, Default)]
pub(super) struct Observer {
    holders: HashMap<u64, WorkerId>,
    sent: HashMap<Ticket, u64>,
}

/// Whether the kernel tells which sockets are gone.
#[derive(Debug)]
pub(super) enum Observing {
    /// Every worker so far counts for itself: events would only cost.
    NotNeeded,
    Since(Observer),
    /// It cannot.
    Denied,
}

impl Observing {
    pub(super) fn observer(&mut self) -> Option<&mut Observer> {
        match self {
            Self::Since(observer) => Some(observer),
            Self::NotNeeded | Self::Denied => None,
        }
    }
}

/// The counts of one worker, as seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KernelCount {
    seen: u64,
    open: u32,
    /// Connections that no event will tell of.
    unobserved: u64,
    /// Descriptors of the worker when it became ready.
    descriptors_at_ready: u32,
}

impl KernelCount {
    /// Remembers how many descriptors a worker has without connections.
    pub(super) fn ready(&mut self, pid: i32) {
        self.descriptors_at_ready = descriptors(pid);
    }

    pub(super) fn handed(&mut self, tracked: Tracked) {
        self.unobserved += u64::from(tracked == Tracked::No);
    }

    pub(super) fn answered(&mut self, held: Tracked) {
        self.seen += 1;
        self.open += u32::from(held == Tracked::Yes);
    }

    pub(super) fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    pub(super) fn load(&self, pid: i32) -> Load {
        let open = if self.unobserved == 0 {
            self.open
        } else {
            self.open.max(descriptors(pid).saturating_sub(self.descriptors_at_ready))
        };
        Load { seen: self.seen, open, active: 0 }
    }
}

/// Whether an event will tell when a socket is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracked {
    Yes,
    No,
}

impl Observer {
    /// Notes a connection that is about to be handed over.
    pub(super) fn track(
        &mut self,
        socket: BorrowedFd<'_>,
        ticket: Ticket,
        worker: WorkerId,
    ) -> Tracked {
        let observable = socket::local_address(socket).is_ok_and(|address| address.is_some());
        match socket::cookie(socket) {
            Ok(cookie) if observable => {
                self.sent.insert(ticket, cookie);
                self.holders.insert(cookie, worker);
                Tracked::Yes
            }
            _ => Tracked::No,
        }
    }

    /// The worker answered for it; `Yes` if it holds the connection and an event will tell when
    /// not. Until now we held a copy, so no event can have come.
    pub(super) fn answered(&mut self, ticket: Ticket, answer: &Answer) -> Tracked {
        let Some(cookie) = self.sent.remove(&ticket) else {
            return Tracked::No;
        };
        match answer {
            Answer::Taken { .. } => Tracked::Yes,
            Answer::Refused { .. } | Answer::NeverReceived => {
                self.holders.remove(&cookie);
                Tracked::No
            }
        }
    }

    /// A worker is gone, and with it what it held.
    pub(super) fn forget_worker(&mut self, worker: WorkerId) {
        self.holders.retain(|_, holder| *holder != worker);
        let holders = &self.holders;
        self.sent.retain(|_, cookie| holders.contains_key(cookie));
    }

    /// Who held the socket that is gone.
    pub(super) fn destroyed(&mut self, cookie: u64) -> Option<WorkerId> {
        self.holders.remove(&cookie)
    }

    /// Events were lost: whoever's socket is not among the living is gone too.
    pub(super) fn resync(&mut self, living: &HashSet<u64>) -> Vec<WorkerId> {
        let in_hand: HashSet<u64> = self.sent.values().copied().collect();
        let gone: Vec<u64> = self
            .holders
            .keys()
            .filter(|cookie| !living.contains(cookie) && !in_hand.contains(cookie))
            .copied()
            .collect();
        gone.iter().filter_map(|cookie| self.holders.remove(cookie)).collect()
    }
}

fn descriptors(pid: i32) -> u32 {
    process::fd_count(pid).map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
}
