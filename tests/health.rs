//! Workers that stall, hang or fail: who gets nothing new, who is replaced, and who never is.

mod support;

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use support::crowd::{Crowd, Who};
use support::http::{self, Connection};
use support::pool::{demo_pool, request_pool};
use support::{
    Builder, PATIENCE, Status, Tenfold, Worker, free_port, processes, try_until, wait_until,
};

/// Far above the second between two heartbeats, so that a busy machine makes nobody stall.
const STALL: &str = "workers.stall=4s";
const HANG: &str = "workers.hang=8s";

/// The whole of a hang, and a new worker after it.
const BOUND: Duration = Duration::from_secs(60);

fn judged(builder: Builder) -> Builder {
    builder.args(["--set", STALL, "--set", HANG])
}

/// Begins a request that keeps a worker's event loop busy.
fn block(port: u16, milliseconds: u64) -> Connection {
    let mut connection = Connection::open(port).expect("the master accepts");
    let head = format!(
        "GET /block?ms={milliseconds} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    connection.send(head.as_bytes()).expect("the kernel has room");
    connection
}

#[track_caller]
fn ask(port: u16, path: &str) -> Who {
    let response = http::get(port, path).expect("the master answers");
    assert_eq!(response.status, 200, "{}", response.text());
    response.json().expect("the app says who it is")
}

/// The only worker that is stalled.
#[track_caller]
fn wait_for_stall(tenfold: &Tenfold) -> (u16, i32) {
    let status = tenfold.wait_status(BOUND, "one stalled worker", |status| {
        status.workers.iter().filter(|worker| worker.stalled).count() == 1
    });
    let stalled = status.workers.iter().find(|worker| worker.stalled).expect("there is one");
    (stalled.slot, stalled.pid.expect("it lives"))
}

/// The stalled worker gets nothing, is told of with evidence, and is replaced; others go on.
#[track_caller]
fn check_replaced(tenfold: &Tenfold, port: u16, evidence: &str) {
    let (slot, victim) = wait_for_stall(tenfold);
    for _ in 0..20 {
        assert_ne!(ask(port, "/").pid, victim, "a stalled worker was asked");
    }
    let line = tenfold.wait_for_line(BOUND, |line| line.contains("no sign of life"));
    assert!(line.contains(evidence), "{line}");
    tenfold.wait_for_line(BOUND, |line| line.contains("worker hangs; killing it"));
    tenfold.wait_for_line(BOUND, |line| line.contains("worker crashed, restarting"));
    let status = tenfold.wait_status(BOUND, "the replacement", |status| {
        let worker = status.worker_in(slot);
        worker.state == "ready" && worker.pid != Some(victim) && !worker.stalled
    });
    assert!(!processes::is_alive(victim));
    assert_eq!((status.total("restarts"), status.total("panics")), (1, 0), "{status:?}");
    Crowd { port, path: "/", clients: 8, requests: 80 }.ask_all();
}

#[test]
fn a_worker_in_an_endless_loop_gets_nothing_new_and_is_replaced() {
    let (builder, port) = request_pool("block.js", 3);
    let tenfold = judged(builder).start();
    tenfold.wait_ready(3);
    let mut endless = block(port, 600_000);
    let response = thread::scope(|scope| {
        let waiting = scope.spawn(move || endless.receive());
        check_replaced(&tenfold, port, "busy in its own code");
        waiting.join().expect("clients do not panic").expect("it is answered")
    });
    assert_eq!(response.status, 504);
    assert!(response.text().contains("worker_hung"), "{}", response.text());
    let told = tenfold.wait_for_line(PATIENCE, |line| line.contains("no sign of life"));
    assert!(told.contains("GET /block") && told.contains("\"let_go\":1"), "{told}");
}

#[test]
fn who_waits_for_a_worker_that_hangs_while_it_drains_is_let_go() {
    let (builder, port) = request_pool("block.js", 1);
    let tenfold = judged(builder).args(["--set", "shutdown.total=5m"]).start();
    tenfold.wait_ready(1);
    let mut endless = block(port, 600_000);
    tenfold.wait_status(PATIENCE, "the request", |status| status.worker_in(0).in_flight == 1);
    tenfold.signal(Signal::SIGTERM);
    let response = endless.receive().expect("it is answered");
    assert_eq!(response.status, 504);
    assert!(response.text().contains("worker_hung"), "{}", response.text());
    let log = tenfold.output();
    assert!(!log.contains("sending TERM") && !log.contains("killing it"), "too late: {log}");
}

#[test]
fn a_stopped_worker_gets_nothing_new_and_is_replaced() {
    let (builder, port) = request_pool("http.js", 3);
    let tenfold = judged(builder).start();
    let victim = tenfold.wait_ready(3).pid_of(1);
    processes::signal(victim, Signal::SIGSTOP);
    check_replaced(&tenfold, port, "stopped by a signal");
}

#[test]
fn a_stopped_native_worker_gets_nothing_new_and_is_replaced() {
    let (builder, port) = demo_pool(3);
    let tenfold = judged(builder).start();
    let victim = tenfold.wait_ready(3).pid_of(2);
    processes::signal(victim, Signal::SIGSTOP);
    let (_, stalled) = wait_for_stall(&tenfold);
    assert_eq!(stalled, victim);
    for _ in 0..20 {
        assert_eq!(http::get(port, "/").expect("another answers").status, 200);
    }
    tenfold.wait_status(BOUND, "the replacement", |status| {
        let worker = status.worker_in(2);
        worker.state == "ready" && worker.pid != Some(victim)
    });
}

#[test]
fn a_stall_of_all_workers_sends_none_of_them_away() {
    const WORKERS: usize = 3;
    let (builder, port) = request_pool("http.js", WORKERS);
    let tenfold = builder.args(["--set", STALL, "--queue-timeout", "1m"]).start();
    let pids: Vec<i32> =
        tenfold.wait_ready(WORKERS).workers.iter().filter_map(|worker| worker.pid).collect();
    let answers = thread::scope(|scope| {
        pids.iter().for_each(|pid| processes::signal(*pid, Signal::SIGSTOP));
        tenfold.wait_status(BOUND, "all stalled", |status| {
            status.workers.iter().all(|worker| worker.stalled)
        });
        let crowd = Crowd { port, path: "/", clients: 30, requests: 30 };
        let asking = scope.spawn(move || crowd.ask_all());
        tenfold.wait_status(PATIENCE, "all of them asked", |status| {
            status.workers.iter().all(|worker| worker.in_flight > 0)
        });
        pids.iter().for_each(|pid| processes::signal(*pid, Signal::SIGCONT));
        asking.join().expect("clients do not panic")
    });
    assert_eq!(answers.len(), 30);
    let status = tenfold.wait_status(BOUND, "nobody stalled", |status| {
        status.workers.iter().all(|worker| !worker.stalled)
    });
    assert_eq!(status.total("restarts"), 0, "{status:?}");
    assert!(status.total("panics") >= 1, "{status:?}");
    tenfold.wait_for_line(PATIENCE, |line| line.contains("all get work again"));
}

#[test]
fn a_stopped_master_kills_nobody() {
    let (builder, port) = request_pool("http.js", 2);
    let tenfold =
        builder.args(["--set", "workers.stall=1500ms", "--set", "workers.hang=3s"]).start();
    let pids = |status: &Status| status.workers.iter().map(|it| it.pid).collect::<Vec<_>>();
    let before = pids(&tenfold.wait_ready(2));
    tenfold.signal(Signal::SIGSTOP);
    let died = |bound| {
        try_until(bound, || before.iter().flatten().find(|pid| !processes::is_alive(**pid)))
    };
    assert_eq!(died(Duration::from_secs(5)), None, "a worker died while the master was stopped");
    tenfold.signal(Signal::SIGCONT);
    Crowd { port, path: "/", clients: 8, requests: 40 }.ask_all();
    assert_eq!(died(Duration::from_secs(1)), None, "a worker died for the master's own silence");
    let after = tenfold.wait_ready(2);
    assert_eq!((pids(&after), after.total("restarts")), (before.clone(), 0));
}

#[test]
fn without_a_heartbeat_slowness_is_no_stall() {
    let (builder, port) = request_pool("block.js", 2);
    let tenfold = builder
        .args(["--mode", "request", "--set", "workers.preload=false"])
        .args(["--set", "workers.stall=1500ms"])
        .start();
    tenfold.wait_ready(2);
    ask(port, "/block?ms=4000");
    let status = tenfold.wait_ready(2);
    assert_eq!((status.total("stalls"), status.total("restarts")), (0, 0), "{status:?}");
}

#[test]
fn without_a_heartbeat_an_explicit_hang_still_ends_a_worker() {
    let (builder, port) = request_pool("block.js", 2);
    let tenfold = builder
        .args(["--mode", "request", "--set", "workers.preload=false", "--set", HANG])
        .start();
    tenfold.wait_ready(2);
    let mut endless = block(port, 600_000);
    let line = tenfold.wait_for_line(BOUND, |line| line.contains("worker hangs; killing it"));
    assert!(line.contains("busy in its own code"), "{line}");
    tenfold.wait_for_line(BOUND, |line| line.contains("worker crashed, restarting"));
    // Its request may be repeated, and hangs the other worker as well.
    tenfold.wait_status(BOUND, "both replaced", |status| status.total("restarts") == 2);
    assert_eq!(endless.receive().expect("it is answered").status, 502);
}

#[test]
fn a_worker_that_fails_request_after_request_is_left_alone_for_a_while() {
    let (builder, port) = request_pool("garbage.js", 3);
    let tenfold =
        builder.args(["--set", "workers.eject_after=3", "--set", "workers.eject_time=5m"]).start();
    tenfold.wait_ready(3);
    let statuses: Vec<u16> =
        (0..60).map(|_| http::get(port, "/").expect("the master answers").status).collect();
    let failed = statuses.iter().filter(|status| **status == 502).count();
    assert_eq!(failed, 3, "{statuses:?}");
    assert!(statuses[30..].iter().all(|status| *status == 200), "{statuses:?}");
    let status = tenfold.wait_ready(3);
    assert!(status.worker_in(0).ejected_ms.is_some_and(|ms| ms > 0), "{status:?}");
    assert_eq!((status.total("ejections"), status.total("restarts")), (1, 0));
    tenfold.wait_for_line(PATIENCE, |line| line.contains("worker fails request after request"));
}

/// Asks until every slot was recycled, and checks that nobody noticed.
#[track_caller]
fn check_recycled(tenfold: &Tenfold, port: u16, slots: u16, why: &str) {
    let is_done = |slot: u16| {
        let told = format!("recycled slot {slot}: ");
        tenfold.output().lines().any(|line| line.contains(&told) && line.contains(why))
    };
    let recycled = try_until(BOUND, || {
        Crowd { port, path: "/", clients: 8, requests: 80 }.ask_all();
        let status = tenfold.status().expect("the master answers");
        let living = status.workers.iter().filter(|worker| worker.pid.is_some()).count();
        assert!(living <= usize::from(slots) + 1, "more than one at a time: {status:?}");
        (0..slots).all(is_done).then_some(())
    });
    assert!(recycled.is_some(), "not all slots were recycled:\n{}", tenfold.output());
    let status = tenfold.wait_ready(slots.into());
    assert_eq!(status.total("restarts"), 0, "{status:?}");
    assert!(status.total("recycles") >= u64::from(slots), "{status:?}");
}

#[test]
fn workers_are_recycled_after_so_many_requests_and_no_request_fails() {
    let (builder, port) = request_pool("http.js", 3);
    let tenfold = builder.args(["--set", "workers.max_requests=100"]).start();
    tenfold.wait_ready(3);
    check_recycled(&tenfold, port, 3, " requests, age ");
}

#[test]
fn workers_are_recycled_after_so_many_connections() {
    let (builder, port) = demo_pool(2);
    let tenfold = builder.args(["--set", "workers.max_requests=40"]).start();
    tenfold.wait_ready(2);
    let recycled = try_until(BOUND, || {
        for _ in 0..20 {
            assert_eq!(http::get(port, "/").expect("a worker answers").status, 200);
        }
        (tenfold.status().ok()?.total("recycles") >= 2).then_some(())
    });
    assert!(recycled.is_some(), "{}", tenfold.output());
}

#[test]
fn workers_are_recycled_when_they_are_old() {
    let (builder, port) = request_pool("http.js", 2);
    let tenfold = builder.args(["--set", "workers.max_age=3s"]).start();
    tenfold.wait_ready(2);
    check_recycled(&tenfold, port, 2, "age ");
}

#[test]
fn a_worker_that_has_grown_is_recycled_and_no_request_fails() {
    let (builder, port) = request_pool("leak.js", 2);
    let tenfold = builder.args(["--set", "memory.soft=300MiB"]).start();
    tenfold.wait_ready(2);
    Crowd { port, path: "/leak?mib=40", clients: 2, requests: 20 }.ask_all();
    check_recycled(&tenfold, port, 2, " MiB of 300 MiB soft, ");
    tenfold.wait_status(PATIENCE, "the memory of all", |status| {
        status.workers.iter().all(|worker| worker.memory_bytes.is_some())
    });
}

#[test]
fn a_request_that_kills_workers_is_found_out_and_turned_away() {
    const POISON: &str = "/exit?code=3&card=4711";
    let (builder, port) = request_pool("crash.js", 3);
    let tenfold = builder.args(["--set", "poison=block"]).start();
    tenfold.wait_ready(3);
    let others = || Crowd { port, path: "/", clients: 8, requests: 400 }.ask_all();
    others();
    // Sent to a second worker each, so two deaths come of one request.
    for _ in 0..2 {
        assert_eq!(http::get(port, POISON).expect("it is answered").status, 502);
        tenfold.wait_ready(3);
        others();
    }
    let line = tenfold.wait_for_line(PATIENCE, |line| line.contains("whenever a worker dies"));
    assert!(line.contains("GET /exit") && !line.contains("4711"), "{line}");
    tenfold.wait_for_line(PATIENCE, |line| line.contains("worker died with requests in flight"));
    let refused = http::get(port, POISON).expect("it is answered");
    assert_eq!((refused.status, refused.text().contains("poison")), (503, true));
    assert_eq!(tenfold.wait_ready(3).total("restarts"), 4);
    // Another query is another request, and the route is open.
    assert_eq!(http::get(port, "/exit?code=4").expect("it is answered").status, 502);
}

#[test]
fn a_request_that_no_dying_worker_has_read_is_not_to_blame() {
    const WORKERS: usize = 5;
    let port = free_port();
    let builder = Tenfold::builder().node(22);
    let over = builder.dir().join("over");
    // Nobody new comes up: the request goes from one stopped worker to the next.
    let mut tenfold = builder
        .args(["--workers", "5", "--set", "workers.stall=10m", "--queue-timeout", "1m"])
        .args(["--dialect", "node", "--set", "restart.burst=1000"])
        .env("APP_PORT", port.to_string())
        .env("OVER", &over)
        .app(["sh", "-c", "test -e $OVER && exit 1; exec node apps/http.js"])
        .start();
    let status = tenfold.wait_ready(WORKERS);
    std::fs::write(over, "").expect("the directory is ours");
    let pids: Vec<i32> = status.workers.iter().filter_map(|worker| worker.pid).collect();
    pids.iter().for_each(|pid| processes::signal(*pid, Signal::SIGSTOP));
    let mut client = Connection::open(port).expect("the master accepts");
    client.send(b"GET /once HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    for _ in 1..WORKERS {
        let status = tenfold.wait_status(PATIENCE, "it at a worker", |status| {
            status.workers.iter().any(|worker| worker.in_flight == 1)
        });
        let holder = status.workers.iter().find(|worker| worker.in_flight == 1);
        let pid = holder.and_then(|worker| worker.pid).expect("it lives");
        processes::signal(pid, Signal::SIGKILL);
        wait_until(PATIENCE, "its death", || (!processes::is_alive(pid)).then_some(()));
        tenfold.wait_status(PATIENCE, "the next", |status| {
            status.workers.iter().any(|it| it.in_flight == 1 && it.pid != Some(pid))
        });
    }
    pids.iter().for_each(|pid| processes::signal(*pid, Signal::SIGCONT));
    assert_eq!(client.receive().expect("it is answered").status, 200);
    tenfold.signal(Signal::SIGTERM);
    tenfold.wait_exit(PATIENCE);
    tenfold.wait_output_end(PATIENCE);
    let output = tenfold.output();
    assert!(!output.contains("died with requests in flight"), "{output}");
    assert!(!output.contains("whenever a worker dies"), "{output}");
}

#[test]
fn a_new_worker_is_warmed_before_its_first_request() {
    let (builder, port) = request_pool("warm.js", 2);
    let warmup = "workers.warmup=['/warm', '/warm', '/nowhere']";
    let tenfold = builder.args(["--set", warmup]).start();
    let victim = tenfold.wait_ready(2).pid_of(0);
    let check = || {
        for _ in 0..10 {
            let response = http::get(port, "/").expect("a worker answers");
            assert!(response.text().contains("\"warmed\":2"), "{}", response.text());
        }
    };
    check();
    processes::signal(victim, Signal::SIGKILL);
    tenfold.wait_status(BOUND, "a new worker", |status| {
        status.ready() == 2 && status.worker_in(0).pid != Some(victim)
    });
    check();
}

#[test]
fn the_limit_of_a_new_worker_rises_while_others_serve() {
    let (builder, _) = request_pool("http.js", 2);
    let tenfold = builder.args(["--set", "workers.ramp=3s"]).start();
    let status = tenfold.wait_status(BOUND, "two that have served for long", |status| {
        let is_seasoned = |it: &Worker| it.limit == 100 && it.uptime_s.is_some_and(|s| s > 8);
        status.ready() == 2 && status.workers.iter().all(is_seasoned)
    });
    let victim = status.pid_of(0);
    processes::signal(victim, Signal::SIGKILL);
    let limit_of_new = |wanted: fn(u64) -> bool| {
        tenfold.wait_status(BOUND, "that limit of the new worker", |status| {
            let worker = status.worker_in(0);
            worker.pid != Some(victim) && worker.state == "ready" && wanted(worker.limit)
        })
    };
    limit_of_new(|limit| limit < 100);
    limit_of_new(|limit| limit == 100);
}
