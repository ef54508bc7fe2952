//! Serves one client's connection: request after request, until one side has had enough.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::front::{Front, OpenClient, SCRATCH};
use super::outcome::Reason;
use super::stream::Stream;
use super::{exchange, h2, proxy};
use crate::clock;
use crate::config::ProxyProtocol;
use crate::http::{Preface, peer_line};
use crate::link::said::ServerKey;
use crate::policy::ListenerId;

/// A closing connection is read from for as long as the client goes on sending, so that what it
/// sends does not turn our answer into a reset: many write all of an upload before they read. This
/// is the pause after which it has stopped, and how long all of it may take (a LAN brings 1 GB).
const LINGER_PAUSE: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_secs(10);

/// A client's connection as it was accepted.
#[derive(Debug)]
pub(in crate::dispatch) struct Arrival {
    pub(in crate::dispatch) stream: Stream,
    /// Counts it from the moment it was accepted.
    pub(in crate::dispatch) open: OpenClient,
    pub(in crate::dispatch) listener: ListenerId,
    pub(in crate::dispatch) server: ServerKey,
    pub(in crate::dispatch) peer: Option<SocketAddr>,
    /// Whether it begins by naming its client.
    pub(in crate::dispatch) proxied: ProxyProtocol,
    /// How long its next request may take to begin.
    pub(in crate::dispatch) patience: Duration,
}

/// A client's connection and what was read from it and not used yet.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) unread: Vec<u8>,
    pub(super) listener: ListenerId,
    pub(super) server: ServerKey,
    /// The other end of the connection, or whom a trusted one named in its PROXY header.
    pub(super) peer: Option<SocketAddr>,
    /// The same as workers are told; nothing for a client without address.
    pub(super) peer_line: Vec<u8>,
    /// How long the app says that it keeps an idle connection: what its owner has set there for a
    /// balancer in front holds for ours too.
    pub(super) app_patience: Duration,
    /// Tells it, while it is idle, to make room for another.
    evicted: Rc<Notify>,
}

/// What follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request, if one comes.
    KeepAlive,
    /// Nothing; the client was told.
    Close,
    /// Nothing; the client is gone, or must be cut off.
    Gone,
}

/// Why a wait for bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    Arrived,
    /// The client has closed, or broken, its connection.
    Gone,
    TimedOut,
}

/// Whether a connection without a request is still of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Yes,
    /// Not by us.
    NoMore,
    /// By nobody, or it must make room.
    No,
}

impl Front {
    /// How long the head of a request may take.
    pub(in crate::dispatch) fn header_read(&self) -> Duration {
        self.settings.timeouts.header_read
    }

    /// How long a client may be idle between two requests.
    pub(in crate::dispatch) fn keep_alive(&self) -> Duration {
        self.settings.timeouts.keep_alive
    }

    /// The same of a client to which the app said that it keeps an idle connection for so long.
    pub(super) fn idle_patience(&self, of_app: Duration) -> Duration {
        let latest = self.latest();
        latest.as_deref().unwrap_or(self).keep_alive().max(of_app)
    }
}

/// Serves a client, of HTTP/1 or HTTP/2, until its connection ends.
pub(in crate::dispatch) async fn serve(front: Rc<Front>, arrival: Arrival) {
    let patience = arrival.patience;
    let Some((mut client, open)) = meet(&front, arrival).await else {
        return;
    };
    if client.unread.is_empty() {
        match client.is_wanted(&front, patience).await {
            Wanted::Yes => {}
            // Its first request may be on its way: no reset for it.
            Wanted::NoMore => return client.linger(&front).await,
            Wanted::No => return client.move_on(&front).await,
        }
    }
    let begun = clock::now();
    if client.speaks_http2(&front, begun).await {
        Box::pin(h2::serve(front, client, open)).await;
    } else {
        requests(&front, client, begun).await;
    }
}

/// Serves a client of which it is known that it speaks HTTP/1. Returns how long the app said last
/// that it keeps an idle connection.
pub(super) async fn serve_requests(front: Rc<Front>, arrival: Arrival) -> Duration {
    match meet(&front, arrival).await {
        Some((client, _open)) => requests(&front, client, clock::now()).await,
        None => Duration::ZERO,
    }
}

/// Learns who a client is; none if it is turned away.
async fn meet(front: &Front, arrival: Arrival) -> Option<(Client, OpenClient)> {
    let Arrival { stream, open, listener, server, peer, proxied, patience: _ } = arrival;
    let mut client = Client {
        stream,
        unread: Vec::new(),
        listener,
        server,
        peer,
        peer_line: Vec::new(),
        app_patience: Duration::ZERO,
        evicted: Rc::new(Notify::new()),
    };
    match proxied {
        ProxyProtocol::Off => {}
        ProxyProtocol::On => {
            if let Err(why) = proxy::introduce(front, &mut client).await {
                tracing::debug!(?peer, %why, "turned away");
                return None;
            }
        }
    }
    client.peer_line = client.peer.map(peer_line).unwrap_or_default();
    Some((client, open))
}

