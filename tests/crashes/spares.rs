//! Workers that stand by: what they get, when they take over, and who stands by then.

use nix::sys::signal::Signal;

use crate::support::crowd::{Crowd, Who};
use crate::support::load::{Load, Manner};
use crate::support::pool::{demo_request_pool, node_pool, request_pool};
use crate::support::{Builder, PATIENCE, Status, Tenfold, http, processes};

fn with_spare(builder: Builder, spare: &str) -> Builder {
    builder.args(["--set", &format!("workers.spare={spare}")])
}

/// So many serve, and so many stand by.
#[track_caller]
fn wait_for(tenfold: &Tenfold, serving: usize, spares: u64) -> Status {
    tenfold.wait_status(PATIENCE, "those that serve and those that stand by", |status| {
        status.ready() == serving && status.total("spares") == spares
    })
}

#[track_caller]
fn ask(port: u16) -> Who {
    let response = http::get(port, "/").expect("the master answers");
    assert_eq!(response.status, 200, "{}", response.text());
    response.json().expect("the app says who it is")
}

/// No process of the app can start to serve between this and its drop.
struct ClosedGate(std::path::PathBuf);

impl ClosedGate {
    fn new(tenfold: &Tenfold) -> Self {
        let path = tenfold.dir().join("closed");
        std::fs::write(&path, "").expect("the directory is the test's own");
        Self(path)
    }
}

impl Drop for ClosedGate {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("nobody else removes it");
    }
}

/// Kills the only worker that serves while nobody new can come up: what is asked from then on, the
/// spare answers.
#[track_caller]
fn check_takeover(tenfold: &Tenfold, port: u16) {
    let status = wait_for(tenfold, 1, 1);
    let (victim, spare) = (status.pid_of(0), status.pid_of(1));
    assert_eq!((&*status.worker_in(1).state, status.total("workers")), ("spare", 1));
    for _ in 0..10 {
        assert_eq!(ask(port).pid, victim, "a spare was asked");
    }
    let gate = ClosedGate::new(tenfold);
    processes::signal(victim, Signal::SIGKILL);
    tenfold.wait_status(PATIENCE, "the spare at work, and its own spare to come", |status| {
        let (first, second) = (status.worker_in(0), status.worker_in(1));
        second.state == "ready" && first.state == "starting" && first.pid != Some(victim)
    });
    for _ in 0..10 {
        assert_eq!(ask(port).pid, spare);
    }
    drop(gate);
    let status = wait_for(tenfold, 1, 1);
    assert_eq!((&*status.worker_in(0).state, status.pid_of(1)), ("spare", spare));
    assert_eq!((status.total("takeovers"), status.total("restarts")), (1, 1), "{status:?}");
    assert_eq!((ask(port).pid, ask(port).slot), (spare, Some(1)));
    // Each has been told its own number for ever.
    let number = |pid| processes::environment_of(pid, "NODE_APP_INSTANCE");
    assert_eq!(number(status.pid_of(0)).as_deref(), Some("0"));
    assert_eq!(number(spare).as_deref(), Some("1"));
    let size = processes::environment_of(spare, "TENFOLD_WORKERS");
    assert_eq!(size.as_deref(), Some("2"));
}

#[test]
fn spare_takes_over_from_a_killed_worker_before_another_has_started() {
    let (builder, port) = request_pool("gated.js", 1);
    let tenfold = with_spare(builder, "1").start();
    check_takeover(&tenfold, port);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("spare worker takes over"));
    let shown = tenfold.cli(["status"]).stdout;
    assert!(shown.contains("spares 1 ready  takeovers 1"), "{shown}");
}

#[test]
fn spare_takes_over_whole_connections() {
    let (builder, port) = node_pool("gated.js", 1);
    check_takeover(&with_spare(builder, "1").start(), port);
}

/// Far above the second between two heartbeats, so that a busy machine makes nobody stall.
const STALL: &str = "workers.stall=4s";

/// Stops the only worker that serves; its spare serves before it goes on, or is ended.
#[track_caller]
fn stall(tenfold: &Tenfold, port: u16) -> i32 {
    let victim = wait_for(tenfold, 1, 1).pid_of(0);
    processes::signal(victim, Signal::SIGSTOP);
    let status = tenfold.wait_status(PATIENCE, "the spare at work", |status| {
        status.worker_in(1).state == "ready" && status.worker_in(0).stalled
    });
    assert_eq!((status.pid_of(0), &*status.worker_in(0).state), (victim, "spare"));
    assert_eq!(ask(port).slot, Some(1));
    victim
}

