//! Says when it is time again to log what may happen thousands of times a second.

use std::time::{Duration, Instant};

/// Logs what may happen thousands of times a second, at most once in ten seconds.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    /// Whether it is time to say it again.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due =
            self.last.is_none_or(|last| now.duration_since(last) > Duration::from_secs(10));
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}
