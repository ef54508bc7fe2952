//! tenfold as PID 1 of a container: somebody without rights, a root that cannot be written to, and
//! no shell.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde::Deserialize;

use support::container::{BINARY, Container, NOBODY, NODE, Plan};
use support::http::{self, Connection};
use support::{PATIENCE, free_port, processes, wait_until};

/// Two workers of that app in a container, with the ports of the app and of the admin address.
#[track_caller]
fn serve(app: &str) -> (Container, (u16, u16)) {
    let ports = (free_port(), free_port());
    (Plan::serving(app, ports).start(), ports)
}

/// Holds tens of megabytes in small objects.
const LARGE: &str = "
global.held = Array.from({ length: 400000 }, (_, number) => ({ number, of: [number] }));
require('http').createServer((request, response) => response.end('ok'))
  .listen(process.env.APP_PORT);
";

#[test]
fn heap_that_there_is_no_memory_for_is_refused_and_its_worker_serves_on() {
    const MIB: u64 = 1 << 20;
    let ports = (free_port(), free_port());
    let address = format!("127.0.0.1:{}", ports.1);
    let words = [BINARY, "--name", "box", "-n", "1", "--admin", &address, "--", NODE, "-e", LARGE];
    let plan = Plan::new(words).env("APP_PORT", &ports.0.to_string());
    let container = plan.memory(320 * MIB).start();
    let worker = container.wait_ready(ports.1, 1).pid_of(0);
    let (code, said) = container.exec(&[BINARY, "heap", "0"]);
    assert_eq!(code, Some(1), "{said}");
    // Less than the container has: the host's memory is not what counts.
    let left = said.split(" and ").last().and_then(|rest| rest.split_once(" MiB are left;"));
    let left: u64 = left.and_then(|(left, _)| left.parse().ok()).expect(&said);
    assert!(left < 320, "{said}");
    assert!(said.contains(" MiB of heap may need ") && said.contains("--force tries"), "{said}");
    assert_eq!(http::get(ports.0, "/").expect("it serves").status, 200);
    let status = container.wait_ready(ports.1, 1);
    assert_eq!((status.pid_of(0), status.worker_in(0).stalled), (worker, false));
    assert!(!container.output().contains("worker writes its heap"), "{}", container.output());
}

/// A request that is under way for `ms`.
#[track_caller]
fn begin_slow(container: &Container, (port, admin): (u16, u16), ms: u32) -> Connection {
    let mut connection = Connection::open(port).expect("it accepts");
    let head = format!("GET /slow?ms={ms} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.send(head.as_bytes()).expect("it reads");
    container.wait_status(admin, "a request under way", |status| {
        status.workers.iter().any(|worker| worker.in_flight == 1)
    });
    connection
}

#[test]
fn nobody_on_a_read_only_root_serves_answers_probes_and_stops() {
    let (mut container, ports) = serve("http.js");
    let status = container.wait_ready(ports.1, 2);
    assert_eq!((status.pid, status.name.as_str()), (1, "box"));
    assert_eq!(http::get(ports.0, "/").expect("it serves").status, 200);
    let children: Vec<_> = processes::children(container.pid()).collect();
    // No guardian: the kernel ends what PID 1 leaves behind.
    assert_eq!(children.len(), 2, "{children:?}");
    for pid in children.iter().map(|child| child.pid).chain([container.pid()]) {
        assert_eq!(processes::uid(pid), NOBODY);
    }
    let (code, said) = container.exec(&["/bin/sh", "-c", "true"]);
    assert_ne!(code, Some(0), "the image has a shell: {said}");
    for question in ["live", "ready", "startup"] {
        let (code, said) = container.exec(&[BINARY, "health", question]);
        assert_eq!(code, Some(0), "{question}: {said}");
    }
    let (code, said) = container.exec(&[BINARY, "status"]);
    assert_eq!(code, Some(0), "its control socket is in /dev/shm: {said}");
    let mut slow = begin_slow(&container, ports, 1500);
    container.signal(Signal::SIGTERM);
    assert_eq!(slow.receive().expect("the answer comes").status, 200);
    assert_eq!(container.wait_exit(PATIENCE).code(), Some(0));
    assert!(!processes::is_alive(container.pid()));
    assert!(!container.output().contains("\"level\":\"warn\""), "{}", container.output());
    assert!(!container.output().contains("sending"), "{}", container.output());
}

#[derive(Deserialize)]
struct Orphan {
    orphan: i32,
}

/// gunicorn as PID 1 took an orphan's exit for a worker's, and ended.
#[test]
fn orphans_are_reaped_and_not_taken_for_workers() {
    let (container, (port, admin)) = serve("orphans.js");
    let before = container.wait_ready(admin, 2);
    for _ in 0..3 {
        let response = http::get(port, "/?ms=300").expect("it serves");
        assert!(response.json::<Orphan>().expect("the app says it").orphan > 1);
    }
    wait_until(PATIENCE, "the end of all orphans, reaped", || {
        let count = processes::children(container.pid()).count();
        (count == 2).then_some(())
    });
    // Of a command that was run from outside, too.
    let leave = "require('node:child_process').spawn(process.execPath, \
                 ['-e', 'setTimeout(() => {}, 300)'], {detached: true, stdio: 'ignore'}).unref()";
    assert_eq!(container.exec(&[NODE, "-e", leave]).0, Some(0));
    wait_until(PATIENCE, "the end of that orphan, reaped", || {
        let count = processes::children(container.pid()).count();
        (count == 2).then_some(())
    });
    let after = container.wait_ready(admin, 2);
    let pids = [0, 1].map(|slot| after.pid_of(slot));
    assert_eq!(pids, [0, 1].map(|slot| before.pid_of(slot)));
    assert_eq!(after.total("restarts"), 0);
}

#[test]
fn hangup_reloads_and_other_signals_leave_the_first_process_alive() {
    let (container, (port, admin)) = serve("http.js");
    let before = container.wait_ready(admin, 2);
    // Without a handler the kernel would drop them; with the default action anywhere else, the end.
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGPIPE, Signal::SIGALRM] {
        container.signal(signal);
    }
    container.signal(Signal::SIGHUP);
    let after = container.wait_status(admin, "a new generation", |status| {
        status.generation == 2
            && status.phase == "running"
            && status.workers.len() == 2
            && status.workers.iter().all(|it| it.state == "ready" && it.generation == 2)
    });
    assert_ne!(after.pid_of(0), before.pid_of(0));
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
}

