//! Workers that listen elsewhere than they were told, or not at all.

use crate::support::{PATIENCE, free_port};
use crate::{anywhere, in_python, python};

#[test]
fn a_fixed_port_is_told_once_with_what_to_do() {
    let port = free_port().to_string();
    let tenfold = anywhere()
        .cwd(python::fixtures())
        .args(["-n", "2"])
        .app(["busybox", "httpd", "-f", "-p", &format!("127.0.0.1:{port}")])
        .start();
    let told = |line: &str| line.contains(&format!("listens on :{port} and ignores PORT"));
    let line = tenfold.wait_for_line(PATIENCE, told);
    assert!(line.contains(": use {port}, --dialect fd or -n 1"), "{line}");
    // The other worker finds the port taken; the existing words for a crash say so.
    tenfold.wait_for_line(PATIENCE, |line| line.contains("crashed, restarting"));
    assert_eq!(tenfold.output().lines().filter(|line| told(line)).count(), 1);
}

#[test]
fn a_worker_alone_is_served_on_its_fixed_port() {
    let port = free_port().to_string();
    let tenfold = anywhere()
        .cwd(python::fixtures())
        .args(["-n", "1"])
        .app(["busybox", "httpd", "-f", "-p", &format!("127.0.0.1:{port}")])
        .start();
    let status = tenfold.wait_ready(1);
    assert_eq!(status.workers[0].upstream.as_deref(), Some(&*format!("127.0.0.1:{port}")));
    let text = format!("worker 0 listens on :{port} and ignores PORT: connecting to it there");
    tenfold.wait_for_line(PATIENCE, |line| line.contains(&text));
}

/// Listens on a port of its own and speaks something else than HTTP.
const DEBUGGER: &str = "import socket, sys
s = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True: s.accept()[0].close()";

#[test]
fn a_port_that_does_not_speak_http_is_no_place_to_serve() {
    let port = free_port().to_string();
    let finished = in_python()
        .args(["-n", "1", "--set", "workers.start_timeout=10s"])
        .app(["python3", "-c", DEBUGGER, &port])
        .run();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains(&format!("listens on :{port} and ignores PORT")));
}

#[test]
fn a_worker_that_ignores_its_descriptor_is_told_so() {
    let port = free_port().to_string();
    let tenfold = in_python()
        .args(["-n", "1", "--dialect", "fd"])
        .app(["python3", "-m", "http.server", &port, "--bind", "127.0.0.1"])
        .start();
    let line = tenfold.wait_for_line(PATIENCE, |line| line.contains("ignores descriptor 3"));
    assert!(line.contains(&format!("worker 0 listens on :{port} ")) && line.contains("use {port}"));
}

#[test]
fn a_program_that_never_listens_ends_the_pool_with_its_reason() {
    let finished = in_python()
        .args(["--set", "workers.start_timeout=1s"])
        .app(["sh", "-c", "echo waiting for nothing; exec sleep 60"])
        .run();
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("was ready within workers.start_timeout"));
}

#[test]
fn a_path_that_workers_cannot_reach_is_refused_before_the_start() {
    let finished = in_python()
        .args(["--set", "workers.user=nobody"])
        .app(["uvicorn", "app:asgi", "--uds", "{socket}"])
        .run();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("{socket} cannot be given; use {port}: nobody cannot enter"));
}
