//! Ten and sixty times the capacity beside users and probes, and what is left afterwards.
//!
//! Four workers that serve one at a time, 40 ms on average: a capacity of 100 requests per second.
//! Users ask for 40 of them from 200 addresses; the flood comes from 20. Good is what is answered
//! within a second: later nobody is there to read it. A request may wait for half of that. With an
//! age limit of the whole second a standing queue serves nobody in time, whoever keeps it: the
//! oldest come first, and their second is over when they are answered.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bench, Depth};
use crate::load::{Record, Stream, Travel, Work, quantile};
use crate::peer::{App, Deployment, Peer, Setup};
use crate::plot::{Chart, Scale, Series};
use crate::results::{Metric, Place};

const PEERS: [Peer; 3] = [Peer::Tenfold, Peer::Haproxy, Peer::Cluster];
const FACTORS: [(&str, f64); 2] = [("10x", 10.0), ("60x", 60.0)];
const SETUP: Setup =
    Setup { app: App::Node, workers: 4, limit: 1, queue_timeout: Duration::from_millis(500) };
const SERVICE: Duration = Duration::from_millis(40);
const CAPACITY: f64 = 100.0;
const USERS: f64 = 40.0;
const PATIENCE: Duration = Duration::from_secs(1);
/// Windows of the plot, and of the search for recovery.
const STEP: Duration = Duration::from_millis(500);
/// More than a hundred in the flood, so that a hundredth of them is something; their answers are
/// nobody's work.
const PROBES_PER_SECOND: f64 = 50.0;

/// Over what the workers can do, by the service times that they told: timers ring late, and what
/// was drawn for a window is not its mean.
const GOODPUT: Metric = Metric::higher("goodput in the flood", "of capacity");
const GOOD_RATE: Metric = Metric::higher("answered in time, in the flood", "requests/s");
const SERVED: Metric = Metric::higher("users served in time, in the flood", "%");
const PROBES: Metric = Metric::higher("probes answered within 1 s", "%");
const PROBE_P99: Metric = Metric::lower("probe, p99", "ms");
/// Of a full run; longer is not watched.
const RECOVERY: Metric = Metric::lower("users served again after", "s; 4 is more than 4");

/// When the flood begins, when it ends, and when the run does.
#[derive(Clone, Copy)]
struct Phases {
    begin: Duration,
    end: Duration,
    stop: Duration,
}

impl Phases {
    /// After the flood.
    fn watched(self) -> Duration {
        self.stop - self.end
    }
}

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let peers = bench.peers(&PEERS)?;
    let numbered: Vec<(usize, Peer)> = peers.iter().copied().enumerate().collect();
    let (millis, factors) = match bench.plan.depth {
        Depth::Full => ([1000, 4500, 8500], &FACTORS[..]),
        // Thousands of requests per second are more than a bench compiled for tests can send.
        Depth::Smoke => ([500, 2000, 3000], &FACTORS[..1]),
    };
    let [begin, end, stop] = millis.map(Duration::from_millis);
    let phases = Phases { begin, end, stop };
    for (case, factor) in factors.iter().copied() {
        // By round: one that is measured again replaces what was seen.
        let mut lines = vec![BTreeMap::new(); peers.len()];
        let mut never = vec![BTreeMap::new(); peers.len()];
        for round in 0..bench.plan.rounds {
            for (index, peer) in bench.turn(round, &numbered) {
                let Some(deployment) = bench.start(*peer, SETUP).await? else { continue };
                let streams = streams(bench, &deployment, factor, phases, round);
                let mut records = crate::load::run(streams).await?;
                let probes = records.pop().unwrap_or_default();
                let flood = records.pop().unwrap_or_default();
                let users = records.pop().unwrap_or_default();
                let place = Place { scenario: "flood", case, peer: peer.name(), round };
                account(bench, place, phases, [&users, &flood, &probes]);
                let recovered = recovery(&users, phases);
                never[*index].insert(round, recovered.is_none());
                let after = recovered.unwrap_or(phases.watched());
                bench.add(place, RECOVERY, after.as_secs_f64());
                lines[*index].insert(round, goodput_by_step(&[&users, &flood], phases.stop));
            }
        }
        for (peer, never) in peers.iter().zip(never) {
            let never = never.into_values().filter(|is_so| *is_so).count();
            if never == 0 {
                continue;
            }
            let (peer, rounds) = (peer.name(), bench.plan.rounds);
            let watched = phases.watched().as_secs_f64();
            bench.results.note(format!(
                "flood, {case}: {peer} served not all users again within {watched} s after the \
                 flood in {never} of {rounds} rounds: the table says {watched} there, it is more"
            ));
        }
        let lines: Vec<Vec<_>> =
            lines.into_iter().map(|rounds| rounds.into_values().collect()).collect();
        let figure = figure(case, phases, &peers, &lines);
        bench.figures.push((format!("flood-{case}"), figure));
    }
    Ok(())
}

/// Users, flood and probes, in that order.
fn streams(
    bench: &Bench,
    deployment: &Deployment,
    factor: f64,
    phases: Phases,
    round: usize,
) -> Vec<Stream> {
    let users = Stream {
        target: deployment.address,
        rate: USERS,
        from: Duration::ZERO,
        until: phases.stop,
        work: Work::Served(SERVICE),
        travel: Travel::KeepAlive,
        clients: 200,
        net: 3,
        timeout: PATIENCE,
        seed: bench.seed(round),
    };
    let flood = Stream {
        rate: factor * CAPACITY,
        from: phases.begin,
        until: phases.end,
        clients: 20,
        net: 4,
        timeout: 2 * PATIENCE,
        seed: !bench.seed(round),
        ..users.clone()
    };
    let (target, path) = deployment.probe;
    let probes = Stream {
        target,
        rate: PROBES_PER_SECOND,
        work: Work::Path(path.to_owned()),
        travel: Travel::Close,
        clients: 1,
        net: 5,
        ..users.clone()
    };
    vec![users, flood, probes]
}

