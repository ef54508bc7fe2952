//! Reloads that change where the pool listens.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::support::http::{self, Connection};
use crate::support::load::{Load, Manner};
use crate::support::{Builder, Finished, PATIENCE, Tenfold, free_port, processes, wait_until};
use crate::{assert_done, assert_failed};

/// Listens where it is told, or on what it was passed, and on a second port if there is a file that
/// holds one.
const APP: &str = "
const http = require('http');
const fs = require('fs');
const answer = (request, response) => response.end(`slot ${process.env.TENFOLD_SLOT}`);
const passed = process.env.LISTEN_FDS && { fd: 3 };
http.createServer(answer).listen(passed ?? Number(process.env.APP_PORT));
const second = `${process.env.POOL}/second`;
const more = fs.existsSync(second) && Number(fs.readFileSync(second));
if (more) http.createServer(answer).listen(more);
if (fs.existsSync(`${process.env.POOL}/crash`)) throw new Error('told to crash');
";

/// A pool of two with a configuration that the test writes.
struct Pool {
    tenfold: Tenfold,
    config: PathBuf,
}

impl Pool {
    /// The app on Node, asking for a port of its own; the configuration says where else.
    #[track_caller]
    fn of_node(app_port: u16, config: &str) -> Self {
        let builder = Tenfold::builder().node(22).env("APP_PORT", app_port.to_string());
        let server = builder.dir().join("server.js");
        std::fs::write(&server, APP).expect("the directory is ours");
        let pool = builder.dir().to_owned();
        Self::start(builder.env("POOL", pool).app(["node".into(), server]), config)
    }

    #[track_caller]
    fn start(builder: Builder, config: &str) -> Self {
        let path = builder.dir().join("pool.toml");
        write(&path, config);
        let settings = ["reload.soak=50ms", "shutdown.idle=300ms"];
        let builder = builder
            .args(["--workers", "2", "--config", &path.display().to_string()])
            .args(settings.iter().flat_map(|setting| ["--set", setting]));
        let tenfold = builder.start();
        tenfold.wait_ready(2);
        Self { tenfold, config: path }
    }

    fn reload(&self, config: &str) -> Finished {
        write(&self.config, config);
        self.tenfold.cli(["reload", "--wait"])
    }

    /// A path in this pool's directory.
    fn path(&self, name: &str) -> PathBuf {
        self.tenfold.dir().join(name)
    }

