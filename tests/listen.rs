//! Where an app may listen, where the master listens instead, and what the app is told.

mod support;

use std::net::TcpStream;
use std::process::{Command, Stdio};

use support::crowd::{Crowd, Who};
use support::http::{self, Address};
use support::pool::{command_pool, node_pool};
use support::{PATIENCE, Status, free_port, node};

#[track_caller]
fn check_served(address: impl Into<Address>) {
    let response = http::get(address, "/").expect("it serves");
    assert_eq!(response.status, 200, "{}", response.text());
}

#[track_caller]
fn check_nobody_listens(port: u16) {
    let error = TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn worker_is_ready_when_it_says_so() {
    let (builder, port) = node_pool("wait-ready.js", 2);
    let builder = builder.args(["--set", "workers.wait_ready=true"]).env("APP_DELAY_MS", "3000");
    let tenfold = builder.start();
    tenfold.wait_for_line(PATIENCE, |line| line.contains("listening on "));
    let status = tenfold.status().expect("the master runs");
    assert_eq!(status.ready(), 0, "it only listens: {status:?}");
    // Who comes early waits.
    check_served(port);
    tenfold.wait_ready(2);
    let said = tenfold.output().lines().filter(|line| *line == "says ready").count();
    assert!(said > 0, "{}", tenfold.output());
}

#[test]
fn port_0_is_one_port_for_all_workers() {
    let (builder, _) = command_pool(["node", "apps/listen0.js"], 3);
    let tenfold = builder.start();
    let address = tenfold.wait_ready(3).listeners[0].address.clone();
    let port = address.rsplit(':').next().and_then(|text| text.parse().ok());
    let port: u16 = port.unwrap_or_else(|| panic!("no port in {address}"));
    let line = format!("listening on port {port}");
    tenfold.wait_for_line(PATIENCE, |it| it == line);
    let others =
        tenfold.output().lines().any(|it| it.starts_with("listening on port ") && it != line);
    assert!(!others, "{}", tenfold.output());
    let mut slots: Vec<_> = Crowd { port, path: "/", clients: 1, requests: 9 }
        .ask_all()
        .into_iter()
        .map(|who| who.slot)
        .collect();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots, [Some(0), Some(1), Some(2)]);
}

#[test]
fn listen_takes_the_place_of_the_apps_port() {
    let (builder, port) = node_pool("http.js", 2);
    let other = free_port();
    let tenfold = builder.args(["--listen", &format!("127.0.0.1:{other}")]).start();
    tenfold.wait_ready(2);
    check_served(other);
    check_nobody_listens(port);
}

#[test]
fn listen_takes_two_addresses() {
    let (builder, port) = node_pool("http.js", 2);
    let (first, second) = (free_port(), free_port());
    let tenfold = builder
        .args(["--listen", &format!("127.0.0.1:{first}")])
        .args(["--listen", &format!("127.0.0.1:{second}")])
        .start();
    tenfold.wait_ready(2);
    check_served(first);
    check_served(second);
    check_nobody_listens(port);
}

#[test]
fn listen_takes_a_unix_path() {
    let (builder, port) = node_pool("http.js", 2);
    let path = builder.dir().join("public.sock");
    let mut tenfold = builder.args(["--listen", &format!("unix:{}", path.display())]).start();
    tenfold.wait_ready(2);
    for _ in 0..4 {
        check_served(path.as_path());
        tenfold.wait_status(PATIENCE, "no open connection", Status::is_quiet);
    }
    check_nobody_listens(port);
    let shares: Vec<u64> =
        tenfold.status().expect("it runs").workers.iter().map(|worker| worker.accepted).collect();
    assert_eq!(shares, [2, 2]);
    tenfold.signal(nix::sys::signal::Signal::SIGTERM);
    tenfold.wait_exit(PATIENCE);
    assert!(!path.exists(), "the socket stays behind");
}

