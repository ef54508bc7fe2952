//! Whatever goes wrong, no request is lost that need not be, and nothing is left behind.
//!
//! A schedule made from a seed kills, stops, starves and reloads a pool at work: workers, and the
//! master's own system calls. Clients check every answer. What they did not get must have a reason
//! and an event in the log; in the end the pool is as it was in the beginning.
//!
//! `CHAOS_SECONDS=600 cargo test --test chaos` goes on for ten minutes, with a seed of its own;
//! `CHAOS_SEED` says which, which repeats the schedule of a failure.

#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

mod support;

#[path = "chaos/clients.rs"]
mod clients;
#[path = "chaos/havoc.rs"]
mod havoc;
#[path = "chaos/judge.rs"]
mod judge;
#[path = "chaos/schedule.rs"]
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;

use clients::{Clients, How, Tally};
use havoc::Havoc;
use judge::Events;
use support::processes::{self, Counters};
use support::{PATIENCE, Status, Tenfold, free_port, node, wait_until};

/// The workers of a pool in order.
const WORKERS: u16 = 4;

/// The length of a usual run, and its seed; any number would do.
const USUAL: Duration = Duration::from_secs(60);
const USUAL_SEED: u64 = 1;

/// How long the healed pool is watched.
const CALM: Duration = Duration::from_secs(2);

/// The most of a story, or of a list, that a failure shows.
const SHOWN: usize = 60;

/// Short enough for many lives in a run; requests wait rather than be turned away.
const SETTINGS: [&str; 10] = [
    "queue.timeout=25s",
    "reload.soak=200ms",
    "workers.stall=2s",
    "workers.hang=6s",
    "memory.soft=220MiB",
    "restart.base=50ms",
    "restart.cap=1s",
    "restart.burst=20",
    "workers.start_timeout=20s",
    "shutdown.total=10s",
];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// How long, and from which seed.
fn asked() -> (Duration, u64) {
    let length = number("CHAOS_SECONDS").map(Duration::from_secs);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let own = clock.expect("1970 is over").as_secs();
    let seed = number("CHAOS_SEED").unwrap_or(if length.is_some() { own } else { USUAL_SEED });
    (length.unwrap_or(USUAL), seed)
}

/// A pool of Node workers in a directory of releases, whose standard output is a full disk.
fn start(port: u16) -> Tenfold {
    let builder = Tenfold::builder().node(22);
    havoc::write_release(builder.dir(), 1, None);
    let current = builder.dir().join("current");
    let (doom, seen) = (builder.dir().join(havoc::DOOM), builder.dir().join(havoc::SEEN));
    let tenfold = builder
        .through(["sh", "-c", "exec \"$0\" \"$@\" >/dev/full"])
        .args(["--workers", &WORKERS.to_string(), "--log", "json"])
        .args(SETTINGS.iter().flat_map(|set| ["--set", set]))
        .env("APP_PORT", port.to_string())
        .env("CHAOS_APP", node::fixtures().join("apps/chaos.js"))
        .env("DOOM", doom)
        .env("SEEN", seen)
        .env("PWD", &current)
        .cwd(&current)
        .app(["node", "server.js"])
        .start();
    tenfold.wait_ready(WORKERS.into());
    tenfold
}

/// Brings the pool back to its size, with a release that is fine.
#[track_caller]
fn restore(tenfold: &Tenfold) -> Status {
    havoc::write_release(tenfold.dir(), 0, None);
    let scaled = tenfold.cli(["scale", &WORKERS.to_string()]);
    assert_eq!(scaled.code, Some(0), "{scaled:?}");
    // Whatever ran or waited before it has an end.
    let reloaded = tenfold.cli(["reload", "--wait"]);
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    tenfold.wait_status(2 * PATIENCE, "a pool as in the beginning", |status| {
        let is_well = status.workers.iter().all(|worker| {
            worker.state == "ready" && !worker.stalled && worker.generation == status.generation
        });
        status.workers.len() == usize::from(WORKERS) && is_well && status.phase == "running"
    })
}

