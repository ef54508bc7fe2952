//! From exec to the first answer, against a plain Node process.

use std::time::Duration;

use super::Bench;
use crate::peer::{App, Deployment, Peer, Setup};
use crate::results::{Metric, Place};

const PEERS: [Peer; 7] = [
    Peer::Tenfold,
    Peer::TenfoldConnection,
    Peer::Node,
    Peer::Cluster,
    Peer::Pm2,
    Peer::Watt,
    Peer::Passenger,
];
/// One worker: with more, how many CPUs there are would decide.
const SETUP: Setup =
    Setup { app: App::Node, workers: 1, limit: 100, queue_timeout: Duration::from_secs(1) };
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const FIRST_ANSWER: Metric = Metric::lower("first answer", "ms");

pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let peers = bench.peers(&PEERS)?;
    for round in 0..bench.plan.rounds {
        for peer in bench.turn(round, &peers) {
            let started = tenfold::clock::now();
            let answered = async {
                let mut deployment = Deployment::launch(*peer, SETUP, &bench.tools)?;
                deployment.until_answer(started + PATIENCE).await?;
                anyhow::Ok(tenfold::clock::now() - started)
            };
            let took = match answered.await {
                Ok(took) => took,
                Err(error) => {
                    bench.did_not_run(error.context(peer.name()))?;
                    continue;
                }
            };
            let place = Place { scenario: "start", case: "one worker", peer: peer.name(), round };
            bench.add(place, FIRST_ANSWER, took.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}
