//! The words `Balance` takes and gives: bounds, reports, grants, reasons and snapshots.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Instant;

use crate::policy::{Duty, ListenerId, QueueBounds, Ticket, WorkerId};

/// What a listener dispatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One exchange at a time; the worker with the fewest in flight gets the next.
    Request,
    /// Whole client connections; the worker with the fewest open gets the next.
    Connection,
}

/// How much one worker may hold. The two counts are separate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerBounds {
    /// Most exchanges in flight (request mode).
    pub limit: NonZeroU32,
    /// Most open client connections (connection mode), and most streams (request mode).
    pub max_connections: NonZeroU32,
}

/// Which worker somebody asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// The least loaded.
    #[default]
    Any,
    /// This one for as long as it serves the listener, even if it must be waited for; then any.
    Only(WorkerId),
    /// Rather another than this one; any, if no other has room.
    Not(WorkerId),
}

/// Who asks for a worker, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub listener: ListenerId,
    pub ticket: Ticket,
    /// Its place in the queue, and what the age bound counts from.
    pub since: Instant,
    pub wish: Wish,
}

/// The permission to hand one ticket to one worker. It is counted already: in request mode one
/// more in flight, in connection mode one more sent and un-acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a dropped grant leaks its place in the worker's account"]
pub struct Grant {
    pub ticket: Ticket,
    pub worker: WorkerId,
    pub listener: ListenerId,
}

/// The answer to a ticket that asks for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    /// A worker has room: hand it over now.
    Granted(Grant),
    /// It waits; a later call returns its grant or sheds it.
    Queued,
    /// The master answers instead.
    Shed(Shed),
}

/// Why the master answers instead of a worker. Displayed as the reason code of logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shed {
    /// The listener's queue was at its bound.
    QueueFull,
    /// It waited as long as the queue allows.
    QueueTimeout,
    /// The listener is closed, or was never opened.
    Closing,
}

impl Shed {
    /// Every reason, in the order of [`ShedTally`].
    pub const ALL: [Self; 3] = [Self::QueueFull, Self::QueueTimeout, Self::Closing];

    /// The word for logs, answers and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Closing => "closing",
        }
    }
}

/// A worker's absolute report; a lost one heals with the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Handed connections it has taken note of, accepted or refused, since it became ready.
    pub seen: u64,
    /// Those accepted and not yet closed.
    pub open: u32,
    /// Those doing something now; orders workers with equally many open.
    pub active: u32,
}

/// Whether a worker's heartbeat is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    Yes,
    No,
}

/// Whether so many ready workers are stalled or ejected that neither counts any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panic {
    Yes,
    #[default]
    No,
}

/// Where a worker is in its life, as far as dispatch cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not ready, or not ready any more.
    Starting,
    Ready,
    /// Gets nothing new, for ever.
    Draining,
}

/// What one call to [`Balance::expire`](super::Balance::expire) found due.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Expired {
    /// Waiters that reached the age bound; the master answers them.
    pub shed: Vec<(ListenerId, Ticket, Shed)>,
    /// Waiters that got a worker whose refusal ended.
    pub grants: Vec<Grant>,
}

/// One worker's account at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    pub id: WorkerId,
    pub bounds: WorkerBounds,
    pub standing: Standing,
    pub duty: Duty,
    pub stalled: Stalled,
    /// Until when it gets nothing because it failed what it was given.
    pub ejected: Option<Instant>,
    /// Exchanges leased to it (request mode).
    pub in_flight: u32,
    /// Exchanges that last for as long as their clients stay, counted apart (request mode).
    pub streams: u32,
    /// Connections sent and not yet answered (connection mode), at most the window.
    pub unacked: u32,
    /// Connections it holds, those it has not seen yet included (connection mode).
    pub open: u32,
    /// As last reported.
    pub active: u32,
    /// Connections sent since it last became unready.
    pub sent: u64,
    /// Connections it has taken in all its life (connection mode).
    pub accepted: u64,
    /// Exchanges it was given in all its life (request mode).
    pub leased: u64,
    /// Of those, ended.
    pub released: u64,
}

impl WorkerView {
    /// Whether it is ready, and there to serve.
    pub fn is_on_duty(&self) -> bool {
        self.standing == Standing::Ready && self.duty == Duty::Serve
    }
}

/// What became of everything so far, whoever has it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Leases given (request mode): one for each exchange, one more for each retry.
    pub leased: u64,
    /// Connections that a worker took.
    pub accepted: u64,
    /// Connections that a worker would not have; each was given to another or waited again.
    pub refused: u64,
    /// Turned away by the master.
    pub shed: ShedTally,
    /// How often a worker was ejected.
    pub ejections: u64,
    /// How often more than half of the ready workers were stalled or ejected.
    pub panics: u64,
}

/// What was turned away so far, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShedTally([u64; Shed::ALL.len()]);

impl ShedTally {
    pub(super) fn add(&mut self, reason: Shed, count: usize) {
        self.0[reason as usize] += count as u64;
    }

    /// For this reason.
    pub fn of(&self, reason: Shed) -> u64 {
        self.0[reason as usize]
    }

    /// For any.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// One listener's queue at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerView {
    pub id: ListenerId,
    pub mode: Mode,
    pub bounds: QueueBounds,
    /// Waiters now; above `bounds.max` only by those that were granted before and came back.
    pub length: usize,
    /// Since when the oldest waits.
    pub oldest: Option<Instant>,
}

impl Wish {
    /// Whom a waiter with this wish waits for.
    pub(super) fn to_wait_for(self) -> Option<WorkerId> {
        match self {
            Self::Only(worker) => Some(worker),
            Self::Any | Self::Not(_) => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Connection => "connection",
        })
    }
}

impl fmt::Display for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
