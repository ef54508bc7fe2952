//! Acts on what control finds out about workers that give no sign of life.

use std::fmt::Write;
use std::time::Instant;

use super::Reactor;
use super::request::{NAMED_MAX, name_of};
use crate::link::orders::{Clients, Evidence, Forsaken, HeapOrder, Report};
use crate::policy::{Stalled, WorkerId};

impl Reactor {
    /// Its heartbeat is late, or there again.
    pub(super) fn set_stalled(&mut self, now: Instant, worker: WorkerId, stalled: Stalled) {
        let grants = self.balance().set_stalled(now, worker, stalled);
        self.deliver(now, grants);
    }

    /// Has a worker write its heap. Of one that is gone control hears soon.
    pub(super) fn write_heap(&mut self, now: Instant, order: &HeapOrder) {
        if let Some(member) = self.links.get_mut(&order.worker) {
            let sent = member.link.write_heap(order);
            self.after_send(now, order.worker, sent);
        }
    }

    /// Tells what a silent worker holds, and lets those go who have nothing of an answer yet.
    pub(super) fn forsake(&mut self, now: Instant, forsaken: Forsaken) {
        let Forsaken { worker, slot, silent, main_thread, stack, clients } = forsaken;
        let oldest = self.oldest_of(now, worker);
        let silent_s = silent.as_secs_f64();
        let let_go = match clients {
            Clients::LetGo => self.front.forsake(worker),
            Clients::Keep => 0,
        };
        tracing::warn!(
            %worker, %slot, silent_s, main_thread, stack, oldest, let_go,
            "worker gives no sign of life"
        );
        self.report(Report::Forsook { worker, evidence: Evidence { oldest, stack } });
    }

    /// `3 requests: 12.1 s GET /p/1; 9.0 s POST /cart`: the one that it hangs on is among the
    /// oldest.
    fn oldest_of(&self, now: Instant, worker: WorkerId) -> String {
        let in_flight = self.front.in_flight();
        let mut its: Vec<_> =
            in_flight.values().filter(|it| it.worker.get() == Some(worker)).collect();
        its.sort_by_key(|exchange| exchange.since);
        let mut text = format!("{} requests", its.len());
        for (place, exchange) in its.iter().take(NAMED_MAX).enumerate() {
            let age = now.saturating_duration_since(exchange.since);
            let name = name_of(exchange.head());
            let mark = if place == 0 { ':' } else { ';' };
            // Writing to a String cannot fail.
            let _ = write!(text, "{mark} {:.1} s {name}", age.as_secs_f64());
        }
        text
    }
}
