//! Workers of the native dialect: the SDK's example, one made from the protocol, the built-in ones.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use nix::sys::signal::Signal;

use support::http;
use support::native::example;
use support::pool::{demo_pool, in_connection_mode};
use support::{Builder, PATIENCE, free_port, processes};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn native_pool(command: &[&Path], workers: usize) -> (Builder, u16) {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let flags = ["--dialect", "native", "--listen", &listen];
    (in_connection_mode(workers).args(flags).app(command), port)
}

fn python_pool(workers: usize) -> (Builder, u16) {
    let worker = Path::new(ROOT).join("tests/fixtures/worker.py");
    native_pool(&[Path::new("python3"), &worker], workers)
}

/// Sends text and gets it back.
#[track_caller]
fn check_echo(stream: &mut TcpStream, text: &str) {
    stream.set_read_timeout(Some(PATIENCE)).expect("the bound is not zero");
    stream.write_all(text.as_bytes()).expect("the worker reads");
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).expect("the worker answers");
    assert_eq!(String::from_utf8_lossy(&back), text);
}

#[track_caller]
fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("the master accepts")
}

/// Serves, balances, survives the death of a worker, and drains.
#[track_caller]
fn check_echo_pool((builder, port): (Builder, u16)) {
    const WORKERS: usize = 3;
    let mut tenfold = builder.start();
    tenfold.wait_ready(WORKERS);
    let mut streams: Vec<TcpStream> = (0..9).map(|_| connect(port)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        check_echo(stream, &format!("connection {number}"));
    }
    let status = tenfold.wait_status(PATIENCE, "three open on each", |status| {
        status.workers.iter().all(|worker| worker.open == 3)
    });
    processes::signal(status.pid_of(1), Signal::SIGKILL);
    let replaced = tenfold.wait_status(PATIENCE, "the replacement", |it| {
        it.ready() == WORKERS && it.pid_of(1) != status.pid_of(1)
    });
    assert_eq!((replaced.open(), replaced.total("restarts")), (6, 1));
    check_echo(&mut connect(port), "for the new one");
    let mut living: Vec<TcpStream> =
        streams.into_iter().filter_map(|mut it| is_open(&mut it).then_some(it)).collect();
    assert_eq!(living.len(), 6);
    tenfold.signal(Signal::SIGTERM);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("draining 3"));
    for stream in &mut living {
        check_echo(stream, "still here");
    }
    drop(living);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}

/// Whether the worker still answers on it.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"?").is_ok() && stream.read_exact(&mut byte).is_ok()
}

#[test]
fn rust_sdk_workers_serve() {
    check_echo_pool(native_pool(&[&example("echo")], 3));
}

#[test]
fn workers_written_from_the_protocol_serve() {
    check_echo_pool(python_pool(3));
}

/// Each worker takes one connection at a time; six clients come at once.
#[track_caller]
fn check_refusals((builder, port): (Builder, u16)) {
    let tenfold = builder.env("MAX_CONNECTIONS", "1").start();
    tenfold.wait_ready(2);
    std::thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || check_echo(&mut connect(port), &format!("client {number}")));
        }
    });
    tenfold.wait_status(PATIENCE, "six served", |status| {
        (status.total("taken"), status.total("shed"), status.open()) == (6, 0, 0)
    });
}

#[test]
fn refused_connections_of_rust_sdk_workers_are_served_in_turn() {
    check_refusals(native_pool(&[&example("echo")], 2));
}

#[test]
fn refused_connections_of_workers_written_from_the_protocol_are_served_in_turn() {
    check_refusals(python_pool(2));
}

#[test]
fn demo_serves_survives_a_crash_and_finishes_what_it_began() {
    let (builder, port) = demo_pool(2);
    let mut tenfold = builder.start();
    tenfold.wait_ready(2);
    let hello = http::get(port, "/").expect("it serves").text();
    assert!(hello.starts_with("hello from tenfold\nslot "), "{hello}");
    assert!(http::get(port, "/crash").is_err(), "who crashes does not answer");
    tenfold.wait_for_line(PATIENCE, |line| {
        line.contains("worker crashed, restarting") && line.contains("\"exit\":\"signal 6\"")
    });
    tenfold.wait_status(PATIENCE, "two again", |status| {
        (status.ready(), status.total("restarts")) == (2, 1)
    });
    let mut slow = http::Connection::open(port).expect("the master accepts");
    slow.send(b"GET /slow?ms=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    tenfold.wait_status(PATIENCE, "it at work", |status| {
        status.workers.iter().any(|worker| worker.active == 1)
    });
    tenfold.signal(Signal::SIGTERM);
    assert_eq!(slow.receive().expect("the answer comes").status, 200);
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}
