//! Request mode end to end: real clients, the real master, real Node workers.

#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

mod support;

#[path = "request/abuse.rs"]
mod abuse;
#[path = "request/bodies.rs"]
mod bodies;
#[path = "request/crashes.rs"]
mod crashes;
#[path = "request/dispatch.rs"]
mod dispatch;
#[path = "request/drain.rs"]
mod drain;
#[path = "request/exchanges.rs"]
mod exchanges;
#[path = "request/forwarding.rs"]
mod forwarding;
#[path = "request/h2c.rs"]
mod h2c;
#[path = "request/leaving.rs"]
mod leaving;
#[path = "request/many.rs"]
mod many;
#[path = "request/mixed.rs"]
mod mixed;
#[path = "request/overload.rs"]
mod overload;
#[path = "request/peers.rs"]
mod peers;
#[path = "request/probes.rs"]
mod probes;
#[path = "request/sticky.rs"]
mod sticky;
#[path = "request/streams.rs"]
mod streams;
#[path = "request/timeouts.rs"]
mod timeouts;
#[path = "request/told.rs"]
mod told;
#[path = "request/upgrades.rs"]
mod upgrades;

use std::collections::BTreeMap;
use std::net::TcpStream;

use serde::Deserialize;
use support::http::{Connection, Response};
use support::pool::request_pool;
use support::{Builder, PATIENCE, Tenfold, wait_until};

/// One worker of the app that has every kind of exchange.
#[track_caller]
fn exchange() -> (Tenfold, u16) {
    exchange_with(|builder| builder)
}

/// The same with more flags.
#[track_caller]
fn exchange_with(change: impl FnOnce(Builder) -> Builder) -> (Tenfold, u16) {
    let (builder, port) = request_pool("exchange.js", 1);
    let tenfold = change(builder).start();
    tenfold.wait_ready(1);
    (tenfold, port)
}

/// What the app's only worker has met.
#[derive(Clone, Debug, Deserialize)]
struct Seen {
    requests: u64,
    aborted: u64,
    /// Upgraded connections that ended.
    closed: u64,
}

#[track_caller]
fn seen(port: u16) -> Seen {
    let response = connect(port).get("/seen").expect("the worker answers");
    response.json().expect("it answers with its counts")
}

/// A request as the app saw it.
#[derive(Clone, Debug, Deserialize)]
struct Echo {
    method: String,
    url: String,
    version: String,
    #[serde(rename = "rawHeaders")]
    raw_headers: Vec<String>,
    #[serde(rename = "rawTrailers")]
    raw_trailers: Vec<String>,
    length: usize,
    body: String,
    headers: BTreeMap<String, String>,
    /// Address, port and family of its peer.
    remote: String,
}

impl Echo {
    /// The values of all fields of exactly this name.
    fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.raw_headers.chunks_exact(2);
        fields.filter(|field| field[0] == name).map(|field| field[1].as_str()).collect()
    }
}

#[track_caller]
fn connect(port: u16) -> Connection {
    Connection::open(port).expect("the master accepts")
}

/// A connection without any reading of what comes.
#[track_caller]
fn raw(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the master accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    stream
}

/// Sends bytes on a connection of their own, and reads one response.
#[track_caller]
fn send(port: u16, bytes: &str) -> Response {
    let mut connection = connect(port);
    connection.send(bytes.as_bytes()).expect("the kernel has room");
    let response = connection.receive();
    response.unwrap_or_else(|error| panic!("no response ({error}) to {bytes:?}"))
}

/// The same, answered by `/echo`.
#[track_caller]
fn echo(port: u16, bytes: &str) -> Echo {
    let response = send(port, bytes);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json().expect("/echo answers so")
}

/// Waits until no worker has anything in flight.
#[track_caller]
fn wait_idle(tenfold: &Tenfold) {
    wait_in_flight(tenfold, 0);
}

#[track_caller]
fn wait_in_flight(tenfold: &Tenfold, count: u64) {
    wait_until(PATIENCE, &format!("{count} in flight"), || {
        let status = tenfold.status().ok()?;
        (status.workers.iter().map(|it| it.in_flight).sum::<u64>() == count).then_some(())
    });
}
