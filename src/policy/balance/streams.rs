//! Counts what lasts for as long as its client stays: event streams, tunnels, waiting on purpose.
//!
//! A stream takes no place among the exchanges in flight, and no limit on those keeps it out: it
//! costs its worker a socket and hardly any work. Its bound is that of open connections.

use std::time::Instant;

use super::{Balance, Grant, Wish};
use crate::policy::{ListenerId, WorkerId};

impl Balance {
    /// Opens a stream at the ready worker that holds least, whatever its limit; none if no worker
    /// may have one more. Ends with [`close_stream`](Self::close_stream).
    pub fn open_stream(&mut self, listener: ListenerId, wish: Wish) -> Option<WorkerId> {
        self.listener_index(listener)?;
        let able = || self.workers.iter().filter(|worker| worker.may_stream(listener));
        let wished = match wish {
            Wish::Only(only) => able().find(|worker| worker.id == only),
            Wish::Any | Wish::Not(_) => None,
        };
        let not = match wish {
            Wish::Not(not) => Some(not),
            Wish::Any | Wish::Only(_) => None,
        };
        // Who is to be avoided comes after all others.
        let least = || able().min_by_key(|it| (Some(it.id) == not, it.stream_rank()));
        let id = wished.or_else(least)?.id;
        let dispatch = self.next_dispatch();
        let worker = self.worker_mut(id)?;
        worker.dispatched(dispatch);
        worker.open_stream().then_some(id)
    }

    /// An exchange in flight turns out to be a stream: counts it there, and gives its place to the
    /// next. `None` if the worker has as many streams as it may; then it stays in flight.
    pub fn turn_to_stream(&mut self, now: Instant, id: WorkerId) -> Option<Vec<Grant>> {
        if !self.worker_mut(id)?.open_stream() {
            return None;
        }
        Some(self.release(now, id))
    }

    /// A stream has ended.
    pub fn close_stream(&mut self, id: WorkerId) {
        if let Some(worker) = self.worker_mut(id) {
            worker.close_stream();
        }
    }
}