fn account(bench: &mut Bench, place: Place<'_>, phases: Phases, streams: [&[Record]; 3]) {
    let [users, flood, probes] = streams;
    // The first second fills queues; what they hold is from before.
    let from = phases.begin + Duration::from_secs(1).min((phases.end - phases.begin) / 2);
    let during = |record: &&Record| record.due >= from && record.due < phases.end;
    let good = |records: &[Record]| {
        records.iter().filter(during).filter(|record| record.is_good(PATIENCE)).count() as f64
    };
    let lasted = (phases.end - from).as_secs_f64();
    let rate = (good(users) + good(flood)) / lasted;
    bench.add(place, GOODPUT, rate / capacity(users, flood));
    bench.add(place, GOOD_RATE, rate);
    let asked = users.iter().filter(during).count().max(1) as f64;
    bench.add(place, SERVED, 100.0 * good(users) / asked);
    let asked = probes.iter().filter(during).count().max(1) as f64;
    bench.add(place, PROBES, 100.0 * good(probes) / asked);
    let latencies = probes.iter().filter(during).map(|record| record.latency).collect();
    bench.add(place, PROBE_P99, quantile(latencies, 0.99).as_secs_f64() * 1e3);
    bench.add_lag(place, flood);
}

/// Requests per second, if workers do nothing but serve what was answered.
fn capacity(users: &[Record], flood: &[Record]) -> f64 {
    let served = users.iter().chain(flood).filter(|record| record.is_good(Duration::MAX));
    let services: Vec<Duration> = served.map(|record| record.service).collect();
    let busy: Duration = services.iter().sum();
    if busy.is_zero() {
        return CAPACITY;
    }
    f64::from(SETUP.workers) * services.len() as f64 / busy.as_secs_f64()
}

/// How long after the flood until every user of a step was served; `None` if in no step.
fn recovery(users: &[Record], phases: Phases) -> Option<Duration> {
    let mut step = phases.end;
    while step + STEP <= phases.stop {
        let within = |record: &&Record| record.due >= step && record.due < step + STEP;
        let mut asked = users.iter().filter(within).peekable();
        if asked.peek().is_some() && asked.all(|record| record.is_good(PATIENCE)) {
            return Some(step - phases.end);
        }
        step += STEP;
    }
    None
}

/// Good answers over capacity, by when they came.
fn goodput_by_step(streams: &[&[Record]], stop: Duration) -> Vec<f64> {
    let steps = stop.as_millis() / STEP.as_millis();
    let mut goodput = vec![0.0; steps as usize];
    let records = streams.iter().flat_map(|records| records.iter());
    for record in records.filter(|record| record.is_good(PATIENCE)) {
        let step = ((record.due + record.latency).as_millis() / STEP.as_millis()) as usize;
        if let Some(count) = goodput.get_mut(step) {
            *count += 1.0 / (CAPACITY * STEP.as_secs_f64());
        }
    }
    goodput
}

/// The mean of all rounds, per peer.
fn figure(case: &str, phases: Phases, peers: &[Peer], lines: &[Vec<Vec<f64>>]) -> Chart {
    let series = peers.iter().zip(lines).map(|(peer, rounds)| {
        let steps = rounds.first().map_or(0, Vec::len);
        let points = (0..steps).map(|step| {
            let sum: f64 = rounds.iter().map(|round| round[step]).sum();
            (step as f64 * STEP.as_secs_f64(), sum / rounds.len() as f64)
        });
        Series { name: peer.name().to_owned(), points: points.collect() }
    });
    Chart {
        title: format!("Answered within a second, through a flood of {case} the capacity"),
        x_label: "seconds; the flood is shaded".to_owned(),
        y_label: "of capacity".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        shaded: Some((phases.begin.as_secs_f64(), phases.end.as_secs_f64())),
        series: series.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::client::Outcome;

    fn seconds(count: f64) -> Duration {
        Duration::from_secs_f64(count)
    }

    fn user(due: f64, outcome: Outcome) -> Record {
        let none = Duration::ZERO;
        let latency = Duration::from_millis(40);
        Record { due: seconds(due), latency, lag: none, outcome, service: none, worker: 0 }
    }

    #[test]
    fn users_are_served_again_from_the_first_step_in_which_all_are() {
        let phases = Phases { begin: seconds(1.0), end: seconds(3.0), stop: seconds(5.0) };
        let good = Outcome::Answered(200);
        let dues = [2.9, 3.1, 3.4, 3.6, 3.9, 4.1, 4.7];
        let recovered = |failed: &[f64]| {
            let outcome = |due| if failed.contains(&due) { Outcome::TimedOut } else { good };
            let users: Vec<Record> = dues.iter().map(|due| user(*due, outcome(*due))).collect();
            recovery(&users, phases)
        };
        assert_eq!(recovered(&[2.9]), Some(seconds(0.0)));
        assert_eq!(recovered(&[3.4]), Some(seconds(0.5)));
        assert_eq!(recovered(&[3.1, 3.9, 4.1]), Some(seconds(1.5)));
        // Not the last moment that was watched, but none.
        assert_eq!(recovered(&[3.1, 3.9, 4.1, 4.7]), None);
        assert_eq!(recovery(&[], phases), None, "nobody asked");
    }
}
