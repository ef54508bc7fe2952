//! Workers killed with KILL, two seconds apart, at 80 % load: what clients see of it.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Bench, Depth, FAILED};
use crate::load::client::Outcome;
use crate::load::{Stream, Travel, Work, quantile};
use crate::peer::{App, Deployment, Peer, Setup};
use crate::results::{Metric, Place};

const PEERS: [Peer; 4] = [Peer::Tenfold, Peer::TenfoldConnection, Peer::Cluster, Peer::Pm2];
const SETUP: Setup =
    Setup { app: App::Node, workers: 4, limit: 20, queue_timeout: Duration::from_secs(1) };
const SERVICE: Duration = Duration::from_millis(20);
const LOAD: f64 = 0.8;

/// When a worker is killed, and how long all of it takes: each kill is followed by the two seconds
/// in which its worker is replaced and its requests are answered, or not.
struct Course {
    kills: &'static [Duration],
    window: Duration,
}

const FULL: Course = Course {
    kills: &[Duration::from_secs(1), Duration::from_secs(3)],
    window: Duration::from_secs(5),
};
/// Smoke runs have room for one kill as well.
const SMOKE: Course =
    Course { kills: &[Duration::from_millis(400)], window: Duration::from_secs(1) };

/// Connection ended before a byte of the answer.
const LOST: Metric = Metric::lower("lost", "requests");
const P99: Metric = Metric::lower("latency, p99", "ms");

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let deployments = bench.start_all(&PEERS, SETUP).await?;
    let case = "80 %";
    let Course { kills, window } = match bench.plan.depth {
        Depth::Full => FULL,
        Depth::Smoke => SMOKE,
    };
    for round in 0..bench.plan.rounds {
        for deployment in bench.turn(round, &deployments) {
            let place = Place { scenario: "crash", case, peer: deployment.peer.name(), round };
            let stream = Stream {
                target: deployment.address,
                rate: LOAD * f64::from(SETUP.workers) / SERVICE.as_secs_f64(),
                from: Duration::ZERO,
                until: window,
                work: Work::Served(SERVICE),
                travel: Travel::KeepAlive,
                clients: 64,
                net: 6,
                timeout: Duration::from_secs(5),
                seed: bench.seed(round),
            };
            let mut load = std::pin::pin!(crate::load::run(vec![stream]));
            let records = tokio::select! {
                records = &mut load => records?,
                never = kill_workers(deployment, kills, round) => match never {},
            };
            let lost = records[0].iter().filter(|record| record.outcome == Outcome::Lost).count();
            bench.add(place, LOST, lost as f64);
            bench.add(place, FAILED, super::failures(&records[0]) as f64);
            let latencies = records[0].iter().map(|record| record.latency).collect();
            bench.add(place, P99, quantile(latencies, 0.99).as_secs_f64() * 1e3);
            bench.add_lag(place, &records[0]);
        }
    }
    Ok(())
}

/// Kills one worker at each of these times, in each round others first; never ends by itself.
async fn kill_workers(
    deployment: &Deployment,
    kills: &[Duration],
    round: usize,
) -> std::convert::Infallible {
    let start = tenfold::clock::now();
    for (number, after) in kills.iter().enumerate() {
        tokio::time::sleep_until((start + *after).into()).await;
        let workers = deployment.members().workers;
        if let Some(pid) = workers.get((round + number) % workers.len().max(1)) {
            // It may have ended by itself: then there is one crash less in the window.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
    std::future::pending().await
}
