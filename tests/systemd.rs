//! Units run by a real systemd: the shipped ones, those that `tenfold unit` prints, and those that
//! people write by hand.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use support::http;
use support::systemd::{BINARY, Systemd};
use support::{PATIENCE, Tenfold, free_port};

const SHIPPED: &str = include_str!("../systemd/tenfold.service");
const SHIPPED_TEMPLATE: &str = include_str!("../systemd/tenfold@.service");
const SHIPPED_SOCKET: &str = include_str!("../systemd/tenfold.socket");

/// The worst exposure by `systemd-analyze security` that we ship, in tenths.
const EXPOSURE_MAX: &str = "30";

/// What most people write: a command, its type, and little more.
fn by_hand(more: &str, command: &str) -> String {
    format!(
        "[Service]\nType=notify\nKillMode=mixed\nRuntimeDirectory=tenfold\n\
         Environment=TENFOLD_ADMIN=off\n{more}\nExecStart={BINARY} {command}\n"
    )
}

/// Two built-in workers at `port`.
fn demo(port: u16) -> String {
    format!("demo --name test -n 2 --listen 127.0.0.1:{port}")
}

/// One request after the other, each on a connection of its own; each must be answered.
#[track_caller]
fn ask(port: u16, requests: usize) {
    for _ in 0..requests {
        assert_eq!(http::get(port, "/").expect("it is answered").status, 200);
    }
}

/// Runs `systemd-analyze` on a file; its exit code and what it says.
#[track_caller]
fn analyze(arguments: &[&str], file: &Path) -> (Option<i32>, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .expect("systemd is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn verify(name: &str, text: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let shipped = [("tenfold.service", SHIPPED), ("tenfold@.service", SHIPPED_TEMPLATE)];
    for (other, text) in shipped.into_iter().chain([(name, text)]) {
        // It looks for the program, which nobody has installed.
        let text = text.replace("/usr/local/bin/tenfold", env!("CARGO_BIN_EXE_tenfold"));
        std::fs::write(directory.path().join(other), text).expect("the directory is ours");
    }
    let file = directory.path().join(name);
    let (code, said) = analyze(&["verify", "--man=no", "--recursive-errors=no"], &file);
    let ours: Vec<&str> =
        said.lines().filter(|line| line.contains(name) || line.contains("tenfold")).collect();
    assert_eq!((code, ours), (Some(0), Vec::new()), "{text}\n{said}");
}

#[test]
fn the_shipped_units_verify() {
    verify("tenfold.service", SHIPPED);
    verify("tenfold@shop.service", SHIPPED_TEMPLATE);
    verify("tenfold.socket", SHIPPED_SOCKET);
}

#[test]
fn the_shipped_units_expose_little() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in [("tenfold.service", SHIPPED), ("tenfold@shop.service", SHIPPED_TEMPLATE)] {
        let file = directory.path().join(name);
        std::fs::write(&file, text).expect("the directory is ours");
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        let (code, said) = analyze(&["security", "--offline=true", &threshold], &file);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("Overall exposure level"), "{said}");
    }
}

