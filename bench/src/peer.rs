//! What is compared, and how each is started, found and asked whether it is ready.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::load::client::{Connection, Outcome};
use crate::process::{Group, Members};

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
            Self::Nginx => "nginx",
            Self::Cluster => "Node cluster",
            Self::ClusterShared => "Node cluster, shared",
            Self::Pm2 => "PM2",
            Self::Watt => "Watt",
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
            Self::Haproxy | Self::HaproxyUnix => (on_path("haproxy"), "apt-get install haproxy"),
            Self::Nginx => (on_path("nginx"), "apt-get install nginx-light"),
            Self::Cluster | Self::ClusterShared | Self::Node => {
                (on_path("node"), "apt-get install nodejs")
            }
            Self::Pm2 => (from_npm("pm2"), "bench/setup npm"),
            Self::Watt => (from_npm("wattpm"), "bench/setup npm"),
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
    pub(crate) fn find() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let tenfold = own.with_file_name("tenfold");
        build()?;
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
fn build() -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--package", "tenfold", "--bin", "tenfold"]);
    command.args((!cfg!(debug_assertions)).then_some("--release"));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = command.status().context("cannot run cargo")?;
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
            Peer::Haproxy | Peer::HaproxyUnix | Peer::Nginx => (address, "/probe"),
            Peer::Cluster | Peer::ClusterShared | Peer::Pm2 | Peer::Watt | Peer::Node => {
                (address, "/healthz")
            }
        };
        let mut deployment =
            Self { peer, address, probe, group: Group::new(tools.path.clone()), dir };
        deployment.start_processes(setup, tools, admin)?;
        Ok(deployment)
    }

    /// Its processes, as they are now.
    pub(crate) fn members(&self) -> Members {
        self.group.members()
    }

    fn start_processes(&mut self, setup: Setup, tools: &Tools, admin: u16) -> anyhow::Result<()> {
        let port = self.address.port();
        let app = tools.node_app();
        let workers = setup.workers.to_string();
        let node = |file: &Path| {
            let mut command = Command::new("node");
            command.arg(file).env("PORT", port.to_string()).env("APP", &app);
            command.env("WORKERS", &workers);
            command
        };
        let mut command = match self.peer {
            Peer::Tenfold | Peer::TenfoldConnection => {
                let name = match self.peer {
                    Peer::Tenfold => "tenfold-request.toml",
                    _ => "tenfold-connection.toml",
                };
                let file =
                    self.render(name, setup, tools, &[("ADMIN_PORT", &admin.to_string())])?;
                let mut command = Command::new(&tools.tenfold);
                command.arg("-c").arg(file).arg("--").args(setup.app.command(tools));
                command.env("XDG_RUNTIME_DIR", self.dir.path()).env_remove("RUNTIME_DIRECTORY");
                command
            }
            Peer::Haproxy | Peer::HaproxyUnix => {
                let lines = self.plain_workers(setup, tools)?;
                let servers: String = (lines.iter().enumerate())
                    .map(|(slot, place)| format!("    server w{slot} {place}\n"))
                    .collect();
                let file = self.render("haproxy.cfg", setup, tools, &[("SERVERS", &servers)])?;
                let mut command = Command::new(on_path("haproxy"));
                command.arg("-db").arg("-f").arg(file);
                command
            }
            Peer::Nginx => {
                // It is asked before its workers are up, and would leave them out for 10 s then.
                // At its limit nginx does not queue, it refuses. A small one would make it fail
                // where the others wait, so it gets none then; 0 is its word for that.
                let limit = if setup.limit < 20 { 0 } else { setup.limit };
                let servers: String = (self.plain_workers(setup, tools)?.iter())
                    .map(|place| format!("        server {place} max_conns={limit} max_fails=0;\n"))
                    .collect();
                let file = self.render("nginx.conf", setup, tools, &[("SERVERS", &servers)])?;
                let mut command = Command::new(on_path("nginx"));
                command.arg("-c").arg(file).arg("-p").arg(self.dir.path());
                command
            }
            Peer::Cluster => node(&tools.bench.join("peers/cluster.cjs")),
            Peer::ClusterShared => {
                let mut command = node(&tools.bench.join("peers/cluster.cjs"));
                command.env("SCHED", "shared");
                command
            }
            Peer::Pm2 => {
                let mut command = node(&tools.bench.join("node_modules/.bin/pm2"));
                let config = tools.bench.join("peers/pm2.config.cjs");
                command.arg("start").arg("--no-daemon").arg(config);
                command.env("PM2_HOME", self.dir.path());
                command
            }
            Peer::Watt => self.watt(setup, tools, &app)?,
            Peer::Node => {
                let mut command = node(&app);
                command.env("BENCH_WORKER", "1");
                command
            }
        };
        self.group.spawn(&mut command, &self.dir.path().join("front.log"))?;
        Ok(())
    }

    /// Starts plain processes; returns where each listens, as the proxy has to write it.
    fn plain_workers(&mut self, setup: Setup, tools: &Tools) -> anyhow::Result<Vec<String>> {
        let mut places = Vec::new();
        for slot in 0..setup.workers {
            let path = self.dir.path().join(format!("w{slot}.sock"));
            let (listen, place) = match self.peer {
                Peer::HaproxyUnix => {
                    (path.display().to_string(), format!("unix@{}", path.display()))
                }
                Peer::Nginx => (path.display().to_string(), format!("unix:{}", path.display())),
                _ => {
                    let port = free_port()?;
                    (port.to_string(), format!("127.0.0.1:{port}"))
                }
            };
            let words = setup.app.command(tools);
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).env("PORT", listen).env("BENCH_WORKER", "1");
            self.group.spawn(&mut command, &self.dir.path().join(format!("w{slot}.log")))?;
            places.push(place);
        }
        Ok(places)
    }

    /// Watt wants a directory with its own file and the app's.
    fn watt(&self, setup: Setup, tools: &Tools, app: &Path) -> anyhow::Result<Command> {
        let root = self.dir.path();
        fs::create_dir_all(root.join("app"))?;
        fs::copy(app, root.join("app/index.cjs"))?;
        fs::write(root.join("app/package.json"), r#"{"name":"app","main":"index.cjs"}"#)?;
        let part = r#"{"module":"@platformatic/node","application":{"basePath":"/"}}"#;
        fs::write(root.join("app/watt.json"), part)?;
        std::os::unix::fs::symlink(tools.bench.join("node_modules"), root.join("node_modules"))?;
        let file = self.render("watt.json", setup, tools, &[])?;
        let mut command = Command::new("node");
        command.arg(tools.bench.join("node_modules/.bin/wattpm")).arg("start").arg("-c").arg(file);
        command.current_dir(root).env("BENCH_WORKER", "1");
        Ok(command)
    }

    /// Fills in a file of `bench/peers`.
    fn render(
        &self,
        name: &str,
        setup: Setup,
        tools: &Tools,
        more: &[(&str, &str)],
    ) -> anyhow::Result<PathBuf> {
        let source = tools.bench.join("peers").join(name);
        let mut text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
        let common = [
            ("PORT", self.address.port().to_string()),
            ("WORKERS", setup.workers.to_string()),
            ("LIMIT", setup.limit.to_string()),
            ("QUEUE_TIMEOUT_MS", setup.queue_timeout.as_millis().to_string()),
            ("DIR", self.dir.path().display().to_string()),
        ];
        let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
        for (key, value) in common.into_iter().chain(more) {
            text = text.replace(&format!("{{{{{key}}}}}"), &value);
        }
        let file = self.dir.path().join(name);
        fs::write(&file, text)?;
        Ok(file)
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
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
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

/// A port that nobody listens on now.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}
