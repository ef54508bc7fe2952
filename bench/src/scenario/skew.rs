//! Few pooled connections of uneven use: what an ingress in front makes of balanced connections.
//!
//! 32 connections over four workers; the one used last is used next. At half load some connections
//! carry nearly everything, and whoever balances connections has no say in where they lead.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tail::{P99, SERVICE, in_services};
use super::{Bench, FAILED, failures};
use crate::load::{Stream, Travel, Work, quantile};
use crate::peer::{App, Peer, Setup};
use crate::results::{Metric, Place};

const PEERS: [Peer; 4] = [Peer::Tenfold, Peer::TenfoldConnection, Peer::Haproxy, Peer::Cluster];
const SETUP: Setup =
    Setup { app: App::Node, workers: 4, limit: 1, queue_timeout: Duration::from_secs(30) };
const LOAD: f64 = 0.5;
const WINDOW: Duration = Duration::from_millis(2500);

/// Of the answers in a window, over an equal share of them; at most the number of workers.
const BUSIEST: Metric = Metric::lower("busiest worker", "of an equal share");

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let deployments = bench.start_all(&PEERS, SETUP).await?;
    let case = "32 connections, 50 %";
    for round in 0..bench.plan.rounds {
        for deployment in bench.turn(round, &deployments) {
            let peer = deployment.peer.name();
            let place = Place { scenario: "keepalive-skew", case, peer, round };
            let stream = Stream {
                target: deployment.address,
                rate: LOAD * f64::from(SETUP.workers) / SERVICE.as_secs_f64(),
                // Later than the opening of the pool.
                from: Duration::from_millis(100),
                until: Duration::from_millis(100) + bench.window(WINDOW),
                work: Work::Served(SERVICE),
                travel: Travel::Pool { connections: 32 },
                clients: 1,
                net: 2,
                timeout: Duration::from_secs(20),
                seed: bench.seed(round),
            };
            let records = crate::load::run(vec![stream]).await?.remove(0);
            let mut shares: BTreeMap<u32, usize> = BTreeMap::new();
            let mut waits = Vec::new();
            for record in records.iter().filter(|record| record.is_good(Duration::MAX)) {
                *shares.entry(record.worker).or_default() += 1;
                waits.push(record.wait());
            }
            let busiest = shares.values().max().copied().unwrap_or(0) as f64;
            let equal = waits.len() as f64 / f64::from(SETUP.workers);
            bench.add(place, P99, in_services(quantile(waits, 0.99)));
            bench.add(place, BUSIEST, busiest / equal);
            bench.add(place, FAILED, failures(&records) as f64);
            bench.add_lag(place, &records);
        }
    }
    Ok(())
}
