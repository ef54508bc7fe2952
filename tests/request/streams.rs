//! What lasts for as long as its client stays takes nobody's turn, and is bounded all the same.

use super::support::http::{self, Connection};
use super::support::pool::request_pool;
use super::support::{PATIENCE, Tenfold, wait_until};
use super::{connect, exchange_with, wait_idle, wait_in_flight};

/// Opens an event stream and reads its head.
#[track_caller]
fn events(port: u16) -> Connection {
    let mut connection = connect(port);
    connection.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    assert_eq!(connection.receive_head().expect("a head").0, 200);
    connection
}

#[track_caller]
fn wait_streams(tenfold: &Tenfold, each: &[u64]) {
    tenfold.wait_status(PATIENCE, "streams", |status| {
        status.workers.iter().map(|worker| worker.streams).eq(each.iter().copied())
    });
}

#[test]
fn thousand_event_streams_on_two_workers_leave_room_for_a_request() {
    let (builder, port) = request_pool("exchange.js", 2);
    // A stream is a descriptor towards its client and one towards its worker.
    let tenfold = builder.through(["prlimit", "--nofile=8192:8192"]).start();
    tenfold.wait_ready(2);
    let streams: Vec<Connection> = (0..1000).map(|_| events(port)).collect();
    wait_streams(&tenfold, &[500, 500]);
    wait_idle(&tenfold);
    assert_eq!(connect(port).get("/").expect("an answer").status, 200);
    drop(streams);
    wait_streams(&tenfold, &[0, 0]);
}

#[test]
fn streams_beyond_their_bound_take_places_of_requests() {
    let flags = ["--set", "workers.max_connections=2", "--limit", "1", "--queue-timeout", "300ms"];
    let (tenfold, port) = exchange_with(|it| it.args(flags));
    let mut streams: Vec<Connection> = (0..3).map(|_| events(port)).collect();
    wait_streams(&tenfold, &[2]);
    wait_in_flight(&tenfold, 1);
    assert_eq!(connect(port).get("/").expect("an answer").status, 503);
    streams.pop();
    wait_idle(&tenfold);
    assert_eq!(connect(port).get("/").expect("an answer").status, 200);
}

#[test]
fn unlimited_routes_hold_no_place_and_spread_over_the_workers() {
    let (builder, port) = request_pool("exchange.js", 2);
    let flags = ["--limit", "1", "--set", "unlimited=[\"/slow\", \"/wait/*\"]"];
    let tenfold = builder.args(flags).start();
    tenfold.wait_ready(2);
    let mut waiting: Vec<Connection> = (0..20)
        .map(|_| {
            let mut connection = connect(port);
            let request = b"GET /slow?ms=1500 HTTP/1.1\r\nHost: a\r\n\r\n";
            connection.send(request).expect("room");
            connection
        })
        .collect();
    wait_streams(&tenfold, &[10, 10]);
    wait_idle(&tenfold);
    assert_eq!(connect(port).get("/").expect("an answer").status, 200);
    for connection in &mut waiting {
        assert_eq!(connection.receive().expect("each is answered").status, 200);
    }
    wait_streams(&tenfold, &[0, 0]);
}

/// Streams and tunnels in the metrics.
#[track_caller]
fn wait_open(admin: u16, expected: (f64, f64)) {
    wait_until(PATIENCE, "the metrics", || {
        let page = http::get(admin, "/metrics").expect("a page").text();
        let open = |kind: &str| {
            let name = format!("tenfold_open{{kind=\"{kind}\"}} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&*name));
            value.expect("it is shown").parse::<f64>().expect("a number")
        };
        ((open("stream"), open("upgrade")) == expected).then_some(())
    });
}

#[test]
fn metrics_count_each_stream_once_and_a_tunnel_apart() {
    let flags = ["--admin", "127.0.0.1:0", "--set", "unlimited=[\"/*\"]"];
    let (tenfold, port) = exchange_with(|it| it.args(flags));
    let admin = tenfold.wait_ready(1).admin_port();
    let mut waiting = connect(port);
    waiting.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    let stream = events(port);
    let mut tunnel = connect(port);
    let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
    tunnel.send(ask).expect("room");
    assert_eq!(tunnel.receive_head().expect("a head").0, 101);
    assert_eq!(connect(port).get("/").expect("an answer").status, 200);
    wait_open(admin, (2.0, 1.0));
    drop((waiting, stream, tunnel));
    wait_open(admin, (0.0, 0.0));
}

#[test]
fn client_gone_frees_its_stream() {
    let (tenfold, port) = exchange_with(|it| it.args(["--set", "unlimited=[\"/hang\"]"]));
    let mut waiting = connect(port);
    waiting.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    let stream = events(port);
    wait_streams(&tenfold, &[2]);
    drop((waiting, stream));
    wait_streams(&tenfold, &[0]);
}

#[test]
fn silent_streams_leave_the_response_buffer_to_others() {
    // The kernel holds up to 4 MiB itself, whatever we do.
    let sizes = ["limits.response_buffer=7MiB", "limits.response_buffer_total=8MiB"];
    let (tenfold, port) =
        exchange_with(|it| sizes.iter().fold(it, |it, size| it.args(["--set", size])));
    // A read of 64 KiB ahead for each of them would be more than all there is.
    let streams: Vec<Connection> = (0..160).map(|_| events(port)).collect();
    wait_streams(&tenfold, &[160]);
    let mut slow = connect(port);
    let length = 6 << 20;
    let request = format!("GET /bytes?count={length} HTTP/1.1\r\nHost: a\r\n\r\n");
    slow.send(request.as_bytes()).expect("room");
    assert_eq!(slow.receive_head().expect("a head").0, 200);
    // Its client has read nothing, yet the worker is free.
    wait_idle(&tenfold);
    assert_eq!(slow.receive_exactly(length).expect("the whole body").len(), length);
    drop(streams);
}