    fn addresses(&self) -> Vec<String> {
        let status = self.tenfold.status().expect("it runs");
        status.listeners.into_iter().map(|listener| listener.address).collect()
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the directory is ours");
}

/// `listen` with these addresses.
fn listen(on: &[String]) -> String {
    format!("listen = {on:?}\n")
}

fn tcp(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[track_caller]
fn assert_serves(port: u16) {
    let answer = http::get(port, "/").expect("it serves");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[track_caller]
fn assert_closed(port: u16) {
    let refused = Connection::open(port).map(drop);
    assert!(refused.is_err(), "port {port} is still open");
}

/// A client that keeps its connection for as long as it may; how many answers it had.
fn keep_asking(port: u16) -> JoinHandle<u32> {
    let mut kept = Connection::open(port).expect("the master accepts");
    std::thread::spawn(move || {
        for answers in 1.. {
            let answer = kept.get("/").expect("no request on a kept connection is lost");
            assert_eq!(answer.status, 200, "{answer:?}");
            if answer.header("connection") == Some("close") {
                return answers;
            }
        }
        unreachable!("a test ends before that")
    })
}

/// One address, then two, then the second alone, under load on the one that is there.
#[track_caller]
fn check_changes(pool: &Pool, (first, second): (u16, u16), manner: Manner) {
    let load = Load::begin(first, 4, manner);
    load.wait_for(20);
    let socket = pool.path("web.sock");
    let all = [tcp(first), tcp(second), unix(&socket)];
    assert_done(&pool.reload(&listen(&all)), 2);
    assert_eq!(pool.addresses(), all);
    assert_serves(second);
    assert!(socket.exists());
    load.wait_for(20);
    load.end(40);
    let load = Load::begin(second, 4, manner);
    assert_done(&pool.reload(&listen(&[tcp(second)])), 3);
    assert_eq!(pool.addresses(), [tcp(second)]);
    assert!(!socket.exists(), "the path is ours to remove");
    assert_closed(first);
    load.wait_for(20);
    load.end(20);
    let totals = pool.tenfold.status().expect("it runs").totals;
    assert_eq!((&totals["restarts"], &totals["shed"]), (&0.into(), &0.into()), "{totals}");
}

#[test]
fn node_workers_serve_what_a_reload_adds_and_leave_what_it_removes() {
    let (first, second) = (free_port(), free_port());
    let pool = Pool::of_node(free_port(), &listen(&[tcp(first)]));
    check_changes(&pool, (first, second), Manner::Mixed);
}

#[test]
fn workers_with_a_private_listener_serve_what_a_reload_adds_and_leave_what_it_removes() {
    let (first, second) = (free_port(), free_port());
    let builder = Tenfold::builder().node(22).args(["--dialect", "fd"]);
    let server = builder.dir().join("server.js");
    write(&server, APP);
    let pool = Pool::start(builder.app(["node".into(), server]), &listen(&[tcp(first)]));
    check_changes(&pool, (first, second), Manner::Mixed);
}

#[test]
fn native_workers_serve_what_a_reload_adds_and_leave_what_it_removes() {
    for mode in ["request", "connection"] {
        let (first, second) = (free_port(), free_port());
        let builder = Tenfold::builder().subcommand("demo").args(["--mode", mode]);
        let pool = Pool::start(builder, &listen(&[tcp(first)]));
        // A worker of connection mode ends its clients' connections by itself.
        check_changes(&pool, (first, second), Manner::Mixed);
    }
}

#[test]
fn clients_of_a_removed_listener_are_served_and_asked_to_leave() {
    let (stays, goes) = (free_port(), free_port());
    let pool = Pool::of_node(free_port(), &listen(&[tcp(stays), tcp(goes)]));
    let clients: Vec<_> = (0..4).map(|_| keep_asking(goes)).collect();
    let load = Load::begin(stays, 2, Manner::Mixed);
    let mut idle = Connection::open(goes).expect("the master accepts");
    assert_eq!(idle.get("/").expect("it is served").status, 200);
    assert_done(&pool.reload(&listen(&[tcp(stays)])), 2);
    for client in clients {
        assert!(client.join().expect("it lost nothing") > 0);
    }
    assert_closed(goes);
    // Who was idle all the time is told by the end of the stream, and not by a reset.
    let rest = idle.receive_rest().expect("no reset");
    assert_eq!(rest, b"");
    load.wait_for(10);
    load.end(10);
}

#[test]
fn reload_fails_where_an_address_cannot_be_had_and_leaves_nothing_behind() {
    let (port, taken) = (free_port(), TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    let pool = Pool::of_node(free_port(), &listen(&[tcp(port)]));
    let load = Load::begin(port, 2, Manner::Mixed);
    let (socket, busy) = (pool.path("web.sock"), taken.local_addr().expect("it is bound").port());
    let failed = pool.reload(&listen(&[tcp(port), unix(&socket), tcp(busy)]));
    let why = format!("cannot listen on 127.0.0.1:{busy}: Address already in use");
    assert_failed(&failed, &[&why, "generation 1 goes on"]);
    assert!(!socket.exists(), "what was bound before it is given back");
    assert_eq!(pool.addresses(), [tcp(port)]);
    // A canary that crashes takes back what was bound for its generation, too.
    let crash = pool.path("crash");
    write(&crash, "");
    let more = free_port();
    let wanted = listen(&[unix(&socket), tcp(more)]);
    assert_failed(&pool.reload(&wanted), &["told to crash", "generation 1 goes on"]);
    wait_until(PATIENCE, "the path's end", || (!socket.exists()).then_some(()));
    assert_closed(more);
    assert_eq!(pool.addresses(), [tcp(port)]);
    load.wait_for(10);
    load.end(10);
    std::fs::remove_file(crash).expect("it is there");
    assert_done(&pool.reload(&wanted), 3);
    assert_serves(more);
    assert_closed(port);
}

#[test]
fn upgrade_after_a_change_of_listeners_carries_the_new_ones() {
    let (stays, goes, comes) = (free_port(), free_port(), free_port());
    let pool = Pool::of_node(free_port(), &listen(&[tcp(stays), tcp(goes)]));
    let load = Load::begin(stays, 4, Manner::Mixed);
    assert_done(&pool.reload(&listen(&[tcp(stays), tcp(comes)])), 2);
    load.wait_for(10);
    let old = pool.tenfold.status().expect("it runs").pid;
    let upgraded = pool.tenfold.cli(["upgrade", "--wait"]);
    assert_eq!(upgraded.code, Some(0), "{}\n{}", upgraded.stderr, pool.tenfold.output());
    wait_until(PATIENCE, "the new master's status", || {
        pool.tenfold.status().ok().filter(|status| status.pid != old && status.ready() == 2)
    });
    assert_eq!(pool.addresses(), [tcp(stays), tcp(comes)]);
    assert_serves(comes);
    assert_closed(goes);
    load.end(20);
}

/// A reload removes its listener, and an upgrade follows: the new master knows nothing of that.
#[test]
fn client_of_a_removed_listener_is_served_by_the_master_that_had_it() {
    let (stays, goes) = (free_port(), free_port());
    let builder = Tenfold::builder().subcommand("demo").args(["--mode", "request"]);
    let builder = builder.args(["--set", "timeouts.body_idle=60s"]);
    let pool = Pool::start(builder, &listen(&[tcp(stays), tcp(goes)]));
    let mut client = Connection::open(goes).expect("the master accepts");
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\
                Expect: 100-continue\r\n\r\n";
    client.send(head.as_bytes()).expect("it reads");
    assert_eq!(client.receive_head().expect("the request has begun").0, 100);
    assert_done(&pool.reload(&listen(&[tcp(stays)])), 2);
    let old = pool.tenfold.status().expect("it runs").pid;
    let upgraded = pool.tenfold.cli(["upgrade", "--wait"]);
    assert_eq!(upgraded.code, Some(0), "{}\n{}", upgraded.stderr, pool.tenfold.output());
    assert!(processes::is_alive(old), "it has a client");
    client.send(b"body").expect("it is there");
    let answer = client.receive().expect("it is served");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    wait_until(PATIENCE, "the old master's end", || (!processes::is_alive(old)).then_some(()));
}

#[test]
fn address_of_the_app_gives_way_to_a_configured_one_and_comes_back() {
    let (asked, configured) = (free_port(), free_port());
    let pool = Pool::of_node(asked, "");
    assert_serves(asked);
    assert_done(&pool.reload(&listen(&[tcp(configured)])), 2);
    assert_serves(configured);
    assert_closed(asked);
    // What the app asks for is bound by the canary's wish; while another has it, none is ready.
    let taken = TcpListener::bind(("::", asked)).expect("the port is free");
    assert_failed(&pool.reload(""), &["generation 2 goes on"]);
    assert_serves(configured);
    drop(taken);
    assert_eq!(pool.reload("").code, Some(0));
    assert_serves(asked);
    assert_closed(configured);
}

#[test]
fn what_the_new_code_does_not_listen_on_is_closed() {
    let (first, second, public) = (free_port(), free_port(), free_port());
    let pool = Pool::of_node(first, "");
    assert_closed(second);
    write(&pool.path("second"), &second.to_string());
    // The canary's own second port is told apart before it is committed.
    let config = format!("listen = [{{ app = {second}, on = \"{}\" }}]\n", tcp(public));
    assert_done(&pool.reload(&config), 2);
    assert_serves(first);
    assert_serves(public);
    assert_closed(second);
    assert_done(&pool.reload(""), 3);
    assert_serves(second);
    assert_closed(public);
    std::fs::remove_file(pool.path("second")).expect("it is there");
    assert_done(&pool.reload(""), 4);
    assert_closed(second);
    assert_serves(first);
    assert_eq!(pool.addresses().len(), 1);
}
