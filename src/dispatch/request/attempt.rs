//! One attempt at one worker: sends it the request and carries its response to the client.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::client::{After, Client};
use super::desk::Place;
use super::download::{Download, Endless, Fault, Moved, Outbox, Stage};
use super::ending::Leaver;
use super::exchange::Request;
use super::front::{Front, InFlight};
use super::outcome::Reason;
use super::pool::{Age, Upstream};
use super::proxy_status;
use super::reply::KeepsAlive;
use super::retry::Failure;
use super::stream::Stream;
use super::tunnel::{self, Leaving, Protocol};
use super::upload::{self, ClientEnd, Uploaded};
use crate::clock;
use crate::dispatch::Hears;
use crate::http::{Asked, Persistence, ResponseHead, Timing, Version, forward_response};
use crate::metrics::InFlightState;
use crate::policy::{ListenerId, WorkerId};
use crate::sys::accept::is_exhaustion;

/// What one attempt at a worker came to.
pub(super) enum Attempt {
    /// The worker has finished its response, or handed the connection on.
    Answered(Answered),
    /// No byte of a response came.
    Failed { failure: Failure, reason: Reason },
    /// A response has begun and cannot be finished, or the client must be cut off.
    Aborted(Reason),
    /// The connection left HTTP, and has ended.
    Tunnelled { bytes: u64 },
    /// The client left.
    ClientGone,
    /// No response in time, or not a whole one; or the client's body is bad. Nothing was forwarded.
    Refused { status: u16, reason: Reason },
}

/// A response that the worker has finished.
pub(super) struct Answered {
    pub(super) status: u16,
    /// What the client has not taken yet.
    pub(super) rest: Outbox,
    pub(super) upstream: Option<(Upstream, Option<Duration>)>,
    pub(super) after: After,
    pub(super) bytes: u64,
}

/// Sends the request to the worker of the lease and carries its response back.
pub(super) async fn attempt(
    front: &Front,
    client: &mut Client,
    request: &mut Request,
    given: (&mut Place, Instant, &InFlight),
) -> Attempt {
    let (held, leased, entry) = given;
    let upstream = match connection(front, client, (held.worker(), leased)).await {
        Ok(upstream) => upstream,
        Err((failure, reason)) => return failed(failure, reason),
    };
    request.name_peer(match upstream.hears {
        Hears::Peers => &client.peer_line,
        Hears::Nothing => b"",
    });
    let whole = match write_head(front, &upstream.stream, &request.wire).await {
        Ok(whole) => whole,
        Err(failure) => return failed(failure, Reason::ConnectFailed),
    };
    let sent = Sent { whole: whole && request.body.is_done(), leased };
    exchange(front, client, request, Given { held, upstream, sent, entry }).await
}

/// A connection to the worker: an idle one, or a new one.
async fn connection(
    front: &Front,
    client: &Client,
    to: (WorkerId, Instant),
) -> Result<Upstream, (Failure, Reason)> {
    let (worker, now) = to;
    if let Some(idle) = front.pool.take(now, worker, client.server) {
        return Ok(idle);
    }
    let connected = front.connect(now, worker, (client.listener, client.server));
    match tokio::time::timeout(front.settings.timeouts.connect, connected).await {
        Ok(Ok(upstream)) => Ok(upstream),
        Ok(Err(error)) if is_exhaustion(&error) => {
            front.note_exhaustion(now, &error);
            Err((Failure::Exhausted, Reason::ConnectFailed))
        }
        Ok(Err(_)) => Err((Failure::Unreachable, Reason::ConnectFailed)),
        Err(_) => Err((Failure::Unreachable, Reason::ConnectTimeout)),
    }
}

fn failed(failure: Failure, reason: Reason) -> Attempt {
    Attempt::Failed { failure, reason }
}