/// Serves request after request; the first one has `begun`, unless nothing of it was read yet.
/// Returns the app's patience with an idle connection.
async fn requests(front: &Front, mut client: Client, mut begun: Instant) -> Duration {
    let mut patience = front.settings.timeouts.header_read;
    loop {
        if client.unread.is_empty() {
            match client.is_wanted(front, patience).await {
                Wanted::Yes => begun = clock::now(),
                // Its next request may be on its way: no reset for it.
                Wanted::NoMore => break client.linger(front).await,
                Wanted::No => break client.move_on(front).await,
            }
        }
        // Boxed, so that an idle connection does not carry the size of a busy one.
        match Box::pin(exchange::run(front, &mut client, begun)).await {
            After::KeepAlive => patience = front.idle_patience(client.app_patience),
            After::Close => break client.linger(front).await,
            After::Gone => break,
        }
        if client.unread.is_empty() {
            client.unread = Vec::new();
        } else {
            // The next one came along with it.
            begun = clock::now();
        }
    }
    client.app_patience
}

impl Client {
    /// Waits for the first byte of a request. A connection that was opened ahead of need and never
    /// used is closed without a word (RFC 9112 §9.5).
    async fn is_wanted(&mut self, front: &Front, patience: Duration) -> Wanted {
        // A stream of an HTTP/2 connection stays where that is.
        if front.successor(self.listener).is_some() && self.stream.socket().is_some() {
            return Wanted::No;
        }
        let deadline = match front.may_be_idle(self.listener) {
            true => clock::now() + patience,
            false => clock::now(),
        };
        let evicted = Rc::clone(&self.evicted);
        let bytes = {
            let _idle = front.idle(self.listener, Rc::clone(&evicted));
            tokio::select! {
                biased;
                () = evicted.notified() => Bytes::TimedOut,
                bytes = self.fill(front, deadline) => bytes,
            }
        };
        match bytes {
            Bytes::Arrived => Wanted::Yes,
            Bytes::TimedOut if front.is_closing(self.listener) => {
                // What has come by now is still served.
                match self.fill(front, clock::now()).await {
                    Bytes::Arrived => Wanted::Yes,
                    Bytes::TimedOut => Wanted::NoMore,
                    Bytes::Gone => Wanted::No,
                }
            }
            Bytes::TimedOut | Bytes::Gone => Wanted::No,
        }
    }

    /// Goes on with a new master, if there is one: nothing of the next request is read here.
    async fn move_on(&self, front: &Front) {
        if let Some(successor) = front.successor(self.listener)
            && let Some(socket) = self.stream.socket()
        {
            successor.take(self.listener, self.peer, socket).await;
        }
    }

    /// Reads more of what the client sends; see [`fill`].
    pub(super) async fn fill(&mut self, front: &Front, deadline: Instant) -> Bytes {
        fill(front, (&self.stream, &mut self.unread), deadline).await
    }

    /// Whether its first bytes are the preface of HTTP/2. Its time is that of a head which has
    /// `begun` then: the preface and many a method begin with the same letter.
    async fn speaks_http2(&mut self, front: &Front, begun: Instant) -> bool {
        let deadline = begun + front.settings.timeouts.header_read;
        loop {
            match Preface::of(&self.unread) {
                Preface::Http1 => return false,
                Preface::Http2 => return true,
                Preface::Incomplete => match self.fill(front, deadline).await {
                    Bytes::Arrived => {}
                    // Whoever reads its head says what is to be said.
                    Bytes::Gone | Bytes::TimedOut => return false,
                },
            }
        }
    }

    /// Why it is gone before it had all of a response.
    pub(super) fn why_gone(&self) -> Reason {
        match self.stream.is_read_too_slowly() {
            true => Reason::ClientSlow,
            false => Reason::ClientGone,
        }
    }

    /// Closes without a reset overtaking the last answer (RFC 9112 §9.6).
    async fn linger(&mut self, front: &Front) {
        self.stream.shutdown_write();
        let end = clock::now() + LINGER;
        loop {
            self.unread.clear();
            let pause_ends = clock::now() + LINGER_PAUSE;
            match self.fill(front, end.min(pause_ends)).await {
                Bytes::Arrived => {}
                Bytes::Gone | Bytes::TimedOut => return,
            }
        }
    }
}

/// A client's stream, and where what is read from it goes: the reading half of a connection.
pub(super) type Inbound<'a> = (&'a Stream, &'a mut Vec<u8>);

/// Reads more of what the client sends. Cancel-safe: it reads only at its end.
pub(super) async fn fill(front: &Front, inbound: Inbound<'_>, deadline: Instant) -> Bytes {
    let (stream, unread) = inbound;
    loop {
        match read_now(front, stream, unread) {
            Ok(0) => return Bytes::Gone,
            Ok(_) => return Bytes::Arrived,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Bytes::Gone,
        }
        match tokio::time::timeout_at(deadline.into(), stream.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Bytes::Gone,
            Err(_) => return Bytes::TimedOut,
        }
    }
}

/// Waits until the client goes away, keeping what it sends ahead within `bound` bytes. Cancel-safe.
pub(super) async fn gone(front: &Front, inbound: Inbound<'_>, bound: usize) {
    let (stream, unread) = inbound;
    loop {
        if unread.len() >= bound {
            // It may send no more for now, and then nothing tells that it left: what it is owed
            // will be written, and fail.
            std::future::pending::<()>().await;
        }
        match read_now(front, stream, unread) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stream.readable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Reads what is there; `Ok(0)` is the end.
fn read_now(front: &Front, stream: &Stream, unread: &mut Vec<u8>) -> io::Result<usize> {
    let mut scratch = front.scratch();
    let count = stream.try_read(&mut scratch[..SCRATCH])?;
    unread.extend_from_slice(&scratch[..count]);
    Ok(count)
}
