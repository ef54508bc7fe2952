//! A page of 1 MB that waits for 100 ms, by the number of connections, bounded or not.
//!
//! The page is there before the wait, as one from a cache is while its request waits for something
//! else: whoever serves every connection at once holds as many pages as there are connections.

use std::time::Duration;

use super::hello::RATE;
use super::{Bench, FAILED, FRONT_MEMORY, Meter, WORKER_MEMORY};
use crate::load::crowd::Crowd;
use crate::peer::{App, Deployment, Peer, Setup};
use crate::plot::{Chart, Scale, Series};
use crate::process::usage;
use crate::results::{Metric, Place};

/// HAProxy twice: what a worker has written and nobody has read yet lies in the kernel over TCP,
/// where no resident set shows it, and partly in the worker over Unix sockets: they hold less.
const PEERS: [Peer; 4] = [Peer::Tenfold, Peer::Haproxy, Peer::HaproxyUnix, Peer::Node];
/// The limit of the incident that the scenario is taken from. Nobody is shed: every connection has
/// room in the queue, which is longer than there are connections, and time.
const SETUP: Setup =
    Setup { app: App::Node, workers: 1, limit: 100, queue_timeout: Duration::from_secs(60) };
/// Between two looks at the memory.
const SAMPLE: Duration = Duration::from_millis(50);

/// Connections, ascending, and for how long: unbounded, those of the last case are answered in
/// turns of several seconds.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    connections: u32,
    window: Duration,
}

const fn case(name: &'static str, connections: u32, seconds: u64) -> Case {
    Case { name, connections, window: Duration::from_secs(seconds) }
}

const CASES: [Case; 4] =
    [case("25", 25, 1), case("100", 100, 1), case("400", 400, 1), case("1500", 1500, 4)];

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let peers = bench.peers(&PEERS)?;
    for round in 0..bench.plan.rounds {
        for peer in bench.turn(round, &peers) {
            // A heap that has grown stays so: each round has processes of its own, and in it
            // connections only become more.
            let Some(deployment) = bench.start(*peer, SETUP).await? else { continue };
            for case in bench.cases(&CASES) {
                measure(bench, &deployment, case, round).await;
            }
        }
    }
    for (name, metric) in [("memory", WORKER_MEMORY), ("memory-rate", RATE)] {
        let figure = figure(bench, metric);
        bench.figures.push((name.to_owned(), figure));
    }
    Ok(())
}

/// One window; memory is the most that was held in it.
async fn measure(bench: &mut Bench, deployment: &Deployment, case: Case, round: usize) {
    let place = Place { scenario: "memory", case: case.name, peer: deployment.peer.name(), round };
    let crowd = Crowd::gather(deployment.address, case.connections, 9).await;
    if crowd.len() < case.connections as usize {
        let (peer, name) = (deployment.peer.name(), case.name);
        bench.results.note(format!("memory: {peer} took {} of {name}", crowd.len()));
    }
    let meter = Meter::start(deployment);
    let load = crowd.ask("/shop", bench.window(case.window));
    let (counts, front, workers) = watched(load, deployment).await;
    bench.add(place, WORKER_MEMORY, workers as f64 / 1e6);
    if front > 0 {
        bench.add(place, FRONT_MEMORY, front as f64 / 1e6);
    }
    bench.add(place, RATE, counts.rate);
    meter.finish_cpu(bench, place, counts.requests);
    bench.add(place, FAILED, counts.failed as f64);
}

/// What `load` gives, and the most memory that front and workers held meanwhile, in bytes.
async fn watched<T>(load: impl Future<Output = T>, deployment: &Deployment) -> (T, u64, u64) {
    let members = deployment.members();
    let mut most = (0, 0);
    let mut load = std::pin::pin!(load);
    let mut sample = tokio::time::interval(SAMPLE);
    loop {
        tokio::select! {
            // The result first: a look afterwards would see the next window.
            biased;
            result = &mut load => return (result, most.0, most.1),
            _ = sample.tick() => {
                most.0 = most.0.max(usage(&members.front).memory_bytes);
                most.1 = most.1.max(usage(&members.workers).memory_bytes);
            }
        }
    }
}

fn figure(bench: &Bench, metric: Metric) -> Chart {
    let series = PEERS.map(|peer| {
        let points = CASES.iter().filter_map(|case| {
            let cell = bench.results.find("memory", case.name, peer.name(), metric.name)?;
            Some((f64::from(case.connections), cell.summary()?.median))
        });
        Series { name: peer.name().to_owned(), points: points.collect() }
    });
    let limit = SETUP.limit;
    Chart {
        title: format!("1 MB after 100 ms, limit {limit}: {} by connections", metric.name),
        x_label: "connections".to_owned(),
        y_label: metric.unit.to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        shaded: None,
        series: series.into_iter().filter(|series| !series.points.is_empty()).collect(),
    }
}