/// Writes what is here of a request. `Ok(true)`: all of it went in one write.
async fn write_head(front: &Front, worker: &Stream, wire: &[u8]) -> Result<bool, Failure> {
    let patience = front.settings.timeouts.response_head;
    let first = loop {
        match worker.try_write(wire) {
            Ok(count) => break count,
            // A fresh connection is not known to be writable yet.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                match tokio::time::timeout(patience, worker.writable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return Err(Failure::Unsent),
                }
            }
            Err(_) => return Err(Failure::Unsent),
        }
    };
    if first == wire.len() {
        return Ok(true);
    }
    match tokio::time::timeout(patience, worker.write_all(&wire[first..])).await {
        Ok(Ok(())) => Ok(false),
        Ok(Err(_)) | Err(_) => Err(Failure::Lost),
    }
}

/// How a request was sent.
struct Sent {
    /// In one write, body and all.
    whole: bool,
    leased: Instant,
}

struct Given<'a> {
    held: &'a mut Place,
    upstream: Upstream,
    sent: Sent,
    entry: &'a InFlight,
}

/// Carries the rest of the request to the worker and its response back, side by side.
async fn exchange(
    front: &Front,
    client: &mut Client,
    request: &mut Request,
    given: Given<'_>,
) -> Attempt {
    let Given { held, upstream, sent, entry } = given;
    let sent_at = clock::now();
    let uploaded: Uploaded = Cell::new(request.body.is_done().then_some(sent_at));
    let moved = Moved::new(sent_at);
    let answer = {
        let streams = (&upstream.stream, &client.stream);
        let download = Download::new(front, streams, request.asked, &moved);
        let cookie = front.sticky.cookie(request.kept, upstream.worker);
        let about = About {
            id: &request.id,
            listener: client.listener,
            cookie: cookie.as_deref(),
            asked: request.asked,
            keeps: if request.head.keeps_alive() { KeepsAlive::Yes } else { KeepsAlive::No },
            begun: request.begun,
            leased: sent.leased,
            entry,
            uploaded: &uploaded,
        };
        let respond = respond(front, download, about, held);
        let inbound = (&client.stream, &mut client.unread);
        let carry = upload::carry(front, inbound, &mut request.body, (&upstream.stream, &uploaded));
        let watch = async {
            tokio::select! {
                reason = watch(front, &uploaded, &moved) => reason,
                () = entry.forsaken() => Reason::WorkerHung,
            }
        };
        tokio::pin!(respond, carry, watch);
        tokio::select! {
            // The response first: whatever else happened, it tells most.
            biased;
            answer = &mut respond => Ok(answer),
            end = &mut carry => Err(Early::Client(end)),
            timeout = &mut watch => Err(Early::Time(timeout)),
        }
    };
    match answer {
        Ok(Ok(Response::Whole(whole))) => {
            let done = request.body.is_done();
            answered(request, upstream, (whole, done, &moved))
        }
        Ok(Ok(Response::Upgraded { protocol, rest })) => {
            held.turn_to_stream();
            // A tunnel has a count of its own.
            entry.end_stream();
            entry.is(InFlightState::Upgraded);
            // Boxed, so that not every exchange carries the buffers of a tunnel.
            Box::pin(tunnelled(front, client, upstream, (protocol, rest))).await
        }
        Ok(Err(fault)) => faulted(&fault, (&moved, &upstream, &sent)),
        Err(Early::Client(end)) => client_ended(end, &moved),
        Err(Early::Time(reason)) => cut_off(reason, &moved),
    }
}

/// What ended an exchange before the response did.
enum Early {
    Client(ClientEnd),
    Time(Reason),
}

/// A response as the worker finished it.
enum Response {
    Whole(Whole),
    Upgraded { protocol: Protocol, rest: (Vec<u8>, Outbox) },
}

struct Whole {
    status: u16,
    rest: Outbox,
    /// The worker's connection may be used again, for so long.
    reuse: Option<Option<Duration>>,
    after: After,
}

