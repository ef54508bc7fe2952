//! Whom the app takes for its client: the other end of the client's connection, or whom a trusted
//! peer names in a PROXY header; never what a client calls itself.

use std::io::{Read, Write};

use super::support::http::Connection;
use super::{Echo, exchange, exchange_with, raw, send};

const ECHO: &str = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n";

/// A client, and what the app should see of it.
struct Client {
    connection: Connection,
    name: String,
}

impl Client {
    #[track_caller]
    fn new(port: u16) -> Self {
        let stream = raw(port);
        let local = stream.local_addr().expect("it is connected").port();
        // The app listens on every interface, which is a socket of IPv6.
        let name = format!("::ffff:127.0.0.1 {local} IPv6");
        Self { connection: Connection::over(stream), name }
    }

    /// One request after what stands before it; what the app saw.
    #[track_caller]
    fn echo(&mut self, before: &[u8]) -> Echo {
        self.connection.send(&[before, ECHO.as_bytes()].concat()).expect("room");
        let response = self.connection.receive().expect("an answer");
        response.json().expect("an echo")
    }
}

#[test]
fn app_sees_each_clients_end_on_connections_that_it_shares() {
    let (_tenfold, port) = exchange();
    for _ in 0..3 {
        let mut clients = [Client::new(port), Client::new(port), Client::new(port)];
        for client in &mut clients {
            let seen = client.echo(b"");
            assert_eq!(seen.remote, client.name);
            assert_eq!(seen.raw_headers[..2], ["Host", "a"]);
            assert!(!seen.headers.keys().any(|name| name.contains("tenfold")), "{seen:?}");
        }
    }
}

#[test]
fn client_cannot_name_itself() {
    let (_tenfold, port) = exchange();
    let claim = "GET /echo HTTP/1.1\r\nHost: a\r\nX-Tenfold-Peer: 192.0.2.1 1\r\n\
                 x_tenfold_peer: 192.0.2.1 1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    let seen: Echo = send(port, claim).json().expect("an echo");
    assert!(seen.remote.starts_with("::ffff:127.0.0.1 "), "{seen:?}");
    assert!(!seen.headers.keys().any(|name| name.contains("tenfold")), "{seen:?}");
}

#[test]
fn client_of_connection_mode_cannot_name_itself_either() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--mode", "connection"]));
    let claim = "GET /echo HTTP/1.1\r\nX-Tenfold-Peer: 192.0.2.1 1\r\nHost: a\r\n\r\n";
    let seen: Echo = send(port, claim).json().expect("an echo");
    assert!(seen.remote.starts_with("::ffff:127.0.0.1 "), "{seen:?}");
    // Nothing between them reads or changes it.
    assert_eq!(seen.values("X-Tenfold-Peer"), ["192.0.2.1 1"]);
}

#[test]
fn upgraded_connection_has_its_clients_end_too() {
    let (_tenfold, port) = exchange();
    let mut stream = raw(port);
    let request = "GET /whose HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("room");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an end");
    let local = stream.local_addr().expect("it was connected").port();
    let (_, whose) = text.split_once("welcome ").unwrap_or_else(|| panic!("{text}"));
    assert!(whose.starts_with(&format!("::ffff:127.0.0.1 {local} host,")), "{text}");
    assert!(!whose.contains("tenfold"), "{text}");
}

#[test]
fn worker_without_the_preload_gets_no_field_of_ours() {
    let (_tenfold, port) =
        exchange_with(|it| it.args(["--set", "workers.preload=false", "--mode", "request"]));
    let seen = Client::new(port).echo(b"");
    assert!(!seen.headers.keys().any(|name| name.contains("tenfold")), "{seen:?}");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
}

fn binary_header(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend(source);
    header.extend([192, 0, 2, 99]);
    header.extend(port.to_be_bytes());
    header.extend(443_u16.to_be_bytes());
    header
}

#[test]
fn trusted_peer_names_its_client_in_a_proxy_header() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "listen.proxy_protocol=on"]));
    let mut client = Client::new(port);
    let seen = client.echo(b"PROXY TCP4 203.0.113.9 192.0.2.99 51034 443\r\n");
    assert_eq!(seen.remote, "203.0.113.9 51034 IPv4");
    assert_eq!(seen.headers["x-forwarded-for"], "203.0.113.9");
    assert_eq!(client.echo(b"").remote, "203.0.113.9 51034 IPv4", "for all its requests");
    let seen = Client::new(port).echo(b"PROXY TCP6 2001:db8::7 2001:db8::1 7 443\r\n");
    assert_eq!(seen.remote, "2001:db8::7 7 IPv6");
    let seen = Client::new(port).echo(&binary_header([203, 0, 113, 10], 4711));
    assert_eq!(seen.remote, "203.0.113.10 4711 IPv4");
    let mut balancer = Client::new(port);
    let seen = balancer.echo(b"PROXY UNKNOWN\r\n");
    assert_eq!(seen.remote, balancer.name, "its own, as for a health check");
}

#[test]
fn connection_without_the_header_is_closed_without_an_answer() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "listen.proxy_protocol=on"]));
    for start in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PROXY TCP4 203.0.113.9\r\n"] {
        let mut client = raw(port);
        client.write_all(start.as_bytes()).expect("room");
        let mut answer = Vec::new();
        // What was sent is unread: the end may be a reset.
        let _ = client.read_to_end(&mut answer);
        assert_eq!(String::from_utf8_lossy(&answer), "", "{start:?}");
    }
}

#[test]
fn peer_that_is_not_trusted_may_not_name_anybody() {
    let flags =
        ["--set", "listen.proxy_protocol=on", "--set", "trusted_proxies=[\"192.0.2.0/24\"]"];
    let (_tenfold, port) = exchange_with(|it| it.args(flags));
    let mut client = raw(port);
    // The master may have closed by now.
    let _ = client.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.99 51034 443\r\n");
    let _ = client.write_all(ECHO.as_bytes());
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}
