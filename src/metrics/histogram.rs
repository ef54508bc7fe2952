//! How long things took, in fixed buckets from half a millisecond to a minute.

use std::time::Duration;

use super::cell::Cell;

/// Upper bounds in milliseconds ×2: half a millisecond is one. About two and a half times from one
/// to the next: a quantile read from them is at most that far off, and 16 numbers per histogram
/// stay cheap to keep. They reach from an answer out of memory to the usual 60 s timeout.
const BOUNDS_HALF_MS: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000, 120_000];

const BUCKETS: usize = BOUNDS_HALF_MS.len() + 1;

/// Written by one thread.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Not cumulative; the last is beyond every bound.
    buckets: [Cell; BUCKETS],
    sum_ns: Cell,
}

/// What a histogram held when it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Upper bound in seconds, the last infinite, and how many were within this bound but above the
    /// one before.
    pub buckets: Vec<(f64, u64)>,
    pub count: u64,
    pub sum_s: f64,
}

impl Histogram {
    pub(super) fn record(&self, duration: Duration) {
        let bucket = BOUNDS_HALF_MS
            .iter()
            .position(|bound| duration <= half_ms(*bound))
            .unwrap_or(BOUNDS_HALF_MS.len());
        self.buckets[bucket].add(1);
        self.sum_ns.add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The count is that of the buckets, so that the two agree whatever is being written meanwhile.
    pub(super) fn read(&self) -> Distribution {
        let bounds = BOUNDS_HALF_MS.iter().map(|bound| half_ms(*bound).as_secs_f64());
        let counts = self.buckets.iter().map(Cell::read);
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        Distribution {
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
            sum_s: self.sum_ns.read() as f64 / 1e9,
        }
    }
}

fn half_ms(number: u64) -> Duration {
    Duration::from_micros(500 * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_in_the_first_bucket_that_reaches_it() {
        let histogram = Histogram::default();
        for us in [0, 500, 501, 1_000, 60_000_000, 60_000_001] {
            histogram.record(Duration::from_micros(us));
        }
        let Distribution { buckets, count, sum_s } = histogram.read();
        assert_eq!(buckets.len(), 17);
        assert_eq!((buckets[0], buckets[1]), ((0.0005, 2), (0.001, 2)));
        assert_eq!((buckets[15], buckets[16].1), ((60.0, 1), 1));
        assert_eq!(count, 6);
        assert!((sum_s - 120.002_002).abs() < 1e-6, "{sum_s}");
    }

    #[test]
    fn bounds_rise() {
        assert!(BOUNDS_HALF_MS.is_sorted_by(|one, next| one < next));
    }
}
