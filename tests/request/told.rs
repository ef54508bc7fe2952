//! What the master tells the one who runs the pool, and says in fields of answers.

use super::support::PATIENCE;
use super::{connect, exchange, exchange_with, send, wait_in_flight};

#[test]
fn first_health_check_that_reaches_a_worker_is_told_of() {
    let (tenfold, port) = exchange();
    let probe = "GET /?x=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.30\r\n\r\n";
    for _ in 0..3 {
        assert_eq!(send(port, probe).status, 200);
    }
    let line = tenfold.wait_for_line(PATIENCE, |line| line.contains("a health check reached"));
    assert!(line.contains("kube-probe/1.30") && line.contains("health.public"), "{line}");
    assert_eq!(tenfold.output().matches("a health check reached").count(), 1);
}

#[test]
fn limit_that_is_held_by_waiting_requests_is_told_of() {
    let (tenfold, port) = exchange_with(|it| it.args(["--limit", "2"]));
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let mut connection = connect(port);
            connection.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
            connection
        })
        .collect();
    wait_in_flight(&tenfold, 2);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("limit is held by waiting requests"));
    drop(waiting);
}

#[test]
fn status_counts_the_connections_of_clients() {
    let (tenfold, port) = exchange();
    let mut clients = [connect(port), connect(port), connect(port)];
    for client in clients.iter_mut().chain(&mut [connect(port)]) {
        for _ in 0..2 {
            assert_eq!(client.get("/").expect("an answer").status, 200);
        }
    }
    let status = tenfold.status().expect("it runs");
    let counted = ["accepted", "requests", "taken"].map(|name| status.total(name));
    assert_eq!(counted, [4, 8, 0], "{status:?}");
}

#[test]
fn proxy_status_says_what_became_of_a_request() {
    let (_tenfold, port) = exchange_with(|it| it.args(["--set", "headers.proxy_status=true"]));
    let answered = connect(port).get("/status?code=404").expect("an answer");
    assert_eq!(answered.header("proxy-status"), Some("tenfold; received-status=404"));
    let broken = connect(port).get("/broken").expect("an answer");
    let told = "tenfold; error=http_protocol_error; details=\"bad_response\"";
    assert_eq!((broken.status, broken.header("proxy-status")), (502, Some(told)));
    let refused = send(port, "GET / HTTP/1.1\r\n\r\n");
    let told = "tenfold; error=http_request_error; details=\"host_missing\"";
    assert_eq!((refused.status, refused.header("proxy-status")), (400, Some(told)));
    let (_tenfold, port) = exchange();
    assert_eq!(connect(port).get("/").expect("an answer").header("proxy-status"), None);
}
