//! What request mode is told: times, sizes, routes, whom to believe, and what it answers by itself.
//!
//! Values only; every default and bound, with its derivation, stands in `keys` and `resolve`.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Every setting of request mode that is not a listener's, a worker's or the queue's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSettings {
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How large each thing may be.
    pub limits: RequestLimits,
    /// Whether a failed exchange may be sent to another worker, where that cannot be noticed.
    pub retries: bool,
    /// What a new worker is asked for before it is ready.
    pub warmup: Vec<String>,
    /// What becomes of requests that kill workers.
    pub poison: Poison,
    /// Which clients keep their worker.
    pub sticky: Sticky,
    /// Routes whose exchanges hold no lease: long polls and other waiting.
    pub unlimited: Routes,
    /// Whose `X-Forwarded-*` and PROXY headers count.
    pub trusted_proxies: TrustedProxies,
    /// What a client gets that nobody serves.
    pub shed: ShedAnswer,
    /// Which fields are added to responses and requests.
    pub headers: Headers,
    /// Paths that answer readiness on the public listener, without queue or lease.
    pub public_health: Vec<String>,
}

/// How long each step of an exchange may take; the queue has a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a head to its last; else 408.
    pub header_read: Duration,
    /// Between two bytes of a request's body; else 408.
    pub body_idle: Duration,
    /// Until a worker's private listener takes a connection.
    pub connect: Duration,
    /// From the end of the request's body to the response's head; else 504.
    pub response_head: Duration,
    /// Between two bytes of a response's body; none for `text/event-stream`.
    pub response_idle: Duration,
    /// How long a client connection may stay without a request.
    pub keep_alive: Duration,
}

/// How large each thing may be, in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// A request's line and fields together; else 431.
    pub head_bytes: usize,
    /// Fields of one head; else 431.
    pub head_fields: usize,
    /// A request's body; else 413. None: any size.
    pub body_bytes: Option<u64>,
    /// How much of a body is read before a worker is asked for.
    pub request_buffer: usize,
    /// How much of one response is read ahead of its client.
    pub response_buffer: usize,
    /// How much of all responses together.
    pub response_buffer_total: usize,
}

/// What becomes of requests that are in flight whenever a worker dies, and seldom otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    /// Nothing; nor is it told what a dead worker held.
    Off,
    /// They are told of.
    Report,
    /// They are told of, and answered by us for ten minutes.
    Block,
}

/// Which clients keep their worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// Those of Engine.IO: `EIO=` and `transport=` in the query.
    Auto,
    /// All of them.
    On,
    /// None.
    Off,
}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(pub Vec<Route>);

impl Routes {
    /// Whether one of them is about `path`, which has no query.
    #[must_use]
    pub fn contain(&self, path: &[u8]) -> bool {
        self.0.iter().any(|route| route.is_about(path))
    }
}

/// One path, or all paths that begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// This path.
    Exactly(String),
    /// Every path that begins so; written with a `*` at the end.
    Below(String),
}

impl Route {
    /// Whether it is about `path`, which has no query.
    #[must_use]
    pub fn is_about(&self, path: &[u8]) -> bool {
        match self {
            Self::Exactly(route) => path == route.as_bytes(),
            Self::Below(beginning) => path.starts_with(beginning.as_bytes()),
        }
    }
}

/// Whose word on the client's address counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<TrustedProxy>);

/// A peer, or a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Loopback, RFC 1918, 100.64.0.0/10, link-local, unique local addresses and Unix peers.
    Private,
    /// Addresses whose first `prefix` bits are those of `address`.
    Network {
        /// Any address of the network.
        address: IpAddr,
        /// At most 32 or 128, by the address's family.
        prefix: u8,
    },
}

/// What a client gets that nobody serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShedAnswer {
    /// A file that exists; none: one line of text.
    pub page: Option<PathBuf>,
    /// 200 to 599.
    pub status: u16,
    /// `Retry-After` is drawn from `retry_after_min` to this, both whole seconds.
    pub retry_after_max: Duration,
    /// At least 1 s and at most `retry_after_max`.
    pub retry_after_min: Duration,
}

/// Which fields are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `Server-Timing: queue;dur=…, app;dur=…` in responses.
    pub server_timing: bool,
    /// `Forwarded` (RFC 7239) in requests, beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// `Via`, both ways.
    pub via: bool,
    /// `Proxy-Status` (RFC 9209) in our own answers.
    pub proxy_status: bool,
    /// `X-Request-Id`, both ways.
    pub request_id: bool,
}

/// Client connections that one listener holds in request mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxClients {
    /// `(nofile − 256) / 2`.
    Auto,
    /// A number.
    Fixed(NonZeroU32),
}

impl MaxClients {
    /// The bound for a master with a soft limit of `nofile` descriptors, at least 1: a client in
    /// an exchange takes one, and one more towards its worker.
    #[must_use]
    pub fn resolve(self, nofile: u64) -> NonZeroU32 {
        match self {
            Self::Fixed(max) => max,
            Self::Auto => super::settings::half_of_descriptors(nofile),
        }
    }
}

/// Whether a listener's connections begin with a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// They do not.
    Off,
    /// Those of trusted peers do, version 1 or 2; others are turned away.
    On,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_is_every_path_that_begins_so() {
        let routes =
            Routes(vec![Route::Below("/socket.io/".into()), Route::Exactly("/poll".into())]);
        for (path, expected) in [
            ("/socket.io/", true),
            ("/socket.io/1/websocket", true),
            ("/socket.io", false),
            ("/poll", true),
            ("/poll/", false),
            ("/polls", false),
            ("/", false),
        ] {
            assert_eq!(routes.contain(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn clients_never_take_the_descriptors_of_their_exchanges() {
        assert_eq!(MaxClients::Auto.resolve(1024).get(), 384);
        assert_eq!(MaxClients::Auto.resolve(0).get(), 1);
        assert_eq!(MaxClients::Auto.resolve(u64::MAX).get(), u32::MAX);
    }
}
