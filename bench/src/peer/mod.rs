//! What is compared, what each needs on the machine, and what all of them are given.

mod commands;
mod deployment;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

pub(crate) use self::deployment::Deployment;

/// Something that serves an app with several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Peer {
    /// tenfold, a request at a time.
    Tenfold,
    /// tenfold, a connection at a time.
    TenfoldConnection,
    /// HAProxy over loopback TCP.
    Haproxy,
    /// HAProxy over Unix sockets.
    HaproxyUnix,
    /// HAProxy over loopback TCP, without the headers that tenfold adds as well.
    HaproxyBare,
    /// nginx over Unix sockets.
    Nginx,
    /// Node's cluster, dealt in turn.
    Cluster,
    /// Node's cluster, workers accept by themselves.
    ClusterShared,
    /// PM2 in cluster mode.
    Pm2,
    /// Platformatic Watt.
    Watt,
    /// Phusion Passenger, standalone.
    Passenger,
    /// One plain Node process.
    Node,
}

impl Peer {
    /// For tables and plots.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tenfold => "tenfold",
            Self::TenfoldConnection => "tenfold, connections",
            Self::Haproxy => "HAProxy, TCP",
            Self::HaproxyUnix => "HAProxy, Unix",
            Self::HaproxyBare => "HAProxy, TCP, bare",
            Self::Nginx => "nginx",
            Self::Cluster => "Node cluster",
            Self::ClusterShared => "Node cluster, shared",
            Self::Pm2 => "PM2",
            Self::Watt => "Watt",
            Self::Passenger => "Passenger",
            Self::Node => "Node alone",
        }
    }

    /// What says its version, and what to install if it is missing.
    fn needs(self, tools: &Tools) -> (PathBuf, &'static str) {
        let from_npm = |name: &str| tools.bench.join("node_modules/.bin").join(name);
        match self {
            Self::Tenfold | Self::TenfoldConnection => {
                (tools.tenfold.clone(), "cargo build, with the profile of the bench")
            }
            Self::Haproxy | Self::HaproxyUnix | Self::HaproxyBare => {
                (on_path("haproxy"), "apt-get install haproxy")
            }
            Self::Nginx => (on_path("nginx"), "apt-get install nginx-light"),
            Self::Cluster | Self::ClusterShared | Self::Node => {
                (on_path("node"), "apt-get install nodejs")
            }
            Self::Pm2 => (from_npm("pm2"), "bench/setup npm"),
            Self::Watt => (from_npm("wattpm"), "bench/setup npm"),
            Self::Passenger => (on_path("passenger"), "apt-get install passenger"),
        }
    }

    /// Why it cannot run here, with the command that helps.
    pub(crate) fn missing(self, tools: &Tools) -> Option<String> {
        let (program, remedy) = self.needs(tools);
        let absent = !program.exists();
        absent.then(|| format!("{} is not installed; to have it: {remedy}", self.name()))
    }
}

/// Where a command is on PATH; a path that does not exist if it is not.
pub(crate) fn on_path(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // nginx and haproxy are in sbin, which is not on every user's path.
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|dir| dir.join(name)).find(|file| file.exists()).unwrap_or_else(|| name.into())
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// The directory `bench/` of the sources.
    pub(crate) bench: PathBuf,
    /// The binary that is measured.
    pub(crate) tenfold: PathBuf,
    /// Looked through for `node`, before every other program.
    pub(crate) path: OsString,
}

impl Tools {
    /// The binary stands beside our own. The Node that `bench/setup` installed comes before that of
    /// the machine: Watt needs 22, and all peers must run the same.
    ///
    /// # Errors
    /// tenfold cannot be built.
    pub(crate) async fn find() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let tenfold = own.with_file_name("tenfold");
        build().await?;
        let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let installed = bench.join("../target/node/22/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = installed.is_dir().then_some(installed);
        let path = std::env::join_paths(dirs.into_iter().chain(std::env::split_paths(&path)))
            .context("PATH holds what it cannot")?;
        Ok(Self { bench, tenfold, path })
    }
}

impl Tools {
    fn node_app(&self) -> PathBuf {
        self.bench.join("apps/server.cjs")
    }
}

/// Brings the binary up to date if cargo runs us; else it is as whoever built it wants it.
async fn build() -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--package", "tenfold", "--bin", "tenfold"]);
    command.args((!cfg!(debug_assertions)).then_some("--release"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).kill_on_drop(true);
    let status = command.status().await.context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "tenfold cannot be built: {status}");
    Ok(())
}

/// What workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    /// `apps/server.cjs`.
    Node,
    /// `bench-worker`, which costs next to nothing; not for peers that are Node themselves.
    Rust,
}

impl App {
    /// The command of one worker.
    fn command(self, tools: &Tools) -> Vec<OsString> {
        match self {
            Self::Node => vec!["node".into(), tools.node_app().into()],
            Self::Rust => vec![tools.tenfold.with_file_name("bench-worker").into()],
        }
    }
}

/// What every peer of a scenario gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) app: App,
    pub(crate) workers: u16,
    /// Requests that a worker may hold at once, where the peer has such a thing.
    pub(crate) limit: u32,
    /// How long a request may wait for a worker, where it waits before the workers.
    pub(crate) queue_timeout: Duration,
}
