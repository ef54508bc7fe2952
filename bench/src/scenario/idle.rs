//! Memory and wake-ups while nothing happens: of new processes, after 64 busy connections, and with
//! 1,000 idle ones.
//!
//! All peers of a round are up at once: in none of them does anything happen, so that one window is
//! enough for all.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::hello::peak;
use super::{Bench, FRONT_MEMORY, Meter, WORKER_MEMORY, turn};
use crate::load::client::Connection;
use crate::peer::{App, Deployment, Peer, Setup};
use crate::process::usage;
use crate::results::{Metric, Place};
use crate::wrk::{Connections, Run};

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
/// Of wake-ups that come once a second it sees two.
const WINDOW: Duration = Duration::from_secs(2);
/// From the last request to the look at the memory. A heap may shrink while it
/// waits, so nobody waits for the others.
const CALM: Duration = Duration::from_millis(400);

const NEW: &str = "no connections";
const BUSY: &str = "after 64 busy ones";
const CROWDED: &str = "1000 idle connections";

const FRONT_WAKEUPS: Metric = Metric::lower("wake-ups of the front", "1/s");
/// What peers have put into their workers wakes up there.
const ALL_WAKEUPS: Metric = Metric::lower("wake-ups, all processes", "1/s");

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let peers = bench.peers(&PEERS)?;
    for round in 0..bench.plan.rounds {
        // Two starts differ by more than two looks at the same processes.
        let mut all = Vec::new();
        for peer in turn(round, &peers) {
            if let Some(deployment) = bench.start(*peer, SETUP).await? {
                weigh(bench, &deployment, NEW, round).await;
                all.push(deployment);
            }
        }
        watch(bench, &all, NEW, round).await;

        let all = keep_busy(bench, all, round).await?;
        watch(bench, &all, BUSY, round).await;

        let mut crowds = Vec::new();
        for deployment in &all {
            crowds.push(gather(deployment).await);
            weigh(bench, deployment, CROWDED, round).await;
        }
        watch(bench, &all, CROWDED, round).await;
        for (deployment, crowd) in all.iter().zip(&crowds) {
            let kept = crowd.iter().filter(|connection| connection.is_fresh()).count();
            if kept < usize::from(CROWD) {
                let peer = deployment.peer.name();
                bench.results.note(format!("idle: {peer} kept {kept} of {CROWD}"));
            }
        }
    }
    Ok(())
}

/// A second of 64 busy connections each, and the memory after it. Returns those that served them.
async fn keep_busy(
    bench: &mut Bench,
    all: Vec<Deployment>,
    round: usize,
) -> anyhow::Result<Vec<Deployment>> {
    let mut served = Vec::new();
    for deployment in all {
        let (address, peer) = (deployment.address, deployment.peer.name());
        let place = Place { scenario: "idle", case: BUSY, peer, round };
        let how = Connections::Kept;
        let run = Run { address, path: "/", connections: 64, how, seconds: 1 };
        if peak(bench, place, run).await?.is_some() {
            weigh(bench, &deployment, BUSY, round).await;
            served.push(deployment);
        }
    }
    Ok(served)
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

/// Counts wake-ups of all peers, in one window.
async fn watch(bench: &mut Bench, all: &[Deployment], case: &str, round: usize) {
    let meters: Vec<Meter> = all.iter().map(Meter::start).collect();
    tokio::time::sleep(bench.window(WINDOW)).await;
    for (deployment, meter) in all.iter().zip(&meters) {
        let place = Place { scenario: "idle", case, peer: deployment.peer.name(), round };
        let (front, workers) = meter.wakeups();
        if !meter.front.is_empty() {
            bench.add(place, FRONT_WAKEUPS, front);
        }
        bench.add(place, ALL_WAKEUPS, front + workers);
    }
}

/// Adds the memory of one peer, once it is calm.
async fn weigh(bench: &mut Bench, deployment: &Deployment, case: &str, round: usize) {
    tokio::time::sleep(CALM).await;
    let place = Place { scenario: "idle", case, peer: deployment.peer.name(), round };
    let members = deployment.members();
    if !members.front.is_empty() {
        bench.add(place, FRONT_MEMORY, usage(&members.front).memory_bytes as f64 / 1e6);
    }
    bench.add(place, WORKER_MEMORY, usage(&members.workers).memory_bytes as f64 / 1e6);
}
