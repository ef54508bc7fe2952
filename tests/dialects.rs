//! Programs that know nothing of tenfold, each with a listener of its own: what they are started
//! with, when they are ready, what they may say, and what is said of those that listen elsewhere.

mod support;

#[path = "dialects/contract.rs"]
mod contract;
#[path = "dialects/notices.rs"]
mod notices;
#[path = "dialects/programs.rs"]
mod programs;
#[path = "dialects/strangers.rs"]
mod strangers;

use serde_json::Value;
use support::{Builder, Status, Tenfold, Worker, free_port, http, python};

/// A tenfold that serves on a port of its own, where its workers name none for clients.
#[track_caller]
fn anywhere() -> Builder {
    Tenfold::builder().env("PORT", free_port().to_string())
}

/// A tenfold that runs in the directory of the Python fixtures.
#[track_caller]
fn in_python() -> Builder {
    anywhere().cwd(python::fixtures()).env("PATH", python::search_path())
}

/// The service that speaks systemd's words, with `words` as its arguments.
#[track_caller]
fn service(words: &[&str]) -> Builder {
    in_python().args(["--dialect", "fd"]).app(["python3", "inherited.py"].iter().chain(words))
}

/// One request to a worker's private listener, past the master.
#[track_caller]
fn ask(worker: &Worker, path: &str) -> Value {
    let upstream = worker.upstream.as_deref().expect("it has a private listener");
    let response = http::get(upstream, path);
    let response = response.unwrap_or_else(|error| panic!("GET {path} at {upstream}: {error}"));
    assert_eq!(response.status, 200, "{}", response.text());
    response.json().unwrap_or_else(|error| panic!("GET {path} at {upstream}: {error}"))
}

/// Every worker is of `dialect` and answers by itself, from a slot of its own.
#[track_caller]
fn check_each_answers(status: &Status, dialect: &str) {
    for worker in &status.workers {
        assert_eq!(worker.dialect.as_deref(), Some(dialect), "{worker:?}");
        let answer = ask(worker, "/");
        assert_eq!(answer["slot"], worker.slot.to_string(), "{answer}");
    }
}
