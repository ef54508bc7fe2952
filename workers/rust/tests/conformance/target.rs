//! Which workers are tried, and how a client talks to them.

use std::env;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// What is sent and comes back in one exchange.
const HALVES: [&[u8]; 2] = [b"first ", b"second"];

/// A worker program and its language towards clients.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) command: Vec<String>,
    pub(crate) speaks: Speaks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Every byte comes back.
    Echo,
    /// `POST /` is answered with the body.
    Http,
}

/// The worker named by the environment, or else the ones of this repository.
pub(crate) fn targets() -> Vec<Target> {
    let Ok(command) = env::var("TENFOLD_CONFORMANCE_CMD") else {
        return own_targets();
    };
    let speaks = match env::var("TENFOLD_CONFORMANCE_SPEAKS").as_deref() {
        Ok("http") => Speaks::Http,
        Ok("echo") | Err(_) => Speaks::Echo,
        Ok(other) => panic!("TENFOLD_CONFORMANCE_SPEAKS: {other:?} is neither echo nor http"),
    };
    let command: Vec<_> = command.split_whitespace().map(str::to_owned).collect();
    assert!(!command.is_empty(), "TENFOLD_CONFORMANCE_CMD is empty");
    vec![Target { command, speaks }]
}

fn own_targets() -> Vec<Target> {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/worker.py");
    let target = |command: &[&str], speaks| Target {
        command: command.iter().map(ToString::to_string).collect(),
        speaks,
    };
    vec![
        target(&[&example("echo")], Speaks::Echo),
        target(&[&example("axum")], Speaks::Http),
        target(&["python3", fixture], Speaks::Echo),
    ]
}

/// The path of an example. Cargo builds examples only when it builds all targets, so with
/// `--test conformance` alone they would be missing, or old.
pub(crate) fn example(name: &str) -> String {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "tenfold-worker", "--examples"]);
        build.args(["--features", "axum"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(status.success(), "building the examples: {status}");
        let test = env::current_exe().expect("a test knows its path");
        let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
        profile.join("examples")
    });
    directory.join(name).into_os_string().into_string().expect("a UTF-8 path")
}

impl Speaks {
    /// Sends the first half of an exchange: the worker can answer nothing complete yet.
    pub(crate) fn begin(self, client: &mut impl Write) {
        let length = HALVES.concat().len();
        let head = match self {
            Self::Echo => String::new(),
            Self::Http => {
                format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
            }
        };
        let bytes = [head.as_bytes(), HALVES[0]].concat();
        client.write_all(&bytes).expect("the first half is sent");
    }

    /// Sends the second half and reads the answer.
    pub(crate) fn finish(self, client: &mut (impl Read + Write)) {
        client.write_all(HALVES[1]).expect("the second half is sent");
        let body = HALVES.concat();
        let mut answer = Vec::new();
        while !self.is_complete(&answer, &body) {
            let mut buffer = [0; 1024];
            let text = String::from_utf8_lossy(&answer);
            match client.read(&mut buffer) {
                Ok(0) => panic!("the connection ended after {text:?}"),
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {text:?}"),
            }
        }
    }

    /// One exchange, from begin to end.
    pub(crate) fn exchange(self, client: &mut (impl Read + Write)) {
        self.begin(client);
        self.finish(client);
    }

    fn is_complete(self, answer: &[u8], body: &[u8]) -> bool {
        match self {
            Self::Echo => {
                assert!(body.starts_with(answer), "{:?}", String::from_utf8_lossy(answer));
                answer == body
            }
            Self::Http => {
                let text = String::from_utf8_lossy(answer);
                let Some((head, rest)) = text.split_once("\r\n\r\n") else {
                    return false;
                };
                assert!(head.starts_with("HTTP/1.1 200 "), "{head:?}");
                rest.as_bytes() == body
            }
        }
    }
}

/// No single step of a conforming worker takes as long; it bounds every wait of the checks.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
