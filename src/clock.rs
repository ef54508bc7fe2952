//! The one place that reads the clock; everything else is told the time.

use std::time::Instant;

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "this is where the ban points to")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}
