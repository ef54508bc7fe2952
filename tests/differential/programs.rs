//! The servers that are compared: how each is started alone, and how behind tenfold.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::{Builder, PATIENCE, Tenfold, free_port, node, python, wait_until};

/// The major that Node's programs run on.
const MAJOR: u32 = 22;

/// One server.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    runtime: Runtime,
    /// The command by which it listens at `PORT` of 127.0.0.1, which stands for the number.
    alone: &'static [&'static str],
    /// The command under tenfold, and the flags that it needs.
    pub(crate) command: &'static [&'static str],
    pub(crate) flags: &'static [&'static str],
    /// Exchanges that it cannot show; they are compared all the same.
    pub(crate) lacks: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
enum Runtime {
    Node,
    Python,
}

const fn node_app(name: &'static str, command: &'static [&'static str]) -> Program {
    Program { name, runtime: Runtime::Node, alone: command, command, flags: &[], lacks: &[] }
}

const UVICORN: &[&str] = &["uvicorn", "exchanges:asgi", "--port", "PORT"];

/// Neither interface of Python's can send what these show.
const PYTHON_LACKS: &[&str] = &["range", "trailers", "early_hints"];

pub(crate) const PROGRAMS: &[Program] = &[
    node_app("express", &["node", "apps/exchanges-express.js"]),
    Program { lacks: &["range"], ..node_app("fastify", &["node", "apps/exchanges-fastify.js"]) },
    Program { lacks: &["range"], ..node_app("react", &["node", "apps/exchanges-react.js"]) },
    Program {
        name: "uvicorn-fd",
        runtime: Runtime::Python,
        alone: UVICORN,
        command: &["uvicorn", "exchanges:asgi", "--fd", "3"],
        flags: &["--dialect", "fd"],
        lacks: PYTHON_LACKS,
    },
    Program {
        name: "uvicorn-port",
        runtime: Runtime::Python,
        alone: UVICORN,
        command: &["uvicorn", "exchanges:asgi", "--port", "{port}"],
        flags: &[],
        lacks: PYTHON_LACKS,
    },
    Program {
        name: "gunicorn",
        runtime: Runtime::Python,
        alone: &["gunicorn", "exchanges:wsgi", "--bind", "127.0.0.1:PORT"],
        command: &["gunicorn", "exchanges:wsgi"],
        // It serves one at a time; those who come together wait for their turn.
        flags: &["--dialect", "fd", "--limit", "1", "--queue", "100", "--queue-timeout", "30s"],
        lacks: &["range", "trailers", "early_hints", "websocket"],
    },
    Program {
        name: "http.server",
        runtime: Runtime::Python,
        alone: &["python3", "-m", "http.server", "PORT", "--bind", "127.0.0.1"],
        command: &["python3", "-m", "http.server", "{port}", "--bind", "127.0.0.1"],
        flags: &[],
        lacks: &[
            "abort",
            "chunked_upload",
            "continue",
            "early_hints",
            "echo",
            "events",
            "gzip",
            "range",
            "streamed",
            "trailers",
            "upload",
            "websocket",
        ],
    },
];

impl Program {
    /// A tenfold that runs in its directory and finds its commands.
    #[track_caller]
    pub(crate) fn builder(&self) -> Builder {
        match self.runtime {
            Runtime::Node => Tenfold::builder().node(MAJOR),
            Runtime::Python => Tenfold::builder()
                .cwd(python::fixtures().join("exchanges"))
                .env("PATH", python::search_path()),
        }
    }
}

/// A program that runs without tenfold. Dropping it kills its process group.
pub(crate) struct Alone(Child);

impl Alone {
    /// Starts it and waits until it listens, at the port that is returned.
    #[track_caller]
    pub(crate) fn start(program: &Program) -> (Self, u16) {
        let port = free_port();
        let mut words = program.alone.iter().map(|word| word.replace("PORT", &port.to_string()));
        let mut command = Command::new(words.next().expect("a command has a first word"));
        let (directory, path) = match program.runtime {
            Runtime::Node => (node::fixtures(), node::search_path(MAJOR)),
            Runtime::Python => (python::fixtures().join("exchanges"), python::search_path()),
        };
        command
            .args(words)
            .current_dir(directory)
            .env_clear()
            .env("PATH", path)
            .env("LANG", "C.UTF-8")
            .env("APP_PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let alone = Self(command.spawn().expect("what the fixtures install starts"));
        let listens = || TcpStream::connect(("127.0.0.1", port)).ok();
        drop(wait_until(PATIENCE, "a program that listens", listens));
        (alone, port)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).expect("a pid is an i32");
        // A group that has ended already is no error.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
