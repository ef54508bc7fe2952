//! Apps behave behind tenfold as they do alone: the same exchanges with both, and what came back
//! compared line by line. Every difference must be in the table, with its reason.

mod support;

#[path = "differential/differences.rs"]
mod differences;
#[path = "differential/exchanges.rs"]
mod exchanges;
#[path = "differential/programs.rs"]
mod programs;
#[path = "differential/talk.rs"]
mod talk;

use programs::{Alone, PROGRAMS, Program};
use support::{Tenfold, free_port};
use talk::Talk;

/// Holds all exchanges with a program alone and behind tenfold.
#[track_caller]
fn check(name: &str) {
    let program = PROGRAMS.iter().find(|program| program.name == name).expect("it is listed");
    let (alone, alone_port) = Alone::start(program);
    let (tenfold, port) = behind(program);
    let mut unlike = Vec::new();
    for exchange in exchanges::ALL {
        if differences::is_skipped(program.name, exchange.name) {
            continue;
        }
        let [direct, through] = [alone_port, port].map(|port| {
            let mut talk = Talk::with(port);
            (exchange.hold)(&mut talk);
            talk.lines
        });
        let lacks = program.lacks.contains(&exchange.name);
        let is_shown = |line: &String| line.to_lowercase().contains(exchange.shows);
        let shows = direct.iter().any(is_shown);
        assert_ne!(shows, lacks, "{name} alone, {}: {direct:#?}", exchange.name);
        unlike.extend(differences::unexplained(program.name, exchange.name, &direct, &through));
    }
    assert!(unlike.is_empty(), "{name}:\n{}", unlike.join("\n"));
    drop((alone, tenfold));
}

fn behind(program: &Program) -> (Tenfold, u16) {
    let port = free_port();
    let tenfold = program
        .builder()
        .args(["--workers", "1", "--listen", &format!("127.0.0.1:{port}")])
        .args(program.flags)
        .app(program.command)
        .start();
    tenfold.wait_ready(1);
    (tenfold, port)
}

#[test]
fn express_behaves_as_alone() {
    check("express");
}

#[test]
fn fastify_behaves_as_alone() {
    check("fastify");
}

#[test]
fn react_behaves_as_alone() {
    check("react");
}

#[test]
fn uvicorn_behaves_as_alone_on_an_inherited_descriptor() {
    check("uvicorn-fd");
}

#[test]
fn uvicorn_behaves_as_alone_on_its_port() {
    check("uvicorn-port");
}

#[test]
fn gunicorn_behaves_as_alone() {
    check("gunicorn");
}

#[test]
fn python_http_server_behaves_as_alone() {
    check("http.server");
}

#[test]
fn whatever_is_explained_is_compared() {
    let unknown = differences::unknown_names();
    assert!(unknown.is_empty(), "neither programs nor exchanges: {unknown:?}");
}
