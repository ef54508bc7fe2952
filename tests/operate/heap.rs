//! A worker that writes its heap for a person: what becomes of the file, the worker and the others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;

use nix::sys::signal::Signal;

use crate::support::http::{self, Connection};
use crate::support::pool::demo_pool;
use crate::support::{Builder, PATIENCE, Tenfold, free_port, processes, wait_until};

/// Files say when it goes on: `hold` keeps it in the middle of writing its heap, `loop` in a
/// request for `/loop`; `/late` is answered once there is a file `answer`.
const APP: &str = "
const fs = require('fs');
const v8 = require('v8');
const cell = new Int32Array(new SharedArrayBuffer(4));
const standStillFor = (file) => {
  while (fs.existsSync(file)) Atomics.wait(cell, 0, 0, 20);
};
const { writeHeapSnapshot } = v8;
v8.writeHeapSnapshot = (path) => {
  fs.writeFileSync('writing', '');
  standStillFor('hold');
  return writeHeapSnapshot(path);
};
global.held = [];
require('http').createServer((request, response) => {
  if (request.url === '/loop') standStillFor('loop');
  if (request.url !== '/late') return response.end(String(process.pid));
  const timer = setInterval(() => {
    if (!fs.existsSync('answer')) return;
    clearInterval(timer);
    global.held.push(['answered', 'before'].join(' '));
    response.end('late');
  }, 20);
}).listen(process.env.APP_PORT);
";

/// So many workers of that on this major; where it is served, and its files are.
fn pool(major: u32, workers: usize) -> (Builder, u16, PathBuf) {
    let port = free_port();
    let builder = Tenfold::builder().node(major).env("APP_PORT", port.to_string());
    let work = builder.dir().join("work");
    fs::write(work.join("server.js"), APP).expect("the directory is ours");
    let builder = builder.args(["--workers", &workers.to_string()]).cwd(&work);
    (builder.app(["node", "server.js"]), port, work)
}

fn make(work: &Path, name: &str) {
    fs::write(work.join(name), "").expect("the directory is ours");
}

fn remove(work: &Path, name: &str) {
    fs::remove_file(work.join(name)).expect("it is there");
}

/// A client whose request is under way.
#[track_caller]
fn ask(port: u16, path: &str) -> Connection {
    let mut client = Connection::open(port).expect("it accepts");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(request.as_bytes()).expect("it reads");
    client
}

/// The command, which has to fail; what it says.
#[track_caller]
fn refused(tenfold: &Tenfold, arguments: &[&str]) -> String {
    let refused = tenfold.cli(["heap"].iter().chain(arguments));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused:?}");
    refused.stderr
}

/// How a command that was left to itself ends: its code, what it printed and what it complained of.
#[track_caller]
fn end(command: Child) -> (Option<i32>, String, String) {
    let output = command.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A worker that was left out gets requests again.
#[track_caller]
fn wait_until_served_by(port: u16, pid: i32) {
    let pid = pid.to_string();
    wait_until(PATIENCE, "it gets requests again", || {
        (http::get(port, "/").ok()?.text() == pid).then_some(())
    });
}

fn heaps_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("it is there").filter_map(Result::ok);
    let is_heap = |path: &PathBuf| path.extension().is_some_and(|it| it == "heapsnapshot");
    entries.map(|entry| entry.path()).filter(is_heap).collect()
}

