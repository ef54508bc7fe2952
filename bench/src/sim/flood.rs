//! Plays a flood against `Balance` with and without an age limit, and counts what users still get.
//!
//! Ten workers, limit 1, a queue that is large; users at half of the capacity throughout, and for
//! a while ten times the capacity beside them. Goodput is what was answered within a client's
//! patience. With an age limit the backlog is gone when the flood is; without one everything that
//! is served afterwards has nobody waiting for it any more.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use tenfold::policy::{
    Admission, Balance, Grant, ListenerId, Mode, QueueBounds, SplitMix64, Ticket, WorkerBounds,
    WorkerId,
};

use super::service::{Nanos, SERVICE, Spread, gap};

const WORKERS: u64 = 10;
/// In service times: how long a client waits for an answer.
pub(crate) const PATIENCE: u64 = 20;
/// In service times: when the flood begins and ends, and how long is watched.
pub(crate) const FLOOD: std::ops::Range<u64> = 100..300;
pub(crate) const WATCHED: u64 = 700;
/// In service times: the width of a window of the result.
pub(crate) const WINDOW: u64 = 10;

/// Whether waiters are shed at an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    Limited,
    Unlimited,
}

/// Goodput over capacity, per window of [`WINDOW`] service times.
pub(crate) fn goodput(age: Age, seed: u64) -> Vec<f64> {
    let mut flood = Flood::new(age, seed);
    flood.play();
    let capacity = (WORKERS * WINDOW) as f64;
    flood.answered.iter().map(|count| *count as f64 / capacity).collect()
}

struct Flood {
    balance: Balance,
    epoch: std::time::Instant,
    random: SplitMix64,
    arrived: BTreeMap<Ticket, Nanos>,
    /// When each busy worker ends, and what it is busy with.
    ends: BTreeMap<(Nanos, u64), Ticket>,
    answered: Vec<u64>,
}

impl Flood {
    fn new(age: Age, seed: u64) -> Self {
        let timeout = match age {
            // Half of the patience is left for the service, or the answer may come too late.
            Age::Limited => Duration::from_nanos(PATIENCE / 2 * SERVICE),
            Age::Unlimited => Duration::from_secs(u64::MAX / 4),
        };
        let epoch = tenfold::clock::now();
        let mut balance = Balance::new();
        let bounds = QueueBounds { max: 1_000_000, timeout };
        balance.open_listener(ListenerId(0), Mode::Request, bounds);
        let one = NonZeroU32::MIN;
        for id in (0..WORKERS).map(WorkerId) {
            balance.add_worker(id, WorkerBounds { limit: one, max_connections: one });
            let early =
                [balance.ready(epoch, id), balance.serve(epoch, id, ListenerId(0))].concat();
            assert!(early.is_empty(), "nothing waits yet");
        }
        Self {
            balance,
            epoch,
            random: SplitMix64::new(seed),
            arrived: BTreeMap::new(),
            ends: BTreeMap::new(),
            answered: vec![0; (WATCHED / WINDOW) as usize],
        }
    }

    fn play(&mut self) {
        let mut arrival = 0;
        for id in 0.. {
            let flooded = FLOOD.contains(&(arrival / SERVICE));
            let rate = WORKERS as f64 * if flooded { 10.5 } else { 0.5 };
            arrival += gap(&mut self.random, rate);
            while let Some((&(end, worker), _)) = self.ends.first_key_value()
                && end <= arrival
            {
                self.finish(end, worker);
            }
            if arrival >= WATCHED * SERVICE {
                return;
            }
            self.expire(arrival);
            self.arrived.insert(Ticket(id), arrival);
            let now = self.epoch + Duration::from_nanos(arrival);
            match self.balance.admit(now, ListenerId(0), Ticket(id)) {
                Admission::Granted(grant) => self.start(arrival, grant),
                Admission::Queued => {}
                Admission::Shed(_) => drop(self.arrived.remove(&Ticket(id))),
            }
        }
    }

    fn expire(&mut self, now: Nanos) {
        let expired = self.balance.expire(self.epoch + Duration::from_nanos(now));
        for (_, ticket, _) in expired.shed {
            self.arrived.remove(&ticket);
        }
        for grant in expired.grants {
            self.start(now, grant);
        }
    }

    fn start(&mut self, now: Nanos, grant: Grant) {
        let end = now + Spread::Exponential.draw(&mut self.random, SERVICE);
        self.ends.insert((end, grant.worker.0), grant.ticket);
    }

    fn finish(&mut self, now: Nanos, worker: u64) {
        // Before the place is given on: who is too old by now must not get it.
        self.expire(now);
        let ticket = self.ends.remove(&(now, worker)).expect("it was just looked at");
        let arrived = self.arrived.remove(&ticket).expect("it is answered once");
        let window = (now / SERVICE / WINDOW) as usize;
        if now - arrived <= PATIENCE * SERVICE
            && let Some(count) = self.answered.get_mut(window)
        {
            *count += 1;
        }
        for grant in self.balance.release(self.epoch + Duration::from_nanos(now), WorkerId(worker))
        {
            self.start(now, grant);
        }
    }
}
