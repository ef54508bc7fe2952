//! How long requests wait under Poisson arrivals, beside what queueing theory says of one queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::super::*;
use crate::policy::SplitMix64;

const WORKERS: u64 = 10;
const LISTENER: ListenerId = ListenerId(1);
const ARRIVALS: u64 = 150_000;

/// Mean and 99th percentile of the wait, in mean service times.
#[derive(Debug)]
struct Waits {
    mean: f64,
    p99: f64,
}

/// The M/M/k queue: Poisson arrivals, exponential service, one queue (Erlang's C formula).
fn theory(load: f64) -> Waits {
    let servers = WORKERS as f64;
    let offered = load * servers;
    let blocked = (1..=WORKERS).fold(1.0, |b, k| offered * b / (k as f64 + offered * b));
    let waits = blocked / (1.0 - load * (1.0 - blocked));
    let drain = servers - offered;
    Waits { mean: waits / drain, p99: (waits / 0.01).ln() / drain }
}

/// The same through `Balance`: ten workers with a limit of 1, a service time of 1 s on average.
fn simulated(load: f64, mut random: SplitMix64) -> Waits {
    let start = Instant::now();
    let mut balance = pool(start);
    let mut ends = BinaryHeap::new();
    let mut arrived = BTreeMap::new();
    let mut waits = Vec::new();
    let mut exponential = move || Duration::from_secs_f64(-(1.0 - random.unit()).ln());
    let mut arrival = start;
    let mut next_ticket = 0;
    while next_ticket < ARRIVALS || !ends.is_empty() {
        let end = ends.peek().map(|&Reverse((at, _))| at);
        let arrives = next_ticket < ARRIVALS && end.is_none_or(|end| arrival <= end);
        let (now, grants) = if arrives {
            let now = arrival;
            next_ticket += 1;
            arrived.insert(Ticket(next_ticket), now);
            arrival += exponential().div_f64(load * WORKERS as f64);
            match balance.admit(now, LISTENER, Ticket(next_ticket)) {
                Admission::Granted(grant) => (now, vec![grant]),
                Admission::Queued => (now, Vec::new()),
                Admission::Shed(why) => panic!("the queue has no bounds, but {why}"),
            }
        } else {
            let Reverse((now, worker)) = ends.pop().expect("the loop ends when nothing is left");
            (now, balance.release(now, worker))
        };
        for grant in grants {
            let since = arrived.remove(&grant.ticket).expect("who is granted arrived");
            waits.push((now - since).as_secs_f64());
            ends.push(Reverse((now + exponential(), grant.worker)));
        }
    }
    waits.sort_by(f64::total_cmp);
    let mean = waits.iter().sum::<f64>() / waits.len() as f64;
    Waits { mean, p99: waits[waits.len() * 99 / 100] }
}

fn pool(now: Instant) -> Balance {
    let mut balance = Balance::new();
    let bounds = QueueBounds { max: usize::MAX, timeout: Duration::MAX };
    balance.open_listener(LISTENER, Mode::Request, bounds);
    for id in (1..=WORKERS).map(WorkerId) {
        let one = NonZeroU32::MIN;
        balance.add_worker(id, WorkerBounds { limit: one, max_connections: one });
        assert!(balance.serve(now, id, LISTENER).is_empty());
        assert!(balance.ready(now, id).is_empty());
    }
    balance
}

fn check(load: f64, quoted: Waits) {
    let theory = theory(load);
    let near = |a: f64, b: f64, tolerance: f64| (a / b - 1.0).abs() < tolerance;
    assert!(near(theory.mean, quoted.mean, 0.03), "{theory:?}, quoted {quoted:?}");
    assert!(near(theory.p99, quoted.p99, 0.03), "{theory:?}, quoted {quoted:?}");
    let found = simulated(load, SplitMix64::new(1));
    assert!(near(found.mean, theory.mean, 0.05), "{found:?}, theory {theory:?}");
    assert!(near(found.p99, theory.p99, 0.05), "{found:?}, theory {theory:?}");
}

#[test]
fn waits_at_80_per_cent_load_are_those_of_one_central_queue() {
    check(0.8, Waits { mean: 0.205, p99: 1.86 });
}

#[test]
fn waits_at_90_per_cent_load_are_those_of_one_central_queue() {
    check(0.9, Waits { mean: 0.67, p99: 4.2 });
}
