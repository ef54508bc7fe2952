//! Adding to an instant without overflow: configured times may be absurdly long.

use std::time::{Duration, Instant};

/// Stands for "never"; every platform's clock has this much left.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The instant `wait` after `start`, or a century after if that cannot be represented.
pub(super) fn after(start: Instant, wait: Duration) -> Instant {
    start + wait.min(CENTURY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_wait_is_a_century() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::MAX) - now, CENTURY);
        assert_eq!(after(now, Duration::from_secs(1)) - now, Duration::from_secs(1));
    }
}
