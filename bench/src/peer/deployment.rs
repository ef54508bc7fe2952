//! Starts a peer with everything it stands in front of, and asks whether it is ready.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::commands::{Commands, Start};
use super::{Peer, Setup, Tools};
use crate::load::client::{Connection, Outcome};
use crate::process::{Group, Members};

/// A running peer. Dropping it ends every process.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) peer: Peer,
    pub(crate) address: SocketAddr,
    /// Where and what a balancer would probe, as the peer's manual advises.
    pub(crate) probe: (SocketAddr, &'static str),
    group: Group,
    // Removed after the processes are gone: fields are dropped in order.
    dir: tempfile::TempDir,
}

/// How long a peer may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);

impl Deployment {
    /// Starts `peer` and waits until all its workers answer.
    ///
    /// # Errors
    /// It cannot be started, ended by itself, or did not answer; with the end of its output.
    pub(crate) async fn start(peer: Peer, setup: Setup, tools: &Tools) -> anyhow::Result<Self> {
        let mut deployment = Self::launch(peer, setup, tools)?;
        if let Err(error) = deployment.until_ready(setup).await {
            let log = deployment.last_output();
            return Err(error.context(format!("{}: {log}", peer.name())));
        }
        Ok(deployment)
    }

    /// Starts `peer` and returns at once.
    ///
    /// # Errors
    /// A program cannot be executed or a file cannot be written.
    pub(crate) fn launch(peer: Peer, setup: Setup, tools: &Tools) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a directory")?;
        let (port, admin) = (free_port()?, free_port()?);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let probe = match peer {
            Peer::Tenfold | Peer::TenfoldConnection => {
                (SocketAddr::from((Ipv4Addr::LOCALHOST, admin)), "/readyz")
            }
            Peer::Haproxy | Peer::HaproxyUnix | Peer::HaproxyBare | Peer::Nginx => {
                (address, "/probe")
            }
            Peer::Cluster
            | Peer::ClusterShared
            | Peer::Pm2
            | Peer::Watt
            | Peer::Passenger
            | Peer::Node => (address, "/healthz"),
        };
        let mut group = Group::new(tools.path.clone());
        for start in (Commands { peer, setup, tools, port, admin, dir: dir.path() }).all()? {
            let Start { mut command, log } = start;
            group.spawn(&mut command, &dir.path().join(log))?;
        }
        Ok(Self { peer, address, probe, group, dir })
    }

    /// Its processes, as they are now.
    pub(crate) fn members(&self) -> Members {
        self.group.members()
    }

    /// Waits until it answers, then until every worker has answered or 2 s have passed: with a
    /// shared socket the kernel may leave one out, and all of Watt is one process.
    async fn until_ready(&mut self, setup: Setup) -> anyhow::Result<()> {
        let started = tenfold::clock::now();
        self.until_answer(started + READY_WITHIN).await?;
        let mut seen = std::collections::BTreeSet::new();
        let deadline = tenfold::clock::now() + Duration::from_secs(2);
        while seen.len() < usize::from(setup.workers) && tenfold::clock::now() < deadline {
            let asked = (0..4 * setup.workers).map(|_| ask(self.address, "/work?wait_us=20000"));
            for answer in join_all(asked).await {
                seen.extend(answer.ok().map(|answer| answer.worker));
            }
        }
        self.group.remember();
        Ok(())
    }

    /// Waits for the first answer of the app.
    ///
    /// # Errors
    /// A process ended, or there was none until `deadline`.
    pub(crate) async fn until_answer(&mut self, deadline: Instant) -> anyhow::Result<()> {
        loop {
            if ask(self.address, "/").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.group.ended() {
                bail!("a process of it ended: {status}");
            }
            if tenfold::clock::now() > deadline {
                bail!("no answer within {READY_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn last_output(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("front.log")).unwrap_or_default();
        let told = log.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
        // A line of JSON may be a page long.
        told.chars().take(200).collect()
    }
}

async fn ask(address: SocketAddr, path: &str) -> Result<crate::load::client::Answer, Outcome> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut connection = Connection::open(Ipv4Addr::LOCALHOST, address).await?;
        connection.exchange(request.as_bytes()).await
    };
    let bounded = tokio::time::timeout(Duration::from_secs(2), exchange).await;
    bounded.unwrap_or(Err(Outcome::TimedOut))
}

/// All at once; results in any order.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T> + 'static>) -> Vec<T>
where
    T: 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    let local = tokio::task::LocalSet::new();
    for future in futures {
        tasks.spawn_local_on(future, &local);
    }
    local.run_until(tasks.join_all()).await
}

/// A port that nobody listens on now. Below those that the kernel gives to outgoing connections, of
/// which there are many: one of them could take it before the peer does.
pub(super) fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two benches at once should not walk side by side.
    let begin = (std::process::id() % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + begin.wrapping_add(step) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST_PORT} on");
}

const FIRST_PORT: u16 = 15_000;
const PORTS: u16 = 16_000;
