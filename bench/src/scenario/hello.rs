//! Peak rate of an app that does nothing: what the way to the worker costs.

use std::time::Duration;

use anyhow::anyhow;

use super::{Bench, Depth, FAILED, Meter};
use crate::peer::{App, Deployment, Peer, Setup};
use crate::results::{Metric, Place};
use crate::wrk::{Connections, Counts, Run, wrk};

/// Idle ones cost nothing: all are up while one is measured.
const PEERS: [Peer; 11] = [
    Peer::Tenfold,
    Peer::TenfoldConnection,
    Peer::Haproxy,
    Peer::HaproxyUnix,
    Peer::HaproxyBare,
    Peer::Nginx,
    Peer::Cluster,
    Peer::ClusterShared,
    Peer::Pm2,
    Peer::Watt,
    Peer::Passenger,
];

pub(crate) const RATE: Metric = Metric::higher("rate", "requests/s");
pub(crate) const WORKERS: u16 = 2;
const SETUP: Setup =
    Setup { app: App::Node, workers: WORKERS, limit: 100, queue_timeout: Duration::from_secs(1) };

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
    warm_up(bench, deployments, path, how).await;
    // A window of a second holds thousands of requests; more pairs tell more than longer ones.
    for round in 0..bench.plan.rounds {
        for deployment in bench.turn(round, deployments) {
            let place = Place { scenario: "hello", case, peer: deployment.peer.name(), round };
            let meter = Meter::start(deployment);
            let address = deployment.address;
            let run = Run { address, path, connections: 64, how, seconds: 1 };
            let Some(counts) = peak(bench, place, run).await? else { continue };
            bench.add(place, RATE, counts.rate);
            meter.finish(bench, place, counts.requests);
            bench.add(place, FAILED, counts.failed as f64);
        }
    }
    Ok(())
}

/// One run of wrk. In a full run one that says nothing of the app becomes a note, and its round has
/// nothing but failures: a second of one peer must not cost the minutes of all others.
///
/// # Errors
/// In a smoke run those, too.
pub(super) async fn peak(
    bench: &mut Bench,
    place: Place<'_>,
    run: Run<'_>,
) -> anyhow::Result<Option<Counts>> {
    let (why, failed) = match wrk(run).await {
        Ok(counts) => match counts.flaw() {
            None => return Ok(Some(counts)),
            Some(flaw) => (anyhow!(flaw), counts.failed.max(1)),
        },
        // Not one of its connections was of use.
        Err(error) => (error, u64::from(run.connections)),
    };
    bench.add(place, FAILED, failed as f64);
    let Place { scenario, case, peer, .. } = place;
    bench.did_not_run(why.context(format!("{scenario}, {case}: a round of {peer}")))?;
    Ok(None)
}

/// Lets Node compile what it will run: until then a request costs up to twice as much.
pub(super) async fn warm_up(
    bench: &Bench,
    deployments: &[Deployment],
    path: &str,
    how: Connections,
) {
    if bench.plan.depth == Depth::Full {
        for deployment in deployments {
            let address = deployment.address;
            // What fails here fails again in the first round, and is told there.
            let _ = wrk(Run { address, path, connections: 64, how, seconds: 3 }).await;
        }
    }
}
