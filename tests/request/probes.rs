//! Probes and metrics are answered at once, whatever presses the app and its listener.
//!
//! How fast, on a quiet machine and optimised, tells
//! `cargo test --release --test request probes -- --nocapture`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::support::http;
use super::support::pool::request_pool;

const CLIENTS: usize = 2000;
const PROBES: usize = 500;
const PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Asks again as soon as it was answered, and comes back if it was sent away.
async fn client(port: u16, request: &[u8], answered: &Cell<usize>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
            continue;
        };
        while stream.write_all(request).await.is_ok()
            && matches!(stream.read(&mut buffer).await, Ok(1..))
        {
            answered.set(answered.get() + 1);
        }
    }
}

/// Presses until told to stop; how many answers came.
fn press(port: u16, stop: oneshot::Receiver<()>) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime has all it needs");
    let answered = Rc::new(Cell::new(0));
    let clients = LocalSet::new();
    for _ in 0..CLIENTS {
        let answered = Rc::clone(&answered);
        clients.spawn_local(async move {
            let request = b"GET /block?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n";
            client(port, request, &answered).await;
        });
    }
    // However it ends, so do the clients.
    let _ = clients.block_on(&runtime, stop);
    answered.get()
}

#[test]
fn probes_are_answered_at_once_under_a_flood_of_blocked_workers() {
    let (builder, port) = request_pool("block.js", 2);
    let tenfold = builder.args(["--admin", "127.0.0.1:0"]).start();
    let admin = tenfold.wait_ready(2).admin_port();
    let (stop, stopped) = oneshot::channel();
    let (answered, mut took) = std::thread::scope(|scope| {
        let pressing = scope.spawn(move || press(port, stopped));
        tenfold.wait_status(super::PATIENCE, "a full pool", |status| {
            status.workers.iter().all(|it| it.in_flight == 100) && status.total("shed") > 0
        });
        let took: Vec<Duration> = (0..PROBES)
            .map(|probe| {
                let begun = Instant::now();
                let response = http::get(admin, PATHS[probe % PATHS.len()]).expect("an answer");
                assert_eq!(response.status, 200, "{}", response.text());
                begun.elapsed()
            })
            .collect();
        stop.send(()).expect("they press until now");
        (pressing.join().expect("clients do not panic"), took)
    });
    took.sort_unstable();
    let (p99, slowest) = (took[PROBES * 99 / 100], took[PROBES - 1]);
    println!("{PROBES} probes: p99 {p99:?}, slowest {slowest:?}; {answered} requests turned away");
    assert!(answered > CLIENTS, "nobody pressed: {answered}");
    assert!(p99 < Duration::from_secs(1), "p99 {p99:?}, slowest {slowest:?}");
}
