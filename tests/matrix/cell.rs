//! Runs one cell: starts the app under tenfold, reaches it as a user would, checks who answered.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::apps::{App, Expect, Reach};
use crate::support::http::{self, Address};
use crate::support::{Builder, PATIENCE, Tenfold, free_port, node, wait_until};

/// One after the other, each on a connection of its own.
const CONNECTIONS: usize = 12;

pub(crate) struct Cell {
    pub(crate) app: &'static App,
    pub(crate) column: Column,
    pub(crate) runtime: Runtime,
}

/// How the app is started, and with which settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Direct,
    NpmStart,
    /// Direct, with `--mode connection`.
    ConnectionMode,
    /// Direct, with `workers.preload` off.
    NoPreload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Node(u32),
    Deno,
}

/// What every fixture app answers.
#[derive(Debug, Deserialize)]
struct Answer {
    slot: Option<u16>,
    app: String,
    #[serde(flatten)]
    more: serde_json::Map<String, serde_json::Value>,
}

/// Where this cell's app is told to listen.
struct Places {
    first: u16,
    second: u16,
    /// Holds `second` for the app that wants a port which somebody has.
    _holder: Option<TcpListener>,
}

impl Cell {
    pub(crate) fn name(&self) -> String {
        let runtime = match self.runtime {
            Runtime::Node(major) => format!("node{major}"),
            Runtime::Deno => "deno".to_owned(),
        };
        let column = match self.column {
            Column::Direct => "direct",
            Column::NpmStart => "npm_start",
            Column::ConnectionMode => "connection_mode",
            Column::NoPreload => "no_preload",
        };
        format!("{runtime}::{column}::{}", self.app.name)
    }

