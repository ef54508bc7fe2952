//! Memory and wake-ups while nothing happens, without connections and with 1,000 idle ones.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Bench, FRONT_MEMORY, Meter, WORKER_MEMORY};
use crate::load::client::Connection;
use crate::peer::{App, Deployment, Peer, Setup};
use crate::process::usage;
use crate::results::{Metric, Place};

const PEERS: [Peer; 8] = [
    Peer::Tenfold,
    Peer::TenfoldConnection,
    Peer::Haproxy,
    Peer::Nginx,
    Peer::Cluster,
    Peer::Pm2,
    Peer::Watt,
    Peer::Passenger,
];
const SETUP: Setup =
    Setup { app: App::Node, workers: 2, limit: 100, queue_timeout: Duration::from_secs(1) };
const CROWD: u16 = 1000;

const WAKEUPS: Metric = Metric::lower("wake-ups of the front", "1/s");

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let deployments = bench.start_all(&PEERS, SETUP).await?;
    for deployment in &deployments {
        let window = bench.window(Duration::from_millis(500));
        for round in 0..bench.plan.rounds {
            watch(bench, deployment, "no connections", round, window).await;
        }
        // Each has carried a request: a connection that never did costs less.
        let mut crowd = Vec::new();
        for client in 0..CROWD {
            let [high, low] = (client / 100 + 1).to_be_bytes();
            let source = Ipv4Addr::new(127, 8, high, low);
            let Ok(mut connection) = Connection::open(source, deployment.address).await else {
                continue;
            };
            let request = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
            if connection.exchange(request).await.is_ok() {
                crowd.push(connection);
            }
        }
        if crowd.len() < usize::from(CROWD) {
            let peer = deployment.peer.name();
            bench.results.note(format!("idle: {peer} kept {} of {CROWD}", crowd.len()));
        }
        for round in 0..bench.plan.rounds {
            watch(bench, deployment, "1000 idle connections", round, window).await;
        }
    }
    Ok(())
}

async fn watch(
    bench: &mut Bench,
    deployment: &Deployment,
    case: &str,
    round: usize,
    window: Duration,
) {
    let place = Place { scenario: "idle", case, peer: deployment.peer.name(), round };
    let meter = Meter::start(deployment);
    tokio::time::sleep(window).await;
    let members = deployment.members();
    if !members.front.is_empty() {
        bench.add(place, FRONT_MEMORY, usage(&members.front).memory_bytes as f64 / 1e6);
        bench.add(place, WAKEUPS, meter.wakeups());
    }
    bench.add(place, WORKER_MEMORY, usage(&members.workers).memory_bytes as f64 / 1e6);
}
