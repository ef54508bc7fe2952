//! Reloads: new code and configuration come in without a lost request, or not at all.

#[path = "reload/listeners.rs"]
mod listeners;
mod support;

use std::path::Path;

use nix::sys::signal::Signal;

use support::http::{self, Connection};
use support::load::{self, Load, Manner};
use support::pool::{demo_pool, node_pool};
use support::{
    Builder, Finished, PATIENCE, Status, Tenfold, Worker, free_port, processes, wait_until,
};

/// A server that answers with the release it is of.
const SERVER: &str = "
const http = require('http');
const answer = JSON.stringify({ release: RELEASE, slot: process.env.TENFOLD_SLOT });
http.createServer((request, response) => {
  response.writeHead(request.url === '/sick' ? 500 : 200, { 'content-type': 'application/json' });
  response.end(answer);
}).listen(Number(process.env.APP_PORT));
";

/// A deployment: releases in directories of their own, and a symlink to the one that is current.
struct Deployment {
    tenfold: Tenfold,
    port: u16,
}

impl Deployment {
    /// Two workers of release 1, in request mode, with a soak that tests can wait for.
    #[track_caller]
    fn start(workers: u16, settings: &[&str]) -> Self {
        let port = free_port();
        let builder = Tenfold::builder().node(22);
        write_release(builder.dir(), 1, SERVER, "");
        switch(builder.dir(), 1);
        let current = builder.dir().join("current");
        let tenfold = with_settings(builder, settings)
            .args(["--workers", &workers.to_string(), "--set", "reload.soak=300ms"])
            .env("APP_PORT", port.to_string())
            .env("PWD", &current)
            .cwd(&current)
            .app(["node", "server.js"])
            .start();
        tenfold.wait_ready(usize::from(workers));
        Self { tenfold, port }
    }

    /// Puts another release in place, as a deployment script does.
    #[track_caller]
    fn deploy(&self, release: u32, server: &str, config: &str) {
        write_release(self.tenfold.dir(), release, server, config);
        switch(self.tenfold.dir(), release);
    }

    fn reload(&self) -> Finished {
        self.tenfold.cli(["reload", "--wait"])
    }

    /// What the release that answers says.
    #[track_caller]
    fn release(&self) -> u32 {
        let answer = http::get(self.port, "/").expect("it serves");
        let body: serde_json::Value = answer.json().expect("the app answers with JSON");
        body["release"].as_u64().and_then(|it| u32::try_from(it).ok()).expect("its release")
    }

    #[track_caller]
    fn wait_only(&self, generation: u64, workers: usize) -> Status {
        self.tenfold.wait_status(PATIENCE, "one generation alone", |status| {
            let is_its = |worker: &Worker| worker.generation == generation;
            status.workers.len() == workers && status.workers.iter().all(is_its)
        })
    }
}

fn with_settings(builder: Builder, settings: &[&str]) -> Builder {
    builder.args(settings.iter().flat_map(|setting| ["--set", setting]))
}

#[track_caller]
fn write_release(root: &Path, release: u32, server: &str, config: &str) {
    let directory = root.join(format!("releases/{release}"));
    std::fs::create_dir_all(&directory).expect("the directory is ours");
    let server = server.replace("RELEASE", &release.to_string());
    std::fs::write(directory.join("server.js"), server).expect("the directory is ours");
    std::fs::write(directory.join("tenfold.toml"), config).expect("the directory is ours");
}

/// Points `current` at a release, in one step.
#[track_caller]
fn switch(root: &Path, release: u32) {
    let link = root.join("next");
    std::os::unix::fs::symlink(format!("releases/{release}"), &link).expect("no link is there");
    std::fs::rename(link, root.join("current")).expect("both are in one directory");
}

#[track_caller]
fn assert_done(finished: &Finished, generation: u32) {
    let said = format!("generation {generation} serves, after ");
    assert!(finished.stdout.starts_with(&said), "{finished:?}");
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[track_caller]
fn assert_failed(finished: &Finished, because: &[&str]) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for text in because {
        assert!(finished.stdout.contains(text), "{text:?} is not in {finished:?}");
    }
}

/// How many reloads the load must survive; for a longer run by hand.
fn rounds() -> u32 {
    let asked = std::env::var("TENFOLD_TEST_RELOADS").ok();
    asked.map_or(5, |text| text.parse().expect("TENFOLD_TEST_RELOADS is a number"))
}

