//! A page of 1 MB after a wait of 100 ms: memory by the number of connections, bounded or not.

use std::time::Duration;

use super::hello::RATE;
use super::{Bench, FAILED, FRONT_MEMORY, WORKER_MEMORY, turn};
use crate::peer::{App, Deployment, Peer, Setup};
use crate::plot::{Chart, Scale, Series};
use crate::process::usage;
use crate::results::Place;
use crate::wrk::{Connections, Run, wrk};

/// HAProxy twice: what a worker has written and nobody has read yet lies in the kernel over TCP,
/// where no resident set shows it, and mostly in the worker over Unix sockets: they hold little.
const PEERS: [Peer; 4] = [Peer::Tenfold, Peer::Haproxy, Peer::HaproxyUnix, Peer::Node];
const CONNECTIONS: [(&str, u32); 4] = [("20", 20), ("100", 100), ("500", 500), ("1500", 1500)];
/// The limit of the incident that the scenario is taken from; nobody is shed for waiting.
const SETUP: Setup =
    Setup { app: App::Node, workers: 1, limit: 20, queue_timeout: Duration::from_secs(60) };
/// Between two looks at the memory.
const SAMPLE: Duration = Duration::from_millis(50);

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let peers = bench.peers(&PEERS)?;
    let seconds = bench.window(Duration::from_secs(2)).as_secs() as u32;
    for (case, connections) in bench.cases(&CONNECTIONS) {
        for round in 0..bench.plan.rounds {
            for peer in turn(round, &peers) {
                // A heap that has grown stays so: each window has processes of its own.
                let Some(deployment) = bench.start(*peer, SETUP).await? else { continue };
                let place = Place { scenario: "memory", case, peer: peer.name(), round };
                let address = deployment.address;
                let how = Connections::Kept;
                let load = wrk(Run { address, path: "/shop", connections, how, seconds });
                let (counts, front, workers) = watched(load, &deployment).await;
                let counts = counts?;
                bench.add(place, WORKER_MEMORY, workers as f64 / 1e6);
                if front > 0 {
                    bench.add(place, FRONT_MEMORY, front as f64 / 1e6);
                }
                bench.add(place, RATE, counts.rate);
                bench.add(place, FAILED, counts.failed as f64);
            }
        }
    }
    let figure = figure(bench);
    bench.figures.push(("memory".to_owned(), figure));
    Ok(())
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

fn figure(bench: &Bench) -> Chart {
    let series = PEERS.map(|peer| {
        let points = CONNECTIONS.iter().filter_map(|(case, connections)| {
            let cell = bench.results.find("memory", case, peer.name(), WORKER_MEMORY.name)?;
            Some((f64::from(*connections), cell.summary()?.median))
        });
        Series { name: peer.name().to_owned(), points: points.collect() }
    });
    Chart {
        title: "Memory of a worker by connections: 1 MB after 100 ms, limit 20".to_owned(),
        x_label: "connections".to_owned(),
        y_label: "MB".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        shaded: None,
        series: series.into_iter().filter(|series| !series.points.is_empty()).collect(),
    }
}
