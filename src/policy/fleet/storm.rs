//! Whether the pool restarts too often, and how many restarts it may have now.
//!
//! Every restart takes a token. An empty bucket is a storm: from then on one start at a time, until
//! a worker started in the storm has proved itself or the bucket is full again.

use std::time::{Duration, Instant};

use super::StormSettings;
use crate::policy::time::after;

#[derive(Clone, Debug)]
pub(super) struct Storm {
    settings: StormSettings,
    /// Size of the bucket.
    burst: u32,
    tokens: u32,
    /// When the last token came back, or the bucket was last seen full.
    refilled: Instant,
    began: Option<Instant>,
}

/// What a change of the weather was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Began,
    Ended,
}

impl Storm {
    pub(super) fn new(now: Instant, settings: StormSettings, slots: u16) -> Self {
        let mut storm = Self { settings, burst: 0, tokens: 0, refilled: now, began: None };
        storm.resize(slots);
        storm.tokens = storm.burst;
        storm
    }

    /// Fits the bucket to the number of slots; what it gains comes full.
    pub(super) fn resize(&mut self, slots: u16) {
        let burst = self.settings.burst.map_or(u32::from(slots).max(4), |burst| burst.get());
        self.tokens = (self.tokens + burst.saturating_sub(self.burst)).min(burst);
        self.burst = burst;
    }

    /// Goes by other numbers from now on.
    pub(super) fn retune(&mut self, settings: StormSettings, slots: u16) {
        self.settings = settings;
        self.resize(slots);
    }

    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Lets time pass. `proof` is since when some worker, started in this storm, has been ready.
    pub(super) fn pass(&mut self, now: Instant, proof: Option<Instant>) -> Option<Turn> {
        self.refill(now);
        let proved = proof.is_some_and(|since| now >= after(since, self.settings.soak));
        if self.began.is_none() || !(proved || self.tokens == self.burst) {
            return None;
        }
        self.began = None;
        self.tokens = self.burst;
        self.refilled = now;
        Some(Turn::Ended)
    }

    /// Takes the token of one restart; without one a storm begins.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Option<Turn>> {
        if self.tokens > 0 {
            self.tokens -= 1;
            return Ok(());
        }
        match self.began {
            Some(_) => Err(None),
            None => {
                self.began = Some(now);
                Err(Some(Turn::Began))
            }
        }
    }

    /// When a restart that found no token may ask again.
    pub(super) fn next_token(&self) -> Option<Instant> {
        (self.tokens == 0).then(|| after(self.refilled, self.settings.refill))
    }

    /// When the storm is over if nothing happens until then.
    pub(super) fn end(&self, proof: Option<Instant>) -> Option<Instant> {
        self.began?;
        let missing = self.burst - self.tokens;
        let full = after(self.refilled, self.settings.refill.saturating_mul(missing));
        let proved = proof.map(|since| after(since, self.settings.soak));
        Some(proved.map_or(full, |proved| proved.min(full)))
    }

    fn refill(&mut self, now: Instant) {
        // Never zero, or the loop would not end.
        let refill = self.settings.refill.max(Duration::from_millis(1));
        while self.tokens < self.burst && after(self.refilled, refill) <= now {
            self.tokens += 1;
            self.refilled += refill;
        }
        if self.tokens == self.burst {
            self.refilled = now;
        }
    }
}
