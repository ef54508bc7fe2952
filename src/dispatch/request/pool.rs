//! Our connections to workers: kept while idle, made when none is, bounded by leases.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::stream::Stream;
use crate::dispatch::Hears;
use crate::link::said::ServerKey;
use crate::policy::WorkerId;

/// How long a connection may be idle where its worker names no bound: below Node's default of 5 s,
/// after which it closes it.
pub(super) const IDLE_DEFAULT: Duration = Duration::from_secs(4);

/// How much earlier than the worker we stop using an idle connection: its timer may fire while our
/// request is on its way.
const IDLE_MARGIN: Duration = Duration::from_secs(1);

/// One connection to a worker.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) stream: Stream,
    pub(super) worker: WorkerId,
    pub(super) server: ServerKey,
    /// Whether a request was answered on it before.
    pub(super) age: Age,
    pub(super) hears: Hears,
    /// Counts it among the worker's private connections.
    _open: Counted,
}

/// Whether a connection has proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    Reused,
}

/// One more open connection for as long as this lives.
#[derive(Debug)]
pub(in crate::dispatch) struct Counted(Rc<Cell<u32>>);

impl Counted {
    pub(in crate::dispatch) fn new(count: Rc<Cell<u32>>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Upstream {
    pub(super) fn new(
        stream: Stream,
        of: (WorkerId, ServerKey),
        hears: Hears,
        open: Counted,
    ) -> Self {
        let (worker, server) = of;
        Self { stream, worker, server, age: Age::Fresh, hears, _open: open }
    }
}

/// Idle connections by worker and server. There are never more than a worker has leases.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: RefCell<BTreeMap<(WorkerId, ServerKey), Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    upstream: Upstream,
    until: Instant,
}

impl Pool {
    /// The most recently used idle connection that the worker has not closed.
    pub(super) fn take(
        &self,
        now: Instant,
        worker: WorkerId,
        server: ServerKey,
    ) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&(worker, server))?;
        while let Some(Idle { mut upstream, until }) = connections.pop() {
            if until <= now {
                // The ones below are older still.
                connections.clear();
                return None;
            }
            // Nothing may have come on an idle connection: bytes would be an answer to no request.
            match upstream.stream.try_read(&mut [0; 1]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    upstream.age = Age::Reused;
                    return Some(upstream);
                }
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    /// Keeps a connection for later; `hint` is what the worker says of its patience.
    pub(super) fn put(&self, now: Instant, mut upstream: Upstream, hint: Option<Duration>) {
        let patience = hint.map_or(IDLE_DEFAULT, |hint| hint.saturating_sub(IDLE_MARGIN));
        if patience.is_zero() {
            return;
        }
        upstream.stream.forget_room();
        let key = (upstream.worker, upstream.server);
        let idle = Idle { upstream, until: now + patience };
        self.idle.borrow_mut().entry(key).or_default().push(idle);
    }

    /// Closes the idle connections to a worker that is leaving.
    pub(super) fn forget(&self, worker: WorkerId) {
        self.idle.borrow_mut().retain(|(of, _), _| *of != worker);
    }

    /// Closes what has been idle for too long.
    pub(super) fn expire(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        for connections in idle.values_mut() {
            connections.retain(|idle| idle.until > now);
        }
        idle.retain(|_, connections| !connections.is_empty());
    }
}
