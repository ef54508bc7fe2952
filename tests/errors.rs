//! What cannot work is said plainly, once, and ends with the right exit code.

mod support;

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use support::pool::{command_pool, node_pool};
use support::{Builder, Finished, PATIENCE, Tenfold, processes};

/// The end of a start that the configuration forbids: this text on stderr, and nothing else.
#[track_caller]
fn check_refused(builder: Builder, message: &str) {
    let finished = builder.run();
    let wanted = (Some(78), format!("{message}\n"));
    assert_eq!((finished.code, finished.stderr), wanted);
    assert_eq!(finished.stdout, "");
}

fn with_flags<const N: usize>(flags: [&str; N]) -> Builder {
    Tenfold::builder().args(flags).app(["sleep", "60"])
}

#[test]
fn wrong_values_are_refused() {
    check_refused(with_flags(["--workers", "0"]), "workers.count: 0 is below 1 (from --workers)");
    check_refused(
        with_flags(["--queue-timeout", "300"]),
        "queue.timeout: \"300\" has no unit; write \"300s\" or \"300ms\" (from --queue-timeout)",
    );
    check_refused(
        with_flags(["--set", "workers.user=nobody-of-this-name"]),
        "workers.user: \"nobody-of-this-name\" is not a user of this host (from --set)",
    );
    check_refused(
        with_flags(["--set", "workers.cuont=3"]),
        "workers.cuont: unknown key; did you mean workers.count? (from --set)",
    );
}

#[test]
fn wrong_lines_of_a_file_are_shown() {
    let builder = with_flags([]);
    let path = builder.dir().join("tenfold.toml");
    std::fs::write(&path, "[workers]\ncuont = 3\n\n[queue]\ntimeout = 10\n").expect("ours");
    let file = path.display();
    let message = format!(
        "workers.cuont: unknown key; did you mean workers.count?\n  \
           --> {file}:2:1\n   |\n 2 | cuont = 3\n   | ^^^^^\n\
         queue.timeout: 10 has no unit; write \"10s\" or \"10ms\"\n  \
           --> {file}:5:11\n   |\n 5 | timeout = 10\n   |           ^^"
    );
    check_refused(builder.args(["--config".as_ref(), path.as_os_str()]), &message);
}

#[test]
fn programs_that_cannot_run_are_refused() {
    let builder = Tenfold::builder().app(["/nowhere/at/all"]);
    check_refused(builder, "command: \"/nowhere/at/all\" does not exist");
    let builder = Tenfold::builder().app(["no-such-program"]);
    check_refused(builder, "command: \"no-such-program\" was not found in PATH");
    let builder = Tenfold::builder();
    let path = builder.dir().join("script");
    std::fs::write(&path, "#!/bin/sh\n").expect("ours");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("ours");
    let message = format!("command: \"{}\" is not executable", path.display());
    check_refused(builder.app([&path]), &message);
}

#[test]
fn words_that_were_meant_otherwise_are_explained() {
    let builder = || Tenfold::builder().unnamed();
    check_refused(
        builder().args(["nod", "server.js"]),
        "\"nod\" is not a command of tenfold; did you mean: tenfold -- nod server.js",
    );
    check_refused(
        builder().app(["pm2", "start", "server.js"]),
        "command: pm2 forks its own workers; run: tenfold -- node server.js",
    );
}

/// The one error line of a run that failed.
#[track_caller]
fn error_of(finished: &Finished) -> serde_json::Value {
    let errors: Vec<&str> =
        finished.stderr.lines().filter(|line| line.contains("\"level\":\"error\"")).collect();
    assert_eq!(errors.len(), 1, "{}", finished.stderr);
    serde_json::from_str(errors[0]).expect("our lines are JSON")
}

#[test]
fn address_in_use_ends_the_start() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = holder.local_addr().expect("it is bound").to_string();
    let finished = with_flags(["--listen", &address]).run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let message =
        format!("listen: cannot listen on {address}: Address already in use (os error 98)");
    assert_eq!(error_of(&finished)["message"], message);
}

