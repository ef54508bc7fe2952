//! What a pool goes through in months, in minutes: renewals of every kind, an app that leaks, and
//! workers that hang.
//!
//! In a usual run it is hours rather than months. `ENDURANCE=full cargo test --test endurance --
//! --nocapture --test-threads 1` takes half an hour.

#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::container::{Container, Plan};
use support::http::{self, Connection};
use support::load::{Load, Manner};
use support::pool::{demo_request_pool, request_pool};
use support::processes::{self, Counters};
use support::{Builder, PATIENCE, Status, Tenfold, free_port, try_until, wait_until};

const MIB: u64 = 1 << 20;

/// How much of everything.
struct Size {
    upgrades: u32,
    reloads_each: u32,
    recycles_each: u32,
    /// Each asks 50 times a second, less the time that its answers take.
    clients: usize,
    leak: Leak,
    hang: Hang,
}

struct Leak {
    memory: u64,
    workers: usize,
    kib_per_request: u32,
    clients: usize,
    /// At least; and until all have been recycled once.
    length: Duration,
}

struct Hang {
    /// How long the others are watched before, and after.
    length: Duration,
    /// What the others may be slower by, beside twice: a short watch on a busy machine has few
    /// requests, and the slowest of them tell of the machine.
    slack: Duration,
}

const USUAL: Size = Size {
    upgrades: 1,
    reloads_each: 2,
    recycles_each: 1,
    clients: 4,
    leak: Leak {
        memory: 512 * MIB,
        workers: 2,
        kib_per_request: 250,
        clients: 2,
        length: Duration::from_secs(1),
    },
    hang: Hang { length: Duration::from_secs(1), slack: Duration::from_millis(500) },
};

const FULL: Size = Size {
    upgrades: 20,
    reloads_each: 10,
    recycles_each: 3,
    clients: 16,
    leak: Leak {
        memory: 1024 * MIB,
        workers: 4,
        kib_per_request: 100,
        clients: 5,
        length: Duration::from_secs(600),
    },
    hang: Hang { length: Duration::from_secs(60), slack: Duration::ZERO },
};

fn size() -> Size {
    match std::env::var("ENDURANCE").ok().as_deref() {
        None => USUAL,
        Some("full") => FULL,
        Some(other) => panic!("ENDURANCE is full, or not set; not {other}"),
    }
}

/// The workers of the pool that is renewed.
const WORKERS: usize = 4;

/// The master in charge, once all workers are ready.
#[track_caller]
fn ready(tenfold: &Tenfold) -> Status {
    tenfold.wait_status(PATIENCE, "all workers, and no others", |status| {
        (status.workers.len(), status.ready()) == (WORKERS, WORKERS) && status.phase == "running"
    })
}

/// Runs a command that has to succeed, and looks at the master afterwards.
#[track_caller]
fn command<const N: usize>(tenfold: &Tenfold, words: [&str; N]) -> Counters {
    let finished = tenfold.cli(words);
    assert_eq!(finished.code, Some(0), "{finished:?}\n{}", tenfold.output());
    processes::counters(ready(tenfold).pid)
}

#[test]
fn renewals_of_node_workers_under_load_lose_no_request_and_leave_nothing() {
    check_renewals(request_pool("http.js", WORKERS));
}

#[test]
fn renewals_of_rust_workers_under_load_lose_no_request_and_leave_nothing() {
    check_renewals(demo_request_pool(WORKERS));
}

/// Reloads, recycles and upgrades a pool in request mode under load.
#[track_caller]
fn check_renewals((builder, port): (Builder, u16)) {
    let size = size();
    let tenfold = builder.args(["--set", "reload.soak=50ms"]).start();
    let (before, started) = (processes::counters(ready(&tenfold).pid), Instant::now());
    let load = Load::begin(port, size.clients, Manner::Mixed);
    let (mut recycles, mut peak) = (0_usize, before);
    for _ in 0..size.upgrades {
        let reloads = (0..size.reloads_each).map(|_| command(&tenfold, ["reload", "--wait"]));
        let mut seen: Vec<Counters> = reloads.collect();
        for _ in 0..size.recycles_each {
            let slot = (recycles % WORKERS).to_string();
            seen.push(command(&tenfold, ["recycle", &slot, "--wait"]));
            recycles += 1;
        }
        seen.push(command(&tenfold, ["upgrade", "--wait"]));
        for counters in seen {
            peak.fds = peak.fds.max(counters.fds);
            peak.threads = peak.threads.max(counters.threads);
            peak.rss_bytes = peak.rss_bytes.max(counters.rss_bytes);
        }
    }
    let length = started.elapsed();
    let asked = load.end(10 * size.upgrades);
    let master = ready(&tenfold).pid;
    // A client's connection ends a moment after the client has gone.
    wait_until(PATIENCE, "as many descriptors as before", || {
        (processes::counters(master).fds <= before.fds).then_some(())
    });
    let after = processes::counters(master);
    let reloads = size.upgrades * size.reloads_each;
    println!(
        "{reloads} reloads, {recycles} recycles, {} upgrades in {length:.0?}: {asked} requests, \
         none failed\nbefore {before:?}\npeak {peak:?}\nafter {after:?}",
        size.upgrades
    );
    assert_eq!((after.threads, after.zombies), (before.threads, 0));
    let tree = || tenfold.tree().into_iter().filter(|pid| *pid != master).count();
    wait_until(PATIENCE, "nobody else", || (tree() == WORKERS).then_some(()));
}

