//! Runs the real binary in a directory of its own and reports what it did; for tests of processes.
//!
//! Nothing here sleeps for long enough: every wait is for an event and has a bound, and the only
//! polling is in [`try_until`]. Whatever a test starts is gone when its [`Tenfold`] is dropped.

#![allow(dead_code, reason = "each test binary uses its own part of the harness")]
#![allow(clippy::disallowed_methods, reason = "only policy and shells take time as an argument")]

pub(crate) mod abuse;
mod builder;
pub(crate) mod container;
pub(crate) mod crowd;
mod events;
pub(crate) mod faults;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod native;
pub(crate) mod node;
mod output;
pub(crate) mod pool;
pub(crate) mod processes;
pub(crate) mod python;
mod status;
pub(crate) mod systemd;
mod tenfold;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test binary uses its own part of the harness")]
pub(crate) use {
    builder::{Builder, Finished},
    events::Events,
    status::{Listener, Status, Worker},
    tenfold::Tenfold,
};

/// Long enough for four Node processes to start on two cores that other tests keep busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Calls `f` until it gives a value or `bound` has passed.
pub(crate) fn try_until<T>(bound: Duration, mut f: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(value) = f() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Calls `f` until it gives a value; panics, naming `what`, when `bound` has passed.
#[track_caller]
pub(crate) fn wait_until<T>(bound: Duration, what: &str, f: impl FnMut() -> Option<T>) -> T {
    match try_until(bound, f) {
        Some(value) => value,
        None => panic!("waited {bound:?} for {what}"),
    }
}

/// A TCP port that nobody listens on and that no other test of this run is given.
///
/// Taken below the range from which the kernel picks ports for outgoing connections (32768 up), and
/// from a different place in each test process, so that tests in parallel do not meet.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    const PER_PROCESS: u32 = 20;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(PER_PROCESS);
    loop {
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(step < COUNT, "no port is free in {FIRST}..{}", FIRST + COUNT);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).expect("the range ends below 65536");
        // Both families: an app that names no host listens on [::].
        let free = TcpListener::bind(("0.0.0.0", port)).is_ok();
        let any_v6 = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        let v6_taken = TcpListener::bind(any_v6)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
        if free && !v6_taken {
            return port;
        }
    }
}
