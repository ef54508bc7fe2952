//! What a worker is told of who asks, and what of it may come from the client.

use std::net::{Ipv6Addr, SocketAddr};

use super::support::http::{Address, Connection};
use super::support::{Tenfold, free_port};
use super::{Echo, echo, exchange, exchange_with};

const CLAIMS: &str = "GET /echo HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\
    X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.example\r\n\
    X-Real-IP: 192.0.2.7\r\nX-Request-Id: given-1\r\n\r\n";

#[track_caller]
fn check(echo: &Echo, expected: [(&str, &[&str]); 5]) {
    for (name, values) in expected {
        assert_eq!(echo.values(name), values, "{name} in {:?}", echo.raw_headers);
    }
}

#[test]
fn trusted_peers_speak_for_their_clients() {
    let (_tenfold, port) = exchange();
    check(
        &echo(port, CLAIMS),
        [
            ("X-Forwarded-For", &["192.0.2.7, 127.0.0.1"]),
            ("X-Forwarded-Proto", &["https"]),
            ("X-Forwarded-Host", &["www.example"]),
            ("X-Real-IP", &["192.0.2.7"]),
            ("X-Request-Id", &["given-1"]),
        ],
    );
}

#[test]
fn what_others_claim_is_replaced() {
    let (_tenfold, port) =
        exchange_with(|it| it.args(["--set", "trusted_proxies=[\"198.51.100.0/24\"]"]));
    let echo = echo(port, CLAIMS);
    let id = echo.values("X-Request-Id").concat();
    assert!(id.len() == 16 && id != "given-1", "{id}");
    check(
        &echo,
        [
            ("X-Forwarded-For", &["127.0.0.1"]),
            ("X-Forwarded-Proto", &["http"]),
            ("X-Forwarded-Host", &["shop.example"]),
            ("X-Real-IP", &[]),
            ("X-Request-Id", &[id.as_str()]),
        ],
    );
}

const FORWARDED: &str = "GET /echo HTTP/1.1\r\nHost: shop.example:8080\r\n\
    Forwarded: for=192.0.2.7;proto=https, for=\"[2001:db8::7]\"\r\n\
    forwarded: for=_hidden\r\n\r\n";

/// The app, at an address of each kind: two of TCP and a path.
#[track_caller]
fn everywhere(flags: &[&str]) -> (Tenfold, [Address; 3]) {
    let port = free_port();
    let (tenfold, _) = exchange_with(|it| {
        let path = it.dir().join("front.sock").display().to_string();
        let listen = [format!("[::]:{port}"), format!("unix:{path}")];
        let flags = flags.iter().flat_map(|set| ["--set", set]);
        it.args(listen.iter().flat_map(|at| ["--listen", at])).args(flags)
    });
    let path = tenfold.dir().join("front.sock");
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    (tenfold, [Address::from(port), Address::Tcp(v6), Address::Unix(path)])
}

/// What the app gets of `Forwarded`, from a client at each address.
#[track_caller]
fn forwarded(addresses: [Address; 3]) -> [Vec<String>; 3] {
    addresses.map(|address| {
        let mut connection = Connection::open(address).expect("it listens");
        connection.send(FORWARDED.as_bytes()).expect("room");
        let echo: Echo = connection.receive().expect("an answer").json().expect("an echo");
        let its = echo.raw_headers.chunks_exact(2);
        let its = its.filter(|field| field[0].eq_ignore_ascii_case("forwarded"));
        its.map(|field| field[1].clone()).collect()
    })
}

#[test]
fn forwarded_names_each_hop_where_it_is_asked_for() {
    let (_tenfold, addresses) = everywhere(&["headers.forwarded=true"]);
    let before = "for=192.0.2.7;proto=https, for=\"[2001:db8::7]\", for=_hidden, ";
    let ours = "host=\"shop.example:8080\";proto=http";
    let hop = |name: &str| vec![format!("{before}for={name};{ours}")];
    assert_eq!(forwarded(addresses), [hop("127.0.0.1"), hop("\"[::1]\""), hop("unknown")]);
}

#[test]
fn forwarded_of_others_is_replaced_where_it_is_asked_for() {
    let flags = ["headers.forwarded=true", "trusted_proxies=[\"198.51.100.0/24\"]"];
    let (_tenfold, [v4, v6, path]) = everywhere(&flags);
    let hop = |name: &str| vec![format!("for={name};host=\"shop.example:8080\";proto=http")];
    let [v4, v6, unix] = forwarded([v4, v6, path]);
    assert_eq!((v4, v6), (hop("127.0.0.1"), hop("\"[::1]\"")));
    // Who may connect to a path, its file decides: such a peer is trusted.
    assert!(
        unix[0].starts_with("for=192.0.2.7;") && unix[0].contains(", for=unknown;"),
        "{unix:?}"
    );
}

#[test]
fn forwarded_is_left_to_trusted_peers_where_it_is_not_asked_for() {
    let (_tenfold, [v4, v6, path]) = everywhere(&["trusted_proxies=[\"::1\"]"]);
    let [v4, v6, unix] = forwarded([v4, v6, path]);
    assert_eq!(v4, [""; 0]);
    assert_eq!(v6, ["for=192.0.2.7;proto=https, for=\"[2001:db8::7]\"", "for=_hidden"]);
    assert_eq!(unix, v6);
}
