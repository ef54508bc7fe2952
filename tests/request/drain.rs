//! A pool that stops, and a worker that leaves, lose nothing that was asked of them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::sys::signal::Signal;

use super::support::http::{Connection, Response};
use super::support::pool::{node_pool, request_pool};
use super::support::{PATIENCE, Tenfold, wait_until};
use super::{connect, exchange_with, raw, wait_in_flight};

/// Waits until nobody new is accepted.
#[track_caller]
fn wait_closed(port: u16) {
    wait_until(PATIENCE, "the listener's end", || {
        TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    });
}

#[track_caller]
fn begin(port: u16, path: &str) -> Connection {
    let mut connection = connect(port);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("room");
    connection
}

#[track_caller]
fn closing(response: Response) {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("connection"), Some("close"));
}

#[test]
fn stop_serves_what_waits_and_what_comes_on_open_connections() {
    let queue = ["--limit", "1", "--queue", "10", "--queue-timeout", "30s"];
    let (mut tenfold, port) =
        exchange_with(|it| it.args(queue).args(["--set", "shutdown.idle=20s"]));
    let mut kept = connect(port);
    assert_eq!(kept.get("/").expect("an answer").status, 200);
    let mut fresh = connect(port);
    let mut served = begin(port, "/slow?ms=1500");
    wait_in_flight(&tenfold, 1);
    let mut queued = begin(port, "/");
    tenfold.wait_status(PATIENCE, "the queue", |it| it.listeners[0].queue.length == 1);
    tenfold.signal(Signal::SIGTERM);
    wait_closed(port);
    closing(kept.get("/").expect("it is served, behind the one that waits"));
    closing(fresh.get("/").expect("its first request is served too"));
    closing(queued.receive().expect("it kept its place"));
    closing(served.receive().expect("it was not cut off"));
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn silent_connections_hold_up_a_stop_for_their_time_only() {
    let (mut tenfold, port) =
        exchange_with(|it| it.args(["--set", "shutdown.total=1h", "--set", "shutdown.idle=300ms"]));
    let mut kept = connect(port);
    assert_eq!(kept.get("/").expect("an answer").status, 200);
    let silent = connect(port);
    tenfold.signal(Signal::SIGTERM);
    assert_eq!(kept.receive_rest().expect("an orderly end"), b"");
    assert_eq!(silent.receive_rest().expect("an orderly end"), b"");
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn stop_that_is_announced_sends_clients_away_while_it_accepts() {
    let flags = ["--set", "shutdown.total=1h", "--set", "shutdown.delay=50m"];
    let (mut tenfold, port) = exchange_with(|it| it.args(flags));
    let mut kept = connect(port);
    assert_eq!(kept.get("/").expect("an answer").header("connection"), None);
    tenfold.signal(Signal::SIGTERM);
    tenfold.wait_for_line(PATIENCE, |line| line.contains("still accepting"));
    // The line is written by another thread than the one that answers.
    wait_until(PATIENCE, "the word", || {
        let response = connect(port).get("/").expect("it accepts");
        (response.header("connection") == Some("close")).then_some(())
    });
    closing(kept.get("/").expect("it is served"));
    wait_until(PATIENCE, "the next step", || {
        tenfold.signal(Signal::SIGTERM);
        TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    });
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn stop_serves_connections_that_wait() {
    let (builder, port) = node_pool("http.js", 1);
    let flags = ["--set", "workers.max_connections=1", "--set", "shutdown.idle=100ms"];
    let mut tenfold = builder.args(flags).start();
    tenfold.wait_ready(1);
    let close = |path| {
        let mut connection = connect(port);
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        connection.send(head.as_bytes()).expect("room");
        connection
    };
    let mut served = close("/slow?ms=1500");
    tenfold.wait_status(PATIENCE, "one open", |it| it.workers[0].open == 1);
    let mut waiting: Vec<Connection> = (0..10).map(|_| close("/")).collect();
    tenfold.signal(Signal::SIGTERM);
    wait_closed(port);
    assert_eq!(served.receive().expect("an answer").status, 200);
    for connection in &mut waiting {
        assert_eq!(connection.receive().expect("each has its turn").status, 200);
    }
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}

/// What a client does until the pool is gone. A request that was sent and not answered is a
/// failure, but for the first on a connection that the kernel resets: it had made it behind the
/// last that was accepted, and closed it with the listener.
fn ask_until_gone(port: u16, asked: &AtomicU32) -> Result<(), String> {
    while let Ok(mut connection) = Connection::open(port) {
        let mut count = 0;
        loop {
            let response = match connection.get("/") {
                Err(error) if count == 0 && is_reset(&error) => return Ok(()),
                outcome => outcome.map_err(|error| format!("{count} answered, then {error}"))?,
            };
            if response.status != 200 {
                return Err(response.text());
            }
            count += 1;
            asked.fetch_add(1, Ordering::Relaxed);
            if response.header("connection") == Some("close") {
                break;
            }
        }
    }
    Ok(())
}

fn is_reset(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

#[test]
fn stop_under_load_fails_no_request_of_kept_connections() {
    let (builder, port) = request_pool("exchange.js", 2);
    let mut tenfold = builder.start();
    tenfold.wait_ready(2);
    let asked = AtomicU32::new(0);
    let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let client = || ask_until_gone(port, &asked);
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(client)).collect();
        wait_until(PATIENCE, "some load", || (asked.load(Ordering::Relaxed) > 500).then_some(()));
        tenfold.signal(Signal::SIGTERM);
        clients.into_iter().map(|it| it.join().expect("it does not panic")).collect()
    });
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(tenfold.wait_exit(PATIENCE).code(), Some(0));
}

/// Asks again and again until it may stop; panics if one request is not answered as it should be.
fn ask_until(enough: &AtomicBool, port: u16, request: &str, asked: &AtomicU32) {
    let mut connection = connect(port);
    while !enough.load(Ordering::Relaxed) {
        connection.send(request.as_bytes()).expect("nobody closes the connection");
        let response = connection.receive().expect("nobody closes the connection");
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("connection"), None);
        asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends the clients when a test ends, however it does.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn workers_that_leave_under_load_fail_no_request_and_close_no_client() {
    let (builder, port) = request_pool("exchange.js", 3);
    let tenfold = builder.start();
    tenfold.wait_ready(3);
    let (enough, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    std::thread::scope(|scope| {
        for request in [get, post, get, post, get, post, get, post] {
            scope.spawn(|| ask_until(&enough, port, request, &asked));
        }
        let _enough = Enough(&enough);
        for count in [1, 3, 2, 3] {
            let before = asked.load(Ordering::Relaxed);
            let scaled = tenfold.cli(["scale", &count.to_string()]);
            assert_eq!(scaled.code, Some(0), "{}", scaled.stderr);
            tenfold.wait_status(PATIENCE, "its workers", |status| {
                status.ready() == count && status.workers.len() == count
            });
            wait_until(PATIENCE, "some load", || {
                (asked.load(Ordering::Relaxed) > before + 100).then_some(())
            });
        }
    });
}

/// A WebSocket, past its app's first message.
#[track_caller]
fn web_socket(port: u16) -> (TcpStream, String) {
    let mut stream = raw(port);
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("room");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(byte(&mut stream));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let (opcode, payload) = frame(&mut stream);
    assert_eq!(opcode, 0x81, "one text frame");
    (stream, String::from_utf8(payload).expect("it is text"))
}

#[track_caller]
fn byte(stream: &mut TcpStream) -> u8 {
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("more comes");
    byte[0]
}

/// One short, unmasked frame: its first byte, its payload.
#[track_caller]
fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let (opcode, length) = (byte(stream), byte(stream));
    assert!(length < 126, "a short frame");
    (opcode, (0..length).map(|_| byte(stream)).collect())
}

fn pid_of(tenfold: &Tenfold, slot: u16) -> String {
    format!("\"pid\":{}", tenfold.status().expect("it runs").pid_of(slot))
}

#[test]
fn web_sockets_of_a_leaving_worker_are_closed_in_order_and_others_stay() {
    let (builder, port) = request_pool("ws.js", 2);
    let tenfold = builder.args(["--set", "shutdown.total=8s"]).start();
    tenfold.wait_ready(2);
    let leaves = pid_of(&tenfold, 1);
    let sockets: Vec<_> = (0..8).map(|_| web_socket(port)).collect();
    assert_eq!(tenfold.cli(["scale", "1"]).code, Some(0));
    let (mut left, mut stay): (Vec<_>, Vec<_>) =
        sockets.into_iter().partition(|(_, who)| who.contains(&leaves));
    assert_eq!((left.len(), stay.len()), (4, 4));
    for (socket, _) in &mut left {
        assert_eq!(frame(socket), (0x88, vec![0x03, 0xe9]), "a close frame with 1001");
        // The client's own, masked with zeroes.
        socket.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).expect("room");
    }
    for (mut socket, _) in left {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).expect("an orderly end");
        assert_eq!(rest, b"");
    }
    // The app saw the close frames of its clients.
    let mut seen = 0;
    while seen < 4 {
        tenfold.wait_for_line(PATIENCE, |line| line.contains("closed 1001"));
        seen = tenfold.output().matches("closed 1001").count();
    }
    tenfold.wait_status(PATIENCE, "one worker", |it| it.workers.len() == 1);
    for (socket, _) in &mut stay {
        // "hi", masked with zeroes.
        socket.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).expect("room");
        assert_eq!(frame(socket), (0x81, b"hi".to_vec()));
    }
}

#[test]
fn other_upgrades_of_a_leaving_worker_end_late_and_in_order() {
    let (builder, port) = request_pool("exchange.js", 2);
    let tenfold = builder.args(["--set", "shutdown.total=5s"]).start();
    tenfold.wait_ready(2);
    let mut tunnels: Vec<TcpStream> = (0..2).map(|_| raw(port)).collect();
    let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
    for tunnel in &mut tunnels {
        tunnel.write_all(ask).expect("room");
    }
    tenfold
        .wait_status(PATIENCE, "a tunnel each", |it| it.workers.iter().all(|it| it.streams == 1));
    assert_eq!(tenfold.cli(["scale", "1"]).code, Some(0));
    tenfold.wait_status(PATIENCE, "one worker", |it| it.workers.len() == 1);
    let has_ended = |mut tunnel: TcpStream| {
        tunnel.set_nonblocking(true).expect("it is a socket");
        let mut rest = Vec::new();
        // The other one would block.
        tunnel.read_to_end(&mut rest).is_ok()
    };
    assert_eq!(tunnels.into_iter().filter_map(|it| has_ended(it).then_some(())).count(), 1);
}
