//! After an upgrade bytes pass both ways, none is lost, and the end of one side ends the other.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use nix::sys::signal::Signal;

use super::support::pool::request_pool;
use super::support::{PATIENCE, Tenfold, node, processes, wait_until};
use super::{connect, exchange, exchange_with, raw, seen, send, wait_idle};

const ASK: &str = "Host: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";

/// Upgrades, with the first bytes of the new protocol in the same write.
#[track_caller]
fn open(port: u16, early: &str) -> TcpStream {
    let mut stream = raw(port);
    stream.write_all(format!("GET / HTTP/1.1\r\n{ASK}{early}").as_bytes()).expect("room");
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\nupgrade: shout\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert_eq!(read_until(&mut stream, "welcome "), "welcome ", "what came with the 101");
    stream
}

#[track_caller]
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        let read = stream.read_exact(&mut byte);
        read.unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&text)));
        text.extend(byte);
    }
    String::from_utf8(text).expect("it is text")
}

#[track_caller]
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an orderly end");
    text
}

#[track_caller]
fn wait_streams(tenfold: &Tenfold, count: u64) {
    tenfold.wait_status(PATIENCE, "tunnels", |it| it.worker_in(0).streams == count);
}

#[test]
fn bytes_that_come_with_the_upgrade_are_not_lost() {
    let (_tenfold, port) = exchange();
    let mut stream = open(port, "early ");
    assert_eq!(read_until(&mut stream, " "), "EARLY ");
    for word in ["one ", "two "] {
        stream.write_all(word.as_bytes()).expect("room");
        assert_eq!(read_until(&mut stream, " "), word.to_uppercase());
    }
    let large = "x".repeat(1 << 20);
    let mut writer = stream.try_clone().expect("a second handle");
    let echoed = std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(format!("{large} ").as_bytes()).expect("room"));
        read_until(&mut stream, " ")
    });
    assert_eq!(echoed.len(), large.len() + 1);
}

#[test]
fn either_end_ends_both() {
    let (tenfold, port) = exchange();
    let stream = open(port, "");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(rest(stream), " ended", "the worker still had something to say");
    wait_until(PATIENCE, "the worker's end", || (seen(port).closed == 1).then_some(()));
    drop(open(port, ""));
    wait_until(PATIENCE, "the worker's end", || (seen(port).closed == 2).then_some(()));
    let mut stream = raw(port);
    stream.write_all(format!("GET /ended HTTP/1.1\r\n{ASK}").as_bytes()).expect("room");
    read_until(&mut stream, "welcome ");
    assert_eq!(read_until(&mut stream, "bye"), "bye");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(rest(stream), "");
    wait_streams(&tenfold, 0);
}

#[test]
fn tunnels_hold_no_place_and_are_bounded() {
    let flags = ["--set", "workers.max_connections=2", "--limit", "1", "--queue-timeout", "300ms"];
    let (tenfold, port) = exchange_with(|it| it.args(flags));
    let mut tunnels = vec![open(port, ""), open(port, "")];
    wait_streams(&tenfold, 2);
    wait_idle(&tenfold);
    assert_eq!(connect(port).get("/").expect("an answer").status, 200);
    tunnels.push(open(port, ""));
    assert_eq!(connect(port).get("/").expect("an answer").status, 503, "the third has the place");
    drop(tunnels);
    wait_streams(&tenfold, 0);
    wait_idle(&tenfold);
}

#[test]
fn tunnel_ends_with_its_worker() {
    let (tenfold, port) = exchange();
    let stream = open(port, "");
    processes::signal(tenfold.status().expect("it runs").pid_of(0), Signal::SIGKILL);
    assert_eq!(rest(stream), "");
}

#[test]
fn worker_may_refuse_to_upgrade() {
    let (_tenfold, port) = exchange();
    let refused = send(port, &format!("GET /refused HTTP/1.1\r\n{ASK}"));
    assert_eq!((refused.status, refused.text().as_str()), (403, "no"));
    // An upgrade needs more than its name.
    let plain = send(port, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: shout\r\n\r\n");
    assert_eq!(plain.status, 200);
    let h2c = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
               HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(send(port, h2c).status, 200, "nobody is led past the front");
}

#[test]
fn websockets_work() {
    let (builder, port) = request_pool("ws.js", 2);
    let tenfold = builder.start();
    tenfold.wait_ready(2);
    let output = Command::new(node::node(22))
        .current_dir(node::fixtures())
        .args(["apps/client.js", "ws", &port.to_string(), "4"])
        .output()
        .expect("node starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches("\"echo\":\"echo\"").count(), 4, "{text}");
}
