//! One request, from its first byte to the last of its response.
//!
//! Read and check the head, take what of the body arrives, get a lease, send it to that worker,
//! carry the response back; or answer ourselves. Every wait ends by one of: bytes, the client
//! leaving, a deadline.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use super::attempt::{Answered, Attempt, attempt};
use super::body::{Body, BodyFault};
use super::client::{After, Bytes, Client, gone};
use super::desk::{Entry, Place, Turn};
use super::front::Front;
use super::outcome::{Outcome, Reason};
use super::retry::{Failure, Repeatable, Replay, may_repeat};
use super::sticky::{self, Kept};
use super::upload::{self, ClientEnd};
use crate::clock;
use crate::dispatch::EXHAUSTED_PAUSE;
use crate::http::answer::CONTINUE;
use crate::http::{Asked, Parsed, RequestHead, RequestReader, Upgrade};
use crate::policy::{Shed, Wish, WorkerId};

/// One request as it was read.
pub(super) struct Request {
    pub(super) head: Rc<RequestHead>,
    pub(super) asked: Asked,
    pub(super) id: String,
    pub(super) kept: Kept,
    /// When its first byte was there.
    pub(super) begun: Instant,
    /// When it got its lease, the last one if it was sent again.
    pub(super) leased: Option<Instant>,
    pub(super) body: Body,
    /// Head and body as they go to a worker, as far as they are here.
    pub(super) wire: Vec<u8>,
    /// Where in `wire` the body begins.
    head_length: usize,
    /// How much of the head names the peer.
    named: usize,
}

/// Serves the next request of a client, whose first byte was there when it had `begun`.
pub(super) async fn run(front: &Front, client: &mut Client, begun: Instant) -> After {
    let latest = front.latest();
    let front = latest.as_deref().unwrap_or(front);
    let head = match read_head(front, client, begun).await {
        Ok(head) => head,
        Err(end) => return front.answer_unread(client, end, begun).await,
    };
    let mut request = match Request::new(front, client, head, begun) {
        Ok(request) => request,
        Err(fault) => return front.answer_body_fault(client, fault, begun).await,
    };
    if front.is_health(&request.head) {
        return front.answer_health(client, &request).await;
    }
    front.note_probe(&request.head);
    if let Err(end) = take_body(front, client, &mut request).await {
        return front.answer_client_end(client, &request, end).await;
    }
    front.retries.borrow_mut().earn();
    if !front.may_serve(&request.head) {
        return front.answer_failure(client, &request, (503, Reason::Poison)).await;
    }
    serve(front, client, &mut request).await
}

/// Why no head could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadEnd {
    Refused(crate::http::Refusal),
    TimedOut,
    Gone,
}

async fn read_head(
    front: &Front,
    client: &mut Client,
    begun: Instant,
) -> Result<RequestHead, HeadEnd> {
    let deadline = begun + front.settings.timeouts.header_read;
    let mut reader = RequestReader::new(front.heads);
    loop {
        if !client.unread.is_empty() {
            match reader.read(&client.unread).map_err(HeadEnd::Refused)? {
                Parsed::Complete { head, length } => {
                    client.unread.drain(..length);
                    return Ok(head);
                }
                Parsed::Incomplete => {}
            }
        }
        match client.fill(front, deadline).await {
            Bytes::Arrived => {}
            Bytes::Gone => return Err(HeadEnd::Gone),
            Bytes::TimedOut => return Err(HeadEnd::TimedOut),
        }
    }
}

impl Request {
    fn new(
        front: &Front,
        client: &Client,
        head: RequestHead,
        begun: Instant,
    ) -> Result<Self, BodyFault> {
        let bound = front.settings.limits.body_bytes.unwrap_or(u64::MAX);
        let body = Body::new(head.body(), bound)?;
        let upgrade = match head.upgrade() {
            Some(_) if body.is_done() => Upgrade::Allowed,
            Some(_) | None => Upgrade::Refused,
        };
        let asked = Asked { upgrade, ..head.asked() };
        let trust = front.trust(client.peer);
        let id = front.request_id(&head, trust);
        let mut wire = Vec::with_capacity(1024);
        front.forward(&head, (client.peer, trust, &id, upgrade), &mut wire);
        let head_length = wire.len();
        let kept = front.sticky.of(&head, || sticky::workers(&front.desk.balance()));
        let head = Rc::new(head);
        Ok(Self { head, asked, id, kept, begun, leased: None, body, wire, head_length, named: 0 })
    }