#[test]
fn reloads_under_load_lose_no_request_and_leave_nothing_behind() {
    let deployment = Deployment::start(2, &["reload.soak=50ms"]);
    let pid = deployment.tenfold.pid();
    assert_eq!(deployment.release(), 1);
    let before = processes::counters(pid);
    let load = Load::begin(deployment.port, load::clients(4), Manner::Mixed);
    for release in 2..=1 + rounds() {
        deployment.deploy(release, SERVER, "");
        assert_done(&deployment.reload(), release);
        assert_eq!(deployment.release(), release);
    }
    load.end(10 * rounds());
    deployment.wait_only(u64::from(1 + rounds()), 2);
    // A client's connection ends a moment after the client has gone.
    wait_until(PATIENCE, "as many descriptors as before", || {
        (processes::counters(pid).fds <= before.fds).then_some(())
    });
    let after = processes::counters(pid);
    assert_eq!((after.threads, after.zombies), (before.threads, 0));
}

/// Reloads, and then recycles one slot after the other, under load: nobody notices, and nothing is
/// left behind.
#[track_caller]
fn check_renewals((builder, port): (Builder, u16), workers: u16) {
    let tenfold = builder.args(["--set", "reload.soak=50ms"]).start();
    tenfold.wait_ready(workers.into());
    let before = processes::counters(tenfold.pid());
    let load = Load::begin(port, load::clients(4), Manner::Mixed);
    for generation in 2..=1 + rounds() {
        assert_done(&tenfold.cli(["reload", "--wait"]), generation);
    }
    for recycle in 0..rounds().div_ceil(4) {
        let slot = u16::try_from(recycle).expect("not so many") % workers;
        let old = tenfold.wait_ready(workers.into()).worker_in(slot).id;
        let asked = tenfold.cli(["recycle".to_owned(), slot.to_string()]);
        assert_eq!(asked.code, Some(0), "{asked:?}");
        tenfold.wait_status(PATIENCE, "a new worker", |status| {
            let its = status.workers.iter().filter(|worker| worker.slot == slot);
            let ids: Vec<u64> = its.map(|worker| worker.id).collect();
            status.ready() == usize::from(workers) && ids.len() == 1 && ids[0] != old
        });
    }
    load.end(10 * rounds());
    let status = tenfold.wait_ready(workers.into());
    assert_eq!((status.total("restarts"), status.total("shed")), (0, 0), "{status:?}");
    let pid = tenfold.pid();
    wait_until(PATIENCE, "as many descriptors as before", || {
        (processes::counters(pid).fds <= before.fds).then_some(())
    });
    let after = processes::counters(pid);
    assert_eq!((after.threads, after.zombies), (before.threads, 0));
}

#[test]
fn renewals_of_rust_workers_in_request_mode_lose_no_request() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let flags = ["--mode", "request", "--workers", "4", "--listen", &listen];
    check_renewals((Tenfold::builder().subcommand("demo").args(flags), port), 4);
}

#[test]
fn renewals_of_rust_workers_in_connection_mode_lose_no_request() {
    check_renewals(demo_pool(4), 4);
}

#[test]
fn renewals_of_node_workers_in_connection_mode_lose_no_request() {
    check_renewals(node_pool("http.js", 2), 2);
}

#[test]
fn reload_to_code_that_crashes_keeps_the_old_generation() {
    let deployment = Deployment::start(2, &[]);
    let load = Load::begin(deployment.port, 2, Manner::Mixed);
    deployment.deploy(2, "throw new Error('no such module as RELEASE');", "");
    let failed = deployment.reload();
    let because = ["worker 3 of the new generation (slot 0): exit 1", "no such module as 2"];
    assert_failed(&failed, &because);
    assert_failed(&failed, &["generation 1 goes on"]);
    let status = deployment.wait_only(1, 2);
    assert_eq!(status.phase, "running");
    assert_eq!(deployment.release(), 1);
    load.end(1);
    let shown = deployment.tenfold.cli(["status"]).stdout;
    assert!(shown.contains("reload failed: worker 3"), "{shown}");
    // The next one, which is whole, is not held up by it.
    deployment.deploy(3, SERVER, "");
    assert_eq!(deployment.reload().code, Some(0));
    assert_eq!(deployment.release(), 3);
}

