//! Writes down how a peer is started: its files filled in, and every command with its environment.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{Peer, Setup, Tools, on_path};

/// One peer on one port.
#[derive(Debug)]
pub(super) struct Commands<'a> {
    pub(super) peer: Peer,
    pub(super) setup: Setup,
    pub(super) tools: &'a Tools,
    pub(super) port: u16,
    /// For its probes, if it has a listener of its own for them.
    pub(super) admin: u16,
    /// Everything it writes.
    pub(super) dir: &'a Path,
}

/// One process to start.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) command: Command,
    /// The file for its output, within the directory.
    pub(super) log: String,
}

/// A plain worker, and where it listens, as the proxy has to write it.
struct PlainWorker {
    start: Start,
    place: String,
}

impl Commands<'_> {
    /// Everything to start, what stands in front last.
    ///
    /// # Errors
    /// A file cannot be read or written, or no port is free.
    pub(super) fn all(&self) -> anyhow::Result<Vec<Start>> {
        let plain = match self.peer {
            Peer::Haproxy | Peer::HaproxyUnix | Peer::HaproxyBare | Peer::Nginx => {
                self.plain_workers()?
            }
            Peer::Tenfold
            | Peer::TenfoldConnection
            | Peer::Cluster
            | Peer::ClusterShared
            | Peer::Pm2
            | Peer::Watt
            | Peer::Passenger
            | Peer::Node => Vec::new(),
        };
        let places: Vec<&str> = plain.iter().map(|worker| worker.place.as_str()).collect();
        let front = Start { command: self.front(&places)?, log: "front.log".to_owned() };
        Ok(plain.into_iter().map(|worker| worker.start).chain([front]).collect())
    }

    fn front(&self, places: &[&str]) -> anyhow::Result<Command> {
        Ok(match self.peer {
            Peer::Tenfold => self.tenfold("tenfold-request.toml")?,
            Peer::TenfoldConnection => self.tenfold("tenfold-connection.toml")?,
            Peer::Haproxy | Peer::HaproxyUnix => {
                let file = self.tools.bench.join("peers/haproxy-headers.cfg");
                let headers = fs::read_to_string(&file);
                self.haproxy(places, &headers.with_context(|| file.display().to_string())?)?
            }
            Peer::HaproxyBare => self.haproxy(places, "")?,
            Peer::Nginx => self.nginx(places)?,
            Peer::Cluster => self.node(&self.tools.bench.join("peers/cluster.cjs")),
            Peer::ClusterShared => {
                let mut command = self.node(&self.tools.bench.join("peers/cluster.cjs"));
                command.env("SCHED", "shared");
                command
            }
            Peer::Pm2 => {
                let mut command = self.node(&self.tools.bench.join("node_modules/.bin/pm2"));
                let config = self.tools.bench.join("peers/pm2.config.cjs");
                command.arg("start").arg("--no-daemon").arg(config);
                command.env("PM2_HOME", self.dir);
                command
            }
            Peer::Watt => self.watt()?,
            Peer::Passenger => self.passenger()?,
            Peer::Node => {
                let mut command = self.node(&self.tools.node_app());
                command.env("BENCH_WORKER", "1");
                command
            }
        })
    }

    /// Node with `file`, told the app and how often.
    fn node(&self, file: &Path) -> Command {
        let mut command = Command::new("node");
        command.arg(file).env("PORT", self.port.to_string()).env("APP", self.tools.node_app());
        command.env("WORKERS", self.setup.workers.to_string());
        command
    }

    fn tenfold(&self, name: &str) -> anyhow::Result<Command> {
        let file = self.render(name, &[("ADMIN_PORT", &self.admin.to_string())])?;
        let mut command = Command::new(&self.tools.tenfold);
        command.arg("-c").arg(file).arg("--").args(self.setup.app.command(self.tools));
        command.env("XDG_RUNTIME_DIR", self.dir).env_remove("RUNTIME_DIRECTORY");
        Ok(command)
    }

    fn haproxy(&self, places: &[&str], headers: &str) -> anyhow::Result<Command> {
        let servers: String = (places.iter().enumerate())
            .map(|(slot, place)| format!("    server w{slot} {place}\n"))
            .collect();
        let more = [("SERVERS", servers.as_str()), ("HEADERS", headers)];
        let file = self.render("haproxy.cfg", &more)?;
        let mut command = Command::new(on_path("haproxy"));
        command.arg("-db").arg("-f").arg(file);
        Ok(command)
    }

    fn nginx(&self, places: &[&str]) -> anyhow::Result<Command> {
        // It is asked before its workers are up, and would leave them out for 10 s then. At its
        // limit nginx does not queue, it refuses. A small one would make it fail where the others
        // wait, so it gets none then; 0 is its word for that.
        let limit = if self.setup.limit < 20 { 0 } else { self.setup.limit };
        let servers: String = (places.iter())
            .map(|place| format!("        server {place} max_conns={limit} max_fails=0;\n"))
            .collect();
        let file = self.render("nginx.conf", &[("SERVERS", &servers)])?;
        let mut command = Command::new(on_path("nginx"));
        command.arg("-c").arg(file).arg("-p").arg(self.dir);
        Ok(command)
    }

    /// Watt wants a directory with its own file and the app's.
    fn watt(&self) -> anyhow::Result<Command> {
        fs::create_dir_all(self.dir.join("app"))?;
        fs::copy(self.tools.node_app(), self.dir.join("app/index.cjs"))?;
        fs::write(self.dir.join("app/package.json"), r#"{"name":"app","main":"index.cjs"}"#)?;
        let part = r#"{"module":"@platformatic/node","application":{"basePath":"/"}}"#;
        fs::write(self.dir.join("app/watt.json"), part)?;
        let modules = self.tools.bench.join("node_modules");
        symlink(&modules, self.dir.join("node_modules"))?;
        let file = self.render("watt.json", &[])?;
        let mut command = Command::new("node");
        command.arg(modules.join(".bin/wattpm")).arg("start").arg("-c").arg(file);
        command.current_dir(self.dir).env("BENCH_WORKER", "1");
        Ok(command)
    }

    /// Passenger wants a directory of the app's own. It connects an app to its socket at the first
    /// `listen`, whatever the port.
    fn passenger(&self) -> anyhow::Result<Command> {
        fs::copy(self.tools.node_app(), self.dir.join("app.js"))?;
        symlink(self.tools.bench.join("node_modules"), self.dir.join("node_modules"))?;
        let words = fs::read_to_string(self.render("passenger.args", &[])?)?;
        let words = words.lines().filter(|line| !line.starts_with('#'));
        let mut command = Command::new(on_path("passenger"));
        command.arg("start").args(words.flat_map(str::split_whitespace));
        command.current_dir(self.dir).env("TMPDIR", self.dir);
        Ok(command)
    }

    /// Plain processes for a proxy in front of them.
    fn plain_workers(&self) -> anyhow::Result<Vec<PlainWorker>> {
        (0..self.setup.workers)
            .map(|slot| {
                let path = self.dir.join(format!("w{slot}.sock")).display().to_string();
                let (listen, place) = match self.peer {
                    Peer::HaproxyUnix => (path.clone(), format!("unix@{path}")),
                    Peer::Nginx => (path.clone(), format!("unix:{path}")),
                    _ => {
                        let port = super::deployment::free_port()?;
                        (port.to_string(), format!("127.0.0.1:{port}"))
                    }
                };
                let words = self.setup.app.command(self.tools);
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]).env("PORT", listen).env("BENCH_WORKER", "1");
                let start = Start { command, log: format!("w{slot}.log") };
                Ok(PlainWorker { start, place })
            })
            .collect()
    }

    /// Fills in a file of `bench/peers`.
    fn render(&self, name: &str, more: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
        let source = self.tools.bench.join("peers").join(name);
        let mut text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
        let common = [
            ("PORT", self.port.to_string()),
            ("WORKERS", self.setup.workers.to_string()),
            ("LIMIT", self.setup.limit.to_string()),
            ("QUEUE_TIMEOUT_MS", self.setup.queue_timeout.as_millis().to_string()),
            ("DIR", self.dir.display().to_string()),
        ];
        let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
        for (key, value) in common.into_iter().chain(more) {
            text = text.replace(&format!("{{{{{key}}}}}"), &value);
        }
        let file = self.dir.join(name);
        fs::write(&file, text)?;
        Ok(file)
    }
}
