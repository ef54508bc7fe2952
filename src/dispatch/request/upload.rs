//! Carries the rest of a request's body to the worker, then watches whether the client stays.

use std::cell::Cell;
use std::time::Instant;

use super::body::{Body, BodyFault};
use super::client::{self, Bytes, Inbound};
use super::front::{Front, SCRATCH};
use super::pace::Pace;
use super::stream::Stream;
use crate::clock;

/// What the client may send ahead of our answer, in bytes: a few pipelined requests.
pub(super) const AHEAD: usize = 64 * 1024;

/// Why the client's side of an exchange ended before the worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientEnd {
    /// It closed its connection, or sent nothing for too long while its body was awaited.
    Gone,
    /// Its body is broken or too long.
    Body(BodyFault),
    /// It sent nothing of its body for `body_idle`.
    Stalled,
}

/// When the last of a request's body was written to the worker; none while some is missing.
pub(super) type Uploaded = Cell<Option<Instant>>;

/// Carries the body on, then waits for the client to leave. Never returns while all is well.
///
/// A worker that does not take the body is no end: it may have answered already, and its answer
/// tells. The rest of the body is then left unread.
pub(super) async fn carry(
    front: &Front,
    inbound: Inbound<'_>,
    body: &mut Body,
    to: (&Stream, &Uploaded),
) -> ClientEnd {
    let (worker, uploaded) = to;
    let (stream, unread) = inbound;
    let mut out = Vec::new();
    let mut pace = Pace::default();
    while !body.is_done() {
        out.clear();
        if let Err(fault) = body.take(unread, &mut out, SCRATCH) {
            return ClientEnd::Body(fault);
        }
        if !out.is_empty() && worker.write_all(&out).await.is_err() {
            uploaded.set(Some(clock::now()));
            return std::future::pending().await;
        }
        if body.is_done() {
            break;
        }
        pace.carried(out.len()).await;
        if unread.is_empty() {
            let deadline = clock::now() + front.settings.timeouts.body_idle;
            match client::fill(front, (stream, &mut *unread), deadline).await {
                Bytes::Arrived => {}
                Bytes::Gone => return ClientEnd::Gone,
                Bytes::TimedOut => return ClientEnd::Stalled,
            }
        }
    }
    if uploaded.get().is_none() {
        uploaded.set(Some(clock::now()));
    }
    client::gone(front, (stream, unread), AHEAD).await;
    ClientEnd::Gone
}