#[test]
fn worker_that_stalls_is_relieved_by_the_spare_and_stands_by_once_it_goes_on() {
    let (builder, port) = request_pool("gated.js", 1);
    // Nobody is ended for its silence: the test may be slower than that.
    let builder = builder.args(["--set", STALL, "--set", "workers.hang=10m"]);
    let tenfold = with_spare(builder, "1").start();
    let victim = stall(&tenfold, port);
    for _ in 0..10 {
        assert_eq!(ask(port).slot, Some(1), "a stalled worker was asked");
    }
    processes::signal(victim, Signal::SIGCONT);
    let status = tenfold.wait_status(PATIENCE, "the recovery", |status| {
        !status.worker_in(0).stalled && status.total("spares") == 1
    });
    let states = [0, 1].map(|slot| &*status.worker_in(slot).state);
    assert_eq!((states, status.pid_of(0)), (["spare", "ready"], victim));
    assert_eq!((status.total("takeovers"), status.total("restarts")), (1, 0), "{status:?}");
    assert_eq!(status.total("panics"), 0, "somebody in order was there all the time");
    assert_eq!(ask(port).slot, Some(1));
}

#[test]
fn worker_that_is_relieved_and_never_goes_on_is_replaced_by_a_spare() {
    let (builder, port) = request_pool("gated.js", 1);
    let builder = builder.args(["--set", STALL, "--set", "workers.hang=8s"]);
    let tenfold = with_spare(builder, "1").start();
    let victim = stall(&tenfold, port);
    let status = tenfold.wait_status(PATIENCE, "the next spare", |status| {
        let worker = status.worker_in(0);
        worker.state == "spare" && worker.pid != Some(victim) && !worker.stalled
    });
    assert_eq!((status.total("takeovers"), status.total("restarts")), (1, 1), "{status:?}");
    assert_eq!(ask(port).slot, Some(1));
}

#[test]
fn deaths_one_after_the_other_cost_no_request_while_a_spare_stands_by() {
    let (builder, port) = request_pool("gated.js", 1);
    let tenfold = with_spare(builder, "1").start();
    let mut status = wait_for(&tenfold, 1, 1);
    let load = Load::begin(port, 4, Manner::Mixed);
    for round in 1..=3 {
        load.wait_for(20);
        let serving = status.workers.iter().find(|worker| worker.state == "ready");
        let victim = serving.and_then(|worker| worker.pid).expect("one serves");
        processes::signal(victim, Signal::SIGKILL);
        tenfold.wait_status(PATIENCE, "a takeover", |it| it.total("takeovers") == round);
        status = wait_for(&tenfold, 1, 1);
    }
    load.wait_for(20);
    load.end(80);
}

#[test]
fn reload_renews_spares_scaling_keeps_them_and_a_stop_ends_them() {
    let (builder, port) = demo_request_pool(2);
    let builder = builder.args(["--set", "reload.soak=50ms"]);
    let mut tenfold = with_spare(builder, "1").start();
    wait_for(&tenfold, 2, 1);
    let load = Load::begin(port, 2, Manner::Mixed);
    let reloaded = tenfold.cli(["reload", "--wait"]);
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    let status = tenfold.wait_status(PATIENCE, "nobody but the new ones", |status| {
        status.workers.len() == 3 && status.workers.iter().all(|worker| worker.generation == 2)
    });
    assert_eq!((status.ready(), status.total("spares")), (2, 1), "{status:?}");
    for (count, serving) in [("3", 3), ("1", 1)] {
        assert_eq!(tenfold.cli(["scale", count]).code, Some(0));
        wait_for(&tenfold, serving, 1);
    }
    let recycled = tenfold.cli(["recycle", "all", "--wait"]);
    assert_eq!(recycled.code, Some(0), "{recycled:?}");
    wait_for(&tenfold, 1, 1);
    load.wait_for(20);
    load.end(20);
    tenfold.signal(Signal::SIGTERM);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    tenfold.wait_tree_gone(PATIENCE);
}

#[test]
fn a_spare_is_kept_by_itself_where_the_app_starts_slowly() {
    let (builder, port) = request_pool("gated.js", 1);
    let builder = builder.env("START_MS", "2500");
    let tenfold = with_spare(builder, "auto").start();
    wait_for(&tenfold, 1, 1);
    Crowd { port, path: "/", clients: 4, requests: 40 }.ask_all();
}
