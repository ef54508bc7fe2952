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
         accept-LANGUAGE: en\r\nX-Request-Id: id-1\r\nX-Forwarded-For: 203.0.113.9\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: shop.example\r\n\r\n"
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

/// What `head` goes on as, without the fields that every request gets at its end.
#[track_caller]
fn goes_on(head: &[u8]) -> String {
    let head = request(head);
    let text = forwarded(&head, &Forwarding { client: None, ..forwarding(&head) });
    let is_ours = |line: &str| {
        ["X-Request-Id: id-1", "X-Forwarded-Proto: http"].contains(&line)
            || line.starts_with("X-Forwarded-Host: ")
    };
    text.split("\r\n").filter(|line| !is_ours(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_absolute_target_goes_on_in_origin_form_with_its_authority_as_host() {
    let rows = [
        ("GET http://b:81/x?y", "GET /x?y HTTP/1.1\nHost: b:81\n\n"),
        ("GET HTTP://b", "GET / HTTP/1.1\nHost: b\n\n"),
        ("GET http://b?y", "GET /?y HTTP/1.1\nHost: b\n\n"),
        ("GET https://[::1]/", "GET / HTTP/1.1\nHost: [::1]\n\n"),
        ("OPTIONS http://b", "OPTIONS * HTTP/1.1\nHost: b\n\n"),
        ("OPTIONS *", "OPTIONS * HTTP/1.1\nHost: a\n\n"),
        ("GET /x://y", "GET /x://y HTTP/1.1\nHost: a\n\n"),
    ];
    for (line, expected) in rows {
        assert_eq!(goes_on(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()), expected);
    }
}

#[test]
fn an_old_request_goes_on_in_the_workers_version_with_a_host() {
    let bytes = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(goes_on(bytes), "GET / HTTP/1.1\nHost: \n\n");
    let head = request(bytes);
    assert!(head.keeps_alive());
    assert!(!request(b"GET / HTTP/1.0\r\n\r\n").keeps_alive());
    let expecting = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    assert!(!request(expecting).expects_continue());
}

#[test]
fn the_length_of_a_body_is_written_anew_where_it_stood() {
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 0005\r\nX-A: 1\r\n\r\n";
    assert_eq!(goes_on(bytes), "POST / HTTP/1.1\nHost: a\ncontent-length: 5\nX-A: 1\n\n");
    let chunked =
        b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-B\r\ntransfer-Encoding: Chunked\r\n\r\n";
    assert_eq!(
        goes_on(chunked),
        "POST / HTTP/1.1\nHost: a\nTrailer: X-B\ntransfer-Encoding: chunked\n\n"
    );
    let head = request(chunked);
    let buffered = Forwarding { body: Framing::Length(7), ..forwarding(&head) };
    let text = forwarded(&head, &buffered);
    assert!(text.starts_with("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nX-Request-Id"));
}

#[test]
fn hop_by_hop_fields_end_here() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, TE\r\nX-Hop: 1\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\n\
        Proxy: http://b\r\nTE: gzip, trailers;q=1, Trailers\r\nHTTP2-Settings: AA\r\nX-A: 1\r\n\
        Trailer: X-B\r\nContent_Length: 9\r\n\r\n";
    assert_eq!(goes_on(bytes), "GET / HTTP/1.1\nHost: a\nTE: trailers\nX-A: 1\nConnection: TE\n\n");
}

#[test]
fn an_upgrade_goes_on_where_it_is_allowed_and_never_to_http2() {
    let bytes =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n";
    let head = request(bytes);
    assert_eq!(head.upgrade(), Some(&b"h2c, WebSocket"[..]));
    assert_eq!(
        goes_on(bytes),
        "GET / HTTP/1.1\nHost: a\nUpgrade: WebSocket\nConnection: upgrade\n\n"
    );
    let refused = Forwarding { upgrade: Upgrade::Refused, ..forwarding(&head) };
    assert!(!forwarded(&head, &refused).to_lowercase().contains("upgrade"));
    for without in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Content-Length: 1\r\n\r\n",
    ] {
        let head = request(without.as_bytes());
        assert_eq!(head.upgrade(), None, "{without}");
        assert!(!forwarded(&head, &forwarding(&head)).contains("pgrade"), "{without}");
    }
}

#[test]
fn an_expectation_goes_on_only_to_a_worker_that_answers_it() {
    let head =
        request(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n");
    assert!(head.expects_continue());
    assert!(!forwarded(&head, &forwarding(&head)).contains("Expect"));
    let with = Forwarding { expectation: Expectation::Forwarded, ..forwarding(&head) };
    assert!(forwarded(&head, &with).contains("\r\nExpect: 100-Continue\r\n"));
}

#[test]
fn a_request_keeps_its_own_id_only_where_the_caller_takes_it() {
    let head = request(b"GET / HTTP/1.1\r\nHost: a\r\nx-request-ID: abc\r\n\r\n");
    let id = head.request_id().expect("it is usable");
    let kept = forwarded(&head, &Forwarding { request_id: id, ..forwarding(&head) });
    assert!(kept.starts_with("GET / HTTP/1.1\r\nHost: a\r\nx-request-ID: abc\r\n"));
    assert!(!forwarded(&head, &forwarding(&head)).contains("abc"));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {}\r\n\r\n", "a".repeat(129));
    for unusable in [&long, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n\r\n"] {
        assert_eq!(request(unusable.as_bytes()).request_id(), None);
    }
}

/// What a response of `head` comes back as to GET or HEAD of either version.
#[track_caller]
fn comes_back(head: &str, method: Method, version: Version) -> String {
    let asked = Asked { method, version, upgrade: Upgrade::Allowed };
    let head = response(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), asked);
    returned(&head, &returning(&head, asked)).replace("\r\n", "\n")
}

#[test]
fn each_client_gets_a_body_that_it_can_see_the_end_of() {
    let (get, head) = (Method::Get, Method::Head);
    let (old, new) = (Version::Http10, Version::Http11);
    let length = "200 OK\r\nContent-Length: 5";
    let chunked = "200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A";
    let rows = [
        (length, get, new, "200 OK\nContent-Length: 5\n"),
        (length, get, old, "200 OK\nContent-Length: 5\nConnection: keep-alive\n"),
        (length, head, new, "200 OK\nContent-Length: 5\n"),
        (chunked, get, new, "200 OK\nTransfer-Encoding: chunked\nTrailer: X-A\n"),
        (chunked, get, old, "200 OK\nConnection: close\n"),
        (chunked, head, new, "200 OK\nTransfer-Encoding: chunked\n"),
        (chunked, head, old, "200 OK\nConnection: keep-alive\n"),
        ("200 OK", get, new, "200 OK\nTransfer-Encoding: chunked\n"),
        ("200 OK", get, old, "200 OK\nConnection: close\n"),
        ("204 None\r\nContent-Length: 0", get, new, "204 None\n"),
        ("304 Same\r\nContent-Length: 5", get, new, "304 Same\nContent-Length: 5\n"),
        ("304 Same\r\nTransfer-Encoding: chunked", get, new, "304 Same\n"),
        ("103 Early Hints\r\nLink: </a>", get, new, "103 Early Hints\nLink: </a>\n"),
        ("200\r\nContent-Length: 5\r\nContent-Length: 5", get, new, "200 \nContent-Length: 5\n"),
        (
            "200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            get,
            new,
            "200 OK\nTransfer-Encoding: chunked\n",
        ),
        (
            "101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket",
            get,
            new,
            "101 Switching\nUpgrade: websocket\nConnection: upgrade\n",
        ),
        (
            "426 Upgrade\r\nContent-Length: 0\r\nUpgrade: TLS/1.3",
            get,
            new,
            "426 Upgrade\nContent-Length: 0\nUpgrade: TLS/1.3\nConnection: upgrade\n",
        ),
        (
            "200 OK\r\nContent-Length: 0\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nX-Stays: 1",
            get,
            new,
            "200 OK\nContent-Length: 0\nX-Stays: 1\n",
        ),
    ];
    for (from, method, version, to) in rows {
        assert_eq!(comes_back(from, method, version), format!("HTTP/1.1 {to}\n"), "{from}");
    }
}

#[test]
fn a_workers_connection_is_used_again_only_where_the_end_of_its_body_is_sure() {
    let rows = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ("HTTP/1.1 204 None\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false),
    ];
    for (bytes, expected) in rows {
        let head = response(bytes.as_bytes(), Asked::default());
        assert_eq!(head.keeps_alive(), expected, "{bytes}");
    }
}

#[test]
fn additions_come_last_and_a_workers_own_id_stays() {
    let asked = Asked::default();
    let head = response(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", asked);
    let with = ResponseForwarding {
        request_id: Some("id-1"),
        via: Some("tenfold"),
        proxy_status: Some("tenfold; error=http_response_timeout"),
        set_cookie: Some("slot=1; Path=/"),
        connection: Persistence::Close,
        ..returning(&head, asked)
    };
    assert_eq!(
        returned(&head, &with),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Request-Id: id-1\r\nVia: 1.0 tenfold\r\n\
         Proxy-Status: tenfold; error=http_response_timeout\r\nSet-Cookie: slot=1; Path=/\r\n\
         Connection: close\r\n\r\n"
    );
    let own = response(b"HTTP/1.1 204 None\r\nx-request-id: 7\r\n\r\n", asked);
    let with = ResponseForwarding { request_id: Some("id-1"), ..returning(&own, asked) };
    assert_eq!(returned(&own, &with), "HTTP/1.1 204 None\r\nx-request-id: 7\r\n\r\n");
}

#[test]
fn a_stream_of_events_is_told_by_its_media_type() {
    let is_stream = |value: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {value}\r\n\r\n");
        response(head.as_bytes(), Asked::default()).is_event_stream()
    };
    assert!(is_stream("text/event-stream") && is_stream("Text/Event-Stream ;charset=utf-8"));
    assert!(!is_stream("text/event-streams") && !is_stream("text/plain; a=text/event-stream"));
}
