//! What a worker is told of who asks, and what of it may come from the client.

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