    /// Whether the client owes nothing more of it.
    pub(super) fn is_read(&self) -> bool {
        self.body.is_done()
    }

    /// Names the peer in the head by this line, or by none to a worker that would show it to the
    /// app. All workers of a pool are alike, so this is done once but for rare repetitions.
    pub(super) fn name_peer(&mut self, line: &[u8]) {
        // The last line, before the empty one.
        let end = self.head_length - "\r\n".len();
        let named = end - self.named..end;
        if self.wire[named.clone()] == *line {
            return;
        }
        if named.is_empty() && self.wire.len() == self.head_length {
            // Nothing stands behind it but the end of the head.
            self.wire.truncate(end);
            self.wire.extend_from_slice(line);
            self.wire.extend_from_slice(b"\r\n");
        } else {
            self.wire.splice(named, line.iter().copied());
        }
        self.head_length = self.head_length + line.len() - self.named;
        self.named = line.len();
    }

    fn replay(&self, lost: u32) -> Replay {
        let yes = |condition| if condition { Repeatable::Yes } else { Repeatable::No };
        Replay { idempotent: yes(self.head.is_idempotent()), body: yes(self.body.is_done()), lost }
    }
}

/// Takes the whole body, or as much of it as is read before there is a lease.
async fn take_body(
    front: &Front,
    client: &mut Client,
    request: &mut Request,
) -> Result<(), ClientEnd> {
    if request.body.is_done() {
        return Ok(());
    }
    if request.head.expects_continue() {
        let sent = client.stream.write_all(CONTINUE).await;
        sent.map_err(|_| ClientEnd::Gone)?;
    }
    let bound = request.head_length + front.settings.limits.request_buffer;
    loop {
        let room = bound.saturating_sub(request.wire.len());
        request.body.take(&mut client.unread, &mut request.wire, room).map_err(ClientEnd::Body)?;
        if request.body.is_done() || request.wire.len() >= bound {
            return Ok(());
        }
        match client.fill(front, clock::now() + front.settings.timeouts.body_idle).await {
            Bytes::Arrived => {}
            Bytes::Gone => return Err(ClientEnd::Gone),
            Bytes::TimedOut => return Err(ClientEnd::Stalled),
        }
    }
}

/// How a request asks for a worker, and what came of it so far.
struct Asking {
    wish: Wish,
    how_long: HowLong,
    entry: Entry,
    asked_at: Instant,
    /// How often it was lost with a worker.
    lost: u32,
    /// Why the last attempt failed.
    failed: Option<Reason>,
    /// Since when there are no descriptors for a connection to any worker.
    exhausted: Option<Instant>,
}

/// Gets a lease and an answer with it; another one where an attempt did no harm.
async fn serve(front: &Front, client: &mut Client, request: &mut Request) -> After {
    let entry = front.enter(request, client.peer);
    let mut asking = Asking::new(front, request);
    loop {
        let (mut place, leased) = match place(front, client, &asking).await {
            Ok(placed) => placed,
            Err(Unserved::ClientGone) => {
                front.note(request, Outcome::gone(Reason::ClientGoneQueued));
                return After::Gone;
            }
            Err(Unserved::Shed(shed)) => {
                return match asking.failed {
                    Some(reason) => front.answer_failure(client, request, (502, reason)).await,
                    None => front.answer_shed(client, request, shed).await,
                };
            }
        };
        let worker = place.worker();
        request.leased = Some(leased);
        entry.at(worker);
        if asking.how_long == HowLong::Unlimited {
            entry.count_stream();
        }
        match attempt(front, client, request, (&mut place, leased, &entry)).await {
            Attempt::Answered(answered) => {
                front.succeeded(worker);
                // The worker has finished, whatever the client has taken by now.
                drop(place);
                entry.end_stream();
                return finish(front, client, request, answered).await;
            }
            Attempt::Failed { failure, reason } => {
                let now = clock::now();
                if failure == Failure::Lost {
                    front.lost(now, worker, &entry);
                }
                front.note_failure(now, place, (failure, client.listener));
                entry.end_stream();
                let allowed = may_repeat(failure, request.replay(asking.lost))
                    && front.may_retry(now, failure);
                if !allowed {
                    return front.answer_failure(client, request, (502, reason)).await;
                }
                asking.again(now, failure, (worker, reason));
                front.count_retry(failure, reason);
                entry.queued();
            }
            Attempt::Aborted(reason) => {
                front.note_end(worker, (reason, &entry));
                front.note(request, Outcome::aborted(reason));
                return After::Gone;
            }
            Attempt::Tunnelled { bytes } => {
                front.succeeded(worker);
                front.note(request, Outcome::answered(101, bytes));
                return After::Gone;
            }
            Attempt::ClientGone => {
                front.note(request, Outcome::gone(client.why_gone()));
                return After::Gone;
            }
            Attempt::Refused { status, reason } => {
                front.note_end(worker, (reason, &entry));
                return front.answer_failure(client, request, (status, reason)).await;
            }
        }
    }
}

