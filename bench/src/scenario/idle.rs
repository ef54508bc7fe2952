//! Memory and wake-ups while nothing happens: of new processes, after 64 busy connections, and with
//! 1,000 idle ones.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Bench, FRONT_MEMORY, Meter, WORKER_MEMORY, turn};
use crate::load::client::Connection;
use crate::peer::{App, Deployment, Peer, Setup};
use crate::process::usage;
use crate::results::{Metric, Place};
use crate::wrk::{Connections, Run, wrk};

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
/// Long enough to count wake-ups.
const WINDOW: Duration = Duration::from_millis(400);

const WAKEUPS: Metric = Metric::lower("wake-ups of the front", "1/s");

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let peers = bench.peers(&PEERS)?;
    for round in 0..bench.plan.rounds {
        for peer in turn(round, &peers) {
            // Two starts differ by more than two looks at the same processes.
            let Some(deployment) = bench.start(*peer, SETUP).await? else { continue };
            watch(bench, &deployment, "no connections", round).await;
            let address = deployment.address;
            let how = Connections::Kept;
            wrk(Run { address, path: "/", connections: 64, how, seconds: 1 }).await?;
            watch(bench, &deployment, "after 64 busy ones", round).await;
            let crowd = gather(&deployment).await;
            if crowd.len() < usize::from(CROWD) {
                let peer = deployment.peer.name();
                bench.results.note(format!("idle: {peer} kept {} of {CROWD}", crowd.len()));
            }
            watch(bench, &deployment, "1000 idle connections", round).await;
        }
    }
    Ok(())
}

/// Connections of which each has carried a request: one that never did costs less.
async fn gather(deployment: &Deployment) -> Vec<Connection> {
    let mut crowd = Vec::new();
    for client in 0..CROWD {
        let [high, low] = (client / 100 + 1).to_be_bytes();
        let source = Ipv4Addr::new(127, 8, high, low);
        let Ok(mut connection) = Connection::open(source, deployment.address).await else {
            continue;
        };
        if connection.exchange(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n").await.is_ok() {
            crowd.push(connection);
        }
    }
    crowd
}

async fn watch(bench: &mut Bench, deployment: &Deployment, case: &str, round: usize) {
    let place = Place { scenario: "idle", case, peer: deployment.peer.name(), round };
    let meter = Meter::start(deployment);
    tokio::time::sleep(bench.window(WINDOW)).await;
    let members = deployment.members();
    if !members.front.is_empty() {
        bench.add(place, FRONT_MEMORY, usage(&members.front).memory_bytes as f64 / 1e6);
        bench.add(place, WAKEUPS, meter.wakeups());
    }
    bench.add(place, WORKER_MEMORY, usage(&members.workers).memory_bytes as f64 / 1e6);
}
