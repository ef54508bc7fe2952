//! One master after the other: the new one serves, the old one leaves, and no client notices.

#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

mod support;

use std::fs;
use std::future::poll_fn;
use std::time::Instant;

use bytes::Bytes;
use nix::sys::signal::Signal;

use support::faults::{Faults, REACTOR};
use support::http::{self, Connection};
use support::load::{self, Load, Manner};
use support::pool::{demo_pool, demo_request_pool, request_pool};
use support::{Builder, PATIENCE, Status, Tenfold, free_port, processes, wait_until};

/// Upgrades once; the status of the new master, with all its workers and the old one gone.
#[track_caller]
fn upgrade(tenfold: &Tenfold, workers: usize) -> Status {
    let old = tenfold.status().expect("a master runs").pid;
    let upgraded = tenfold.cli(["upgrade", "--wait"]);
    assert_eq!(upgraded.code, Some(0), "{}\n{}", upgraded.stderr, tenfold.output());
    let status = wait_until(PATIENCE, "the new master's status", || {
        tenfold.status().ok().filter(|status| status.pid != old && status.ready() == workers)
    });
    assert!(upgraded.stdout.contains(&status.pid.to_string()), "{}", upgraded.stdout);
    wait_until(PATIENCE, "the old master's end", || (!processes::is_alive(old)).then_some(()));
    status
}

/// How many upgrades the load must survive; for a longer run by hand.
#[track_caller]
fn rounds() -> u32 {
    let asked = std::env::var("TENFOLD_TEST_UPGRADES").ok();
    asked.map_or(3, |text| text.parse().expect("TENFOLD_TEST_UPGRADES is a number"))
}

#[test]
fn upgrades_of_node_workers_under_load_lose_no_request_and_leave_nothing_behind() {
    check_upgrades(request_pool("http.js", 4));
}

#[test]
fn upgrades_of_rust_workers_under_load_lose_no_request_and_leave_nothing_behind() {
    check_upgrades(demo_request_pool(4));
}

/// Four workers in request mode, upgraded under load.
#[track_caller]
fn check_upgrades((builder, port): (Builder, u16)) {
    let tenfold = builder.start();
    let first = tenfold.wait_ready(4).pid;
    let before = (processes::counters(first), tenfold.tree().len());
    let load = Load::begin(port, load::clients(4), Manner::Mixed);
    let mut last = first;
    for _ in 0..rounds() {
        last = upgrade(&tenfold, 4).pid;
        load.wait_for(20);
    }
    let asked = load.end(20 * rounds());
    println!("{asked} requests over {} upgrades", rounds());
    // A client's connection ends a moment after the client has gone.
    wait_until(PATIENCE, "as many descriptors as before", || {
        (processes::counters(last).fds <= before.0.fds).then_some(())
    });
    let after = processes::counters(last);
    assert_eq!((after.threads, after.zombies), (before.0.threads, 0));
    wait_until(PATIENCE, "as many processes as before", || {
        // The harness leaves out the one that it started.
        let tree = tenfold.tree().into_iter().filter(|pid| *pid != last);
        (tree.count() <= before.1).then_some(())
    });
}

#[test]
fn upgrades_in_connection_mode_lose_no_one_shot_client() {
    let (builder, port) = demo_pool(2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    let load = Load::begin(port, 8, Manner::OneShot);
    for _ in 0..5 {
        upgrade(&tenfold, 2);
    }
    load.end(20);
}

#[test]
fn a_request_at_work_and_an_idle_client_stay_whole() {
    let (builder, port) = request_pool("http.js", 1);
    let tenfold = builder.start();
    let old = tenfold.wait_ready(1).pid;
    let mut idle = Connection::open(port).expect("it listens");
    assert_eq!(idle.get("/").expect("it serves").status, 200);
    let mut slow = Connection::open(port).expect("it listens");
    slow.send(b"GET /slow?ms=3000 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    tenfold.wait_status(PATIENCE, "the request at work", |status| {
        status.workers.iter().any(|worker| worker.in_flight == 1)
    });
    tenfold.signal(Signal::SIGUSR2);
    wait_until(PATIENCE, "the new master", || {
        tenfold.status().ok().filter(|status| status.pid != old)
    });
    assert!(processes::is_alive(old), "the old one has work to finish");
    assert_eq!(idle.get("/").expect("the new one serves it").status, 200);
    assert_eq!(slow.receive().expect("the old one finishes").status, 200);
    assert_eq!(slow.get("/").expect("and moves it").status, 200);
    wait_until(PATIENCE, "the old master's end", || (!processes::is_alive(old)).then_some(()));
}

