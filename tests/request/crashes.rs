//! A worker killed under load costs no request that could be asked again.

use nix::sys::signal::Signal;

use super::support::crowd::Crowd;
use super::support::pool::request_pool;
use super::support::{Builder, PATIENCE, Tenfold, free_port, processes, wait_until};
use super::{connect, exchange, seen};

const WORKERS: usize = 4;
const KILLS: u16 = 20;

/// Kills a busy worker; a storm of crashes would only make the test wait for the next start.
#[track_caller]
fn check_kills(builder: Builder, port: u16) {
    let calm = ["restart.burst=1000", "restart.cap=100ms", "restart.base=10ms"];
    let tenfold = calm.iter().fold(builder, |it, set| it.args(["--set", set])).start();
    for kill in 0..KILLS {
        let slot = kill % WORKERS as u16;
        tenfold.wait_ready(WORKERS);
        let crowd = Crowd { port, path: "/slow?ms=20", clients: 32, requests: 320 };
        let outcomes = std::thread::scope(|scope| {
            let asking = scope.spawn(move || crowd.ask());
            kill_busy(&tenfold, slot);
            asking.join().expect("clients do not panic")
        });
        let failed: Vec<_> = outcomes.iter().filter(|it| it.answer.is_err()).collect();
        assert!(failed.is_empty(), "kill {kill}: {} failed: {:?}", failed.len(), failed[0]);
    }
}

#[track_caller]
fn kill_busy(tenfold: &Tenfold, slot: u16) {
    let status = tenfold.wait_status(PATIENCE, "a busy worker", |it| {
        it.workers.iter().any(|worker| worker.slot == slot && worker.in_flight > 0)
    });
    processes::signal(status.pid_of(slot), Signal::SIGKILL);
}

#[test]
fn no_idempotent_request_is_lost_to_twenty_kills() {
    let (builder, port) = request_pool("http.js", WORKERS);
    check_kills(builder, port);
}

#[test]
fn no_idempotent_request_is_lost_where_workers_listen_by_themselves() {
    let port = free_port();
    let builder = Tenfold::builder()
        .args(["--dialect", "port", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--workers", &WORKERS.to_string(), "--set", "env.APP_PORT={port}"])
        .node(22)
        .app(["node", "apps/http.js"]);
    check_kills(builder, port);
}

#[test]
fn request_that_may_not_be_repeated_gets_a_502() {
    let (tenfold, port) = exchange();
    let mut client = connect(port);
    client.send(b"POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("room");
    // Once the worker has read it, and not only been sent it.
    wait_until(PATIENCE, "the request at the app", || (seen(port).requests == 1).then_some(()));
    let worker = tenfold.status().expect("it runs").pid_of(0);
    processes::signal(worker, Signal::SIGKILL);
    let response = client.receive().expect("an answer of ours");
    assert_eq!(response.status, 502);
    assert!(response.text().contains("(worker_lost)"), "{}", response.text());
}

#[test]
fn response_that_has_begun_is_cut_off_and_not_begun_again() {
    let (tenfold, port) = exchange();
    let mut client = connect(port);
    client.send(b"GET /stall HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    assert_eq!(client.receive_head().expect("a head").0, 200);
    let worker = tenfold.status().expect("it runs").pid_of(0);
    processes::signal(worker, Signal::SIGKILL);
    assert_eq!(client.receive_rest().expect("an end"), b"half ");
}
