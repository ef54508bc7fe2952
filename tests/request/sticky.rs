//! Clients that must meet the same process again do, for as long as it lives.

use std::collections::BTreeSet;
use std::process::Command;

use nix::sys::signal::Signal;
use serde::Deserialize;

use super::support::crowd::Who;
use super::support::http::Response;
use super::support::pool::request_pool;
use super::support::{PATIENCE, Tenfold, node, processes};
use super::{connect, send};

const WORKERS: usize = 4;

#[track_caller]
fn start(app: &str, sticky: &str) -> (Tenfold, u16) {
    let (builder, port) = request_pool(app, WORKERS);
    let tenfold = builder.args(["--set", &format!("sticky={sticky}")]).start();
    tenfold.wait_ready(WORKERS);
    (tenfold, port)
}

#[track_caller]
fn ask(port: u16, cookie: Option<&str>) -> (Who, Option<String>) {
    let cookie = cookie.map_or_else(String::new, |pair| format!("Cookie: a=b; {pair}\r\n"));
    let response = send(port, &format!("GET / HTTP/1.1\r\nHost: a\r\n{cookie}\r\n"));
    assert_eq!(response.status, 200, "{}", response.text());
    (response.json().expect("it says who it is"), cookie_of(&response))
}

fn cookie_of(response: &Response) -> Option<String> {
    response.header("set-cookie").map(str::to_owned)
}

fn pair(cookie: &str) -> &str {
    cookie.split(';').next().expect("a cookie has a first part")
}

#[test]
fn cookie_keeps_a_client_with_its_worker_until_that_is_gone() {
    let (tenfold, port) = start("http.js", "on");
    let (first, cookie) = ask(port, None);
    let cookie = cookie.expect("a first visitor gets one");
    let (value, attributes) = cookie.split_once(';').expect("it has attributes");
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax");
    assert!(!value.contains(&first.pid.to_string()), "{cookie}");
    for _ in 0..3 * WORKERS {
        let (again, renewed) = ask(port, Some(pair(&cookie)));
        assert_eq!((again.pid, renewed), (first.pid, None));
    }
    processes::signal(first.pid, Signal::SIGKILL);
    tenfold.wait_status(PATIENCE, "its replacement", |status| {
        status.ready() == WORKERS && status.workers.iter().all(|it| it.pid != Some(first.pid))
    });
    let (other, renewed) = ask(port, Some(pair(&cookie)));
    assert_ne!(other.pid, first.pid);
    let renewed = renewed.expect("another worker, another cookie");
    assert_eq!(ask(port, Some(pair(&renewed))).0.pid, other.pid);
}

#[test]
fn client_waits_for_its_worker_though_others_are_free() {
    let (builder, port) = request_pool("http.js", WORKERS);
    let flags = ["--limit", "1", "--queue-timeout", "20s", "--set", "sticky=on"];
    let tenfold = builder.args(flags).start();
    tenfold.wait_ready(WORKERS);
    let (first, cookie) = ask(port, None);
    let cookie = cookie.expect("a first visitor gets one");
    let request =
        format!("GET /slow?ms=500 HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", pair(&cookie));
    let mut tabs = [connect(port), connect(port), connect(port)];
    for tab in &mut tabs {
        tab.send(request.as_bytes()).expect("room");
    }
    tenfold.wait_status(PATIENCE, "two that wait", |it| it.listeners[0].queue.length == 2);
    assert_ne!(ask(port, None).0.pid, first.pid, "others do not wait behind them");
    for tab in &mut tabs {
        let who: Who = tab.receive().expect("its turn").json().expect("it says who it is");
        assert_eq!(who.pid, first.pid);
    }
}

#[test]
fn nobody_gets_a_cookie_who_need_not_return() {
    let (_tenfold, port) = start("http.js", "auto");
    assert_eq!(ask(port, None).1, None);
}

#[derive(Debug, Deserialize)]
struct Served {
    slot: u16,
    transports: Vec<String>,
    echo: usize,
}

#[test]
fn socket_io_works_over_four_workers_with_its_default_transports() {
    const CLIENTS: usize = 40;
    let (_tenfold, port) = start("socket-io.js", "auto");
    let output = Command::new(node::node(22))
        .current_dir(node::fixtures())
        .args(["apps/socket-io-client.js", &port.to_string(), &CLIENTS.to_string()])
        .output()
        .expect("node starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let text = String::from_utf8_lossy(&output.stdout);
    let served: Vec<Served> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let echoes: Vec<usize> = served.iter().map(|it| it.echo).collect();
    assert_eq!(echoes, (0..CLIENTS).collect::<Vec<_>>());
    assert!(served.iter().all(|it| it.transports == ["polling", "websocket"]), "{served:?}");
    let slots: BTreeSet<u16> = served.iter().map(|it| it.slot).collect();
    assert_eq!(slots.len(), WORKERS, "{served:?}");
}
