//! Every request goes to a worker with the fewest in flight, however unevenly clients ask.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::connect;
use super::support::pool::request_pool;

const WORKERS: usize = 4;
const CLIENTS: usize = 80;
/// Milliseconds that each request of a client takes: the fastest asks a hundred times as often as
/// the slowest.
const PACES: [u64; 8] = [2, 5, 10, 20, 40, 80, 120, 200];
/// Milliseconds that each client is busy.
const BUSY: u64 = 1000;

/// One line of the trace.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: String,
    message: String,
    worker: Option<String>,
    in_flight: Option<String>,
}

/// A dispatch: when, to whom, and what everyone had who had room.
#[derive(Debug)]
struct Dispatch {
    at_ms: u64,
    worker: String,
    in_flight: BTreeMap<String, u64>,
}

impl Dispatch {
    fn parse(line: &str) -> Option<Self> {
        let line: Line = serde_json::from_str(line).ok()?;
        if line.message != "dispatched" {
            return None;
        }
        let in_flight = line.in_flight?;
        let counts = in_flight.split(' ').map(|pair| {
            let (worker, count) = pair.split_once('=').expect("worker=count");
            (worker.to_owned(), count.parse().expect("a number"))
        });
        Some(Self {
            at_ms: milliseconds(&line.timestamp),
            worker: line.worker?,
            in_flight: counts.collect(),
        })
    }

    fn least(&self) -> u64 {
        *self.in_flight.values().min().expect("somebody had room")
    }

    fn spread(&self) -> u64 {
        self.in_flight.values().max().expect("somebody had room") - self.least()
    }
}

/// Within its day: `2026-11-21T21:44:16.110Z`.
fn milliseconds(timestamp: &str) -> u64 {
    let time = timestamp.split_once('T').expect("a date, then a time").1;
    let digits: Vec<u64> =
        time.split([':', '.', 'Z']).filter_map(|part| part.parse().ok()).collect();
    ((digits[0] * 60 + digits[1]) * 60 + digits[2]) * 1000 + digits[3]
}

/// What each client does: as many requests as its pace allows.
fn ask(port: u16, pace: u64) -> u64 {
    let mut connection = connect(port);
    let requests = BUSY / pace;
    for _ in 0..requests {
        let response = connection.get(&format!("/slow?ms={pace}")).expect("an answer");
        assert_eq!(response.status, 200);
    }
    requests
}

#[test]
fn uneven_clients_are_spread_evenly() {
    let (builder, port) = request_pool("http.js", WORKERS);
    let tenfold = builder.args(["--log", "json", "--set", "log_level=trace"]).start();
    tenfold.wait_ready(WORKERS);
    let requests: u64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || ask(port, PACES[client % PACES.len()])))
            .collect();
        clients.into_iter().map(|it| it.join().expect("each is answered")).sum()
    });
    assert_eq!(tenfold.status().expect("it runs").total("dropped_log_lines"), 0);
    let dispatches: Vec<Dispatch> = tenfold.output().lines().filter_map(Dispatch::parse).collect();
    assert_eq!(dispatches.len() as u64, requests);
    for dispatch in &dispatches {
        assert_eq!(dispatch.in_flight.len(), WORKERS, "{dispatch:?}");
        assert_eq!(dispatch.in_flight[&dispatch.worker], dispatch.least(), "{dispatch:?}");
    }
    let weighed = dispatches.windows(2).map(|two| {
        let held_ms = two[1].at_ms - two[0].at_ms;
        (two[0].spread() * held_ms, held_ms)
    });
    let (sum, time) = weighed.fold((0, 0), |(sum, time), (more, ms)| (sum + more, time + ms));
    let spread = sum as f64 / time as f64;
    println!("{requests} requests, time-averaged spread {spread:.2}");
    // 1.5 is the goal, and 1.3 what a machine at rest shows; one that is short of processors
    // stretches single moments (1.6 was seen). Node's cluster shows 5 to 6.
    assert!(spread <= 2.5, "time-averaged spread {spread}");
}