/// What a response depends on of its request.
#[derive(Clone, Copy)]
struct About<'a> {
    id: &'a str,
    listener: ListenerId,
    /// Names the worker to a client that keeps it.
    cookie: Option<&'a str>,
    asked: Asked,
    keeps: KeepsAlive,
    begun: Instant,
    leased: Instant,
    entry: &'a InFlight,
    uploaded: &'a Uploaded,
}

/// Carries a response to the client until the worker has finished it.
async fn respond(
    front: &Front,
    mut download: Download<'_>,
    about: About<'_>,
    held: &mut Place,
) -> Result<Response, Fault> {
    let About { id, listener, cookie, asked, keeps, begun, leased, entry, uploaded } = about;
    loop {
        let head = download.head().await?;
        if head.is_upgrade() {
            let mut with = front.bare_forwarding(&head, asked);
            with.set_cookie = cookie;
            download.send(|out| forward_response(&head, &with, out));
            let protocol = match head.fields().get("upgrade") {
                Some(name) if name.eq_ignore_ascii_case(b"websocket") => Protocol::WebSocket,
                Some(_) | None => Protocol::Other,
            };
            return Ok(Response::Upgraded { protocol, rest: download.into_rest() });
        }
        if head.is_informational() {
            // Our own 100 went out with the body's first bytes; others are for newer clients.
            if head.status() != 100 && asked.version == Version::Http11 {
                let with = front.bare_forwarding(&head, asked);
                download.send(|out| forward_response(&head, &with, out));
                download.flush().await?;
            }
            continue;
        }
        let timing = Timing { queue: leased - begun, app: download.moved.last.get() - leased };
        let body = head.body().towards(asked.version);
        // The client must know by now that what it still sends of its body is thrown away.
        let keeps = if uploaded.get().is_some() { keeps } else { KeepsAlive::No };
        let after = front.persistence((listener, keeps), body);
        let mut with = front.response_forwarding(asked, (id, timing, after), body);
        with.set_cookie = cookie;
        let told = front.settings.headers.proxy_status;
        let told = told.then(|| proxy_status::of_response(head.status()));
        with.proxy_status = told.as_deref();
        download.send(|out| forward_response(&head, &with, out));
        if head.is_event_stream() {
            download.moved.endless.set(Endless::Yes);
            entry.is(InFlightState::Streaming);
            held.turn_to_stream();
            entry.count_stream();
        } else {
            entry.is(InFlightState::Responding);
        }
        let reuse = head.keeps_alive().then(|| keep_alive_hint(&head));
        let status = head.status();
        let rest = download.body(head.body()).await?;
        let after = match after {
            Persistence::KeepAlive => After::KeepAlive,
            Persistence::Close => After::Close,
        };
        return Ok(Response::Whole(Whole { status, rest, reuse, after }));
    }
}

fn answered(request: &Request, upstream: Upstream, about: (Whole, bool, &Moved)) -> Attempt {
    let (Whole { status, rest, reuse, after }, uploaded, moved) = about;
    // A worker that answered before it had the whole body will not read the rest as a request.
    let reuse = reuse.filter(|_| uploaded);
    Attempt::Answered(Answered {
        status,
        rest,
        upstream: reuse.map(|hint| (upstream, hint)),
        after: if uploaded && request.head.keeps_alive() { after } else { After::Close },
        bytes: moved.bytes.get(),
    })
}

/// The worker failed. Whether somebody else may be asked depends on what it can have read.
fn faulted(fault: &Fault, about: (&Moved, &Upstream, &Sent)) -> Attempt {
    let (moved, upstream, sent) = about;
    let (reason, code) = match fault {
        Fault::ClientGone => return Attempt::ClientGone,
        Fault::Bad(bad) => (Reason::BadResponse, bad.code()),
        Fault::Body(refusal) => (Reason::BadResponse, refusal.code()),
        Fault::TooLarge => (Reason::BadResponse, "too_large"),
        Fault::Ended => (Reason::WorkerLost, "ended"),
        Fault::Reset => (Reason::WorkerLost, "reset"),
    };
    tracing::debug!(worker = %upstream.worker, code, "worker failed a request");
    match (moved.stage.get(), fault) {
        (Stage::Forwarded, _) => Attempt::Aborted(Reason::ResponseCut),
        (Stage::Awaited, Fault::Reset) if sent.whole && upstream.stream.is_unix() => {
            failed(Failure::Unread, reason)
        }
        // It closed an idle connection while our request was on its way.
        (Stage::Awaited, Fault::Ended) if upstream.age == Age::Reused => {
            failed(Failure::Lost, reason)
        }
        (Stage::Awaited, _) => failed(Failure::Lost, reason),
        (Stage::Begun, _) => Attempt::Refused { status: 502, reason },
    }
}

