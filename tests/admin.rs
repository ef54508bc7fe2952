//! The admin listener, from the outside: what it answers, to whom, and when nothing else does.

#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

#[path = "admin/page.rs"]
mod page;
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use page::Page;
use support::{Builder, PATIENCE, Tenfold, http, wait_until};
use tenfold::admin::METRICS;

/// What a kubelet waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Two built-in workers, and an admin address of their own.
fn demo() -> Builder {
    let args = ["-n", "2", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    Tenfold::builder().subcommand("demo").args(args)
}

#[track_caller]
fn get(address: impl Into<http::Address>, path: &str) -> http::Response {
    http::get(address, path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Status and body.
#[track_caller]
fn ask(address: impl Into<http::Address>, path: &str) -> (u16, String) {
    let response = get(address, path);
    (response.status, response.text())
}

#[track_caller]
fn metrics(port: u16) -> Page {
    let response = get(port, "/metrics");
    let kind = response.header("content-type").expect("a type");
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    Page::parse(&response.text())
}

#[test]
fn every_path_answers_and_says_what_there_is() {
    let tenfold = demo().start();
    let port = tenfold.wait_ready(2).admin_port();
    assert_eq!(ask(port, "/livez"), (200, "alive\n".to_owned()));
    assert_eq!(ask(port, "/readyz"), (200, "ready 2/2\n".to_owned()));
    assert_eq!(ask(port, "/startupz"), (200, "ready 2/2\n".to_owned()));
    let status: support::Status = get(port, "/status").json().expect("a status");
    assert_eq!((status.pid, status.ready()), (tenfold.pid(), 2));
    let (status, paths) = ask(port, "/nowhere");
    assert_eq!(status, 404);
    assert!(paths.contains("/readyz") && paths.contains("/metrics"), "{paths}");
    for path in ["/scale", "/stop", "/requests"] {
        assert_eq!(ask(port, path).0, 404, "{path} is for the control socket only");
    }
    let line = tenfold.wait_for_line(PATIENCE, |line| line.contains("admin on http://127.0.0.1:"));
    assert!(line.contains(&format!(":{port}")), "{line}");
}

#[test]
fn metrics_are_those_of_the_table_and_nothing_else() {
    let tenfold = demo().start();
    let status = tenfold.wait_ready(2);
    let page = metrics(status.admin_port());
    for sample in &page.samples {
        let metric = METRICS.iter().find(|metric| metric.name == sample.family);
        let metric = metric.unwrap_or_else(|| panic!("{} is not in the table", sample.family));
        let names = sample.labels.iter().map(|(name, _)| name.as_str());
        let own: Vec<&str> = names.filter(|name| *name != "le").collect();
        assert_eq!(own, metric.labels, "{sample:?}");
    }
    // What the demo's workers do not report, what needs codes, and what needs a cgroup.
    let optional = |name: &str| {
        name.contains("_heap_")
            || name.contains("_loop_")
            || name.starts_with("tenfold_cgroup_")
            || name.starts_with("tenfold_request_failures")
            || name.starts_with("tenfold_request_retries")
    };
    for metric in METRICS.iter().filter(|metric| !optional(metric.name)) {
        assert!(page.kinds.contains_key(metric.name), "{} is not shown", metric.name);
    }
    assert_eq!(page.value("tenfold_workers_ready", &[]), 2.0);
    assert_eq!(page.value("tenfold_worker_state", &[("slot", "1"), ("state", "ready")]), 1.0);
    assert_eq!(page.value("tenfold_build_info", &[("version", &status.version)]), 1.0);
    assert!(page.value("tenfold_master_resident_memory_bytes", &[]) > 1e6);
    assert!(page.value("tenfold_master_pulse_age_seconds", &[]) < 10.0);
}

#[test]
fn metrics_count_connections_and_restarts() {
    let tenfold = demo().start();
    let status = tenfold.wait_ready(2);
    let port = status.admin_port();
    let listener: SocketAddr = status.listeners[0].address.parse().expect("an address");
    for _ in 0..5 {
        assert_eq!(get(listener.port(), "/").status, 200);
    }
    assert_eq!(metrics(port).value("tenfold_client_connections_total", &[]), 5.0);
    support::processes::signal(status.pid_of(0), Signal::SIGKILL);
    let killed = [("reason", "killed")];
    wait_until(PATIENCE, "the restart in the metrics", || {
        (metrics(port).value("tenfold_restarts_total", &killed) == 1.0).then_some(())
    });
    tenfold.wait_ready(2);
}

#[test]
fn saturation_is_above_1_when_requests_wait() {
    let args = ["-n", "1", "--limit", "2", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let tenfold = Tenfold::builder().node(22).args(args).app(["node", "apps/http.js"]).start();
    let status = tenfold.wait_ready(1);
    let (port, name) = (status.admin_port(), "tenfold_saturation_ratio");
    assert!(metrics(port).value(name, &[]) < 0.1);
    let app: SocketAddr = status.listeners[0].address.parse().expect("an address");
    let ask = |_| {
        let mut connection = http::Connection::open(app.port()).expect("it accepts");
        connection.send(b"GET /slow?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        connection
    };
    let _clients: Vec<http::Connection> = (0..3).map(ask).collect();
    wait_until(PATIENCE, "two under way and one waiting", || {
        (metrics(port).value(name, &[]) == 1.5).then_some(())
    });
}

#[test]
fn a_node_worker_shows_its_heap_and_its_loop() {
    let args = ["-n", "1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let tenfold = Tenfold::builder().node(22).args(args).app(["node", "apps/http.js"]).start();
    let port = tenfold.wait_ready(1).admin_port();
    let slot = [("slot", "0")];
    // The preload writes its page once a second.
    let page = wait_until(PATIENCE, "the first report", || {
        let page = metrics(port);
        page.kinds.contains_key("tenfold_worker_heap_used_bytes").then_some(page)
    });
    let used = page.value("tenfold_worker_heap_used_bytes", &slot);
    assert!(used > 1e6 && used < page.value("tenfold_worker_heap_limit_bytes", &slot));
    assert!(page.value("tenfold_worker_loop_delay_seconds", &slot) < 60.0);
    assert!(page.value("tenfold_worker_loop_utilization_ratio", &slot) <= 1.0);
}

#[test]
fn everything_answers_while_every_worker_is_blocked() {
    let args = ["-n", "2", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let tenfold = Tenfold::builder().node(22).args(args).app(["node", "apps/block.js"]).start();
    let status = tenfold.wait_ready(2);
    let port = status.admin_port();
    let app: SocketAddr = status.listeners[0].address.parse().expect("an address");
    // More than there are workers: each of the two blocks for as long as this test looks.
    let block = || {
        let mut client = TcpStream::connect(("127.0.0.1", app.port()))?;
        client.write_all(b"GET /block?ms=20000 HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        client.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(client)
    };
    let clients: Vec<TcpStream> = (0..8).map(|_| block().expect("it listens")).collect();
    let deadline = Instant::now() + Duration::from_secs(4);
    let mut slowest = Duration::ZERO;
    while Instant::now() < deadline {
        for path in ["/livez", "/readyz", "/startupz", "/metrics", "/status"] {
            let begun = Instant::now();
            assert_eq!(get(port, path).status, 200, "{path}");
            slowest = slowest.max(begun.elapsed());
        }
    }
    assert!(slowest < PROBE_TIMEOUT, "a probe took {slowest:?}");
    assert!(clients.iter().all(is_unanswered), "the workers were blocked all the while");
    assert_eq!(ask(port, "/readyz"), (200, "ready 2/2\n".to_owned()), "load does not change it");
}

fn is_unanswered(mut client: &TcpStream) -> bool {
    client.read(&mut [0; 64]).is_err_and(|error| is_timeout(&error))
}

#[test]
fn readiness_goes_with_a_stop_and_life_does_not() {
    let tenfold = demo().args(["--set", "shutdown.delay=10s"]).start();
    let port = tenfold.wait_ready(2).admin_port();
    tenfold.signal(Signal::SIGTERM);
    let stopping = (503, "stopping 2/2\n".to_owned());
    wait_until(PATIENCE, "readiness to go", || (ask(port, "/readyz") == stopping).then_some(()));
    assert_eq!(ask(port, "/livez").0, 200);
    assert_eq!(ask(port, "/startupz").0, 200);
}

#[test]
fn a_pool_that_starts_lives_and_is_not_ready() {
    let args = ["-n", "2", "--dialect", "native", "--admin", "127.0.0.1:0"];
    let tenfold = Tenfold::builder().args(args).app(["sleep", "60"]).start();
    let status = tenfold.wait_status(PATIENCE, "two starting workers", |status| {
        status.workers.iter().filter(|worker| worker.state == "starting").count() == 2
    });
    let port = status.admin_port();
    assert_eq!(ask(port, "/livez").0, 200);
    assert_eq!(ask(port, "/readyz"), (503, "starting 0/2\n".to_owned()));
    assert_eq!(ask(port, "/startupz"), (503, "starting 0/2\n".to_owned()));
    let health = tenfold.cli(["health", "--name", "test"]);
    assert_eq!((health.code, health.stdout.as_str()), (Some(1), "starting 0/2\n"));
}

#[test]
fn a_default_address_that_is_taken_is_a_warning() {
    // By this test or, as the port is the same for all, by anything else.
    let _taken = TcpListener::bind(("127.0.0.1", 9900));
    let args = ["-n", "1", "--listen", "127.0.0.1:0", "--admin", "auto"];
    let tenfold = Tenfold::builder().subcommand("demo").args(args).start();
    assert_eq!(tenfold.wait_ready(1).admin, None);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("port 9900 cannot be had"));
    let health = tenfold.cli(["health", "--name", "test"]);
    assert_eq!((health.code, health.stdout.as_str()), (Some(0), "ready 1/1\n"));
}

#[test]
fn an_address_that_was_asked_for_and_is_taken_ends_the_start() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let finished = Tenfold::builder()
        .subcommand("demo")
        .args(["--listen", "127.0.0.1:0", "--admin", &address])
        .run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("admin: cannot listen on"), "{}", finished.stderr);
    assert!(finished.stderr.contains(&address), "{}", finished.stderr);
}

#[test]
fn other_hosts_read_health_and_metrics_only() {
    let args = ["-n", "1", "--listen", "127.0.0.1:0", "--admin", ":0"];
    let tenfold = Tenfold::builder().subcommand("demo").args(args).start();
    let port = tenfold.wait_ready(1).admin_port();
    assert_eq!(ask(port, "/status").0, 200, "this host reads all");
    // To an address that is not loopback the kernel gives the same one as the peer's.
    let other = SocketAddr::new(own_address(), port);
    let other = || http::Address::Tcp(other);
    for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
        assert_eq!(ask(other(), path).0, 200, "{path}");
    }
    for path in ["/status", "/metrics/app", "/", "/stop"] {
        let (status, text) = ask(other(), path);
        assert_eq!(status, 403, "{path}");
        assert!(text.contains("/readyz"), "{text}");
    }
}

/// An address of this host that is not loopback.
#[track_caller]
fn own_address() -> std::net::IpAddr {
    let interfaces = nix::ifaddrs::getifaddrs().expect("the kernel tells its addresses");
    let mut addresses = interfaces.filter_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        (!address.is_loopback()).then_some(address.into())
    });
    addresses.next().expect("this test needs an IPv4 address besides loopback")
}

#[test]
fn silent_clients_give_way_to_probes_and_are_closed() {
    let tenfold = demo().start();
    let port = tenfold.wait_ready(2).admin_port();
    let silent: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("it listens")).collect();
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(ask(port, "/livez").0, 200);
        assert!(begun.elapsed() < PROBE_TIMEOUT, "{:?}", begun.elapsed());
    }
    for mut client in silent {
        client.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        let read = client.read(&mut [0; 64]);
        assert!(matches!(read, Ok(0)) || read.is_err_and(|error| !is_timeout(&error)));
    }
    assert_eq!(ask(port, "/livez").0, 200);
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    [TimedOut, WouldBlock].contains(&error.kind())
}