#[test]
fn the_unit_command_prints_a_unit_that_verifies() {
    let finished = Tenfold::builder()
        .subcommand("unit")
        .name("shop")
        .args(["-n", "2", "--listen", ":80", "--set", "shed.retry_after_min=2s"])
        .app(["python3", "-c", "print(\"100% $HOME\")"])
        .env("USER", "daemon")
        .run();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let text = finished.stdout;
    for line in [
        "Type=notify",
        "KillMode=mixed",
        "RestartPreventExitStatus=78",
        "TimeoutStopSec=35",
        "User=daemon",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "RuntimeDirectory=tenfold-shop",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    let end = "-n 2 --listen :80 --set shed.retry_after_min=2s -- python3 -c \
               \"print(\\\"100%% $$HOME\\\")\"";
    assert!(text.contains(end), "{text}");
    verify("shop.service", &text);
}

#[test]
fn a_unit_is_ready_with_its_workers_and_stops_without_a_failed_request() {
    let port = free_port();
    let systemd = Systemd::boot(&[("app.service", &by_hand("WatchdogSec=10", &demo(port)))]);
    systemd.ctl(&["start", "app.service"]);
    // `start` returned at READY=1.
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    systemd.wait_property("app.service", "StatusText", "ready 2/2");
    systemd.run(&[BINARY, "status", "--name", "test"]).expect("its control socket is there");
    ask(port, 50);
    systemd.ctl(&["stop", "app.service"]);
    assert_eq!(systemd.property("app.service", "Result"), "success");
    assert_eq!(systemd.property("app.service", "ActiveState"), "inactive");
    assert!(!systemd.output().contains("\"level\":\"warn\""), "{}", systemd.output());
}

#[test]
fn a_start_takes_as_long_as_we_say() {
    let port = free_port();
    // It never serves; our own bound on a start, a minute, is the one that counts.
    let command = format!("-n 1 --listen 127.0.0.1:{port} --dialect native -- /bin/sleep 300");
    let unit = by_hand("TimeoutStartSec=2", &command);
    let longer = "[Service]\nType=oneshot\nExecStart=/bin/sleep 3\n";
    let systemd = Systemd::boot(&[("app.service", &unit), ("longer.service", longer)]);
    systemd.ctl(&["start", "--no-block", "app.service"]);
    systemd.wait_property("app.service", "StatusText", "starting 0/1");
    systemd.ctl(&["start", "longer.service"]);
    assert_eq!(systemd.property("app.service", "ActiveState"), "activating");
    systemd.ctl(&["kill", "--kill-who=main", "app.service"]);
    // It ended before it was ready, which systemd calls a failure.
    systemd.wait_property("app.service", "ActiveState", "failed");
}

#[test]
fn a_unit_follows_its_master_through_an_upgrade() {
    let port = free_port();
    let systemd = Systemd::boot(&[("app.service", &by_hand("WatchdogSec=10", &demo(port)))]);
    systemd.ctl(&["start", "app.service"]);
    systemd.wait_property("app.service", "StatusText", "ready 2/2");
    let first = systemd.property("app.service", "MainPID");
    let said =
        systemd.run(&[BINARY, "upgrade", "--wait", "--name", "test"]).expect("it has a successor");
    let next = said.trim().rsplit(' ').next().expect("it ends with a pid").to_owned();
    assert_ne!(next, first);
    systemd.wait_property("app.service", "MainPID", &next);
    systemd.wait_property("app.service", "StatusText", "ready 2/2");
    ask(port, 20);
    assert_eq!(systemd.property("app.service", "ActiveState"), "active");
    systemd.ctl(&["stop", "app.service"]);
    assert_eq!(systemd.property("app.service", "Result"), "success");
    assert_eq!(systemd.property("app.service", "NRestarts"), "0");
}

#[test]
fn a_unit_is_reloading_for_as_long_as_its_pool() {
    let port = free_port();
    let systemd = Systemd::boot(&[("app.service", &by_hand("", &demo(port)))]);
    systemd.ctl(&["start", "app.service"]);
    systemd.wait_property("app.service", "StatusText", "ready 2/2");
    // The canary soaks for 5 s.
    systemd.ctl(&["kill", "--kill-who=main", "--signal=HUP", "app.service"]);
    systemd.wait_property("app.service", "ActiveState", "reloading");
    ask(port, 20);
    systemd.wait_property("app.service", "ActiveState", "active");
    systemd.wait_property("app.service", "StatusText", "ready 2/2");
    systemd.ctl(&["stop", "app.service"]);
    assert_eq!(systemd.property("app.service", "Result"), "success");
}

#[test]
fn a_killed_master_comes_back() {
    let port = free_port();
    let unit = by_hand("Restart=on-failure\nRestartSec=100ms", &demo(port));
    let systemd = Systemd::boot(&[("app.service", &unit)]);
    systemd.ctl(&["start", "app.service"]);
    let first = systemd.property("app.service", "MainPID");
    systemd.ctl(&["kill", "-s", "KILL", "--kill-who=main", "app.service"]);
    systemd.wait_property("app.service", "NRestarts", "1");
    systemd.wait_property("app.service", "StatusText", "ready 2/2");
    assert_ne!(systemd.property("app.service", "MainPID"), first);
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
}

#[test]
fn a_wedged_master_is_ended_by_the_watchdog() {
    let port = free_port();
    let systemd = Systemd::boot(&[("app.service", &by_hand("WatchdogSec=2", &demo(port)))]);
    systemd.ctl(&["start", "app.service"]);
    systemd.ctl(&["kill", "-s", "STOP", "--kill-who=main", "app.service"]);
    systemd.wait_property("app.service", "ActiveState", "failed");
    assert_eq!(systemd.property("app.service", "Result"), "watchdog");
}

#[test]
fn a_wrong_configuration_is_not_started_again() {
    let more = "Restart=always\nRestartSec=100ms\nRestartPreventExitStatus=78";
    let systemd = Systemd::boot(&[("app.service", &by_hand(more, "-n 0 -- /bin/true"))]);
    assert!(systemd.try_ctl(&["start", "app.service"]).is_err());
    systemd.wait_property("app.service", "ActiveState", "failed");
    assert_eq!(systemd.property("app.service", "NRestarts"), "0");
    assert_eq!(systemd.property("app.service", "ExecMainStatus"), "78");
}

#[test]
fn passed_sockets_lose_no_connection_over_a_restart() {
    let (port, other) = (free_port(), free_port());
    let socket = |name: &str, port: u16| {
        let listen = format!("ListenStream=127.0.0.1:{port}\nFileDescriptorName={name}\n");
        format!("[Socket]\n{listen}Service=app.service\n")
    };
    let (web, rest) = (socket("web", port), socket("rest", other));
    let command = "demo --name test -n 2 --listen systemd:web --listen systemd";
    let unit = by_hand("Sockets=web.socket rest.socket", command);
    let units = [("app.service", unit.as_str()), ("web.socket", &web), ("rest.socket", &rest)];
    let systemd = Systemd::boot(&units);
    systemd.ctl(&["start", "web.socket", "rest.socket"]);
    // The first client starts it, and waits.
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    assert_eq!(http::get(other, "/").expect("it serves").status, 200);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ask(port, 10)
            }
        });
        for _ in 0..2 {
            systemd.ctl(&["restart", "app.service"]);
        }
        over.store(true, Ordering::Relaxed);
        asking.join().expect("every request has its answer");
    });
}

