//! Waiting at high load: ten workers that serve one at a time, exponential service times.
//!
//! Workers serialise by themselves with a timer, so ten of them fit on few CPUs and nothing but the
//! way of dispatch decides who waits. A wait is the latency without the time that the worker says
//! it was busy with the request. Beside the peers stands what one queue would make of the same
//! arrivals and service times, if nothing but them took any time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bench, FAILED, failures};
use crate::load::{Record, Stream, Travel, Work, ideal, quantile};
use crate::peer::{App, Peer, Setup};
use crate::plot::{Chart, Scale, Series};
use crate::results::{Metric, Place};

const PEERS: [Peer; 5] =
    [Peer::Tenfold, Peer::TenfoldConnection, Peer::Haproxy, Peer::Nginx, Peer::Cluster];
const LOADS: [(&str, f64); 3] = [("60 %", 0.6), ("80 %", 0.8), ("90 %", 0.9)];

pub(super) const SERVICE: Duration = Duration::from_millis(20);
const SETUP: Setup =
    Setup { app: App::Node, workers: 10, limit: 1, queue_timeout: Duration::from_secs(30) };
/// Ten of them are enough for [`P999`] from 80 % on.
const WINDOW: Duration = Duration::from_millis(2600);

const MEDIAN: Metric = Metric::lower("wait, p50", "service times");
pub(super) const P99: Metric = Metric::lower("wait, p99", "service times");
const P999: Metric = Metric::lower("wait, p99.9 of all rounds", "service times");

/// Fewer samples say nothing about one in a thousand.
const SAMPLES_FOR_P999: usize = 10_000;

/// Two that really burn CPU. On two CPUs that leaves little for the bench and for what stands in
/// front: how late the generator was itself tells how much.
const BURNING: Setup = Setup { workers: 2, ..SETUP };
const BURNING_LOADS: [(&str, f64); 2] = [("2 CPU-bound, 80 %", 0.8), ("2 CPU-bound, 90 %", 0.9)];

/// Waits by case and row, and by round: one that is measured again replaces them.
type Waits = BTreeMap<(&'static str, &'static str), BTreeMap<usize, Vec<Duration>>>;

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let mut all = Waits::new();
    measure(bench, &mut all, SETUP, &LOADS, &Work::Served(SERVICE)).await?;
    measure(bench, &mut all, BURNING, &BURNING_LOADS, &Work::Burned(SERVICE)).await?;
    for ((case, peer), rounds) in all {
        let waits: Vec<Duration> = rounds.into_values().flatten().collect();
        if waits.len() >= SAMPLES_FOR_P999 {
            let place = Place { scenario: "tail", case, peer, round: 0 };
            bench.add(place, P999, in_services(quantile(waits, 0.999)));
        }
    }
    let figure = figure(bench);
    bench.figures.push(("tail".to_owned(), figure));
    Ok(())
}

async fn measure(
    bench: &mut Bench,
    all: &mut Waits,
    setup: Setup,
    loads: &[(&'static str, f64)],
    work: &Work,
) -> anyhow::Result<()> {
    let deployments = bench.start_all(&PEERS, setup).await?;
    let Some(first) = deployments.first() else { return Ok(()) };
    for (case, load) in bench.cases(loads) {
        for round in 0..bench.plan.rounds {
            let stream = Stream {
                target: first.address,
                rate: load * f64::from(setup.workers) / SERVICE.as_secs_f64(),
                from: Duration::ZERO,
                until: bench.window(WINDOW),
                work: work.clone(),
                travel: Travel::KeepAlive,
                clients: 64,
                net: 1,
                timeout: Duration::from_secs(20),
                seed: bench.seed(round),
            };
            for deployment in bench.turn(round, &deployments) {
                let place = Place { scenario: "tail", case, peer: deployment.peer.name(), round };
                let stream = Stream { target: deployment.address, ..stream.clone() };
                let records = crate::load::run(vec![stream]).await?.remove(0);
                let answered = records.iter().filter(|record| record.is_good(Duration::MAX));
                add_waits(bench, all, place, answered.map(Record::wait).collect());
                bench.add(place, FAILED, failures(&records) as f64);
                bench.add_lag(place, &records);
            }
            // Last: what has the first row of a case is compared with the others.
            let place = Place { scenario: "tail", case, peer: ideal::NAME, round };
            add_waits(bench, all, place, ideal::waits(&stream, setup.workers));
        }
    }
    Ok(())
}

fn add_waits(bench: &mut Bench, all: &mut Waits, place: Place<'static>, waits: Vec<Duration>) {
    bench.add(place, MEDIAN, in_services(quantile(waits.clone(), 0.5)));
    bench.add(place, P99, in_services(quantile(waits.clone(), 0.99)));
    all.entry((place.case, place.peer)).or_default().insert(place.round, waits);
}

pub(super) fn in_services(wait: Duration) -> f64 {
    wait.as_secs_f64() / SERVICE.as_secs_f64()
}

fn figure(bench: &Bench) -> Chart {
    let rows = PEERS.iter().map(|peer| peer.name()).chain([ideal::NAME]);
    let series = rows.map(|row| {
        let points = LOADS.iter().filter_map(|(case, load)| {
            let cell = bench.results.find("tail", case, row, P99.name)?;
            Some((*load, cell.summary()?.median))
        });
        Series { name: row.to_owned(), points: points.collect() }
    });
    Chart {
        title: "99th percentile of waiting by load, ten workers".to_owned(),
        x_label: "load".to_owned(),
        y_label: "service times".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        shaded: None,
        series: series.filter(|series| !series.points.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::TARGETS;

    #[test]
    fn goals_name_what_is_measured() {
        let cases: Vec<&str> =
            LOADS.iter().chain(&BURNING_LOADS).map(|(case, _load)| *case).collect();
        let goals: Vec<_> = TARGETS.iter().filter(|target| target.scenario == "tail").collect();
        for target in &goals {
            assert!(cases.contains(&target.case), "{}", target.what());
            assert_eq!(target.metric, P99.name, "{}", target.what());
        }
        for case in cases {
            let held = |target: &&&crate::targets::Target| target.case == case;
            let rivals: Vec<&str> = goals.iter().filter(held).map(|goal| goal.rival()).collect();
            assert!(rivals.contains(&ideal::NAME), "{case}: only {rivals:?}");
        }
    }
}
