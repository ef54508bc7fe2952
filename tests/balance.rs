//! Connections go to the worker with the fewest, in every dialect and however they are counted.

mod support;

use support::crowd::Crowd;
use support::http::{self, Connection};
use support::pool::{demo_pool, deno_pool, node_pool};
use support::{Builder, PATIENCE, Status, Tenfold};

const WORKERS: usize = 4;

/// Opens 400 connections one after the other, each once nothing is open any more.
#[track_caller]
fn check_even_spread((builder, port): (Builder, u16)) {
    const CONNECTIONS: u64 = 400;
    let tenfold = builder.start();
    tenfold.wait_ready(WORKERS);
    for _ in 0..CONNECTIONS {
        let response = http::get(port, "/").expect("somebody answers");
        assert_eq!(response.status, 200, "{}", response.text());
        tenfold.wait_status(PATIENCE, "no open connection", Status::is_quiet);
    }
    let status = tenfold.status().expect("the master runs");
    let share = CONNECTIONS / WORKERS as u64;
    let shares: Vec<u64> = status.workers.iter().map(|worker| worker.accepted).collect();
    let is_fair = |&it: &u64| (share - 1..=share + 1).contains(&it);
    assert!(shares.len() == WORKERS && shares.iter().all(is_fair), "{shares:?}");
}

#[test]
fn sequential_connections_spread_evenly() {
    check_even_spread(node_pool("http.js", WORKERS));
}

#[test]
fn sequential_connections_spread_evenly_without_the_preload() {
    let (builder, port) = node_pool("http.js", WORKERS);
    check_even_spread((builder.args(["--set", "workers.preload=false"]), port));
}

#[test]
fn sequential_connections_spread_evenly_on_deno() {
    check_even_spread(deno_pool("http.js", WORKERS));
}

#[test]
fn sequential_connections_spread_evenly_over_native_workers() {
    check_even_spread(demo_pool(WORKERS));
}

/// One worker holds 50 connections whose answers take long; who comes then is answered by others.
#[track_caller]
fn check_busy_worker_is_spared((builder, port): (Builder, u16)) {
    const HELD: u64 = 50;
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let held: Vec<Connection> = (0..HELD).map(|_| ask_slowly(port)).collect();
    tenfold.wait_status(PATIENCE, "50 open connections", |status| status.open() == HELD);
    scale_to_four(&tenfold);
    let slots: Vec<u16> = Crowd { port, path: "/", clients: 8, requests: 100 }
        .ask_all()
        .iter()
        .map(|who| who.slot.expect("workers know their slot"))
        .collect();
    assert!(!slots.contains(&0), "the busy worker got new connections: {slots:?}");
    for slot in 1..4 {
        assert!(slots.contains(&slot), "slot {slot} got none: {slots:?}");
    }
    for mut connection in held {
        assert_eq!(connection.receive().expect("the answer comes").status, 200);
    }
}

fn ask_slowly(port: u16) -> Connection {
    let mut connection = Connection::open(port).expect("the master accepts");
    let head = b"GET /slow?ms=8000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.send(head).expect("the worker reads");
    connection
}

fn scale_to_four(tenfold: &Tenfold) {
    let scaled = tenfold.cli(["scale", "4"]);
    assert_eq!((scaled.code, scaled.stdout.as_str()), (Some(0), "4 workers\n"));
    tenfold.wait_ready(WORKERS);
}

#[test]
fn busy_worker_is_spared() {
    check_busy_worker_is_spared(node_pool("http.js", 1));
}

#[test]
fn busy_worker_is_spared_without_the_preload() {
    let (builder, port) = node_pool("http.js", 1);
    check_busy_worker_is_spared((builder.args(["--set", "workers.preload=false"]), port));
}

#[test]
fn busy_worker_is_spared_on_deno() {
    check_busy_worker_is_spared(deno_pool("http.js", 1));
}

#[test]
fn counts_are_those_of_the_worker_itself() {
    let (builder, port) = node_pool("http.js", WORKERS);
    let tenfold = builder.start();
    tenfold.wait_ready(WORKERS);
    let mut connections: Vec<Connection> =
        (0..WORKERS).map(|_| Connection::open(port).expect("the master accepts")).collect();
    let counts = |what: &str, open: u64, active: u64| {
        tenfold.wait_status(PATIENCE, what, |status| {
            status.workers.iter().all(|it| (it.open, it.active) == (open, active))
        });
    };
    counts("an idle connection on each", 1, 0);
    for connection in &mut connections {
        let head = b"GET /slow?ms=500 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        connection.send(head).expect("the worker reads");
    }
    counts("a request on each", 1, 1);
    for connection in &mut connections {
        assert_eq!(connection.receive().expect("the answer comes").status, 200);
    }
    counts("an idle connection on each again", 1, 0);
    drop(connections);
    counts("no connection", 0, 0);
}