#[test]
fn what_is_not_passed_or_cannot_be_used_is_named() {
    let port = free_port();
    let socket = format!("[Socket]\nListenDatagram=127.0.0.1:{port}\nService=datagrams.service\n");
    let wrong = by_hand("", "demo --listen systemd:datagrams.socket");
    let absent = by_hand("", "demo --listen systemd:web");
    let units = [
        ("absent.service", absent.as_str()),
        ("datagrams.service", &wrong),
        ("datagrams.socket", &socket),
    ];
    let systemd = Systemd::boot(&units);
    assert!(systemd.try_ctl(&["start", "absent.service"]).is_err());
    systemd.wait_for_line(PATIENCE, "systemd passed no socket named \\\"web\\\", and none at all");
    systemd.ctl(&["start", "datagrams.socket"]);
    assert!(systemd.try_ctl(&["start", "datagrams.service"]).is_err());
    systemd.wait_for_line(PATIENCE, "is not a stream socket; use ListenStream=");
}

#[test]
fn the_shipped_unit_serves_as_hardened_as_it_is() {
    let port = free_port();
    let config = format!(
        "command = [\"python3\", \"-m\", \"http.server\", \"{{port}}\"]\n\
         directory = \"/usr/share/misc\"\nlisten = \"127.0.0.1:{port}\"\nadmin = \"off\"\n\
         name = \"shop\"\n[workers]\ncount = 2\n"
    );
    let unit = format!(
        "{SHIPPED}\n[Service]\nExecStart=\n\
                        ExecStart={BINARY} -c /run/systemd/system/shop.toml\n"
    );
    let systemd = Systemd::boot(&[("tenfold.service", &unit), ("shop.toml", &config)]);
    systemd.ctl(&["start", "tenfold.service"]);
    systemd.wait_property("tenfold.service", "StatusText", "ready 2/2");
    assert_eq!(http::get(port, "/").expect("it serves").status, 200);
    systemd.run(&[BINARY, "status", "--name", "shop"]).expect("root may ask every instance");
    systemd.ctl(&["stop", "tenfold.service"]);
    assert_eq!(systemd.property("tenfold.service", "Result"), "success");
    assert!(!systemd.output().contains("\"level\":\"warn\""), "{}", systemd.output());
}