#[test]
fn second_term_ends_the_first_process_at_once() {
    let (mut container, ports) = serve("http.js");
    container.wait_ready(ports.1, 2);
    let slow = begin_slow(&container, ports, 60_000);
    container.signal(Signal::SIGTERM);
    container.wait_for_line("draining");
    // For half a second the second is taken for an echo of the first.
    wait_until(PATIENCE, "the end", || {
        container.signal(Signal::SIGTERM);
        (!processes::is_alive(container.pid())).then_some(())
    });
    assert_eq!(container.wait_exit(PATIENCE).code(), Some(0));
    let rest = slow.receive_rest().unwrap_or_default();
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.starts_with("HTTP/1.1 200"), "the minute is not over: {rest}");
}

#[test]
fn interrupt_drains_where_nobody_is_at_a_terminal() {
    let (mut container, ports) = serve("http.js");
    container.wait_ready(ports.1, 2);
    let mut slow = begin_slow(&container, ports, 1000);
    container.signal(Signal::SIGINT);
    assert_eq!(slow.receive().expect("the answer comes").status, 200);
    assert_eq!(container.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn without_a_writable_place_it_serves_and_says_what_is_missing() {
    let container = Plan::new([BINARY, "-n", "2", "--", NODE, "/app/apps/http.js"])
        .env("APP_PORT", "3000")
        .without_shm()
        .own_network()
        .start();
    let warning = container.wait_for_line("no control socket");
    assert!(warning.contains("/dev/shm"), "{warning}");
    container.wait_for_line("ready 2/2");
    let (status, said) = container.get("http://127.0.0.1:3000/");
    assert!(status == 200 && said.contains("\"app\":\"http\""), "{status} {said}");
    // As PID 1 the admin address is open to the kubelet; the probes of an image need no shell.
    let ready = container.get("http://127.0.0.1:9900/readyz");
    assert_eq!(ready, (200, "ready 2/2\n".to_owned()));
    let (code, said) = container.exec(&[BINARY, "health"]);
    assert_eq!(code, Some(0), "{said}");
    // The preload came in a URL, and counts.
    wait_until(PATIENCE, "a counted request", || {
        let (_, said) = container.get("http://127.0.0.1:9900/metrics");
        let counted =
            |line: &str| line.starts_with("tenfold_worker_requests_total") && line.ends_with(" 1");
        said.lines().any(counted).then_some(())
    });
    let output = container.output();
    assert_eq!(output.matches("\"level\":\"warn\"").count(), 1, "{output}");
}

#[test]
fn exit_codes_are_those_of_the_container() {
    for (words, code) in [
        (&[BINARY, "-n", "0", "--", NODE, "/app/apps/http.js"][..], 78),
        (&[BINARY, "--admin", "off", "--", NODE, "-e", "0"][..], 1),
        (&[BINARY, "--admin", "off", "-n", "2", "--", NODE, "-e", "process.exit(78)"][..], 78),
    ] {
        let mut container = Plan::new(words).start();
        let status = container.wait_exit(PATIENCE);
        assert_eq!(status.code(), Some(code), "{words:?}\n{}", container.output());
    }
}

/// A pool under a quota that is too small is told so, with figures.
#[test]
fn quota_that_stops_the_pool_is_told_of() {
    let ports = (free_port(), free_port());
    let container = Plan::serving("block.js", ports).cpus(0.5).start();
    container.wait_ready(ports.1, 2);
    let over = AtomicBool::new(false);
    let line = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // It ends with the container, if that fails.
                    let _ = http::get(ports.0, "/block?ms=200");
                }
            });
        }
        let line = container.try_line(2 * PATIENCE, "the CPU quota is spent");
        over.store(true, Ordering::Relaxed);
        line
    });
    let line = line.unwrap_or_else(|| panic!("no such line came\n{}", container.output()));
    assert!(line.contains("\"quota_cpus\":0.5") && line.contains("\"workers\":2"), "{line}");
    assert!(line.contains("fewer workers"), "{line}");
}