/// Whether an exchange takes a place among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HowLong {
    Limited,
    /// Its route waits on purpose: it holds a stream.
    Unlimited,
}

impl Asking {
    fn new(front: &Front, request: &Request) -> Self {
        let is_unlimited = front.settings.unlimited.contain(request.head.path());
        Self {
            wish: request.kept.wish(),
            how_long: if is_unlimited { HowLong::Unlimited } else { HowLong::Limited },
            entry: Entry::First,
            asked_at: clock::now(),
            lost: 0,
            failed: None,
            exhausted: None,
        }
    }

    /// The next attempt, after this worker failed for this reason.
    fn again(&mut self, now: Instant, failure: Failure, how: (WorkerId, Reason)) {
        let (worker, reason) = how;
        self.failed = Some(reason);
        self.exhausted = match failure {
            Failure::Exhausted => self.exhausted.or(Some(now)),
            Failure::Unreachable | Failure::Unsent | Failure::Unread | Failure::Lost => None,
        };
        match failure {
            // It is where it was: its age counts from when it came, or it would wait for ever.
            Failure::Exhausted | Failure::Unreachable | Failure::Unsent | Failure::Unread => {}
            Failure::Lost => {
                self.lost += 1;
                self.asked_at = now;
                self.wish = Wish::Not(worker);
            }
        }
        self.entry = Entry::Again { since: self.asked_at };
    }
}

enum Unserved {
    ClientGone,
    Shed(Shed),
}

/// Waits for a place at a worker, for as long as the client does; tells since when it has it.
async fn place(
    front: &Front,
    client: &mut Client,
    asking: &Asking,
) -> Result<(Place, Instant), Unserved> {
    if let Some(since) = asking.exhausted {
        if clock::now() > since + front.settings.timeouts.connect {
            return Err(Unserved::Shed(Shed::QueueTimeout));
        }
        // Nothing tells when there are some again.
        tokio::select! {
            biased;
            () = gone(front, (&client.stream, &mut client.unread), upload::AHEAD) => {
                return Err(Unserved::ClientGone);
            }
            () = tokio::time::sleep(EXHAUSTED_PAUSE) => {}
        }
    }
    let now = clock::now();
    if asking.how_long == HowLong::Unlimited
        && let Some(streaming) = front.desk.open_stream(client.listener, asking.wish)
    {
        return Ok((streaming, now));
    }
    let how = (asking.wish, asking.entry);
    let (lease, leased) = match front.desk.ask(now, client.listener, how) {
        Turn::Now(lease) => (lease, now),
        Turn::Never(reason) => return Err(Unserved::Shed(reason)),
        Turn::Later(mut waiting) => tokio::select! {
            biased;
            turn = waiting.turn() => (turn.map_err(Unserved::Shed)?, clock::now()),
            () = gone(front, (&client.stream, &mut client.unread), upload::AHEAD) => {
                return Err(Unserved::ClientGone);
            }
        },
    };
    let mut place = Place::InFlight(lease);
    match asking.how_long {
        HowLong::Limited => {}
        HowLong::Unlimited => place.turn_to_stream(),
    }
    Ok((place, leased))
}

/// The worker is done: gives its connection back at once, then the client the rest.
async fn finish(
    front: &Front,
    client: &mut Client,
    request: &Request,
    answered: Answered,
) -> After {
    let Answered { status, rest, upstream, after, bytes } = answered;
    if let Some((upstream, hint)) = upstream {
        client.app_patience = hint.unwrap_or_default();
        front.put_back(clock::now(), upstream, hint);
    }
    let taken = rest.finish(&client.stream, front.settings.timeouts.response_idle).await;
    let more = match taken {
        Ok(more) => more,
        Err(error) => {
            let reason = match error.kind() {
                io::ErrorKind::TimedOut => Reason::ClientSlow,
                _ => client.why_gone(),
            };
            front.note(request, Outcome::aborted(reason));
            return After::Gone;
        }
    };
    front.note(request, Outcome::answered(status, bytes + more));
    after
}