#[test]
fn second_master_of_a_name_is_refused() {
    let (builder, _) = node_pool("http.js", 1);
    let first = builder.start();
    first.wait_ready(1);
    let finished = first.cli(["--name", "test", "--", "sleep", "60"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let message = format!(
        "name: \"test\" is taken by a running master ({}); choose another with --name",
        first.control_socket().display()
    );
    assert_eq!(error_of(&finished)["message"], message);
    assert_eq!(first.status().expect("the first runs on").pid, first.pid());
}

#[test]
fn commands_for_an_instance_that_is_not_there_say_so() {
    let finished = Tenfold::builder().subcommand("status").name("no-such-instance").run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    // What follows names those that run, of which this host may have some.
    let start = "tenfold: no running instance is called \"no-such-instance\"; ";
    assert!(finished.stderr.starts_with(start), "{finished:?}");
}

#[test]
fn app_that_never_listens_ends_the_pool() {
    let (builder, _) = node_pool("one-shot.js", 2);
    let finished = builder.run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let error = error_of(&finished);
    let message = "node apps/one-shot.js ended and never listened; tenfold runs servers";
    assert_eq!((&error["message"], &error["last_output"]), (&message.into(), &"built".into()));
}

const LAST_LINE: &str = "cannot start: this is the last line of stderr";

#[test]
fn app_that_refuses_its_configuration_is_not_started_again() {
    let (builder, _) = node_pool("crash.js", 2);
    let finished = builder.env("APP_EXIT_CODE", "78").run();
    assert_eq!(finished.code, Some(78), "{finished:?}");
    let count = |text: &str| finished.stderr.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("its slot stays empty"), 2, "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().filter(|line| *line == LAST_LINE).count(), 2);
    assert_eq!(count("every worker exited with 78: none can run with its configuration"), 1);
}

#[test]
fn crash_loop_is_bounded_and_each_death_told_once() {
    let (builder, _) = node_pool("crash.js", 2);
    let flags = ["--set", "workers.start_timeout=3s", "--set", "restart.cap=200ms"];
    let finished = builder.args(flags).env("APP_EXIT_CODE", "3").run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let deaths: Vec<serde_json::Value> = finished
        .stderr
        .lines()
        .filter(|line| line.contains("\"worker crashed, restarting\""))
        .map(|line| serde_json::from_str(line).expect("our lines are JSON"))
        .collect();
    let lives = finished.stderr.lines().filter(|line| *line == LAST_LINE).count();
    // Two first starts, a storm's four restarts, and one for every two seconds since.
    assert!((2..=8).contains(&deaths.len()), "{}", finished.stderr);
    // The last deaths may coincide with the end of the pool, which restarts nobody.
    assert!(lives - deaths.len() <= 2, "{lives} lives in {}", finished.stderr);
    for death in &deaths {
        assert_eq!(death["last_output"], LAST_LINE, "{death}");
        assert_eq!(death["exit"], "exit 3", "{death}");
    }
    let error = error_of(&finished);
    let message = "no worker of `node apps/crash.js` was ready within workers.start_timeout; \
                   the last one: exit 3";
    assert_eq!((&error["message"], &error["last_output"]), (&message.into(), &LAST_LINE.into()));
}

#[test]
fn pool_without_a_ready_worker_is_given_up() {
    let script = "test -e $HOME/started && echo again >&2 && exit 4; \
                  touch $HOME/started; exec node apps/http.js";
    let (builder, _) = command_pool(["sh", "-c", script], 1);
    let mut tenfold = builder.args(["--set", "workers.give_up=1s"]).start();
    let worker = tenfold.wait_ready(1).pid_of(0);
    processes::signal(worker, Signal::SIGKILL);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(1));
    tenfold.wait_for_line(PATIENCE, |line| {
        line.contains("no worker was ready for workers.give_up; the last one: exit 4")
            && line.contains("\"last_output\":\"again\"")
    });
}
