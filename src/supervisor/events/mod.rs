//! Tells every transition once: to the log, and to whoever reads `tenfold events`.
//!
//! Readers share one bounded ring, and nobody waits for them: one that falls behind by more than
//! the ring holds is cut, with a last line that says so.

mod log;
mod stream;
mod transition;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::broadcast;

pub use self::stream::Lines;
pub use self::transition::{
    Death, EVENTS, Step, Transition, WORKER_FIELDS, What, Who, WorkerTransition,
};

/// How many transitions a reader may be behind: 256 workers that start, get ready, drain and exit.
const BEHIND_MAX: usize = 1024;

/// The most readers at once: people and scripts.
const READERS_MAX: usize = 64;

/// How long the end of the master waits for readers to have the last line.
const LAST_LINES: Duration = Duration::from_millis(200);

/// One line as it goes out, and whether one follows.
#[derive(Clone, Debug)]
struct Entry {
    line: Arc<str>,
    more: More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Follows,
    /// It was the last: the master ends, or the reader is cut.
    Ends,
}

/// See the module; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    ring: broadcast::Sender<Entry>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { ring: broadcast::Sender::new(BEHIND_MAX) }
    }

    /// Tells of a transition; never waits.
    pub(crate) fn publish(&self, transition: &Transition) {
        transition.log();
        if self.ring.receiver_count() > 0 {
            // Without a receiver nobody asked.
            let _ = self.ring.send(Entry::new(transition));
        }
    }

    /// What happens from now on, after `greeting`; none if too many read already.
    pub(crate) fn subscribe(&self, greeting: &Transition) -> Option<Lines> {
        if self.ring.receiver_count() >= READERS_MAX {
            return None;
        }
        Some(Lines::new(Entry::new(greeting), self.ring.subscribe()))
    }

    /// Gives readers a moment to take the last line.
    pub(crate) async fn flushed(&self) {
        // Whoever does not read is left behind.
        let _ = tokio::time::timeout(LAST_LINES, self.ring.closed()).await;
    }
}

impl Entry {
    fn new(transition: &Transition) -> Self {
        #[derive(Serialize)]
        struct Timed<'a> {
            time: String,
            #[serde(flatten)]
            transition: &'a Transition,
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let line = serde_json::to_string(&Timed { time, transition });
        let line = line.expect("names and numbers can be written as JSON") + "\n";
        let more = match transition {
            Transition::Finished { .. } | Transition::Cut { .. } => More::Ends,
            Transition::Connected { .. }
            | Transition::Phase { .. }
            | Transition::Listening { .. }
            | Transition::Closed { .. }
            | Transition::PoolReady { .. }
            | Transition::Scaled { .. }
            | Transition::StormBegan
            | Transition::StormEnded
            | Transition::PanicBegan
            | Transition::PanicEnded
            | Transition::Shed { .. }
            | Transition::ShedEnded { .. }
            | Transition::Stopping { .. }
            | Transition::ReloadBegan { .. }
            | Transition::ReloadCommitted { .. }
            | Transition::ReloadDone { .. }
            | Transition::ReloadFailed { .. }
            | Transition::Worker(_) => More::Follows,
        };
        Self { line: line.into(), more }
    }
}

#[cfg(test)]
mod tests;
