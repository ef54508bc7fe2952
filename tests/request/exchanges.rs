//! What a client and a worker say to each other arrives as it was said.

use std::io::ErrorKind;

use super::support::http::Response;
use super::{Echo, connect, echo, exchange, send};

const CLOSE: &str = "Host: a\r\nConnection: close\r\n\r\n";

#[test]
fn kept_connection_serves_one_request_after_the_other() {
    let (tenfold, port) = exchange();
    let mut connection = connect(port);
    for path in ["/", "/chunks", "/bytes?count=100000", "/status?code=404", "/"] {
        let response = connection.get(path).expect("the connection is kept");
        let expected = if path.starts_with("/status") { 404 } else { 200 };
        assert_eq!(response.status, expected, "{path}");
        assert_eq!(response.header("connection"), None, "{path}");
    }
    super::wait_idle(&tenfold);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let mut text = String::new();
    for path in ["/slow?ms=100", "/bytes?count=7", "/status?code=201", "/chunks"] {
        text += &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    connection.send(text.as_bytes()).expect("the kernel has room");
    let answers: Vec<Response> =
        (0..4).map(|_| connection.receive().expect("each is answered")).collect();
    let statuses: Vec<u16> = answers.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 200, 201, 200]);
    assert_eq!(answers[1].text(), "xxxxxxx");
    assert_eq!(answers[3].text(), "chunk 2\nchunk 1\nchunk 0\n");
}

#[test]
fn responses_without_a_body_leave_the_connection_in_place() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    connection.send(b"HEAD /bytes?count=50 HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    let (status, headers) = connection.receive_head().expect("a head");
    let length = headers.iter().find(|(name, _)| name == "content-length");
    assert_eq!((status, length.map(|(_, value)| value.as_str())), (200, Some("50")));
    for code in [204, 304] {
        let response = connection.get(&format!("/status?code={code}")).expect("in step");
        assert_eq!(response.status, code);
        assert_eq!(response.header("content-length"), None, "{code}");
        assert_eq!(response.header("transfer-encoding"), None, "{code}");
    }
    assert_eq!(connection.get("/").expect("in step").status, 200);
}

#[test]
fn early_hints_reach_clients_that_know_them() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let hints = connection.get("/hints").expect("a first response");
    assert_eq!((hints.status, hints.header("link")), (103, Some("</style.css>; rel=preload")));
    assert_eq!(connection.receive().expect("the final one").status, 200);
    let old = send(port, "GET /hints HTTP/1.0\r\n\r\n");
    assert_eq!(old.status, 200, "HTTP/1.0 knows no informational responses");
}

#[test]
fn old_clients_get_no_chunks_and_the_end_they_know() {
    let (_tenfold, port) = exchange();
    let response = send(port, "GET /chunks HTTP/1.0\r\n\r\n");
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.text(), "chunk 2\nchunk 1\nchunk 0\n");
    let mut kept = connect(port);
    for _ in 0..2 {
        let request = b"GET /bytes?count=5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        kept.send(request).expect("room");
        let response = kept.receive().expect("a kept connection");
        assert_eq!(response.header("connection"), Some("keep-alive"));
        assert_eq!(response.text(), "xxxxx");
    }
    let response = send(port, "GET /bytes?count=5 HTTP/1.0\r\n\r\n");
    assert_eq!((response.status, response.text().as_str()), (200, "xxxxx"));
}

#[test]
fn body_that_ends_with_the_workers_connection_becomes_chunks() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let response = connection.get("/until-close").expect("a whole response");
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.text(), "until the end");
    assert_eq!(connection.get("/").expect("the client's connection is kept").status, 200);
    let old = send(port, "GET /until-close HTTP/1.0\r\n\r\n");
    assert_eq!((old.header("transfer-encoding"), old.text().as_str()), (None, "until the end"));
}

#[test]
fn client_that_asks_for_the_end_gets_it() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    connection.send(format!("GET / HTTP/1.1\r\n{CLOSE}").as_bytes()).expect("room");
    let response = connection.receive().expect("an answer");
    assert_eq!(response.header("connection"), Some("close"));
    let end = connection.receive().map(|it| it.status).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::UnexpectedEof));
}

#[test]
fn fields_pass_with_their_case_order_and_repetitions() {
    let (_tenfold, port) = exchange();
    let head = "GET /echo?a=b%20c&d HTTP/1.1\r\nhOsT: Example\r\nX-One: 1\r\nx-two: 2\r\n\
                X-One: 3\r\nAccept-Encoding: gzip, br\r\nConnection: close, X-Private\r\n\
                X-Private: for this hop\r\n\r\n";
    let Echo { method, url, version, raw_headers, .. } = echo(port, head);
    assert_eq!((method.as_str(), url.as_str()), ("GET", "/echo?a=b%20c&d"));
    assert_eq!(version, "1.1");
    let sent: Vec<&str> = raw_headers.iter().take(10).map(String::as_str).collect();
    let expected = [
        ["hOsT", "Example"],
        ["X-One", "1"],
        ["x-two", "2"],
        ["X-One", "3"],
        ["Accept-Encoding", "gzip, br"],
    ];
    assert_eq!(sent, expected.concat());
    assert!(!raw_headers.iter().any(|it| it == "X-Private"), "{raw_headers:?}");
}

#[test]
fn encoded_bodies_and_the_cases_of_response_fields_are_left_alone() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let response = connection.get("/bytes?count=20").expect("an answer");
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert_eq!(response.body, [b'x'; 20]);
    let response = connection.get("/status?code=200").expect("an answer");
    let names: Vec<&str> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"X-Mixed-Case") && names.contains(&"Date"), "{names:?}");
}

#[test]
fn malformed_response_becomes_a_502_and_the_next_request_is_served() {
    let (_tenfold, port) = exchange();
    let mut connection = connect(port);
    let response = connection.get("/broken").expect("an answer of ours");
    assert_eq!(response.status, 502);
    assert!(response.text().contains("(bad_response)"), "{}", response.text());
    assert_eq!(connection.get("/").expect("the connection is kept").status, 200);
}
