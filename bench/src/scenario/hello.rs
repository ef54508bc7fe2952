//! Peak rate of an app that does nothing: what the way to the worker costs.

use std::time::Duration;

use super::{Bench, FAILED, Meter};
use crate::peer::{Peer, Setup};
use crate::results::{Metric, Place};
use crate::wrk::{Connections, Run, wrk};

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
const SETUP: Setup = Setup { workers: 2, limit: 100, queue_timeout: Duration::from_secs(1) };

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let deployments = bench.start_all(&PEERS, SETUP).await?;
    let seconds = bench.window(Duration::from_secs(2)).as_secs() as u32;
    for (case, how) in [("keep-alive", Connections::Kept), ("close", Connections::OneEach)] {
        for round in 0..bench.plan.rounds {
            for deployment in &deployments {
                let place = Place { scenario: "hello", case, peer: deployment.peer.name(), round };
                let meter = Meter::start(deployment);
                let address = deployment.address;
                let run = Run { address, path: "/", connections: 64, how, seconds };
                let counts = wrk(run).await?;
                bench.add(place, RATE, counts.rate);
                meter.finish(bench, place, counts.requests);
                bench.add(place, FAILED, counts.failed as f64);
            }
        }
    }
    Ok(())
}
