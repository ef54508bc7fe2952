//! What is no honest request is answered by the master and never reaches a worker.

use std::io::{Read, Write};

use super::{exchange, raw, seen};

/// What is sent, and the status and reason code that answer it.
type Row = (&'static str, u16, &'static str);

const ROWS: &[Row] = &[
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400, "length_and_encoding"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400, "length_and_encoding"),
    ("Content-Length: 5\r\nContent-Length: 5\r\n", 400, "length_repeated"),
    ("Content-Length: +5\r\n", 400, "length_invalid"),
    ("Content-Length: 5, 5\r\n", 400, "length_invalid"),
    ("Transfer-Encoding: gzip, chunked\r\n", 501, "encoding_unsupported"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400, "encoding_repeated"),
    ("Transfer-Encoding : chunked\r\n", 400, "field_space_before_colon"),
    ("X-A: 1\r\n folded\r\n", 400, "field_folded"),
    ("X-A: 1\nX-B: 2\r\n", 400, "bare_lf"),
    ("X-A: 1\rX-B: 2\r\n", 400, "bare_cr"),
    ("X-A: a\0b\r\n", 400, "control_in_head"),
    ("Host: b\r\n", 400, "host_repeated"),
    ("No colon\r\n", 400, "field_no_colon"),
];

const HEADS: &[Row] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400, "host_missing"),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "host_invalid"),
    ("GET /\r\n", 400, "version_invalid"),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version_unsupported"),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "version_unsupported"),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501, "connect_refused"),
    ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "trace_refused"),
    ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_authority"),
    ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target_fragment"),
    ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "leading_lines"),
    ("\x16\x03\x01\x02\0\x01\0\x01", 400, "control_in_head"),
];

const BODIES: &[Row] = &[
    ("xyz\r\n", 400, "chunk_size_invalid"),
    ("5\r\nhelloXX", 400, "chunk_end_invalid"),
    ("-5\r\nhello\r\n0\r\n\r\n", 400, "chunk_size_invalid"),
    ("10000000000000000\r\n", 400, "chunk_size_invalid"),
    ("5;a=\x01b\r\nhello\r\n0\r\n\r\n", 400, "chunk_extension_invalid"),
];

/// Sends bytes and reads until the master closes; it must not take what follows for a request.
#[track_caller]
fn check(port: u16, bytes: &[u8], status: u16, code: &str) {
    let mut client = raw(port);
    client.write_all(bytes).expect("room");
    // The master may have closed by now; then nobody reads this.
    let _ = client.write_all(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut answer = Vec::new();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
    client.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{error} after {shown:?}"));
    let answer = String::from_utf8_lossy(&answer);
    let begins = format!("HTTP/1.1 {status} ");
    assert!(answer.starts_with(&begins), "{shown:?}: {answer}");
    assert!(answer.contains(&format!("({code})")), "{shown:?}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {answer}");
}

#[test]
fn each_abuse_gets_its_answer_and_no_worker_sees_it() {
    let (_tenfold, port) = exchange();
    for (fields, status, code) in ROWS {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        check(port, head.as_bytes(), *status, code);
    }
    for (head, status, code) in HEADS {
        check(port, head.as_bytes(), *status, code);
    }
    for (body, status, code) in BODIES {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(port, format!("{head}{body}").as_bytes(), *status, code);
    }
    assert_eq!(seen(port).requests, 0);
}

#[test]
fn heads_and_targets_beyond_their_bounds_are_refused() {
    let (_tenfold, port) = exchange();
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000));
    check(port, target.as_bytes(), 414, "target_too_long");
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "a".repeat(33_000));
    check(port, field.as_bytes(), 431, "head_too_large");
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-A: 1\r\n".repeat(100));
    check(port, fields.as_bytes(), 431, "too_many_fields");
    let flood = format!("1;{}\r\n", "e".repeat(20_000));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(port, format!("{head}{flood}").as_bytes(), 400, "chunk_overhead");
    assert_eq!(seen(port).requests, 0);
}