#[test]
fn health_tells_by_its_exit_code() {
    let tenfold = demo().start();
    let port = tenfold.wait_ready(2).admin_port();
    for (probe, text) in [("live", "alive\n"), ("ready", "ready 2/2\n"), ("startup", "ready 2/2\n")]
    {
        let health = tenfold.cli(["health", probe, "--name", "test"]);
        assert_eq!((health.code, health.stdout.as_str()), (Some(0), text));
        let address = format!("127.0.0.1:{port}");
        let health = tenfold.cli(["health", probe, "--admin", &address]);
        assert_eq!((health.code, health.stdout.as_str()), (Some(0), text));
    }
    let health = tenfold.cli(["health", "--name", "nobody"]);
    assert_eq!(health.code, Some(1));
    assert!(health.stderr.contains("\"nobody\""), "{}", health.stderr);
    let health = tenfold.cli(["health", "--admin", "127.0.0.1:1"]);
    assert_eq!(health.code, Some(1));
    assert!(health.stderr.contains("no instance answers at 127.0.0.1:1"), "{}", health.stderr);
}

#[test]
fn app_metrics_name_every_worker_that_has_none() {
    let tenfold = demo().args(["-m", "connection", "--set", "metrics.app=/metrics"]).start();
    let port = tenfold.wait_ready(2).admin_port();
    let (status, text) = ask(port, "/metrics/app");
    assert_eq!(status, 200);
    for slot in [0, 1] {
        let line = format!("tenfold_app_metrics_up{{slot=\"{slot}\"}} 0\n");
        assert!(text.contains(&line), "{text}");
    }
    let unset = demo().start();
    let (status, text) = ask(unset.wait_ready(2).admin_port(), "/metrics/app");
    assert_eq!(status, 404);
    assert!(text.starts_with("metrics.app is not set"), "{text}");
}

#[test]
fn nothing_is_under_way_in_connection_mode() {
    let tenfold = demo().args(["-m", "connection"]).start();
    tenfold.wait_ready(2);
    let requests = tenfold.cli(["requests", "--name", "test", "--json"]);
    assert_eq!((requests.code, requests.stdout.as_str()), (Some(0), "[]\n"));
    let requests = tenfold.cli(["requests", "--name", "test", "--slot", "0"]);
    assert!(requests.stdout.starts_with("SLOT ") && requests.stdout.lines().count() == 1);
    let requests = tenfold.cli(["requests", "--name", "test", "--slot", "9"]);
    assert_eq!((requests.code, requests.stdout.as_str()), (Some(1), ""));
    assert!(requests.stderr.contains("there is no slot 9"), "{}", requests.stderr);
}
