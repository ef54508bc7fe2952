//! Whatever is forwarded is understood alike: hostile bytes to Node and to hyper, both behind us.
//!
//! A seeded generator bends requests; each result is sent as it is to two pools, one worker each.
//! The workers tell how they read what reached them, and number it: both must tell the same, we
//! must refuse the same, and no number may be missing, for then a worker served what nobody sent.
//!
//! `UNDERSTOOD_SECONDS=600 cargo test --test understood` looks longer, at inputs of its own;
//! `UNDERSTOOD_SEED` says where those begin, which repeats what a failure has named.

#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

mod support;

#[path = "understood/answers.rs"]
mod answers;
#[path = "understood/generator.rs"]
mod generator;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use answers::Answer;
use support::native::example;
use support::pool::request_pool;
use support::{Builder, PATIENCE, Tenfold, free_port};

/// Where the fixed inputs begin; any number would do.
const FIRST_SEED: u64 = 1;
/// Inputs of a usual run, and how long it may go on for them.
const INPUTS: u64 = 1500;
const USUAL: Duration = Duration::from_secs(10);

/// Ends every conversation, and its length satisfies what an input promised and did not send.
fn end() -> Vec<u8> {
    let pad = "a".repeat(2000);
    format!("GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Pad: {pad}\r\n\r\n")
        .into_bytes()
}

/// One worker behind a master of its own.
struct Pool {
    port: u16,
    /// Whole requests that the worker has told of.
    told: u64,
    _tenfold: Tenfold,
}

impl Pool {
    #[track_caller]
    fn start((builder, port): (Builder, u16)) -> Self {
        // Who promised more than `end` has, or just as much, is answered or let go after this.
        let bounds = ["timeouts.body_idle=1s", "timeouts.header_read=1s", "timeouts.keep_alive=9s"];
        let keys = bounds.into_iter().chain(["headers.proxy_status=true"]);
        let flags: Vec<&str> = keys.flat_map(|key| ["--set", key]).collect();
        let tenfold = builder.args(flags).start();
        tenfold.wait_ready(1);
        Self { port, told: 0, _tenfold: tenfold }
    }

    fn node() -> Self {
        let (builder, port) = request_pool("understood.js", 1);
        Self::start((builder.args(["--mode", "request"]), port))
    }

    fn rust() -> Self {
        let port = free_port();
        let listen = format!("127.0.0.1:{port}");
        let flags = ["--mode", "request", "--workers", "1", "--dialect", "native"];
        let builder = Tenfold::builder().args(flags).args(["--listen", &listen]);
        Self::start((builder.app([example("understood")]), port))
    }

    /// What the bytes and an honest end are answered with.
    #[track_caller]
    fn ask(&mut self, bytes: &[u8]) -> Vec<Answer> {
        let mut client = TcpStream::connect(("127.0.0.1", self.port)).expect("the master accepts");
        client.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        // The master may have closed before it was all written; what it said is read all the same.
        let _ = client.write_all(&[bytes, &end()].concat());
        let mut read = Vec::new();
        let shown = || bytes.escape_ascii();
        client.read_to_end(&mut read).unwrap_or_else(|error| panic!("{error} after {}", shown()));
        let answers = answers::read(&read);
        assert!(!answers.is_empty(), "no answer to {}", shown());
        for answer in &answers {
            if let Answer::Understood { number, .. } = answer {
                self.told += 1;
                assert_eq!(*number, self.told, "a request without an answer by {}", shown());
            }
        }
        answers
    }
}

/// The first seed, how many inputs at most, and how long to go on.
fn plan() -> (u64, u64, Duration) {
    let Ok(text) = std::env::var("UNDERSTOOD_SECONDS") else {
        return (FIRST_SEED, INPUTS, USUAL);
    };
    let seconds = text.parse().expect("UNDERSTOOD_SECONDS: not a number");
    let first = match std::env::var("UNDERSTOOD_SEED") {
        Ok(text) => text.parse().expect("UNDERSTOOD_SEED: not a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970").as_secs() << 32,
    };
    (first, u64::MAX, Duration::from_secs(seconds))
}

#[test]
fn node_and_hyper_understand_alike_whatever_is_forwarded() {
    let (first, count, bound) = plan();
    let (mut node, mut rust) = (Pool::node(), Pool::rust());
    let (mut tried, mut refused) = (0_u64, 0_u64);
    let deadline = Instant::now() + bound;
    while tried < count && Instant::now() < deadline {
        let seed = first + tried;
        let bytes = generator::input(seed);
        let [by_node, by_rust] = [&mut node, &mut rust].map(|pool| pool.ask(&bytes));
        let shown = || format!("seed {seed}: {}\n{by_node:#?}\n{by_rust:#?}", bytes.escape_ascii());
        assert!(answers::are_alike(&by_node, &by_rust), "{}", shown());
        tried += 1;
        refused += u64::from(by_rust.iter().any(|it| matches!(it, Answer::Refused { .. })));
    }
    // A generator whose inputs are all honest, or all refused, would prove nothing.
    println!("{tried} inputs, {refused} refused in part, {} requests understood", rust.told);
    assert!(tried >= 20 && refused > tried / 10 && rust.told > tried, "too few of a kind");
    // And what the last one may have left behind is found now.
    for pool in [&mut node, &mut rust] {
        assert_eq!(pool.ask(b"").len(), 1);
    }
}
