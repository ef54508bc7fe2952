//! Peak rate of an app that does nothing: what the way to the worker costs.

use std::time::Duration;

use super::{Bench, FAILED, Meter};
use crate::peer::{App, Deployment, Peer, Setup};
use crate::results::{Metric, Place};
use crate::wrk::{Connections, Run, wrk};

/// Idle ones cost nothing: all are up while one is measured.
const PEERS: [Peer; 9] = [
    Peer::Tenfold,
    Peer::TenfoldConnection,
    Peer::Haproxy,
    Peer::HaproxyUnix,
    Peer::Nginx,
    Peer::Cluster,
    Peer::ClusterShared,
    Peer::Pm2,
    Peer::Watt,
];

pub(super) const RATE: Metric = Metric::higher("rate", "requests/s");
const SETUP: Setup =
    Setup { app: App::Node, workers: 2, limit: 100, queue_timeout: Duration::from_secs(1) };

/// A page that keeps a worker's CPU busy: there the way to the worker hardly counts.
const PAGE_PEERS: [Peer; 4] = [Peer::Tenfold, Peer::Haproxy, Peer::Nginx, Peer::Cluster];
/// With workers that cost next to nothing the front is what limits.
const RUST_PEERS: [Peer; 4] = [Peer::Tenfold, Peer::Haproxy, Peer::HaproxyUnix, Peer::Nginx];

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let deployments = bench.start_all(&PEERS, SETUP).await?;
    measure(bench, &deployments, ("keep-alive", "/", Connections::Kept)).await?;
    measure(bench, &deployments, ("close", "/", Connections::OneEach)).await?;
    if bench.tools.bench.join("node_modules/react-dom").is_dir() {
        let some: Vec<_> = (deployments.into_iter())
            .filter(|deployment| PAGE_PEERS.contains(&deployment.peer))
            .collect();
        measure(bench, &some, ("React page", "/page", Connections::Kept)).await?;
    } else {
        drop(deployments);
        bench.results.note("no React page: bench/setup npm installs React".to_owned());
    }
    let deployments = bench.start_all(&RUST_PEERS, Setup { app: App::Rust, ..SETUP }).await?;
    measure(bench, &deployments, ("Rust workers", "/", Connections::Kept)).await
}

/// One case: what it is called, the path, and what becomes of connections.
async fn measure(
    bench: &mut Bench,
    deployments: &[Deployment],
    (case, path, how): (&str, &str, Connections),
) -> anyhow::Result<()> {
    let seconds = bench.window(Duration::from_secs(2)).as_secs() as u32;
    for round in 0..bench.plan.rounds {
        for deployment in deployments {
            let place = Place { scenario: "hello", case, peer: deployment.peer.name(), round };
            let meter = Meter::start(deployment);
            let address = deployment.address;
            let counts = wrk(Run { address, path, connections: 64, how, seconds }).await?;
            bench.add(place, RATE, counts.rate);
            meter.finish(bench, place, counts.requests);
            bench.add(place, FAILED, counts.failed as f64);
        }
    }
    Ok(())
}
