//! A surge on pages of a megabyte: what waits outside costs the app no memory and no throughput.
//!
//! The tests here are small. The real figures, as a table and with their bounds, on a quiet host:
//! `SHOP_B=full cargo test --release --test shop_b -- --nocapture --test-threads 1`

#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

mod support;

#[path = "shop_b/visitors.rs"]
mod visitors;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use support::pool::request_pool;
use support::{PATIENCE, Tenfold, free_port, http, node, processes, wait_until};
use visitors::{Resets, Visit, Visitors};

const MIB: f64 = 1024.0 * 1024.0;
const LIMIT: usize = 100;

/// How much of it is done.
struct Extent {
    rounds: usize,
    surge: usize,
    time: Duration,
    slow_readers: usize,
}

/// What the one command asks for, or what every run of all tests has time for.
fn extent() -> Extent {
    if is_full() {
        let time = Duration::from_secs(10);
        Extent { rounds: 5, surge: 1500, time, slow_readers: 5000 }
    } else {
        let time = Duration::from_secs(2);
        Extent { rounds: 1, surge: 300, time, slow_readers: 1000 }
    }
}

fn is_full() -> bool {
    std::env::var_os("SHOP_B").is_some_and(|value| value == "full")
}

/// What one run showed.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Whole pages per second.
    rate: f64,
    /// The most memory that the app and the master had.
    app_mib: f64,
    master_mib: f64,
    /// The most visitors whom the app had at once.
    most: usize,
    /// How often a visitor was reset, and tried again.
    resets: usize,
}

#[derive(Debug, Deserialize)]
struct Most {
    most: usize,
}

fn most(port: u16) -> usize {
    let most: Most = http::get(port, "/most").expect("an answer").json().expect("it is JSON");
    most.most
}

/// The app alone; ended when dropped.
struct Alone(Child);

impl Alone {
    #[track_caller]
    fn start() -> (Self, u16) {
        let port = free_port();
        let child = Command::new(node::node(22))
            .current_dir(node::fixtures())
            .env("APP_PORT", port.to_string())
            .arg("apps/shop-page.js")
            .stdin(Stdio::null())
            .spawn()
            .expect("node starts");
        let alone = Self(child);
        wait_until(PATIENCE, "the app", || http::get(port, "/most").ok());
        (alone, port)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // It may have ended, which is found out by whoever waits for answers.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn start() -> (Tenfold, u16) {
    let (builder, port) = request_pool("shop-page.js", 1);
    let limit = LIMIT.to_string();
    let flags = ["--limit", &limit, "--queue", "2000", "--queue-timeout", "30s"];
    let tenfold = builder.args(flags).start();
    tenfold.wait_ready(1);
    (tenfold, port)
}

fn direct(visitors: usize, time: Duration) -> Run {
    let (alone, port) = Alone::start();
    // A surge overflows Node's own backlog: what the kernel resets there is no page that was lost.
    let resets = Resets::TryAgain;
    let Visit { rate, resets } = Visitors { port, count: visitors, time, resets }.visit();
    let app_mib = processes::peak_rss(alone.0.id().cast_signed()) as f64 / MIB;
    Run { rate, app_mib, master_mib: 0.0, most: most(port), resets }
}

fn behind(visitors: usize, time: Duration) -> Run {
    let (tenfold, port) = start();
    let resets = Resets::Fail;
    let Visit { rate, resets } = Visitors { port, count: visitors, time, resets }.visit();
    let app = tenfold.status().expect("it runs").pid_of(0);
    let app_mib = processes::peak_rss(app) as f64 / MIB;
    let master_mib = processes::peak_rss(tenfold.pid()) as f64 / MIB;
    Run { rate, app_mib, master_mib, most: most(port), resets }
}

fn median(runs: &[Run], of: fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn surge_waits_outside_and_costs_the_app_nothing() {
    let Extent { rounds, surge, time, .. } = extent();
    let (mut few, mut many, mut pooled) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        few.push(direct(LIMIT, time));
        pooled.push(behind(surge, time));
        if is_full() {
            many.push(direct(surge, time));
        }
    }
    let table = [("alone", LIMIT, &few), ("alone", surge, &many), ("tenfold", surge, &pooled)];
    for (name, visitors, runs) in table.iter().filter(|(_, _, runs)| !runs.is_empty()) {
        println!(
            "{name:8} {visitors:5} visitors: {:6.0} pages/s, app {:5.0} MiB, master {:4.0} MiB, \
             {} resets",
            median(runs, |run| run.rate),
            median(runs, |run| run.app_mib),
            median(runs, |run| run.master_mib),
            runs.iter().map(|run| run.resets).sum::<usize>(),
        );
    }
    for run in &pooled {
        assert!(run.rate > 0.0 && run.most <= LIMIT, "{run:?}");
        // Every response may be in its buffer, of which there are 64 MiB.
        assert!(run.master_mib <= 128.0, "{run:?}");
    }
    if is_full() {
        let best = median(&few, |run| run.rate).max(median(&many, |run| run.rate));
        let [app, app_alone] = [&pooled, &few].map(|runs| median(runs, |run| run.app_mib));
        let rate = median(&pooled, |run| run.rate);
        assert!(app <= 1.15 * app_alone, "the app had {app:.0} MiB, alone {app_alone:.0}");
        assert!(rate >= 0.95 * best, "{rate:.0} pages/s, alone {best:.0}");
    }
}

#[test]
fn slow_readers_cost_the_master_little() {
    let count = extent().slow_readers;
    let (builder, port) = request_pool("shop-page.js", 1);
    let limit = count.to_string();
    let files = format!("--nofile={0}:{0}", 3 * count + 1000);
    // Their responses have all begun: nobody waits for a turn.
    let tenfold = builder.through(["prlimit", &files]).args(["--limit", &limit]).start();
    tenfold.wait_ready(1);
    let before = processes::counters(tenfold.pid()).rss_bytes as f64 / MIB;
    let readers = visitors::Readers::begin(port, "/cached", count);
    let held = processes::peak_rss(tenfold.pid()) as f64 / MIB;
    println!("{count} slow readers: the master had {held:.0} MiB, {before:.0} before");
    assert!(held > before + 60.0, "the kernel took it all: {held:.0} MiB after {before:.0}");
    assert!(held < 200.0, "the master had {held:.0} MiB");
    readers.read_on(50_000);
}
