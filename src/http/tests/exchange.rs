//! Whole heads, there and back.

use std::time::Duration;

use super::*;

const BROWSER: &[u8] =
    b"GET /shop?q=1 HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive\r\n\
    Cookie: a=1; b=2\r\naccept-LANGUAGE:en\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";

#[test]
fn a_request_goes_on_in_its_order_and_case_with_the_peer_named() {
    let head = request(BROWSER);
    assert_eq!(head.path(), b"/shop");
    assert_eq!(head.query(), b"?q=1");
    assert_eq!(
        forwarded(&head, &forwarding(&head)),
        "GET /shop?q=1 HTTP/1.1\r\nHost: shop.example\r\nCookie: a=1; b=2\r\n\
         accept-LANGUAGE: en\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: shop.example\r\nX-Request-Id: id-1\r\n\r\n"
    );
}

#[test]
fn a_response_comes_back_in_its_order_and_case_with_our_additions() {
    let asked = request(BROWSER).asked();
    let head = response(
        b"HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nConnection: keep-alive\r\n\
          Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n",
        asked,
    );
    let timing = Timing { queue: Duration::from_micros(1500), app: Duration::from_millis(12) };
    let with = ResponseForwarding { timing: Some(timing), ..returning(&head, asked) };
    assert!(head.keeps_alive());
    assert_eq!(
        returned(&head, &with),
        "HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nTransfer-Encoding: chunked\r\n\
         Server-Timing: queue;dur=1.5, app;dur=12.0\r\n\r\n"
    );
}
