//! What a violent death costs: of a worker, only what it had acknowledged; of the master, the tree.
#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

#[path = "crashes/spares.rs"]
mod spares;
mod support;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use support::crowd::{Crowd, Outcome};
use support::pool::{command_pool, in_connection_mode, node_pool, request_pool};
use support::{Builder, PATIENCE, Status, free_port, processes, try_until, wait_until};

const WORKERS: usize = 4;

/// How long a tree may outlive its master.
const TREE_BOUND: Duration = Duration::from_secs(3);

/// A stopped worker is sent its window however long that takes.
const UNJUDGED: [&str; 4] = ["--set", "workers.stall=off", "--set", "workers.hang=off"];

fn answered_by(outcomes: &[Outcome]) -> BTreeMap<i32, u64> {
    let mut answered = BTreeMap::new();
    for who in outcomes.iter().filter_map(|outcome| outcome.answer.as_ref().ok()) {
        *answered.entry(who.pid).or_default() += 1;
    }
    answered
}

/// Every connection was acknowledged once: those that got no answer, by the dead worker.
#[track_caller]
fn check_only_acknowledged_failed(status: &Status, outcomes: &[Outcome], victim: i32) {
    let answered = answered_by(outcomes);
    let failures: Vec<&Outcome> = outcomes.iter().filter(|it| it.answer.is_err()).collect();
    let failed = failures.len() as u64;
    assert_eq!(status.total("shed"), 0, "{status:?}");
    assert_eq!(status.total("taken"), outcomes.len() as u64, "{status:?}");
    for worker in &status.workers {
        let pid = worker.pid.expect("all are ready");
        let answers = answered.get(&pid).copied().unwrap_or(0);
        let lost = "a living worker lost connections";
        assert_eq!(worker.accepted, answers, "{lost}: {worker:?}; failures: {failures:?}");
    }
    let living: u64 = status.workers.iter().map(|worker| worker.accepted).sum();
    let of_the_dead = answered.get(&victim).copied().unwrap_or(0);
    assert_eq!(status.total("taken"), living + of_the_dead + failed, "{status:?}");
}

/// Kills the worker in slot 2 while clients ask; then all, its replacement too, are asked.
#[track_caller]
fn check_death_of_one(builder: Builder, port: u16, hears: Hears) {
    let crowd = Crowd { port, path: "/slow?ms=20", clients: 32, requests: 3000 };
    // Enough for each to get more than any had before: the stopped one gets its share.
    let rush = Crowd { port, path: "/slow?ms=100", clients: 96, requests: 1000 };
    let tenfold = builder.start();
    let victim = tenfold.wait_ready(WORKERS).pid_of(2);
    let asked = crowd.requests + if hears == Hears::All { 0 } else { rush.requests };
    let mut outcomes = std::thread::scope(|scope| {
        let asking = scope.spawn(|| crowd.ask());
        tenfold.wait_status(PATIENCE, "work in slot 2", |status| status.worker_in(2).accepted > 50);
        let rushing = match hears {
            Hears::All => None,
            Hears::NothingMore => {
                processes::signal(victim, Signal::SIGSTOP);
                let rushing = scope.spawn(|| rush.ask());
                tenfold.wait_status(PATIENCE, "8 un-acked connections", |status| {
                    status.worker_in(2).unacked == 8
                });
                Some(rushing)
            }
        };
        processes::signal(victim, Signal::SIGKILL);
        tenfold.wait_for_line(PATIENCE, |line| {
            line.contains("worker crashed, restarting") && line.contains("\"restart_in_ms\":0")
        });
        let crowds = [Some(asking), rushing].into_iter().flatten();
        crowds.flat_map(|it| it.join().expect("clients do not panic")).collect::<Vec<_>>()
    });
    assert_eq!(outcomes.len(), asked);
    let replaced = tenfold.wait_ready(WORKERS).pid_of(2);
    outcomes.extend(Crowd { port, path: "/", clients: WORKERS, requests: 40 }.ask());
    let status = tenfold.wait_status(PATIENCE, "nothing open", Status::is_quiet);
    check_only_acknowledged_failed(&status, &outcomes, victim);
    assert!(answered_by(&outcomes).contains_key(&replaced), "the replacement does nothing");
}

/// What a worker takes of its connections before it is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hears {
    /// It is killed at work.
    All,
    /// It is stopped first, until its window is full of what it has not acknowledged.
    NothingMore,
}