fn client_ended(end: ClientEnd, moved: &Moved) -> Attempt {
    match end {
        ClientEnd::Gone => Attempt::ClientGone,
        ClientEnd::Stalled => cut_off(Reason::BodyTimeout, moved),
        ClientEnd::Body(fault) => cut_off(Reason::of_body(fault), moved),
    }
}

/// Answers instead of the worker, unless the client has some of its answer already.
fn cut_off(reason: Reason, moved: &Moved) -> Attempt {
    match moved.stage.get() {
        Stage::Forwarded => Attempt::Aborted(reason),
        Stage::Awaited | Stage::Begun => Attempt::Refused { status: reason.status(), reason },
    }
}

/// Watches the worker's time: for the head from the end of the request's body, for the rest from
/// the last byte that moved, which is the client's time, too. Returns when one has had too long.
async fn watch(front: &Front, uploaded: &Uploaded, moved: &Moved) -> Reason {
    loop {
        let now = clock::now();
        let (due, reason) = match (moved.stage.get(), uploaded.get()) {
            (Stage::Forwarded, _) => match moved.patience(front.settings.timeouts.response_idle) {
                Some(due) => (due, moved.reason()),
                None => return std::future::pending().await,
            },
            (Stage::Awaited | Stage::Begun, Some(since)) => {
                (since + front.settings.timeouts.response_head, Reason::ResponseTimeout)
            }
            // The client's own time runs, and `carry` watches it.
            (Stage::Awaited | Stage::Begun, None) => {
                (now + front.settings.timeouts.response_head, Reason::ResponseTimeout)
            }
        };
        if due <= now {
            return reason;
        }
        // Looked at again early enough to find that the response has begun, and may not pause.
        let again = due.min(now + front.settings.timeouts.response_idle);
        tokio::time::sleep_until(again.into()).await;
    }
}

/// The worker speaks another protocol from here on: carries bytes both ways.
async fn tunnelled(
    front: &Front,
    client: &mut Client,
    upstream: Upstream,
    what: (Protocol, (Vec<u8>, Outbox)),
) -> Attempt {
    let _open = front.open_tunnel();
    let (protocol, (from_worker, out)) = what;
    let from_client = std::mem::take(&mut client.unread);
    let patience = front.settings.timeouts.response_idle;
    let worker = front.ending.departure(Leaver::Worker(upstream.worker));
    let listener = front.ending.departure(Leaver::Listener(client.listener));
    let turn = u32::try_from(front.random_between(0, 1000)).unwrap_or(0);
    let leaving = Leaving { worker, listener, turn };
    let opened = async {
        out.finish(&client.stream, patience).await?;
        let early = (from_client.as_slice(), from_worker.as_slice());
        tunnel::carry(&client.stream, &upstream.stream, (protocol, leaving), early).await
    };
    // However it ends, both connections end with it.
    Attempt::Tunnelled { bytes: opened.await.unwrap_or(0) }
}

/// Nobody means to keep an idle connection for longer, and a client is kept for as long.
const HINT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the worker says that it keeps an idle connection; at most a day.
fn keep_alive_hint(head: &ResponseHead) -> Option<Duration> {
    let value = std::str::from_utf8(head.fields().get("keep-alive")?).ok()?;
    let timeout = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    timeout.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(HINT_MAX))
}
