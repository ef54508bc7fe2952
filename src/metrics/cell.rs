//! A number that one thread changes and any thread reads.
//!
//! Relaxed loads and stores are enough: no other memory is read by what a count says. They are no
//! read-modify-write, so a second writer would lose counts; [`super::Recorder`] is the only one,
//! and is not `Sync`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only its owner's thread changes.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.read().wrapping_add(amount), Ordering::Relaxed);
    }

    /// Never below 0: a gauge that wraps would be an alarm for nothing.
    pub(super) fn subtract(&self, amount: u64) {
        self.0.store(self.read().saturating_sub(amount), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
