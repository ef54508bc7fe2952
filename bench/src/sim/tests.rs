//! The simulator agrees with theory, and shows what is right and what is a mistake.

use super::engine::{Outcome, Setting, run};
use super::policies::Kind;
use super::service::Spread;
use super::{erlang, flood};

fn setting() -> Setting {
    let spread = Spread::Exponential;
    Setting { workers: 10, load: 0.8, spread, connections: 30, jobs: 60_000, seed: 11 }
}

fn simulated(kind: Kind, setting: Setting) -> Outcome {
    let mut policy = kind.build(setting.workers, setting.connections, setting.seed);
    run(setting, policy.as_mut())
}

#[test]
fn one_queue_and_one_worker_each_wait_as_erlang_says() {
    // Far from saturation, where 400,000 jobs are enough for 2 %.
    let central = Setting { workers: 2, load: 0.5, jobs: 400_000, ..setting() };
    let mean = simulated(Kind::Tenfold, central).mean();
    let expected = erlang::mean_wait(2, 0.5);
    assert!((mean / expected - 1.0).abs() < 0.02, "{mean} is not {expected}");
    // Close to it, where the arrivals that were drawn decide about a plain mean.
    let busy = Setting { load: 0.95, ..central };
    let mean = simulated(Kind::Tenfold, busy).controlled_mean(erlang::mean_wait(1, 0.95) / 2.0);
    let expected = erlang::mean_wait(2, 0.95);
    assert!((mean / expected - 1.0).abs() < 0.01, "{mean} is not {expected}");
    // Hashing is a queue per worker: M/M/1.
    let mean = simulated(Kind::Hash, Setting { load: 0.5, ..central }).mean();
    assert!((mean / erlang::mean_wait(1, 0.5) - 1.0).abs() < 0.02, "{mean} is not 1");
}

#[test]
fn every_policy_serves_every_job_once_and_replays_from_its_seed() {
    // A limit per connection leaves some for ever behind idle connections: it is not asked.
    for kind in Kind::PEERS.into_iter().chain([Kind::PinnedTies]) {
        let setting = Setting { jobs: 5_000, ..setting() };
        let outcome = simulated(kind, setting);
        let warm_up = setting.jobs as u64 / 10;
        assert_eq!(outcome.started.iter().sum::<u64>(), setting.jobs as u64 + warm_up, "{kind:?}");
        let again = simulated(kind, setting);
        assert!(outcome.mean().to_bits() == again.mean().to_bits(), "{kind:?}");
    }
}

#[test]
fn late_binding_waits_least() {
    let tenfold = simulated(Kind::Tenfold, setting()).quantile(0.99);
    for kind in Kind::PEERS.into_iter().filter(|kind| *kind != Kind::Tenfold) {
        let rival = simulated(kind, setting()).quantile(0.99);
        assert!(rival > 1.1 * tenfold, "{kind:?} waits {rival}, tenfold {tenfold}");
    }
}

#[test]
fn ties_pinned_to_slot_0_show_in_the_shares() {
    let setting = Setting { load: 0.5, ..setting() };
    let right = simulated(Kind::Tenfold, setting).imbalance();
    let wrong = simulated(Kind::PinnedTies, setting).imbalance();
    assert!(right < 1.1 && wrong > 1.4, "busiest over an equal share: {right}, pinned {wrong}");
}

#[test]
fn a_limit_per_connection_shows_in_the_waits() {
    let setting = Setting { load: 0.5, ..setting() };
    let right = simulated(Kind::Tenfold, setting).quantile(0.99);
    let wrong = simulated(Kind::PerConnection, setting).quantile(0.99);
    assert!(wrong > 50.0 * (right + 1.0), "p99 wait {right}, per connection {wrong}");
}

#[test]
fn a_queue_without_an_age_limit_shows_after_the_flood() {
    let recovered = |age| {
        let windows = flood::goodput(age, 5);
        // From five windows after the flood on: a tenth of what it lasted.
        let from = (flood::FLOOD.end / flood::WINDOW) as usize + 5;
        windows[from..].iter().sum::<f64>() / (windows.len() - from) as f64
    };
    let (right, wrong) = (recovered(flood::Age::Limited), recovered(flood::Age::Unlimited));
    assert!(right > 0.45, "users offer half of the capacity, {right} of it is answered in time");
    assert!(wrong < 0.1, "{wrong} of the capacity is answered in time although nobody is shed");
}
