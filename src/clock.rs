//! The one place that reads the clock; everything else is told the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "this is where the ban points to")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// CLOCK_MONOTONIC in microseconds, as other processes read it.
///
/// # Errors
/// Those of clock_gettime(2); none is known for this clock.
pub fn monotonic_micros() -> std::io::Result<u64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    let micros = Duration::from(time).as_micros();
    u64::try_from(micros).map_err(std::io::Error::other)
}

/// When a thread last went round its loop, for other threads to see.
#[derive(Debug)]
pub struct Pulse {
    epoch: Instant,
    beat_ms: AtomicU64,
}

impl Pulse {
    /// Begins with a beat.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { epoch: now, beat_ms: AtomicU64::new(0) }
    }

    /// The thread goes round.
    pub fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.epoch).as_millis();
        // A beat within the first millisecond is one, too.
        let stamp = u64::try_from(since).unwrap_or(u64::MAX).max(1);
        self.beat_ms.store(stamp, Ordering::Relaxed);
    }

    /// Another number after every beat (a millisecond apart); 0 before the first.
    #[must_use]
    pub fn stamp(&self) -> u64 {
        self.beat_ms.load(Ordering::Relaxed)
    }

    /// How long ago that was.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        let beat = Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.epoch).saturating_sub(beat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_ages_from_its_last_beat() {
        let start = now();
        let after = |s| start + Duration::from_secs(s);
        let pulse = Pulse::new(start);
        assert_eq!(pulse.age(after(3)), Duration::from_secs(3));
        pulse.beat(after(4));
        assert_eq!(pulse.age(after(6)), Duration::from_secs(2));
        assert_eq!(pulse.age(start), Duration::ZERO);
        assert_eq!(pulse.stamp(), 4_000);
    }

    #[test]
    fn a_beat_at_the_very_beginning_is_told_from_none() {
        let start = now();
        let pulse = Pulse::new(start);
        assert_eq!(pulse.stamp(), 0);
        pulse.beat(start);
        assert_eq!(pulse.stamp(), 1);
    }
}