#[test]
fn idle_clients_are_moved_though_the_kernel_is_short_of_memory() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let flags = ["--mode", "request", "--workers", "1", "--listen", &listen];
    let tenfold = Tenfold::builder().subcommand("demo").args(flags).start();
    let old = tenfold.wait_ready(1).pid;
    let mut idle: Vec<Connection> =
        (0..10).map(|_| Connection::open(port).expect("it listens")).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").expect("it serves").status, 200);
    }
    let reactor = processes::thread_of(old, REACTOR).expect("a master has one");
    let notes = tenfold.dir().join("strace");
    let faults = Faults::begin(reactor, "sendmsg", "ENOBUFS", &notes);
    upgrade(&tenfold, 1);
    let failed = faults.end();
    assert!(failed > 0, "no call failed");
    for client in &mut idle {
        assert_eq!(client.get("/").expect("the new one serves it").status, 200);
    }
}

#[test]
fn the_last_master_ends_the_pool_and_frees_its_name() {
    let (builder, port) = demo_pool(1);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let status = upgrade(&tenfold, 1);
    assert_eq!(status.name, "test");
    let stopped = tenfold.cli(["stop"]);
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    assert!(!tenfold.control_socket().exists(), "the socket stays behind");
    assert!(Connection::open(port).is_err(), "somebody listens");
    tenfold.wait_tree_gone(PATIENCE);
}

/// A client of HTTP/2 cannot be moved: it is served to the end of what it asked, and told to leave.
#[test]
fn a_client_of_http2_is_served_and_asked_to_connect_anew() {
    let (builder, port) = request_pool("http.js", 1);
    let tenfold = builder.start();
    let old = tenfold.wait_ready(1).pid;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        let (client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
        let asks = async {
            let mut client = client.ready().await.expect("it takes streams");
            let slow = ::http::Request::get("http://localhost/slow?ms=3000").body(());
            let slow = client.send_request(slow.expect("a request"), true).expect("a stream").0;
            wait_at_work(&tenfold).await;
            tenfold.signal(Signal::SIGUSR2);
            let answer = slow.await.expect("the old master answers");
            assert_eq!(answer.status(), 200);
            let mut body = answer.into_body();
            while let Some(part) = body.data().await {
                part.map(drop::<Bytes>).expect("the body is whole");
            }
            assert!(poll_fn(|context| client.poll_ready(context)).await.is_err());
        };
        let (ended, ()) = tokio::join!(connection, asks);
        ended.expect("GOAWAY, and then the end of the connection");
    });
    wait_until(PATIENCE, "the old master's end", || (!processes::is_alive(old)).then_some(()));
    assert_eq!(http::get(port, "/").expect("the new one serves").status, 200);
}

/// Waits for one request at a worker, while the client's connection goes on.
async fn wait_at_work(tenfold: &Tenfold) {
    let deadline = Instant::now() + PATIENCE;
    let is_there = |tenfold: &Tenfold| {
        let status = tenfold.status().expect("a master runs");
        status.workers.iter().any(|worker| worker.in_flight == 1)
    };
    while !is_there(tenfold) {
        assert!(Instant::now() < deadline, "no request at work");
        tokio::task::yield_now().await;
    }
}

