//! `tenfold logs`: what workers wrote last, and what they write.

use std::io::{BufRead, BufReader};

use nix::sys::signal::Signal;

use crate::support::pool::demo_pool;
use crate::support::{Builder, PATIENCE, Tenfold, free_port, http, processes, wait_until};

/// A server that writes what it is asked to: `/WORD` on stdout, `/flood` 6 MB before it.
const SERVER: &str = "
const slot = process.env.TENFOLD_SLOT;
require('http').createServer((request, response) => {
  if (request.url === '/flood') {
    for (let i = 0; i < 60; i++) process.stdout.write(('x'.repeat(99) + '\\n').repeat(1000));
  }
  console.log('said', request.url.slice(1));
  console.error('also', request.url.slice(1));
  response.end(slot);
}).listen(process.env.APP_PORT);
console.log('hello from slot', slot);
";

fn talkative(workers: usize) -> (Builder, u16) {
    let port = free_port();
    let builder = Tenfold::builder().node(22).env("APP_PORT", port.to_string());
    let work = builder.dir().join("work");
    std::fs::write(work.join("server.js"), SERVER).expect("the directory is ours");
    let builder = builder.cwd(work).args(["--workers", &workers.to_string()]);
    (builder.app(["node", "server.js"]), port)
}

#[track_caller]
fn logs(tenfold: &Tenfold, arguments: &[&str]) -> String {
    let shown = tenfold.cli(std::iter::once("logs").chain(arguments.iter().copied()));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    shown.stdout
}

#[test]
fn logs_show_what_was_written_last_of_all_or_of_one_slot() {
    let (builder, port) = talkative(2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    let asked = http::get(port, "/one").expect("it serves").text();
    let said = format!("[{asked}] said one\n");
    let all = wait_until(PATIENCE, "both streams", || {
        let all = logs(&tenfold, &[]);
        (all.contains(&said) && all.contains("also one\n")).then_some(all)
    });
    for slot in ["0", "1"] {
        let hello = format!("hello from slot {slot}\n");
        assert!(all.contains(&format!("[{slot}] {hello}")), "{all}");
        let its = logs(&tenfold, &[slot]);
        assert!(its.starts_with(&hello), "{its}");
        assert_eq!(its.contains("said one\n"), slot == asked, "{its}");
    }
    let json = logs(&tenfold, &["--json", &asked]);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert!(lines.iter().any(|it| it["stream"] == "stderr" && it["line"] == "also one"), "{json}");
    assert_eq!(logs(&tenfold, &["-n", "1", &asked]), last_line(&logs(&tenfold, &[&asked])));
    assert_eq!(logs(&tenfold, &["--tail=0"]), "");
    assert_eq!(logs(&tenfold, &["--lines", "9999999999999"]), logs(&tenfold, &["-n", "all"]));
    let refused = tenfold.cli(["logs", "2"]);
    assert!(refused.stderr.contains("there is no slot 2, only 0 to 1"), "{refused:?}");
}

fn last_line(text: &str) -> String {
    let last = text.lines().last().expect("there is one");
    format!("{last}\n")
}

#[test]
fn followed_logs_go_on_over_the_death_of_a_worker_until_the_master_ends() {
    let (builder, port) = talkative(1);
    let mut tenfold = builder.start();
    let pid = tenfold.wait_ready(1).pid_of(0);
    let mut follower = tenfold.spawn_cli(["logs", "-f", "0"]);
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let mut wait_for = |text: &str| {
        let found = lines.by_ref().any(|line| line.expect("it is UTF-8") == text);
        assert!(found, "the end came before {text:?}");
    };
    wait_for("hello from slot 0");
    assert_eq!(http::get(port, "/first").expect("it serves").status, 200);
    wait_for("said first");
    processes::signal(pid, Signal::SIGKILL);
    wait_for("hello from slot 0");
    tenfold.signal(Signal::SIGTERM);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(follower.wait().expect("it is our child").code(), Some(0));
}

#[test]
fn followed_logs_begin_with_as_many_lines_as_were_asked_for() {
    let (builder, port) = talkative(1);
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let mut follower = tenfold.spawn_cli(["logs", "-f", "-n", "0"]);
    let mut lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    // Asks until the follower is there: what was written before it came it must not show.
    let mut words = 0;
    let (sender, first) = std::sync::mpsc::sync_channel(1);
    let reading = std::thread::spawn(move || {
        let _ = sender.send(lines.next().expect("one line").expect("it is UTF-8"));
    });
    let first = wait_until(PATIENCE, "the first line", || {
        words += 1;
        assert_eq!(http::get(port, &format!("/{words}")).expect("it serves").status, 200);
        first.try_recv().ok()
    });
    reading.join().expect("it does not panic");
    assert!(!first.contains("hello"), "{first}");
    follower.kill().expect("it is our child");
    follower.wait().expect("it is our child");
}

#[test]
fn a_reader_of_logs_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed() {
    let (builder, port) = talkative(2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    let mut follower = tenfold.spawn_cli(["logs", "-f"]);
    let mut stdout = BufReader::new(follower.stdout.take().expect("it is piped"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("it is UTF-8");
    let flooding = http::get(port, "/flood").expect("it serves").text();
    // Far more than every pipe and buffer between holds, and than the ring does.
    wait_until(PATIENCE, "a ring that has turned", || {
        let kept = logs(&tenfold, &[&flooding]);
        (kept.contains("said flood") && !kept.contains("hello")).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(http::get(port, "/").expect("they serve").status, 200);
    }
    let mut missed = String::new();
    let mut seen = 0u32;
    while !missed.ends_with("lines missed]\n") {
        missed.clear();
        let count = stdout.read_line(&mut missed).expect("it is UTF-8");
        assert!(count > 0, "the end came after {seen} lines");
        seen += 1;
    }
    follower.kill().expect("it is our child");
    follower.wait().expect("it is our child");
}

#[test]
fn logs_that_workers_write_past_the_master_are_not_there() {
    let (builder, _) = demo_pool(1);
    let tenfold = builder.args(["--set", "logs=inherit"]).start();
    tenfold.wait_ready(1);
    let refused = tenfold.cli(["logs"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("logs = \"inherit\""), "{refused:?}");
}
