//! What workers start ends with the pool, however they started it: by npm, through shells, in
//! sessions of their own, deaf to TERM.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;

use support::pool::{command_pool, node_pool};
use support::{Builder, PATIENCE, Tenfold, free_port, http};

const TOTAL: Duration = Duration::from_secs(5);

/// A stop may take `shutdown.total` and a second; the rest is for a machine that is busy.
const BOUND: Duration = Duration::from_secs(5 + 1 + 9);

/// After a stop nothing of the tree is alive, and the port is free.
#[track_caller]
fn check_stop((builder, port): (Builder, u16)) {
    let total = format!("shutdown.total={}s", TOTAL.as_secs());
    let mut tenfold = builder.args(["--set", &total]).start();
    tenfold.wait_ready(2);
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    assert!(tenfold.tree().len() >= 2, "{:?}", tenfold.tree());
    assert_eq!(tenfold.cli(["stop"]).code, Some(0));
    assert_eq!(tenfold.wait_exit(BOUND).code(), Some(0));
    assert_eq!(tenfold.tree(), [0; 0], "it outlived the master");
    TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
}

#[test]
fn nothing_of_npm_start_is_left() {
    let (builder, port) = command_pool(["npm", "start"], 2);
    check_stop((builder.env("RUN", "node apps/http.js"), port));
}

#[test]
fn nothing_of_a_chain_of_shells_is_left() {
    let chain = "sh -c 'dotenv -- sh -c \"node apps/http.js; true\"; true'; true";
    check_stop(command_pool(["sh", "-c", chain], 2));
}

#[test]
fn nothing_of_workers_that_fork_twice_is_left() {
    check_stop(node_pool("double-fork.js", 2));
}

#[test]
fn nothing_of_workers_that_ignore_term_is_left() {
    check_stop(node_pool("ignore-term.js", 2));
}

#[test]
fn nothing_of_a_chain_that_ignores_term_is_left() {
    let chain = "trap '' TERM; sh -c 'setsid sleep 3600 & node apps/ignore-term.js; true'; true";
    check_stop(command_pool(["sh", "-c", chain], 2));
}

/// Wrapper alive, app dead: PM2 calls it online.
#[test]
fn an_app_that_dies_behind_its_wrapper_is_replaced() {
    let (builder, port) = command_pool(["sh", "-c", "node apps/http.js"], 1);
    let tenfold = builder.start();
    let wrapper = tenfold.wait_ready(1).pid_of(0);
    let who: serde_json::Value =
        http::get(port, "/").expect("it serves").json().expect("the app says who");
    let app = who["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    support::processes::signal(app, Signal::SIGKILL);
    tenfold.wait_status(PATIENCE, "another wrapper", |status| {
        status.ready() == 1 && status.pid_of(0) != wrapper
    });
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
}

/// What goes into the background is no worker, and does not stay behind.
#[test]
fn a_command_that_leaves_a_daemon_is_no_server() {
    let listen = format!("127.0.0.1:{}", free_port());
    let mut tenfold = Tenfold::builder()
        .args(["-n", "2", "--listen", &listen])
        .app(["sh", "-c", "setsid sleep 3600 >/dev/null 2>&1 &"])
        .start();
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(1));
    assert!(tenfold.output().contains("never listened"), "{}", tenfold.output());
    tenfold.wait_tree_gone(PATIENCE);
}