#[test]
fn reload_that_fails_without_surge_has_an_end_and_others_follow_it() {
    let deployment = Deployment::start(2, &["reload.surge=0"]);
    let crashing = "throw new Error('no such module as RELEASE');";
    // The canary is in the place of a worker: its death also is that of its slot's worker.
    for (release, server, exit) in [(2, crashing, "exit 1"), (3, "process.exit(78);", "exit 78")] {
        deployment.deploy(release, server, "");
        let failed = deployment.reload();
        assert_failed(&failed, &["of the new generation (slot 0)", exit, "generation 1 goes on"]);
        assert_eq!(deployment.release(), 1);
        deployment.deploy(10 + release, SERVER, "");
    }
    assert_eq!(deployment.reload().code, Some(0));
    assert_eq!(deployment.release(), 13);
}

#[test]
fn reload_to_code_that_is_never_ready_keeps_the_old_generation() {
    let deployment = Deployment::start(1, &[]);
    deployment.deploy(2, "setInterval(() => {}, 1000);", "workers.start_timeout = \"1s\"\n");
    assert_failed(&deployment.reload(), &["not ready in time", "generation 1 goes on"]);
    deployment.wait_only(1, 1);
    assert_eq!(deployment.release(), 1);
}

#[test]
fn reload_to_an_invalid_file_changes_nothing() {
    let deployment = Deployment::start(1, &[]);
    deployment.deploy(2, SERVER, "workers.limit = 0\nzebra = 1\n");
    let because = ["workers.limit: 0 is below 1", "zebra: unknown key", "tenfold.toml"];
    assert_failed(&deployment.reload(), &because);
    assert_eq!(deployment.release(), 1);
}

#[test]
fn canary_that_does_not_answer_its_probe_is_given_up() {
    let deployment = Deployment::start(1, &["reload.probe=/sick", "reload.soak=0s"]);
    deployment.deploy(2, SERVER, "");
    assert_failed(&deployment.reload(), &["did not answer /sick with 2xx or 3xx"]);
    assert_eq!(deployment.release(), 1);
    deployment.deploy(3, &SERVER.replace("500", "204"), "");
    assert_eq!(deployment.reload().code, Some(0));
    assert_eq!(deployment.release(), 3);
}

#[test]
fn crash_between_switch_and_reload_brings_the_old_release_back() {
    let deployment = Deployment::start(1, &[]);
    let old = deployment.tenfold.status().expect("it runs");
    deployment.deploy(2, SERVER, "");
    let pid = old.workers[0].pid.expect("the worker is ready");
    processes::signal(pid, Signal::SIGKILL);
    deployment.tenfold.wait_status(PATIENCE, "a restart", |status| {
        status.ready() == 1 && status.workers[0].pid != Some(pid)
    });
    assert_eq!(deployment.release(), 1, "a restart is of its own generation");
    assert_eq!(deployment.reload().code, Some(0));
    assert_eq!(deployment.release(), 2);
    let directory = deployment.tenfold.status().expect("it runs").directory;
    assert!(directory.ends_with("releases/2"), "{directory}");
}

#[test]
fn hangup_reloads_and_further_ones_meanwhile_become_one() {
    let deployment = Deployment::start(1, &[]);
    deployment.deploy(2, SERVER, "");
    deployment.tenfold.signal(Signal::SIGHUP);
    deployment.tenfold.wait_status(PATIENCE, "a reload", |status| status.phase == "reloading");
    deployment.deploy(3, SERVER, "");
    for _ in 0..3 {
        assert_eq!(deployment.tenfold.cli(["reload"]).stdout, "reloading\n");
    }
    deployment.wait_only(3, 1);
    assert_eq!(deployment.release(), 3);
    let asked = deployment.reload();
    assert_done(&asked, 4);
}

#[test]
fn new_limits_hold_after_a_reload_and_what_cannot_change_is_named() {
    let deployment = Deployment::start(1, &[]);
    let config = "workers.limit = 7\nqueue.max = 3\nworkers.hang = \"40s\"\n";
    deployment.deploy(2, SERVER, config);
    assert_eq!(deployment.reload().code, Some(0));
    deployment.tenfold.wait_for_line(PATIENCE, |line| {
        line.contains("need a new master") && line.contains("hang") && !line.contains("limit")
    });
    let status = deployment.wait_only(2, 1);
    assert_eq!((status.workers[0].limit, status.listeners[0].queue.max), (7, 3));
}

