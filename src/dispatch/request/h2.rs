//! Serves one HTTP/2 connection of a client that knew beforehand (h2c): accepts its streams, bounds
//! them, and asks it to leave when the pool stops.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Reason, RecvStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::client::{self, Arrival, Client};
use super::front::{Front, IdleClient, OpenClient};
use super::h2_stream::{self, Ended};
use super::pipe;
use super::stream::Stream;
use crate::clock;
use crate::config::ProxyProtocol;

/// Streams at once: what RFC 9113 §6.5.2 asks for at least, and what browsers and proxies use.
pub(super) const STREAMS_MAX: u32 = 100;

/// What a client may send on all streams before it is read, in bytes. A stream has the 64 KiB of
/// RFC 9113 §6.9.2, which is also what its pipe holds.
pub(super) const WINDOW: u32 = 1 << 20;

/// Streams that a client may take back beyond those it lets finish. One that opens and resets
/// without end costs us a lease each time and itself nothing (CVE-2023-44487).
const CANCELLED_MAX: u32 = 200;

/// How long a client may take to close a connection that we have ended.
const LINGER: Duration = Duration::from_secs(1);

type Shared = Connection<Rewound, Bytes>;

/// Serves the connection of a client whose first bytes are the preface of HTTP/2.
pub(super) async fn serve(front: Rc<Front>, client: Client, open: OpenClient) {
    let deadline = clock::now() + front.settings.timeouts.header_read;
    let Client { stream, unread, listener, server, peer, .. } = client;
    let rewound = Rewound { early: unread, read: 0, stream };
    let handshake = builder(&front).handshake(rewound);
    let Ok(Ok(connection)) = tokio::time::timeout_at(deadline.into(), handshake).await else {
        return;
    };
    let from = From { listener, server, peer };
    let streams = Streams {
        front,
        from,
        running: JoinSet::new(),
        app_patience: Duration::ZERO,
        cancelled: 0,
    };
    streams.serve(connection, open).await;
}

fn builder(front: &Front) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_connection_window_size(WINDOW)
        .max_send_buffer_size(64 * 1024)
        // Counted as RFC 9113 §6.5.2 says, with 32 bytes for each field.
        .max_header_list_size(u32::try_from(front.heads.bytes).unwrap_or(u32::MAX));
    builder
}

/// Where a connection's requests come from.
#[derive(Clone, Copy)]
struct From {
    listener: crate::policy::ListenerId,
    server: crate::link::said::ServerKey,
    peer: Option<std::net::SocketAddr>,
}

struct Streams {
    front: Rc<Front>,
    from: From,
    running: JoinSet<(Ended, Duration)>,
    /// How long the app keeps an idle connection, by what it said on any stream.
    app_patience: Duration,
    /// Streams that the client took back, less those that it let finish.
    cancelled: u32,
}

/// A connection without streams.
struct Idle {
    evicted: Rc<Notify>,
    until: Instant,
    _entry: IdleClient,
}

/// Whether a connection takes more streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taking {
    More,
    /// It was told the last one.
    NoMore,
}

impl Streams {
    async fn serve(mut self, mut connection: Shared, open: OpenClient) {
        let mut stage = self.front.ending.watch();
        let mut open = Some(open);
        let mut taking = Taking::More;
        let mut idle = Some(self.idle(taking));
        loop {
            let is_closing = self.front.is_ending(self.from.listener);
            if is_closing && taking == Taking::More {
                taking = Taking::NoMore;
                connection.graceful_shutdown();
                // What is left of it are its streams, which are clients by themselves.
                open = None;
                idle = idle.map(|_| self.idle(taking));
            }
            let (until, evicted) = match &idle {
                Some(idle) => (Some(idle.until), Some(Rc::clone(&idle.evicted))),
                None => (None, None),
            };
            tokio::select! {
                // The connection last: it is always ready under load, and ends make room.
                biased;
                Some(ended) = self.running.join_next() => {
                    if self.ended(ended) == Taking::NoMore {
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                        taking = Taking::NoMore;
                    }
                }
                // A sender that is gone ends the whole front.
                _ = stage.changed(), if !is_closing => {}
                () = over(until, evicted) => {
                    if taking == Taking::NoMore {
                        return;
                    }
                    taking = Taking::NoMore;
                    connection.graceful_shutdown();
                    idle = Some(self.idle(taking));
                    continue;
                }
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => self.begin(request, respond),
                    Some(Err(_)) | None => break,
                },
            }
            idle = match (self.running.is_empty(), idle) {
                (true, None) => Some(self.idle(taking)),
                (true, idle) => idle,
                (false, _) => None,
            };
        }
        drop(open);
    }

    fn idle(&self, taking: Taking) -> Idle {
        let evicted = Rc::new(Notify::new());
        let _entry = self.front.idle(self.from.listener, Rc::clone(&evicted));
        let patience = match taking {
            Taking::More => self.front.idle_patience(self.app_patience),
            Taking::NoMore => LINGER,
        };
        Idle { evicted, until: clock::now() + patience, _entry }
    }

    fn begin(
        &mut self,
        request: http::Request<RecvStream>,
        mut respond: h2::server::SendResponse<Bytes>,
    ) {
        if !self.front.has_room_for_stream() {
            // Nothing was done for it, so the client may ask again (RFC 9113 §8.7).
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        let From { listener, server, peer } = self.from;
        let (ours, theirs) = pipe::pair();
        let arrival = Arrival {
            stream: Stream::Memory(theirs),
            // Its connection is what counts for the listener.
            open: self.front.client_opened(None),
            listener,
            server,
            peer,
            proxied: ProxyProtocol::Off,
            patience: self.front.settings.timeouts.header_read,
        };
        let front = Rc::clone(&self.front);
        let patience = front.settings.timeouts.response_idle;
        self.running.spawn_local(async move {
            // The front's side sees the end of ours, and ends.
            let carried = h2_stream::carry(Stream::Memory(ours), (request, respond), patience);
            tokio::join!(carried, client::serve_requests(front, arrival))
        });
    }

    /// A stream has ended. `NoMore` if its client has taken back too many.
    fn ended(&mut self, ended: Result<(Ended, Duration), tokio::task::JoinError>) -> Taking {
        match ended {
            Ok((Ended::Cancelled, _)) => self.cancelled += 1,
            Ok((Ended::Answered | Ended::Failed, app_patience)) => {
                self.cancelled = self.cancelled.saturating_sub(1);
                self.app_patience = self.app_patience.max(app_patience);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
        if self.cancelled > CANCELLED_MAX { Taking::NoMore } else { Taking::More }
    }
}

/// Waits until an idle connection is to end.
async fn over(until: Option<Instant>, evicted: Option<Rc<Notify>>) {
    match (until, evicted) {
        (Some(until), Some(evicted)) => tokio::select! {
            biased;
            () = evicted.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        },
        (Some(_) | None, _) => std::future::pending().await,
    }
}

/// A connection of which some was read already.
struct Rewound {
    early: Vec<u8>,
    read: usize,
    stream: Stream,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.early[self.read..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
