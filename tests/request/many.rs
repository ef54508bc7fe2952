//! Thousands of clients that hold a connection and want nothing of it yet.
//!
//! The tests here are smaller than what is promised. All of it, in some minutes:
//! `MANY=full cargo test --release --test request many:: -- --nocapture --test-threads 1`

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::support::{PATIENCE, Tenfold, free_port, http, processes, wait_until};
use super::{Connection, connect, exchange_with, raw, wait_idle, wait_in_flight};

/// What one idle connection may cost the master, in bytes of resident memory.
const IDLE_BYTES: u64 = 16 * 1024;

/// How many clients are idle, and how many begin a head and do not end it.
fn extent() -> (usize, usize) {
    match std::env::var_os("MANY").is_some_and(|value| value == "full") {
        true => (10_000, 5_000),
        false => (2_000, 1_000),
    }
}

/// One worker behind a master that has room for so many clients, as has this process.
#[track_caller]
fn roomy(clients: usize, settings: &[&str]) -> (Tenfold, u16) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it can be read");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("soft may be raised to hard");
    let room = format!("listen.max_connections={}", clients + 100);
    exchange_with(|it| {
        let it = it.args(["--admin", "127.0.0.1:0", "--set", &room]);
        settings.iter().fold(it, |it, setting| it.args(["--set", setting]))
    })
}

/// Waits until so many connections of this kind are open.
#[track_caller]
fn wait_open(tenfold: &Tenfold, kind: &str, count: usize) {
    let admin = tenfold.wait_ready(1).admin_port();
    let name = format!("tenfold_open{{kind=\"{kind}\"}} ");
    wait_until(PATIENCE, "the clients", || {
        let page = http::get(admin, "/metrics").expect("a page").text();
        let value = page.lines().find_map(|line| line.strip_prefix(&*name)).expect("it is shown");
        let open: f64 = value.parse().expect("a number");
        (open >= count as f64).then_some(())
    });
}

#[test]
fn idle_connections_cost_little() {
    let (count, _) = extent();
    let (tenfold, port) = roomy(count, &["timeouts.keep_alive=10m"]);
    let rss = || processes::counters(tenfold.pid()).rss_bytes;
    let asked = || {
        let mut client = connect(port);
        assert_eq!(client.get("/").expect("an answer").status, 200);
        client
    };
    // What the first requests take for good is not theirs.
    drop(asked());
    let before = rss();
    let mut clients: Vec<Connection> = (0..count).map(|_| asked()).collect();
    wait_open(&tenfold, "idle_client", count);
    let each = rss().saturating_sub(before) / count as u64;
    println!("{count} idle connections: {each} bytes of the master's memory each");
    assert!(each <= IDLE_BYTES, "{each} bytes each");
    for client in clients.iter_mut().step_by(100) {
        assert_eq!(client.get("/").expect("it was kept").status, 200);
    }
}

/// Asks again and again until told to stop; how many answers came.
fn user(port: u16, stop: &AtomicBool) -> usize {
    let mut client = connect(port);
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(client.get("/").expect("a user is served").status, 200);
        answers += 1;
    }
    answers
}

/// Begins a head.
fn begun(port: u16) -> TcpStream {
    let mut client = raw(port);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").expect("room");
    client
}

#[test]
fn heads_that_do_not_end_get_a_408_and_users_are_served_meanwhile() {
    let (_, count) = extent();
    let (tenfold, port) = roomy(count, &["timeouts.header_read=8s"]);
    let stop = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let users = scope.spawn(|| user(port, &stop));
        let heads: Vec<TcpStream> = (0..count).map(|_| begun(port)).collect();
        wait_open(&tenfold, "client", count);
        for mut head in heads {
            let mut answer = String::new();
            head.read_to_string(&mut answer).expect("an answer and the end");
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        }
        stop.store(true, Ordering::Relaxed);
        users.join().expect("every answer was a 200")
    });
    println!("{count} heads that did not end; {answers} answers for a user meanwhile");
    assert!(answers > 0, "a user was not served");
    wait_idle(&tenfold);
}

/// What `tenfold check` says that the master may hold for its clients, in bytes.
#[track_caller]
fn published(flags: &[&str]) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_tenfold"))
        .arg("check")
        .args(flags)
        .args(["--", "node", "app.js"])
        .output()
        .expect("it is built");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let at_most = text.lines().find_map(|line| {
        let (most, _) = line.trim().strip_prefix("memory ")?.trim().split_once(" MiB for ")?;
        most.strip_prefix("at most ")?.parse::<u64>().ok()
    });
    at_most.unwrap_or_else(|| panic!("no bound in\n{text}")) << 20
}

#[test]
fn clients_at_their_worst_stay_within_the_memory_that_check_tells() {
    let flags = [
        "--limit=20",
        "--queue=40",
        "--queue-timeout=5m",
        "--set=workers.count=1",
        "--set=listen.max_connections=300",
        "--set=timeouts.header_read=5m",
        "--set=timeouts.body_idle=5m",
        "--set=limits.response_buffer_total=1MiB",
    ];
    let bound = published(&flags);
    let (tenfold, port) = exchange_with(|it| it.args(["--admin", "127.0.0.1:0"]).args(flags));
    let rss = || processes::counters(tenfold.pid()).rss_bytes;
    assert_eq!(connect(port).get("/").expect("an answer").status, 200);
    let before = rss();
    let body = vec![b'x'; 200 * 1024];
    let uploads = (0..60).map(|_| {
        let mut client = raw(port);
        let head = "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n";
        client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body)).expect("room");
        client
    });
    let uploads: Vec<TcpStream> = uploads.collect();
    let long = "v".repeat(31_000);
    let heads = (0..200).map(|_| {
        let mut client = begun(port);
        client.write_all(long.as_bytes()).expect("room");
        client
    });
    let heads: Vec<TcpStream> = heads.collect();
    wait_open(&tenfold, "client", uploads.len() + heads.len());
    tenfold.wait_status(PATIENCE, "20 at work and 40 waiting", |status| {
        (status.workers[0].in_flight, status.listeners[0].queue.length) == (20, 40)
    });
    let least = (heads.len() * long.len()) as u64;
    wait_until(PATIENCE, "the heads", || (rss().saturating_sub(before) >= least).then_some(()));
    let grown = rss() - before;
    println!("the master grew by {} KiB, of {} KiB", grown >> 10, bound >> 10);
    assert!(grown <= bound, "{grown} bytes, of {bound}");
}

#[test]
fn listener_with_a_bound_of_its_own_takes_no_more_and_costs_others_nothing() {
    let (narrow, wide) = (free_port(), free_port());
    let listen =
        format!("listen=[{{on=\"127.0.0.1:{narrow}\",max_connections=2}},\"127.0.0.1:{wide}\"]");
    let (tenfold, _) = exchange_with(|it| it.args(["--set", &listen]));
    let mut idle = connect(wide);
    assert_eq!(idle.get("/").expect("an answer").status, 200);
    let mut held: Vec<Connection> = (0..2).map(|_| connect(narrow)).collect();
    for client in &mut held {
        client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").expect("room");
    }
    wait_in_flight(&tenfold, 2);
    let refused = connect(narrow).receive().expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(idle.get("/").expect("it was kept").status, 200);
    held.pop();
    wait_until(PATIENCE, "room", || (http::get(narrow, "/").ok()?.status == 200).then_some(()));
}