    /// Why this cell cannot be: never because of us, or of a tool that is missing.
    pub(crate) fn skip_reason(&self) -> Option<&'static str> {
        match (self.app.name, self.runtime) {
            ("permission", Runtime::Node(18)) => Some("Node 18 has no permission model"),
            _ => None,
        }
    }

    pub(crate) fn run(&self) {
        let places = self.places();
        let builder = self.builder(&places);
        let socket = builder.dir().join("app.sock");
        let tenfold = builder.start();
        if self.bypasses() {
            return check_bypass(&tenfold, &places);
        }
        tenfold.wait_ready(self.workers());
        let answers = self.reach(&tenfold, &places, &socket);
        self.check(&tenfold, &answers);
    }

    /// Four meet in the races of a start. Two show the rest, where each costs seconds of a core:
    /// behind npm, and under an instrumentation that loads a hundred packages.
    fn workers(&self) -> usize {
        match (self.column, self.app.name) {
            (Column::NpmStart, _) | (_, "opentelemetry") => 2,
            (Column::Direct | Column::ConnectionMode | Column::NoPreload, _) => 4,
        }
    }

    fn bypasses(&self) -> bool {
        match (self.app.expect, self.runtime) {
            (Expect::Shared, _) | (Expect::BypassFrom(_), Runtime::Deno) => false,
            (Expect::Bypass, _) => true,
            (Expect::BypassFrom(first), Runtime::Node(major)) => major >= first,
        }
    }

    /// What is dispatched: requests, where the preload tells that the app serves plain HTTP.
    fn mode(&self) -> &'static str {
        let is_http = match self.app.reach {
            Reach::Client(kind) => kind == "ws",
            Reach::Http | Reach::HttpWith(..) | Reach::TwoPorts => true,
            Reach::PrintedPort | Reach::UnixPath | Reach::Udp => true,
        };
        let is_told = match (self.column, self.runtime) {
            (Column::Direct | Column::NpmStart, Runtime::Node(_)) => is_http,
            (Column::ConnectionMode | Column::NoPreload, _) | (_, Runtime::Deno) => false,
        };
        if is_told { "request" } else { "connection" }
    }

    fn places(&self) -> Places {
        let second = free_port();
        let occupied = self.app.name == "port_in_use";
        let hold = || TcpListener::bind(("0.0.0.0", second)).expect("the port was just free");
        Places { first: free_port(), second, _holder: occupied.then(hold) }
    }

    fn builder(&self, places: &Places) -> Builder {
        let mut command: Vec<String> = self.app.command.iter().map(|&word| word.into()).collect();
        let mut builder = Tenfold::builder();
        match self.runtime {
            Runtime::Node(major) => builder = builder.node(major),
            Runtime::Deno => {
                command[0] = node::deno().display().to_string();
                builder = builder.cwd(node::fixtures());
            }
        }
        match (self.app.name, self.runtime) {
            ("permission", Runtime::Node(20)) => {
                command[1] = "--experimental-permission".to_owned();
            }
            ("permission", Runtime::Node(26)) => command.insert(1, "--allow-net".to_owned()),
            _ => {}
        }
        let socket = builder.dir().join("app.sock");
        match self.column {
            Column::Direct => {}
            Column::NpmStart => {
                builder = builder.env("RUN", command.join(" "));
                command = vec!["npm".to_owned(), "start".to_owned()];
                if matches!(self.app.reach, Reach::UnixPath) {
                    builder = listening_on_path(builder, &socket);
                }
            }
            Column::ConnectionMode => builder = builder.args(["--mode", "connection"]),
            Column::NoPreload => builder = builder.args(["--set", "workers.preload=false"]),
        }
        builder
            .args(["--workers", &self.workers().to_string()])
            .env("APP_PORT", places.first.to_string())
            .env("APP_PORT_2", places.second.to_string())
            .env("APP_SOCKET", &socket)
            .env("OTEL_TRACES_EXPORTER", "none")
            .env("OTEL_METRICS_EXPORTER", "none")
            .env("OTEL_LOGS_EXPORTER", "none")
            .app(command)
    }

    /// Opens [`CONNECTIONS`] connections to each place and gives all answers.
    fn reach(&self, tenfold: &Tenfold, places: &Places, socket: &Path) -> Vec<Answer> {
        match self.app.reach {
            Reach::Http => ask(places.first),
            Reach::HttpWith(field, value) => {
                let answers = ask(places.first);
                for answer in &answers {
                    assert_eq!(answer.more.get(field).and_then(|v| v.as_str()), Some(value));
                }
                answers
            }
            Reach::TwoPorts => {
                let mut answers = Vec::new();
                for (server, port) in [(1, places.first), (2, places.second)] {
                    let of_one = ask(port);
                    check_slots(&of_one);
                    assert!(of_one.iter().all(|answer| answer.more["server"] == server));
                    answers.extend(of_one);
                }
                answers
            }
            Reach::PrintedPort => {
                let line = tenfold.wait_for_line(PATIENCE, |line| line.contains("on port "));
                let port = line.rsplit(' ').next().and_then(|word| word.parse::<u16>().ok());
                ask(port.unwrap_or_else(|| panic!("no port in {line:?}")))
            }
            Reach::UnixPath => ask(socket),
            Reach::Udp => {
                check_echo(places.first);
                ask(places.first)
            }
            Reach::Client(kind) => self.ask_by_client(kind, places.first),
        }
    }

    fn ask_by_client(&self, kind: &str, port: u16) -> Vec<Answer> {
        let major = match self.runtime {
            Runtime::Node(major) => major,
            Runtime::Deno => node::MAJORS[0],
        };
        let output = Command::new(node::node(major))
            .current_dir(node::fixtures())
            .args(["apps/client.js", kind, &port.to_string(), &CONNECTIONS.to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("node starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let answers: Vec<Answer> = text.lines().map(parse).collect();
        if kind == "https" {
            // Each worker has seen the tickets of the others.
            let resumed = answers.iter().skip(1).all(|answer| answer.more["resumed"] == true);
            assert!(resumed, "a session was not resumed: {answers:?}");
        }
        answers
    }

    fn check(&self, tenfold: &Tenfold, answers: &[Answer]) {
        assert!(answers.len() >= CONNECTIONS, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.app == self.app.answers), "{answers:?}");
        check_slots(answers);
        let wanted = u64::try_from(answers.len()).expect("a count fits");
        let mode = self.mode();
        let what = format!("{wanted} answers that came through the master, in {mode} mode");
        let passed = if mode == "request" { "requests" } else { "taken" };
        let status = tenfold.wait_status(PATIENCE, &what, |status| status.total(passed) >= wanted);
        let modes: BTreeSet<&str> = status.listeners.iter().map(|it| it.mode.as_str()).collect();
        assert_eq!(modes, BTreeSet::from([mode]), "{status:?}");
    }
}

/// However many workers do it, and however often they are restarted, one line says so, with the
/// place; and the app's users are served all the same, by whoever got the place.
fn check_bypass(tenfold: &Tenfold, places: &Places) {
    let is_told = |line: &str| line.contains("bypasses tenfold");
    let place = format!(":{} (", places.first);
    let line = tenfold.wait_for_line(PATIENCE, is_told);
    assert!(line.contains(&place), "the place is missing: {line}");
    let served = || http::get(places.first, "/").ok().filter(|response| response.status == 200);
    wait_until(PATIENCE, "an answer of the app itself", served);
    let told = tenfold.output().lines().filter(|line| is_told(line)).count();
    assert_eq!(told, 1, "a bypass is told once:\n{}", tenfold.output());
}

/// A wrapper's own sockets are paths too: behind one, the app's path must be named to be shared.
fn listening_on_path(builder: Builder, socket: &Path) -> Builder {
    let path = socket.display();
    let config = builder.dir().join("tenfold.toml");
    let text = format!("listen = [{{ app = \"{path}\", on = \"unix:{path}\" }}]\n");
    std::fs::write(&config, text).expect("the directory is ours");
    builder.args(["--config".as_ref(), config.as_os_str()])
}

fn ask(address: impl Into<Address>) -> Vec<Answer> {
    let address = address.into();
    let answer = |_| {
        let response = http::get(address.clone(), "/");
        let response = response.unwrap_or_else(|error| panic!("GET / at {address:?}: {error}"));
        assert_eq!(response.status, 200, "{}", response.text());
        response.json().unwrap_or_else(|error| panic!("GET / at {address:?}: {error}"))
    };
    (0..CONNECTIONS).map(answer).collect()
}

fn check_slots(answers: &[Answer]) {
    let slots: BTreeSet<_> = answers.iter().map(|answer| answer.slot).collect();
    assert!(!slots.contains(&None), "an app outside every slot: {answers:?}");
    assert!(slots.len() >= 2, "one worker answered everything: {answers:?}");
}

/// Which worker a datagram wakes is the kernel's choice: that each is answered is what counts.
fn check_echo(port: u16) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("the bound is not zero");
    for number in 0..CONNECTIONS {
        let sent = format!("datagram {number}");
        socket.send_to(sent.as_bytes(), ("127.0.0.1", port)).expect("loopback takes it");
        let mut bytes = [0; 1024];
        let read = socket.recv(&mut bytes).expect("an echo within the bound");
        let answer: Answer = serde_json::from_slice(&bytes[..read]).expect("the echo is JSON");
        assert_eq!(answer.more["echo"], sent);
    }
}
