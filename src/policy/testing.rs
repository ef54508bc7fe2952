//! Runs a simulation over many seeds, and names the seed that failed.

use super::SplitMix64;

/// Runs `simulate` once per seed in `0..count`, or only with `TENFOLD_SEED` if that is set.
pub(super) fn for_each_seed(count: u64, simulate: impl Fn(SplitMix64)) {
    let replayed = std::env::var("TENFOLD_SEED").ok();
    let seeds = match replayed {
        Some(seed) => {
            let seed = seed.parse().expect("TENFOLD_SEED is a whole number");
            seed..=seed
        }
        None => 0..=count - 1,
    };
    for seed in seeds {
        let _named = NameOnPanic(seed);
        simulate(SplitMix64::new(seed));
    }
}

struct NameOnPanic(u64);

impl Drop for NameOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to replay: TENFOLD_SEED={}", self.0);
        }
    }
}
