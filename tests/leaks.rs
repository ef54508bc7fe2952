//! After many connections, or many crashes, the master holds what it held before.

mod support;

use nix::sys::signal::Signal;

use support::crowd::Crowd;
use support::pool::{demo_pool, node_pool};
use support::processes::{self, Counters};
use support::{Builder, PATIENCE, Tenfold, try_until, wait_until};

const WORKERS: usize = 4;
const MIB: u64 = 1 << 20;

/// What the master holds when all is quiet.
fn counters(tenfold: &Tenfold) -> Counters {
    tenfold.wait_status(PATIENCE, "quiet", |status| status.ready() == WORKERS && status.is_quiet());
    // The connection of the last status is closed by now or soon.
    let mut last = processes::counters(tenfold.pid());
    wait_until(PATIENCE, "the same counts twice", || {
        let now = processes::counters(tenfold.pid());
        let is_settled = (now.fds, now.threads) == (last.fds, last.threads) && now.zombies == 0;
        last = now;
        is_settled.then_some(())
    });
    last
}

/// The first batch may fill caches; the second must add nothing.
#[track_caller]
fn check_second_adds_nothing(tenfold: &Tenfold, batch: impl Fn()) {
    tenfold.wait_ready(WORKERS);
    batch();
    let first = counters(tenfold);
    batch();
    let mut second = counters(tenfold);
    // On a busy machine what is to be closed soon may look settled.
    let fits = |now: &Counters| now.fds <= first.fds && now.threads <= first.threads;
    try_until(PATIENCE, || {
        second = processes::counters(tenfold.pid());
        fits(&second).then_some(())
    });
    assert!(fits(&second), "{first:?}, then {second:?}");
    assert!(second.rss_bytes <= first.rss_bytes + MIB, "{first:?}, then {second:?}");
}

#[track_caller]
fn check_connections((builder, port): (Builder, u16)) {
    let tenfold = builder.start();
    let crowd = Crowd { port, path: "/", clients: 64, requests: 10_000 };
    check_second_adds_nothing(&tenfold, || drop(crowd.ask_all()));
}

#[test]
fn connections_leave_nothing_behind() {
    check_connections(node_pool("http.js", WORKERS));
}

#[test]
fn connections_leave_nothing_behind_without_the_preload() {
    let (builder, port) = node_pool("http.js", WORKERS);
    check_connections((builder.args(["--set", "workers.preload=false"]), port));
}

/// Kills each worker, once all are ready.
fn kill_all(tenfold: &Tenfold) {
    let status = tenfold.wait_ready(WORKERS);
    for worker in &status.workers {
        processes::signal(worker.pid.expect("it is ready"), Signal::SIGKILL);
    }
    let wanted = status.total("restarts") + WORKERS as u64;
    tenfold.wait_status(PATIENCE, "a restart of each", |it| it.total("restarts") == wanted);
}

#[test]
fn crashes_leave_nothing_behind() {
    const CRASHES: usize = 100;
    let (builder, _) = demo_pool(WORKERS);
    let tenfold = builder
        .args(["--set", "restart.burst=1000000"])
        .args(["--set", "restart.base=1ms", "--set", "restart.cap=1ms"])
        .start();
    check_second_adds_nothing(&tenfold, || {
        (0..CRASHES / WORKERS).for_each(|_| kill_all(&tenfold));
    });
}
