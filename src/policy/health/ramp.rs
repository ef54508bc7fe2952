//! Decides how much a new worker may hold while it warms to its work.

use std::num::NonZeroU32;
use std::time::Duration;

/// The share of its limit that a worker begins with.
const FIRST: f64 = 0.1;

/// The limit of a worker that has been ready for `since`, if it is to have its whole limit after
/// `ramp`: a tenth at once, then evenly more; at least 1.
pub fn ramped(limit: NonZeroU32, since: Duration, ramp: Duration) -> NonZeroU32 {
    if since >= ramp {
        return limit;
    }
    let part = since.as_secs_f64() / ramp.as_secs_f64();
    let share = FIRST + (1.0 - FIRST) * part;
    let now = (f64::from(limit.get()) * share) as u32;
    NonZeroU32::new(now).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_rises_evenly_from_a_tenth_and_is_never_nothing() {
        let limit = |number| NonZeroU32::new(number).expect("not 0");
        let at =
            |full, s| ramped(limit(full), Duration::from_secs(s), Duration::from_secs(30)).get();
        assert_eq!([0, 10, 20, 29, 30, 99].map(|s| at(100, s)), [10, 40, 70, 97, 100, 100]);
        assert_eq!([0, 15, 30].map(|s| at(1, s)), [1, 1, 1]);
        assert_eq!(ramped(limit(7), Duration::ZERO, Duration::ZERO).get(), 7, "no ramp");
    }
}
