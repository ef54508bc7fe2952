//! CPU per connection, at a rate that everybody can serve and at the most: what being given one
//! costs.

use std::time::Duration;

use super::hello::{peak, warm_up};
use super::{Bench, FAILED, Meter, failures};
use crate::load::{Stream, Travel, Work};
use crate::peer::{App, Deployment, Peer, Setup};
use crate::results::Place;
use crate::wrk::{Connections, Run};

const PEERS: [Peer; 5] =
    [Peer::TenfoldConnection, Peer::Tenfold, Peer::Cluster, Peer::ClusterShared, Peer::HaproxyUnix];
const SETUP: Setup =
    Setup { app: App::Node, workers: 2, limit: 100, queue_timeout: Duration::from_secs(1) };
/// Far below what the slowest can do on one slow core.
const RATE: f64 = 1000.0;

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let deployments = bench.start_all(&PEERS, SETUP).await?;
    warm_up(bench, &deployments, "/", Connections::OneEach).await;
    for round in 0..bench.plan.rounds {
        for deployment in bench.turn(round, &deployments) {
            at_a_rate(bench, deployment, round).await?;
        }
        for deployment in bench.turn(round, &deployments) {
            at_most(bench, deployment, round).await?;
        }
    }
    Ok(())
}

/// Connections come one by one, and most find a worker asleep.
async fn at_a_rate(bench: &mut Bench, deployment: &Deployment, round: usize) -> anyhow::Result<()> {
    let case = "1000 connections/s";
    let place = Place { scenario: "handover", case, peer: deployment.peer.name(), round };
    let stream = Stream {
        target: deployment.address,
        rate: RATE,
        from: Duration::ZERO,
        until: bench.window(Duration::from_secs(2)),
        work: Work::Path("/".to_owned()),
        travel: Travel::Close,
        clients: 64,
        net: 7,
        timeout: Duration::from_secs(5),
        seed: bench.seed(round),
    };
    let meter = Meter::start(deployment);
    let records = crate::load::run(vec![stream]).await?.remove(0);
    meter.finish(bench, place, records.len() as u64);
    bench.add(place, FAILED, failures(&records) as f64);
    bench.add_lag(place, &records);
    Ok(())
}

/// As many as can be served, with a few waiting: nobody sleeps, and what can be done for several
/// at once is.
async fn at_most(bench: &mut Bench, deployment: &Deployment, round: usize) -> anyhow::Result<()> {
    let case = "32 at a time";
    let place = Place { scenario: "handover", case, peer: deployment.peer.name(), round };
    let meter = Meter::start(deployment);
    let how = Connections::OneEach;
    let run = Run { address: deployment.address, path: "/", connections: 32, how, seconds: 1 };
    let Some(counts) = peak(bench, place, run).await? else { return Ok(()) };
    meter.finish_main_cpu(bench, place, counts.requests);
    meter.finish_cpu(bench, place, counts.requests);
    bench.add(place, FAILED, counts.failed as f64);
    Ok(())
}