#[test]
fn listen_replaces_the_first_of_two_servers_only() {
    let (builder, first) = node_pool("two.js", 2);
    let (second, public) = (free_port(), free_port());
    let listen = format!("127.0.0.1:{public}");
    let tenfold = builder.env("APP_PORT_2", second.to_string()).args(["--listen", &listen]).start();
    tenfold.wait_status(PATIENCE, "both servers of both workers", |status| {
        status.ready() == 2 && status.listeners.len() == 2
    });
    for (port, server) in [(public, 1), (second, 2)] {
        let response = http::get(port, "/").expect("it serves");
        let answer: serde_json::Value = response.json().expect("JSON");
        assert_eq!(answer["server"], server);
    }
    check_nobody_listens(first);
}

#[test]
fn port_in_use_is_the_apps_error_to_handle() {
    let holder = std::net::TcpListener::bind("0.0.0.0:0").expect("some port is free");
    let taken = holder.local_addr().expect("it is bound").port();
    let (builder, port) = node_pool("portinuse.js", 2);
    let tenfold = builder.env("APP_PORT_2", taken.to_string()).start();
    tenfold.wait_ready(2);
    tenfold.wait_for_line(PATIENCE, |line| line == "error EADDRINUSE");
    tenfold.wait_for_line(PATIENCE, |line| {
        line.contains("the app cannot listen there, and was told") && line.contains("os error 98")
    });
    check_served(port);
}

#[test]
fn tls_sessions_are_resumed_by_any_worker() {
    let (builder, port) = node_pool("https.js", 4);
    let tenfold = builder.start();
    tenfold.wait_ready(4);
    let output = Command::new(node::node(22))
        .current_dir(node::fixtures())
        .args(["apps/client.js", "https", &port.to_string(), "12"])
        .stdin(Stdio::null())
        .output()
        .expect("node starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 12, "{text}");
    assert!(answers[1..].iter().all(|answer| answer["resumed"] == true), "{text}");
    let fresh = |slot: u16| answers.iter().any(|answer| answer["slot"] == slot);
    assert!((0..4).all(fresh), "one worker never answered: {text}");
}

#[test]
fn server_that_closes_may_listen_again() {
    let (builder, port) = node_pool("reopen.js", 1);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    assert_eq!(http::get(port, "/reopen?ms=0").expect("it serves").status, 200);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("listening on "));
    let answered = support::try_until(PATIENCE, || http::get(port, "/").ok());
    assert_eq!(answered.map(|response| response.status), Some(200));
    assert_eq!(tenfold.status().expect("it runs").total("restarts"), 0);
}

#[test]
fn server_that_closes_in_one_worker_is_served_by_the_other() {
    let (builder, port) = node_pool("reopen.js", 2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    for _ in 0..3 {
        let closer: Who =
            http::get(port, "/reopen?ms=200").expect("it serves").json().expect("JSON");
        let crowd = Crowd { port, path: "/", clients: 8, requests: 100 };
        assert!(crowd.ask_all().iter().any(|who| who.pid != closer.pid), "nobody else answered");
        support::wait_until(PATIENCE, "the return of who closed", || {
            let answers = Crowd { port, path: "/", clients: 2, requests: 8 }.ask_all();
            answers.iter().any(|who| who.pid == closer.pid).then_some(())
        });
    }
    assert_eq!(tenfold.status().expect("it runs").total("restarts"), 0);
}

#[test]
fn megabytes_of_app_messages_do_no_harm() {
    let (builder, port) = node_pool("big-message.js", 2);
    let tenfold = builder.env("APP_MIB", "16").start();
    tenfold.wait_ready(2);
    for _ in 0..2 {
        tenfold.wait_for_line(PATIENCE, |line| line == "sent");
    }
    Crowd { port, path: "/", clients: 4, requests: 40 }.ask_all();
    let rss = support::processes::counters(tenfold.pid()).rss_bytes;
    assert!(rss < 64 << 20, "the master kept {rss} bytes");
}
