//! A worker killed under load costs no request that could be asked again.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use super::support::crowd::Crowd;
use super::support::pool::request_pool;
use super::support::{Builder, PATIENCE, Tenfold, free_port, http, processes, wait_until};
use super::{connect, exchange, seen};

const WORKERS: usize = 4;
const KILLS: u16 = 20;

/// Without storms and long pauses, for which tests would only wait.
fn calm(builder: Builder) -> Builder {
    let calm = ["restart.burst=1000", "restart.cap=100ms", "restart.base=10ms"];
    calm.iter().fold(builder, |it, set| it.args(["--set", set]))
}

#[track_caller]
fn check_kills(builder: Builder, port: u16) {
    let tenfold = calm(builder).start();
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

/// Sets the soft limit on descriptors of a running process.
#[track_caller]
fn limit_descriptors(pid: i32, soft: &str) {
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")])
        .status()
        .expect("util-linux is installed");
    assert!(status.success(), "prlimit --nofile={soft} failed");
}

#[test]
fn a_request_waits_while_there_is_no_descriptor_for_its_connection_to_a_worker() {
    let (builder, port) = request_pool("http.js", 1);
    let tenfold = builder.args(["--set", "timeouts.connect=30s"]).start();
    tenfold.wait_ready(1);
    let pid = tenfold.pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("proc(5)");
    let usual = line.split_whitespace().nth(3).expect("proc(5)").to_owned();
    // The first client takes a descriptor, the others what is left.
    let mut first = http::Connection::open(port).expect("the master accepts");
    limit_descriptors(pid, &(processes::counters(pid).fds + 8).to_string());
    let mut others = Vec::new();
    let full = |line: &str| line.contains("cannot accept, trying again every 50 ms");
    while !tenfold.output().lines().any(full) {
        others.push(http::Connection::open(port).expect("the kernel has room"));
        assert!(others.len() < 1000, "there is always another descriptor");
    }
    first.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
    tenfold.wait_for_line(PATIENCE, |line| line.contains("cannot connect to workers"));
    limit_descriptors(pid, &usual);
    let answer = first.receive().expect("it is answered");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The worker had no part in it.
    let status = tenfold.wait_ready(1);
    assert_eq!(status.total("ejections"), 0, "{status:?}");
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

/// What became of one client's requests.
#[derive(Debug, Default)]
struct Tally {
    answered: u64,
    /// Answers of the master's own, by their reason.
    refused: BTreeMap<String, u64>,
    /// Responses that broke off.
    cut: u64,
}

/// Asks the same again and again until told to stop.
fn press(port: u16, request: &str, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut connection = connect(port);
    while !stop.load(Ordering::Relaxed) {
        connection.send(request.as_bytes()).expect("the master reads");
        match connection.receive() {
            Ok(response) if response.status == 200 => tally.answered += 1,
            Ok(response) => {
                let text = response.text();
                assert_eq!(response.status, 502, "{text}");
                let (_, rest) = text.split_once('(').expect("a reason");
                let (reason, _) = rest.split_once(')').expect("a reason");
                *tally.refused.entry(reason.to_owned()).or_default() += 1;
            }
            Err(error) => {
                let known = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                assert!(known.contains(&error.kind()), "{error}");
                tally.cut += 1;
                connection = connect(port);
            }
        }
    }
    tally
}

/// The counted failures, by reason.
#[track_caller]
fn counted(admin: u16) -> BTreeMap<String, u64> {
    let page = http::get(admin, "/metrics").expect("metrics").text();
    let failures = page.lines().filter_map(|line| {
        let rest =
            line.strip_prefix("tenfold_request_failures_total{kind=\"failure\",reason=\"")?;
        let (reason, value) = rest.split_once("\"} ")?;
        Some((reason.to_owned(), value.parse().ok()?))
    });
    failures.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn every_failure_has_its_reason_and_its_death() {
    const CLIENTS: usize = 16;
    const REQUESTS: [&str; 2] = [
        // May not be repeated: it may have done something.
        "POST /slow?ms=20 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        // Is cut off in the midst of its response.
        "GET /chunks?count=20&ms=2 HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let (builder, port) = request_pool("exchange.js", WORKERS);
    let tenfold = calm(builder).args(["--admin", "127.0.0.1:0"]).start();
    let admin = tenfold.wait_ready(WORKERS).admin_port();
    let stop = AtomicBool::new(false);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let ask = |client| press(port, REQUESTS[client % REQUESTS.len()], &stop);
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || ask(client))).collect();
        for kill in 0..KILLS {
            tenfold.wait_ready(WORKERS);
            kill_busy(&tenfold, kill % WORKERS as u16);
            tenfold.wait_status(PATIENCE, "the death", |status| {
                status.total("restarts") > u64::from(kill)
            });
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|it| it.join().expect("clients do not panic")).collect()
    });
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    for (reason, count) in tallies.iter().flat_map(|it| &it.refused) {
        *refused.entry(reason.clone()).or_default() += count;
    }
    let cut: u64 = tallies.iter().map(|it| it.cut).sum();
    let answered: u64 = tallies.iter().map(|it| it.answered).sum();
    println!("{answered} answered, {cut} cut, refused {refused:?}");
    assert!(cut > 0 && refused.values().sum::<u64>() > 0, "no kill hit anything");
    let mut expected = refused;
    expected.insert("response_cut".to_owned(), cut);
    assert_eq!(counted(admin), expected, "what clients saw is what was counted");
    assert_eq!(tenfold.status().expect("it runs").total("restarts"), u64::from(KILLS));
    let is_told = |line: &&str| line.contains("worker crashed, restarting");
    wait_until(PATIENCE, "a line for each death", || {
        (tenfold.output().lines().filter(is_told).count() == usize::from(KILLS)).then_some(())
    });
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