/// Nothing but the workers lives, and the master holds what it held.
#[track_caller]
fn check_nothing_left(tenfold: &Tenfold, before: Counters) {
    let pid = tenfold.wait_ready(WORKERS.into()).pid;
    wait_until(2 * PATIENCE, "the end of every old master, and of all commands", || {
        (tenfold.tree().len() == usize::from(WORKERS) + usize::from(pid != tenfold.pid()))
            .then_some(())
    });
    wait_until(2 * PATIENCE, "as many descriptors as before", || {
        let now = processes::counters(pid);
        (now.fds <= before.fds && now.zombies == 0).then_some(())
    });
    let after = processes::counters(pid);
    assert_eq!((after.threads, after.zombies), (before.threads, 0));
    let status = tenfold.wait_ready(WORKERS.into());
    let mut workers: Vec<i32> = status.workers.iter().filter_map(|worker| worker.pid).collect();
    let mut tree = tenfold.tree();
    tree.retain(|process| *process != pid);
    workers.sort_unstable();
    tree.sort_unstable();
    assert_eq!(tree, workers, "processes that are nobody's worker");
}

/// The requests that failed and should not have, and why.
fn accusations(tally: &Tally, events: &Events, calm: SystemTime) -> Vec<String> {
    let repeated = events.repeated().into_iter();
    let failed = tally.failures.iter().filter_map(|failure| {
        let late = || "failed when all was well again".to_owned();
        let why = events.accuse(failure).or_else(|| (failure.began > calm).then(late))?;
        let time = humantime::format_rfc3339_millis(failure.began);
        let took = failure.ended.duration_since(failure.began).unwrap_or_default();
        let (number, kind) = (failure.number, failure.kind);
        Some(format!("{time} {kind:?} {number}, after {took:?}: {why}"))
    });
    repeated.chain(failed).collect()
}

/// How many failed in which way.
fn reasons(tally: &Tally) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::new();
    for failure in &tally.failures {
        let word = match &failure.how {
            How::Refused { reason, .. } => reason.as_str(),
            How::Cut(_) => "cut",
            How::Silence(_) => "silence",
            How::Wrong(_) => "wrong",
        };
        *reasons.entry(format!("{:?} {word}", failure.kind)).or_default() += 1;
    }
    reasons
}

fn last(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

#[test]
fn chaos_costs_only_what_has_a_reason_and_leaves_nothing_behind() {
    let (length, seed) = asked();
    let steps = schedule::schedule(seed, length);
    eprintln!("CHAOS_SEED={seed} CHAOS_SECONDS={}: {} steps", length.as_secs(), steps.len());
    let port = free_port();
    let tenfold = Arc::new(start(port));
    let before = processes::counters(tenfold.pid());
    let clients = Clients::begin(port);
    let story = Havoc::new(Arc::clone(&tenfold), port).run(&steps);
    restore(&tenfold);
    let calm = SystemTime::now();
    clients::pause(CALM);
    let tally = clients.end();
    let seen = std::fs::read_to_string(tenfold.dir().join(havoc::SEEN)).expect("workers write it");
    let events = Events::read(&tenfold.output(), &seen);
    let accused = accusations(&tally, &events, calm);
    let failed = reasons(&tally);
    eprintln!("{} requests; failed: {failed:?}\n{:#?}", tally.asked, events.counts);
    let (all, count) = (tally.asked, accused.len());
    let shown = accused[..count.min(SHOWN)].join("\n");
    assert_eq!(
        count,
        0,
        "CHAOS_SEED={seed}: {count} of {all} failed without need:\n{shown}\nlast actions:\n{}",
        last(&story)
    );
    assert!(all > 10 * length.as_secs(), "only {all} requests were made");
    check_nothing_left(&tenfold, before);
    let mut tenfold = Arc::into_inner(tenfold).expect("all commands have ended");
    processes::signal(havoc::newest(&tenfold), Signal::SIGTERM);
    // The first one; of the last one there is only that it leaves nothing.
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    tenfold.wait_tree_gone(PATIENCE);
}