#[test]
fn killed_worker_takes_only_its_acknowledged_connections() {
    let (builder, port) = node_pool("http.js", WORKERS);
    check_death_of_one(builder, port, Hears::All);
}

#[test]
fn what_a_killed_worker_had_not_acknowledged_is_served_by_others() {
    let (builder, port) = node_pool("http.js", WORKERS);
    check_death_of_one(builder.args(UNJUDGED), port, Hears::NothingMore);
}

#[test]
fn what_a_killed_worker_had_not_acknowledged_is_served_by_others_without_the_preload() {
    let (builder, port) = node_pool("http.js", WORKERS);
    let builder = builder.args(["--set", "workers.preload=false"]);
    check_death_of_one(builder, port, Hears::NothingMore);
}

#[test]
fn queue_outlives_the_death_of_the_only_worker() {
    let (builder, port) = node_pool("http.js", 1);
    let tenfold = builder.start();
    let victim = tenfold.wait_ready(1).pid_of(0);
    processes::signal(victim, Signal::SIGSTOP);
    let crowd = Crowd { port, path: "/", clients: 200, requests: 200 };
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| crowd.ask_all());
        tenfold.wait_status(PATIENCE, "192 waiting behind 8", |status| {
            status.worker_in(0).unacked == 8 && status.listeners[0].queue.length == 192
        });
        processes::signal(victim, Signal::SIGKILL);
        asking.join().expect("each has its answer")
    });
    assert!(answers.iter().all(|who| who.pid != victim), "a dead worker answered");
}

/// One byte there and back; an error for a connection that died with its worker.
fn echo(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

#[test]
fn last_words_of_a_dead_worker_count() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let script = "test -e $HOME/started && exec python3 $0/worker.py; \
                  touch $HOME/started; exec python3 $0/mayfly.py";
    let port = free_port();
    let tenfold = in_connection_mode(1)
        .args(["--dialect", "native", "--listen", &format!("127.0.0.1:{port}")])
        .app(["sh", "-c", script, fixtures])
        .start();
    let worker = tenfold.wait_ready(1).pid_of(0);
    let echoes: Vec<io::Result<()>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..12).map(|_| scope.spawn(move || echo(port))).collect();
        tenfold.wait_status(PATIENCE, "8 sent and 4 waiting", |status| {
            (status.worker_in(0).unacked, status.listeners[0].queue.length) == (8, 4)
        });
        // The master finds the answers and the death together, with somebody waiting.
        tenfold.signal(Signal::SIGSTOP);
        processes::signal(worker, Signal::SIGUSR1);
        wait_until(PATIENCE, "its death", || (!processes::is_alive(worker)).then_some(()));
        tenfold.signal(Signal::SIGCONT);
        clients.into_iter().map(|it| it.join().expect("clients do not panic")).collect()
    });
    let failed = echoes.iter().filter(|echo| echo.is_err()).count();
    assert_eq!(failed, 8, "what was acknowledged went to another worker: {echoes:?}");
}

/// The death of the master leaves nothing behind.
#[track_caller]
fn check_tree_dies_with_master((builder, _): (Builder, u16)) {
    let mut tenfold = builder.start();
    tenfold.wait_ready(2);
    let children: Vec<i32> = processes::children(tenfold.pid()).map(|it| it.pid).collect();
    assert!(children.len() >= 3, "two workers and the guardian: {children:?}");
    tenfold.kill9();
    tenfold.wait_exit(PATIENCE);
    tenfold.wait_tree_gone(TREE_BOUND);
    // The guardian has no environment to be known by; it goes last.
    wait_until(TREE_BOUND, "the end of the guardian", || {
        children.iter().all(|pid| !processes::is_alive(*pid)).then_some(())
    });
}

/// A guardian that lives shorter than this is not replaced.
const GUARDIAN_LIFE_MIN: Duration = Duration::from_secs(1);

#[test]
fn guardian_that_is_killed_is_replaced_and_the_tree_still_dies_with_the_master() {
    let (builder, _) = node_pool("double-fork.js", 2);
    let begun = Instant::now();
    let mut tenfold = builder.start();
    tenfold.wait_ready(2);
    let guardian = |old: i32| {
        let mut children = processes::children(tenfold.pid()).map(|it| it.pid);
        children.find(|&pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            pid != old && command.starts_with(b"tenfold: guardian")
        })
    };
    let first = guardian(0).expect("a guardian");
    // One that dies as soon as it starts is not replaced.
    wait_until(PATIENCE, "a guardian that has stayed up", || {
        (begun.elapsed() > 2 * GUARDIAN_LIFE_MIN).then_some(())
    });
    processes::signal(first, Signal::SIGKILL);
    wait_until(PATIENCE, "another guardian", || guardian(first));
    tenfold.kill9();
    tenfold.wait_exit(PATIENCE);
    tenfold.wait_tree_gone(TREE_BOUND);
}