#[track_caller]
fn check_heap(major: u32) {
    let (builder, port, _) = pool(major, 1);
    let tenfold = builder.start();
    let pid = tenfold.wait_ready(1).pid_of(0);
    let written = tenfold.cli(["heap", "0"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let path = Path::new(written.stdout.trim_end());
    assert_eq!(heaps_in(&tenfold.runtime_dir()), [path]);
    assert!(path.display().to_string().contains(&format!("-0-{pid}-")), "{written:?}");
    let mode = path.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read it");
    let heap = fs::read(path).expect("we may");
    assert!(heap.starts_with(b"{\"snapshot\":{\"meta\":"), "it is no heap");
    assert!(heap.trim_ascii_end().ends_with(b"\"]}"), "it is not whole");
    wait_until_served_by(port, pid);
    assert!(!tenfold.output().contains("preload failed"), "{}", tenfold.output());
}

#[test]
fn heap_is_a_new_file_for_its_owner_alone() {
    thread::scope(|scope| {
        for major in [18, 20, 22, 24, 26] {
            scope.spawn(move || check_heap(major));
        }
    });
}

#[test]
fn a_worker_ends_its_requests_before_it_writes_its_heap() {
    let (builder, port, work) = pool(22, 1);
    let directory = builder.dir().join("heaps");
    fs::create_dir(&directory).expect("the directory is ours");
    let tenfold = builder.start();
    tenfold.wait_ready(1);
    let mut late = ask(port, "/late");
    tenfold.wait_status(PATIENCE, "it is under way", |it| it.worker_in(0).in_flight == 1);
    let command = tenfold.spawn_cli(["heap", "0", "--dir", &directory.display().to_string()]);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("worker writes its heap"));
    make(&work, "answer");
    assert_eq!(late.receive().expect("it is answered").text(), "late");
    let (code, path, complaint) = end(command);
    assert_eq!(code, Some(0), "{complaint}");
    let heap = fs::read_to_string(path).expect("it is there");
    assert!(heap.contains("\"answered before\""), "it was written before the answer");
    assert_eq!(heaps_in(&directory).len(), 1);
}

#[test]
fn a_worker_that_writes_its_heap_gets_nothing_new_and_is_not_taken_for_one_that_hangs() {
    let (builder, port, work) = pool(22, 3);
    make(&work, "hold");
    make(&work, "loop");
    let tenfold = builder.args(["--set", "workers.hang=8s"]).start();
    let pid = tenfold.wait_ready(3).pid_of(0);
    let command = tenfold.spawn_cli(["heap", "0"]);
    wait_until(PATIENCE, "it writes", || work.join("writing").exists().then_some(()));
    assert!(tenfold.status().expect("the master runs").worker_in(0).stalled);
    for _ in 0..12 {
        let answer = http::get(port, "/").expect("the others serve").text();
        assert_ne!(answer, pid.to_string(), "it stands still");
    }
    let second = refused(&tenfold, &["1"]);
    assert!(second.contains("slot 0 writes its heap; one at a time"), "{second}");
    // Another one really hangs, and is silent for a shorter time.
    let looping = ask(port, "/loop");
    tenfold.wait_for_line(PATIENCE, |line| line.contains("worker hangs; killing it"));
    assert_eq!(tenfold.status().expect("the master runs").pid_of(0), pid);
    assert!(processes::is_alive(pid), "it was killed for its silence");
    remove(&work, "hold");
    let (code, path, complaint) = end(command);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(Path::new(&path).exists(), "{path}");
    remove(&work, "loop");
    wait_until_served_by(port, pid);
    drop(looping);
}

#[test]
fn what_a_worker_had_written_when_it_died_is_removed() {
    let (builder, port, work) = pool(22, 1);
    make(&work, "hold");
    let tenfold = builder.start();
    let pid = tenfold.wait_ready(1).pid_of(0);
    let command = tenfold.spawn_cli(["heap", "0"]);
    wait_until(PATIENCE, "it writes", || work.join("writing").exists().then_some(()));
    assert_eq!(heaps_in(&tenfold.runtime_dir()).len(), 1);
    processes::signal(pid, Signal::SIGKILL);
    let (code, _, complaint) = end(command);
    assert_eq!(code, Some(1), "{complaint}");
    assert!(
        complaint.contains("no heap of slot 0: the process that served has ended"),
        "{complaint}"
    );
    assert_eq!(heaps_in(&tenfold.runtime_dir()), [] as [PathBuf; 0]);
    let next = tenfold.wait_status(PATIENCE, "its successor", |it| {
        it.ready() == 1 && it.worker_in(0).pid.is_some_and(|next| next != pid)
    });
    wait_until_served_by(port, next.pid_of(0));
}

#[test]
fn a_worker_that_does_not_come_to_it_is_given_up_and_writes_nothing_later() {
    let (builder, port, work) = pool(22, 1);
    make(&work, "loop");
    let tenfold = builder.args(["--set", "workers.hang=off"]).start();
    let pid = tenfold.wait_ready(1).pid_of(0);
    let mut looping = ask(port, "/loop");
    tenfold.wait_status(PATIENCE, "it loops", |it| it.worker_in(0).stalled);
    let why = refused(&tenfold, &["0"]);
    assert!(why.contains("its main thread did not come to it within 10 s"), "{why}");
    remove(&work, "loop");
    assert_eq!(looping.receive().expect("it is answered").text(), pid.to_string());
    tenfold.wait_status(PATIENCE, "it is in order", |it| !it.worker_in(0).stalled);
    // Before this one it has read the other, for which nobody waits any more.
    let written = tenfold.cli(["heap", "0"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    assert_eq!(heaps_in(&tenfold.runtime_dir()), [Path::new(written.stdout.trim_end())]);
}

#[test]
fn heap_says_why_there_is_none_and_the_worker_goes_on() {
    let (builder, port, work) = pool(22, 1);
    let tenfold = builder.start();
    let pid = tenfold.wait_ready(1).pid_of(0);
    let missing = work.join("missing").display().to_string();
    for (arguments, why) in [
        (&["1"][..], "there is no slot 1, only 0 to 0"),
        // No file system has less room than the one that has no disk.
        (&["0", "--dir", "/proc"], "/proc has room for 0 MiB; --force tries it all the same"),
        (&["0", "--dir", &missing], "no heap of slot 0: ENOENT"),
        (&["0", "--dir", &missing, "--force"], "no heap of slot 0: ENOENT"),
    ] {
        let said = refused(&tenfold, arguments);
        assert!(said.contains(why), "{arguments:?}: {said}");
        wait_until_served_by(port, pid);
    }
    processes::signal(pid, Signal::SIGSTOP);
    let said = refused(&tenfold, &["0"]);
    assert!(said.contains("the process is stopped by a signal"), "{said}");
    processes::signal(pid, Signal::SIGCONT);
    wait_until_served_by(port, pid);
    let (builder, _) = demo_pool(1);
    let demo = builder.start();
    demo.wait_ready(1);
    let said = refused(&demo, &["0"]);
    assert!(said.contains("the worker is not Node with tenfold's preload"), "{said}");
}
