//! What a worker with a private listener is started with, and what is left when it ends.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{PATIENCE, processes, wait_until};
use crate::{ask, in_python, service};

fn variables(answer: &Value) -> &serde_json::Map<String, Value> {
    answer["environment"].as_object().expect("the fixture tells its environment")
}

#[test]
fn an_inherited_listener_comes_as_systemd_would_pass_it() {
    let tenfold = service(&[]).args(["-n", "2"]).start();
    let status = tenfold.wait_ready(2);
    for worker in &status.workers {
        let answer = ask(worker, "/");
        let found = variables(&answer);
        let pid = worker.pid.expect("it runs").to_string();
        for (name, value) in [("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "main"), ("LISTEN_PID", &pid)]
        {
            assert_eq!(found[name], value, "{name}");
        }
        for name in found.keys() {
            assert!(!name.starts_with("NODE_CHANNEL") && !name.ends_with("_FD"), "{name}");
        }
        // Standard streams, the listener, and one connection: nothing else of the master's.
        let descriptors: BTreeSet<_> = answer["descriptors"]
            .as_object()
            .expect("the fixture tells its descriptors")
            .iter()
            .filter(|(_, target)| target.as_str().is_some_and(|target| !target.contains("/fd")))
            .map(|(number, _)| number.as_str())
            .collect();
        assert_eq!(descriptors, BTreeSet::from(["0", "1", "2", "3", "4"]), "{answer}");
    }
}

#[test]
fn nobody_listens_any_more_where_a_worker_has_died() {
    // A second worker of its slot would begin at once, so the first stays the only one.
    let tenfold = service(&[]).args(["-n", "1"]).start();
    let status = tenfold.wait_ready(1);
    let upstream = status.workers[0].upstream.clone().expect("it has one");
    let address: SocketAddr = upstream.parse().expect("TCP");
    processes::signal(status.pid_of(0), Signal::SIGKILL);
    wait_until(PATIENCE, "the end of its listener", || {
        let refused = TcpStream::connect(address).err()?;
        (refused.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
    let next = tenfold.wait_status(PATIENCE, "the replacement", |status| {
        status.ready() == 1 && status.workers[0].restarts == 1
    });
    ask(&next.workers[0], "/");
}

#[test]
fn words_in_braces_are_replaced_in_arguments_and_configured_variables() {
    let builder = in_python();
    let config = builder.dir().join("tenfold.toml");
    let text = "env = { BIND = 'localhost:{port}', NAME = 'web-{slot}', SHELL_WORD = '${port}' }\n";
    std::fs::write(&config, text).expect("the directory is ours");
    let tenfold = builder
        .args(["--config".as_ref(), config.as_os_str()])
        .args(["-n", "2"])
        .env("INHERITED", "{port}")
        .app(["python3", "inherited.py", "slot-{slot}", "port:{port}", "${port}"])
        .start();
    for worker in &tenfold.wait_ready(2).workers {
        let answer = ask(worker, "/");
        let upstream = worker.upstream.as_deref().expect("it has one");
        let port = upstream.rsplit(':').next().expect("it ends with a port");
        let arguments = &answer["arguments"].as_array().expect("a list")[1..];
        let slot = worker.slot;
        assert_eq!(arguments, [format!("slot-{slot}"), format!("port:{port}"), "${port}".into()]);
        let found = variables(&answer);
        assert_eq!(found["PORT"], port);
        assert_eq!(found["BIND"], format!("localhost:{port}"));
        assert_eq!(found["NAME"], format!("web-{slot}"));
        assert_eq!(found["SHELL_WORD"], "${port}");
        assert_eq!(found["INHERITED"], "{port}");
    }
}

#[test]
fn a_stop_ends_workers_with_a_private_listener_at_once() {
    let mut tenfold = service(&[]).args(["-n", "2"]).start();
    tenfold.wait_ready(2);
    tenfold.signal(Signal::SIGTERM);
    // Nothing is in flight, so nothing is waited for; the default total is 25 s.
    let exit = tenfold.wait_exit(std::time::Duration::from_secs(10));
    assert_eq!(exit.code(), Some(0));
    tenfold.wait_tree_gone(PATIENCE);
}
