//! The same programs without a master: they bind a port of their own and keep to the same bounds.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};

use crate::target::{PATIENCE, Speaks, example};

struct Alone {
    child: Child,
    address: String,
}

impl Alone {
    /// Starts an example and waits until it says where it listens.
    fn start(name: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(example(name));
        command.arg("127.0.0.1:0").stdin(Stdio::null()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().expect("the example starts");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line).expect("text");
        let address = line.trim_end().strip_prefix("listening on ").map(str::to_owned);
        let address = address.unwrap_or_else(|| panic!("{name} says {line:?}"));
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(&self.address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Either fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EXAMPLES: [(&str, Speaks); 2] = [("echo", Speaks::Echo), ("axum", Speaks::Http)];

#[test]
fn without_a_master_an_example_serves_by_itself() {
    for (name, speaks) in EXAMPLES {
        let alone = Alone::start(name, |_| {});
        for _ in 0..3 {
            speaks.exchange(&mut alone.connect());
        }
    }
}

#[test]
fn without_a_master_the_bound_holds_and_the_next_client_waits() {
    for (name, speaks) in EXAMPLES {
        let alone = Alone::start(name, |command| {
            command.env("MAX_CONNECTIONS", "1");
        });
        let mut first = alone.connect();
        speaks.exchange(&mut first);
        let mut second = alone.connect();
        speaks.begin(&mut second);
        // The first is served while the second waits: nothing of the second comes back.
        speaks.exchange(&mut first);
        second.set_nonblocking(true).expect("a flag");
        let early = second.read(&mut [0; 16]);
        assert!(early.is_err(), "{name} took a second connection: {early:?}");
        second.set_nonblocking(false).expect("a flag");
        drop(first);
        speaks.finish(&mut second);
    }
}

#[test]
fn a_child_of_a_worker_leaves_the_channel_alone() {
    for (name, speaks) in EXAMPLES {
        let (mut master, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        let (token, writer) = std::io::pipe().expect("a pipe");
        drop(writer);
        let alone = Alone::start(name, |command| {
            command.env("TENFOLD_CONTROL_FD", "100").env("TENFOLD_TOKEN_FD", "101");
            let mappings = vec![
                FdMapping { parent_fd: theirs.into(), child_fd: 100 },
                FdMapping { parent_fd: token.into(), child_fd: 101 },
            ];
            command.fd_mappings(mappings).expect("two different numbers");
        });
        speaks.exchange(&mut alone.connect());
        drop(alone);
        let said = master.read(&mut [0; 64]).expect("the end of the channel");
        assert_eq!(said, 0, "{name} spoke on a channel that was not its own");
    }
}

#[test]
fn an_environment_that_promises_too_much_is_an_error_that_names_the_key() {
    let cases = [
        ("TENFOLD_CONTROL_FD", "100", "TENFOLD_CONTROL_FD: 100: "),
        ("TENFOLD_CONTROL_FD", "0", "TENFOLD_CONTROL_FD: 0: no Unix stream socket"),
        ("TENFOLD_CONTROL_FD", "x", "TENFOLD_CONTROL_FD: \"x\" is no descriptor number"),
        ("TENFOLD_PROTOCOL", "2", "TENFOLD_PROTOCOL: 2 is not spoken here, only 1"),
    ];
    for (name, _) in EXAMPLES {
        for (key, value, expected) in cases {
            let mut command = Command::new(example(name));
            command.env("TENFOLD_CONTROL_FD", "100").env(key, value);
            let output = command.stdin(Stdio::null()).output().expect("the example starts");
            let text = String::from_utf8_lossy(&output.stderr).replace('\\', "");
            assert!(!output.status.success() && text.contains(expected), "{text}");
        }
    }
}
