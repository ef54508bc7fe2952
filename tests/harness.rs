//! The harness of the other tests works: its client, its counters, its clean-up.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use support::{PATIENCE, free_port, http, processes, wait_until};

/// Serves one connection with fixed bytes and gives the client's answer to it.
fn answer_of(bytes: &'static [u8]) -> std::io::Result<http::Response> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client connects");
        let mut request = [0; 1024];
        let read = stream.read(&mut request).expect("the client asks");
        stream.write_all(bytes).expect("the client reads");
        request[..read].to_vec()
    });
    let response = http::get(port, "/path");
    let request = server.join().expect("the server does not panic");
    assert!(request.starts_with(b"GET /path HTTP/1.1\r\n"), "{request:?}");
    response
}

#[test]
fn client_reads_bodies_by_length_by_chunks_and_to_the_end() {
    let bodies: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
    ];
    for bytes in bodies {
        let response = answer_of(bytes).expect("a whole response");
        assert_eq!((response.status, response.text().as_str()), (200, "abc"));
    }
}

#[test]
fn client_reports_a_body_cut_short() {
    let error = answer_of(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc");
    let kind = error.expect_err("one byte is missing").kind();
    assert_eq!(kind, std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn marked_finds_a_process_that_left_its_parent_and_session() {
    let mark = format!("harness-{}", std::process::id());
    let status = Command::new("sh")
        .args(["-c", "setsid sh -c 'sleep 60 & exit 0'"])
        .env("HARNESS_MARK", &mark)
        .status()
        .expect("sh is there");
    assert!(status.success());
    let found = processes::marked("HARNESS_MARK", &mark);
    assert_eq!(found.len(), 1, "only the orphan is left: {found:?}");
    assert_eq!(processes::environment_of(found[0], "HARNESS_MARK"), Some(mark));
    processes::signal(found[0], nix::sys::signal::Signal::SIGKILL);
    wait_until(PATIENCE, "the orphan's end", || (!processes::is_alive(found[0])).then_some(()));
}

#[test]
fn counters_see_an_open_file_and_a_zombie() {
    let me = i32::try_from(std::process::id()).expect("a pid is an i32");
    let mut child = Command::new("true").spawn().expect("true is there");
    let pid = i32::try_from(child.id()).expect("a pid is an i32");
    wait_until(PATIENCE, "the child's end", || (!processes::is_alive(pid)).then_some(()));
    let counters = processes::counters(me);
    assert!(counters.zombies >= 1 && counters.threads >= 1 && counters.rss_bytes > 0);
    assert!(counters.fds >= 3, "{counters:?}");
    child.wait().expect("it is our child");
    assert!(processes::children(me).all(|process| process.pid != pid));
}

#[test]
fn free_port_gives_no_port_twice() {
    let first = free_port();
    assert_ne!(first, free_port());
    TcpListener::bind(("127.0.0.1", first)).expect("it is free");
}
