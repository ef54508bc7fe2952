//! Acts on what control finds out about workers that give no sign of life.

use std::fmt::Write;
use std::time::Instant;

use super::Reactor;
use crate::link::orders::{Clients, Forsaken};
use crate::policy::{Stalled, WorkerId};

/// How many of its requests the evidence on a hung worker names: the one that it hangs on is
/// among the oldest.
const NAMED_MAX: usize = 5;

/// A path longer than this fills the line.
const PATH_CHARS_MAX: usize = 100;

impl Reactor {
    /// Its heartbeat is late, or there again.
    pub(super) fn set_stalled(&mut self, now: Instant, worker: WorkerId, stalled: Stalled) {
        let grants = self.balance().set_stalled(now, worker, stalled);
        self.deliver(now, grants);
    }

    /// Tells what a silent worker holds, and lets those go who have nothing of an answer yet.
    pub(super) fn forsake(&mut self, now: Instant, forsaken: &Forsaken) {
        let Forsaken { worker, slot, silent, main_thread, clients } = forsaken;
        let oldest = self.oldest_of(now, *worker);
        let silent_s = silent.as_secs_f64();
        let let_go = match clients {
            Clients::LetGo => self.front.forsake(*worker),
            Clients::Keep => 0,
        };
        tracing::warn!(
            %worker, %slot, silent_s, main_thread, oldest, let_go,
            "worker gives no sign of life"
        );
    }

    /// `3 requests: 12.1 s GET /p/1; 9.0 s POST /cart`, the oldest first, without queries.
    fn oldest_of(&self, now: Instant, worker: WorkerId) -> String {
        let in_flight = self.front.in_flight();
        let mut its: Vec<_> =
            in_flight.values().filter(|it| it.worker.get() == Some(worker)).collect();
        its.sort_by_key(|exchange| exchange.since);
        let mut text = format!("{} requests", its.len());
        for (place, exchange) in its.iter().take(NAMED_MAX).enumerate() {
            let age = now.saturating_duration_since(exchange.since);
            let method = shown(exchange.method());
            let path = shown(exchange.path());
            let mark = if place == 0 { ':' } else { ';' };
            // Writing to a String cannot fail.
            let _ = write!(text, "{mark} {:.1} s {method} {path}", age.as_secs_f64());
        }
        text
    }
}

/// Nothing that a terminal acts on, and not more than fits.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(PATH_CHARS_MAX).collect()
}