/// The most workers that a container ever had at once.
fn watch(container: &Container, over: &AtomicBool, most: &AtomicUsize) {
    while !over.load(Ordering::Relaxed) {
        let now = processes::children(container.pid()).filter(|child| child.state != 'Z').count();
        most.fetch_max(now, Ordering::Relaxed);
        let _ = try_until(Duration::from_millis(50), || over.load(Ordering::Relaxed).then_some(()));
    }
}

#[test]
fn an_app_that_leaks_is_recycled_before_its_memory_is_spent() {
    let Leak { memory, workers, kib_per_request, clients, length } = size().leak;
    let ports = (free_port(), free_port());
    let container = Plan::serving("leaky.js", ports)
        .workers(workers)
        .env("LEAK_KIB", &kib_per_request.to_string())
        .memory(memory)
        .start();
    container.wait_ready(ports.1, workers);
    let (over, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    let recycled = || container.output().matches("recycled slot").count();
    let asked = std::thread::scope(|scope| {
        scope.spawn(|| watch(&container, &over, &most));
        let load = Load::begin(ports.0, clients, Manner::Mixed);
        let _ = try_until(length, || None::<()>);
        let done = || (recycled() >= workers).then_some(());
        wait_until(4 * PATIENCE, "as many recycled as there are", done);
        over.store(true, Ordering::Relaxed);
        load.end(10)
    });
    let status = container.wait_ready(ports.1, workers);
    let recycled = recycled();
    let leaked = u64::from(asked) * u64::from(kib_per_request) / 1024;
    println!(
        "{asked} requests in {length:.0?}, {leaked} MiB leaked of {} MiB, {recycled} recycled, \
         at most {} workers at once; {}",
        memory / MIB,
        most.load(Ordering::Relaxed),
        status.totals
    );
    assert_eq!(status.total("restarts"), 0, "{}", container.output());
    assert!(most.load(Ordering::Relaxed) <= workers + 1, "more than one was replaced at a time");
}

/// The 99th percentile of what four clients wait, who ask one request after the other.
fn p99(port: u16, length: Duration) -> Duration {
    let until = Instant::now() + length;
    let client = || {
        let mut waits = Vec::new();
        while Instant::now() < until {
            let asked = Instant::now();
            let answer = http::get(port, "/").expect("another worker answers");
            waits.push(asked.elapsed());
            assert_eq!(answer.status, 200, "{}", answer.text());
            let _ = try_until(Duration::from_millis(20), || None::<()>);
        }
        waits
    };
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|it| it.join().expect("clients do not panic")).collect()
    });
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// Compares the time before with the time once `hang` has made a worker stall.
#[track_caller]
fn check_others(hang: impl FnOnce(&Tenfold, u16)) {
    let Hang { length, slack } = size().hang;
    let (builder, port) = request_pool("block.js", WORKERS);
    let tenfold = builder.args(["--set", "workers.hang=10m"]).start();
    ready(&tenfold);
    // New workers are slow for a while, whoever hangs.
    p99(port, Duration::from_secs(1));
    let before = p99(port, length);
    hang(&tenfold, port);
    tenfold.wait_status(PATIENCE, "a stalled worker", |status| {
        status.workers.iter().any(|worker| worker.stalled)
    });
    let after = p99(port, length);
    println!("99th percentile before {before:.1?}, beside a worker that hangs {after:.1?}");
    assert!(after <= 2 * before + slack, "{before:?}, then {after:?}");
}

#[test]
fn others_are_as_fast_beside_a_worker_that_is_stopped() {
    check_others(|tenfold, _| {
        processes::signal(ready(tenfold).pid_of(1), Signal::SIGSTOP);
    });
}

#[test]
fn others_are_as_fast_beside_a_worker_in_an_endless_loop() {
    let mut endless = None;
    check_others(|_, port| {
        let mut connection = Connection::open(port).expect("the master accepts");
        let head = b"GET /block?ms=600000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        connection.send(head).expect("the kernel has room");
        // It stays open for as long as the others are watched.
        endless = Some(connection);
    });
}