#[test]
fn reload_and_upgrade_exclude_each_other() {
    let port = free_port();
    let (builder, config) = by_file(port);
    let tenfold = builder.start();
    let old = tenfold.wait_ready(1).pid;
    assert_eq!(tenfold.cli(["reload"]).code, Some(0));
    tenfold.wait_status(PATIENCE, "a reload", |status| status.phase == "reloading");
    let refused = tenfold.cli(["upgrade"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("a reload is under way"), "{}", refused.stderr);
    tenfold.wait_status(PATIENCE, "its end", |status| status.phase == "running");

    // A new master whose worker is not ready for as long as this test takes.
    let never = config.replace("\"--demo-worker\"", "\"--version\"").replace("\"2s\"", "\"60s\"");
    let never = never.replace(env!("CARGO_BIN_EXE_tenfold"), "/bin/sleep");
    let never = never.replace("--version", "1000");
    fs::write(tenfold.dir().join("work/tenfold.toml"), never).expect("the directory is ours");
    let begun = tenfold.cli(["upgrade"]);
    assert_eq!((begun.code, begun.stdout.as_str()), (Some(0), "upgrading\n"));
    let refused = tenfold.cli(["reload", "--wait"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stdout.contains("an upgrade is under way"), "{refused:?}");
    let refused = tenfold.cli(["upgrade", "--wait"]);
    assert!(refused.stderr.contains("an upgrade is under way"), "{refused:?}");
    let new = wait_until(PATIENCE, "the new master", || {
        let children = processes::children(old);
        children.map(|child| child.pid).find(|pid| is_master(*pid))
    });
    processes::signal(new, Signal::SIGKILL);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("the upgrade failed"));
    fs::write(tenfold.dir().join("work/tenfold.toml"), config).expect("the directory is ours");
    assert_eq!(tenfold.cli(["reload", "--wait"]).code, Some(0));
    assert_ne!(upgrade(&tenfold, 1).pid, old);
}

/// Whether a process is a master, not yet in charge, and no worker or guardian.
fn is_master(pid: i32) -> bool {
    processes::environment_of(pid, "LISTEN_FDNAMES").is_some_and(|names| names.contains("tenfold"))
}

#[test]
fn as_the_first_process_of_a_container_it_is_refused() {
    assert!(nix::unistd::geteuid().is_root(), "a test that makes a PID namespace must be root");
    let (builder, port) = demo_pool(1);
    let container = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child=KILL"];
    let tenfold = builder.through(container).start();
    assert_eq!(tenfold.wait_ready(1).pid, 1);
    let refused = tenfold.cli(["upgrade"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("this is PID 1 of a container"), "{}", refused.stderr);
    let first = processes::children(tenfold.pid()).next().expect("unshare has one child");
    processes::signal(first.pid, Signal::SIGUSR2);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("no upgrade: this is PID 1"));
    assert_eq!(http::get(port, "/").expect("it serves on").status, 200);
}

/// A pool of one by a configuration file and a copy of the binary that a test may change.
fn by_file(port: u16) -> (Builder, String) {
    let binary = env!("CARGO_BIN_EXE_tenfold");
    let config = format!(
        "command = [\"{binary}\", \"--demo-worker\"]\ndialect = \"native\"\n\
         listen = [\"127.0.0.1:{port}\", \"unix:app.sock\"]\n\
         [workers]\ncount = 1\nstart_timeout = \"2s\"\n\
         [reload]\nsoak = \"3s\"\n"
    );
    let builder = Tenfold::builder();
    let work = builder.dir().join("work");
    fs::write(work.join("tenfold.toml"), &config).expect("the directory is ours");
    // `$0` is the binary under test.
    let copy = "cp \"$0\" copy && exec ./copy \"$@\"";
    (builder.through(["sh", "-c", copy]), config)
}

#[test]
fn a_new_master_that_fails_changes_nothing() {
    let port = free_port();
    let (builder, config) = by_file(port);
    let tenfold = builder.start();
    let old = tenfold.wait_ready(1).pid;
    let work = tenfold.dir().join("work");
    let fails = |why: &str, part: &str| {
        let upgraded = tenfold.cli(["upgrade", "--wait"]);
        assert_eq!(upgraded.code, Some(1), "{why}: {}", tenfold.output());
        assert!(upgraded.stderr.contains(part), "{why}: {}", upgraded.stderr);
        let status = tenfold.status().expect("the old one answers");
        assert_eq!((status.pid, status.ready()), (old, 1), "{why}");
        assert_eq!(http::get(port, "/").expect("it serves").status, 200, "{why}");
        assert!(work.join("app.sock").exists(), "{why}: the path is the old one's");
    };
    let ended = "the new master ended before its workers were ready";
    fs::write(work.join("tenfold.toml"), "listen = 1").expect("the directory is ours");
    fails("a wrong configuration", ended);
    let never = config.replace("--demo-worker", "--version");
    fs::write(work.join("tenfold.toml"), never).expect("the directory is ours");
    fails("workers that are never ready", ended);
    fs::write(work.join("tenfold.toml"), config).expect("the directory is ours");
    fs::remove_file(work.join("copy")).expect("it is there");
    fails("no binary", "copy");
    fs::copy("/bin/false", work.join("copy")).expect("the directory is ours");
    fails("a binary that is something else", ended);
    fs::remove_file(work.join("copy")).expect("it is there");
    fs::copy(env!("CARGO_BIN_EXE_tenfold"), work.join("copy")).expect("the directory is ours");
    let status = upgrade(&tenfold, 1);
    assert_ne!(status.pid, old, "the file of that name counts, not the deleted one");
    assert!(work.join("app.sock").exists(), "the path is the new one's");
    assert_eq!(tenfold.cli(["stop"]).code, Some(0));
    assert!(!work.join("app.sock").exists(), "nobody listens there");
}
