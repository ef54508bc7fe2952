//! What is no honest request is answered by the master and never reaches a worker.

use std::io::{Read, Write};

use super::support::abuse::{ROWS, Row};
use super::{exchange, raw, seen};

/// Sends bytes and reads until the master closes; it must not take what follows for a request.
#[track_caller]
fn check(port: u16, row: &Row) {
    let mut client = raw(port);
    client.write_all(&row.sent.bytes()).expect("room");
    // The master may have closed by now; then nobody reads this.
    let _ = client.write_all(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut answer = Vec::new();
    let Row { what, status, code, .. } = row;
    client.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{error} after {what}"));
    let answer = String::from_utf8_lossy(&answer);
    let begins = format!("HTTP/1.1 {status} ");
    assert!(answer.starts_with(&begins), "{what}: {answer}");
    assert!(answer.contains(&format!("({code})")), "{what}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
}

#[test]
fn each_abuse_gets_its_answer_and_no_worker_sees_it() {
    let (_tenfold, port) = exchange();
    for row in ROWS {
        check(port, row);
    }
    assert_eq!(seen(port).requests, 0);
}