/// Answers at once, but for `/held`: that when a file is there.
const HOLDING: &str = "
const http = require('http');
const fs = require('fs');
http.createServer((request, response) => {
  const answer = () => response.end(JSON.stringify({ release: RELEASE }));
  if (request.url !== '/held') return answer();
  const look = setInterval(() => {
    if (!fs.existsSync(`${process.env.HOME}/go`)) return;
    clearInterval(look);
    answer();
  }, 20);
}).listen(Number(process.env.APP_PORT));
";

#[test]
fn new_request_settings_hold_for_later_requests_and_not_for_those_under_way() {
    let deployment = Deployment::start(1, &[]);
    deployment.deploy(2, HOLDING, "");
    assert_eq!(deployment.reload().code, Some(0));
    deployment.wait_only(2, 1);
    let is_timed = |answer: &http::Response| answer.header("server-timing").is_some();
    let mut kept = Connection::open(deployment.port).expect("the master accepts");
    assert!(is_timed(&kept.get("/").expect("it is answered")));
    let mut held = Connection::open(deployment.port).expect("the master accepts");
    held.send(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    deployment.tenfold.wait_status(PATIENCE, "it at work", |status| {
        status.workers.iter().any(|worker| worker.in_flight == 1)
    });
    let config =
        "headers.server_timing = false\nlimits.body_bytes = '2B'\nhealth.public = ['/up']\n";
    deployment.deploy(3, HOLDING, config);
    assert_eq!(deployment.reload().code, Some(0));
    // A new connection, and one that was there before.
    assert!(!is_timed(&http::get(deployment.port, "/").expect("it is answered")));
    assert!(!is_timed(&kept.get("/").expect("it is answered")));
    let up = http::get(deployment.port, "/up").expect("it is answered");
    assert_eq!(up.text(), "ready 1/1\n");
    kept.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n")
        .expect("it reads");
    assert_eq!(kept.receive().expect("it is answered").status, 413);
    std::fs::write(deployment.tenfold.dir().join("go"), "").expect("the directory is ours");
    let answer = held.receive().expect("it is answered");
    assert_eq!((answer.status, is_timed(&answer)), (200, true), "{answer:?}");
    let body: serde_json::Value = answer.json().expect("the app answers with JSON");
    assert_eq!(body["release"], 2);
}

#[test]
fn pool_without_surge_never_has_more_workers_than_slots() {
    let deployment = Deployment::start(2, &["reload.surge=0"]);
    let load = Load::begin(deployment.port, 2, Manner::Mixed);
    deployment.deploy(2, SERVER, "");
    assert_eq!(deployment.reload().code, Some(0));
    load.end(1);
    let totals = deployment.wait_only(2, 2).totals;
    assert_eq!(totals["restarts"], 0);
}

#[test]
fn recycling_replaces_each_worker_and_draining_empties_a_slot() {
    let deployment = Deployment::start(2, &[]);
    let load = Load::begin(deployment.port, 2, Manner::Mixed);
    let asked = deployment.tenfold.cli(["recycle", "all"]);
    assert_eq!(asked.stdout, "recycling 2, one after another\n");
    deployment.tenfold.wait_status(PATIENCE, "two new workers", |status| {
        let ids = status.workers.iter().map(|worker| worker.id);
        status.ready() == 2 && status.workers.len() == 2 && ids.min() >= Some(3)
    });
    assert_eq!(deployment.tenfold.cli(["drain", "1"]).code, Some(0));
    deployment.tenfold.wait_status(PATIENCE, "an empty slot", |status| {
        status.workers.iter().any(|worker| worker.state == "drained")
    });
    let refused = deployment.tenfold.cli(["drain", "0"]);
    assert!(refused.stderr.contains("slot 0 stays: no other serves"), "{refused:?}");
    let refused = deployment.tenfold.cli(["recycle", "2"]);
    assert!(refused.stderr.contains("there is no slot 2, only 0 to 1"), "{refused:?}");
    assert_eq!(deployment.tenfold.cli(["recycle", "1"]).code, Some(0));
    deployment.tenfold.wait_ready(2);
    load.end(1);
}