/// What is adopted by the master only when its own parent, killed with the group, has ended.
#[test]
fn what_a_killed_worker_s_children_started_in_other_sessions_dies_with_it() {
    let script = "sh -c 'setsid sleep 3600 & wait' & exec node apps/http.js";
    let (builder, _) = command_pool(["sh", "-c", script], 1);
    let tenfold = builder.start();
    for _ in 0..3 {
        let worker = tenfold.wait_ready(1).pid_of(0);
        let tree = wait_until(PATIENCE, "three processes", || {
            Some(tenfold.tree()).filter(|tree| tree.len() == 3)
        });
        processes::signal(worker, Signal::SIGKILL);
        wait_until(PATIENCE, "their end", || {
            (!tree.iter().any(|pid| processes::is_alive(*pid))).then_some(())
        });
        tenfold.wait_status(PATIENCE, "the next one", |status| {
            status.ready() == 1 && status.workers[0].pid != Some(worker)
        });
    }
}

#[test]
fn tree_dies_with_the_master() {
    check_tree_dies_with_master(node_pool("http.js", 2));
}

#[test]
fn tree_of_shells_dies_with_the_master() {
    check_tree_dies_with_master(command_pool(["sh", "-c", "node apps/http.js; true"], 2));
}

#[test]
fn tree_of_npm_dies_with_the_master() {
    let (builder, port) = command_pool(["npm", "start"], 2);
    check_tree_dies_with_master((builder.env("RUN", "node apps/http.js"), port));
}

#[test]
fn workers_that_ignore_term_die_with_the_master() {
    check_tree_dies_with_master(node_pool("ignore-term.js", 2));
}

#[test]
fn descendants_in_sessions_of_their_own_die_with_the_master() {
    check_tree_dies_with_master(node_pool("double-fork.js", 2));
}

#[test]
fn stopped_master_costs_nobody_their_life() {
    let (builder, port) = node_pool("http.js", WORKERS);
    let tenfold = builder.start();
    let pids = |status: &Status| status.workers.iter().map(|it| it.pid).collect::<Vec<_>>();
    let before = pids(&tenfold.wait_ready(WORKERS));
    tenfold.signal(Signal::SIGSTOP);
    let died = try_until(Duration::from_secs(5), || {
        before.iter().flatten().find(|pid| !processes::is_alive(**pid))
    });
    assert_eq!(died, None, "a worker died while the master was stopped");
    tenfold.signal(Signal::SIGCONT);
    let after = tenfold.wait_ready(WORKERS);
    assert_eq!((pids(&after), after.total("restarts")), (before, 0));
    Crowd { port, path: "/", clients: 8, requests: 40 }.ask_all();
}

#[test]
fn crashes_are_told_apart_in_the_log_and_the_status() {
    let (builder, port) = request_pool("http.js", 2);
    let tenfold = builder.start();
    let idle = tenfold.wait_ready(2).pid_of(0);
    processes::signal(idle, Signal::SIGKILL);
    tenfold
        .wait_for_line(PATIENCE, |line| line.contains("\"kind\":\"one worker, while it served\""));
    tenfold.wait_ready(2);
    let crowd = Crowd { port, path: "/slow?ms=200", clients: 8, requests: 200 };
    std::thread::scope(|scope| {
        scope.spawn(|| crowd.ask());
        // For longer than it takes until the workers are looked at.
        let busy = tenfold.wait_status(PATIENCE, "a busy pool", |status| {
            status.total("requests") > 40 && status.worker_in(1).in_flight > 0
        });
        processes::signal(busy.pid_of(1), Signal::SIGKILL);
        tenfold.wait_for_line(PATIENCE, |line| line.contains("\"kind\":\"killed under load\""));
    });
    let shown = tenfold.cli(["status"]).stdout;
    assert!(shown.contains("ago, one worker, while it served (signal 9)"), "{shown}");
    assert!(shown.contains("ago, killed under load (signal 9)"), "{shown}");
    let never = in_connection_mode(2).app(["sh", "-c", "exit 1"]).start();
    never.wait_for_line(PATIENCE, |line| line.contains("\"kind\":\"all from the start\""));
}
