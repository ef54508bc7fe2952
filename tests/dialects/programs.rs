//! Servers as people run them: each gets ready, and each worker answers at its own address.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{PATIENCE, Tenfold, free_port, http, node, processes};
use crate::{anywhere, ask, check_each_answers, in_python};

#[test]
fn uvicorn_serves_the_descriptor_it_inherits() {
    let tenfold = in_python()
        .args(["-n", "2", "--dialect", "fd"])
        .app(["uvicorn", "app:asgi", "--fd", "3"])
        .start();
    let status = tenfold.wait_ready(2);
    check_each_answers(&status, "fd");
    // Its peer must be one that it trusts to tell the client and the scheme.
    let upstream = status.workers[0].upstream.as_deref().expect("it has one");
    let mut connection = http::Connection::open(upstream).expect("it listens");
    connection
        .send(
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n\
              X-Forwarded-Proto: https\r\n\r\n",
        )
        .expect("it reads");
    let answer: serde_json::Value = connection.receive().expect("it answers").json().expect("JSON");
    assert_eq!((&answer["client"][0], &answer["scheme"]), (&json!("203.0.113.9"), &json!("https")));
}

#[test]
fn uvicorn_listens_on_the_port_in_its_arguments() {
    let tenfold =
        in_python().args(["-n", "2"]).app(["uvicorn", "app:asgi", "--port", "{port}"]).start();
    check_each_answers(&tenfold.wait_ready(2), "port");
}

#[test]
fn uvicorn_listens_on_the_path_in_its_arguments_which_goes_with_it() {
    let tenfold =
        in_python().args(["-n", "2"]).app(["uvicorn", "app:asgi", "--uds", "{socket}"]).start();
    let status = tenfold.wait_ready(2);
    check_each_answers(&status, "port");
    let path = |slot: usize, status: &crate::support::Status| {
        let upstream = status.workers[slot].upstream.clone().expect("it has one");
        std::path::PathBuf::from(upstream.strip_prefix("unix:").expect("it is a path"))
    };
    let old = path(0, &status);
    assert_eq!(old.parent(), Some(tenfold.runtime_dir().as_path()));
    processes::signal(status.pid_of(0), Signal::SIGKILL);
    let next = tenfold.wait_status(PATIENCE, "the replacement", |status| {
        status.ready() == 2 && status.workers[0].restarts == 1
    });
    assert_ne!(path(0, &next), old);
    assert!(!old.exists(), "{} is left", old.display());
    // Another program's socket there must not look like an instance to the command line.
    let listed = tenfold.cli(["status"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
}

#[test]
fn gunicorn_serves_the_descriptor_it_inherits_and_says_when() {
    let tenfold = in_python()
        .args(["-n", "2", "--dialect", "fd"])
        .app(["gunicorn", "app:wsgi", "--log-level", "warning"])
        .start();
    let status = tenfold.wait_ready(2);
    check_each_answers(&status, "fd");
    for worker in &status.workers {
        let said = worker.status.as_deref().unwrap_or_default();
        assert!(said.starts_with("Gunicorn"), "{worker:?}");
    }
}

#[test]
fn gunicorn_reads_port_without_being_told_to() {
    let tenfold = in_python().args(["-n", "2"]).app(["gunicorn", "app:wsgi"]).start();
    check_each_answers(&tenfold.wait_ready(2), "port");
}

#[test]
fn the_file_server_of_python_listens_on_its_port() {
    let tenfold = in_python()
        .args(["-n", "2"])
        .app(["python3", "-m", "http.server", "{port}", "--bind", "127.0.0.1"])
        .start();
    for worker in &tenfold.wait_ready(2).workers {
        let upstream = worker.upstream.as_deref().expect("it has one");
        let answer = http::get(upstream, "/app.py").expect("it answers");
        assert_eq!(answer.body, include_bytes!("../fixtures/python/app.py"));
    }
}

#[test]
fn a_server_in_c_listens_on_its_port() {
    let tenfold = anywhere()
        .cwd(crate::python::fixtures())
        .args(["-n", "2"])
        .app(["busybox", "httpd", "-f", "-p", "127.0.0.1:{port}"])
        .start();
    for worker in &tenfold.wait_ready(2).workers {
        let upstream = worker.upstream.as_deref().expect("it has one");
        let answer = http::get(upstream, "/app.py").expect("it answers");
        assert_eq!(answer.body, include_bytes!("../fixtures/python/app.py"));
    }
}

#[test]
fn npm_start_without_the_preload_listens_on_port() {
    let tenfold = anywhere()
        .node(22)
        .args(["-n", "2", "--set", "workers.preload=false"])
        .env("RUN", "node apps/env-port.js")
        .app(["npm", "start"])
        .start();
    let status = tenfold.wait_ready(2);
    for worker in &status.workers {
        assert_eq!(worker.dialect.as_deref(), Some("port"), "{worker:?}");
        let port = ask(worker, "/")["port"].as_str().map(str::to_owned);
        let upstream = worker.upstream.as_deref().expect("it has one");
        assert_eq!(port.as_deref(), upstream.strip_prefix("127.0.0.1:"));
    }
}

#[test]
fn npm_start_with_the_preload_listens_where_it_would_alone() {
    let port = free_port();
    let tenfold = Tenfold::builder()
        .node(22)
        .args(["-n", "2"])
        .env("PORT", port.to_string())
        .env("RUN", "node apps/env-port.js")
        .app(["npm", "start"])
        .start();
    let status = tenfold.wait_ready(2);
    let answer: serde_json::Value =
        http::get(port, "/").expect("the master serves it").json().expect("JSON");
    assert_eq!(answer["port"], port.to_string());
    assert!(status.workers.iter().all(|worker| worker.dialect.as_deref() == Some("node")));
}

#[test]
fn a_private_port_that_a_shell_passes_on_means_the_public_one() {
    let port = free_port();
    let tenfold = Tenfold::builder()
        .node(node::MAJORS[2])
        .args(["-n", "2"])
        .env("PORT", port.to_string())
        .app(["sh", "-c", "node apps/env-port.js $PORT; exit $?"])
        .start();
    let status = tenfold.wait_ready(2);
    assert_eq!(status.listeners.len(), 1, "{status:#?}");
    let answer = http::get(port, "/").expect("the master serves it");
    assert_eq!(answer.status, 200);
}
