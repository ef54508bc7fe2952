//! Keeps account of what became of requests.

use std::time::Instant;

use super::exchange::Request;
use super::front::Front;
use super::outcome::{Outcome, Reason};
use super::retry::Failure;
use crate::clock;
use crate::metrics::{self, Code};

/// Why requests are sent again, for who counts them.
pub(crate) const RETRY_CODES: [Code; 5] = [
    Code { kind: "", code: retry_code(Failure::Exhausted) },
    Code { kind: "", code: retry_code(Failure::Unreachable) },
    Code { kind: "", code: retry_code(Failure::Unsent) },
    Code { kind: "", code: retry_code(Failure::Unread) },
    Code { kind: "", code: retry_code(Failure::Lost) },
];

const fn retry_code(failure: Failure) -> &'static str {
    match failure {
        Failure::Exhausted => "exhausted",
        Failure::Unreachable => "unreachable",
        Failure::Unsent => "unsent",
        Failure::Unread => "unread",
        Failure::Lost => "repeatable",
    }
}

impl Front {
    /// A request has ended.
    pub(super) fn note(&self, request: &Request, outcome: Outcome) {
        let now = clock::now();
        let took = now - request.begun;
        self.recorder.sent(usize::try_from(outcome.bytes).unwrap_or(usize::MAX));
        self.recorder.finished(&metrics::Outcome {
            status: outcome.status(),
            reason: outcome.reason().map(Reason::code),
            queued: request.leased.unwrap_or(now) - request.begun,
            served: request.leased.map(|leased| now - leased),
        });
        self.count_failure(now, outcome);
        tracing::trace!(
            id = request.id,
            path = %String::from_utf8_lossy(request.head.path()),
            ?took,
            ?outcome,
            "request ended"
        );
    }

    /// A client was answered before its request could be read.
    pub(super) fn note_unread(&self, begun: Instant, outcome: Outcome) {
        let now = clock::now();
        let took = now - begun;
        self.recorder.finished(&metrics::Outcome {
            status: outcome.status(),
            reason: outcome.reason().map(Reason::code),
            queued: took,
            served: None,
        });
        self.count_failure(now, outcome);
        tracing::trace!(?took, ?outcome, "no request");
    }

    fn count_failure(&self, now: Instant, outcome: Outcome) {
        if let Some(reason) = outcome.reason().filter(|reason| reason.is_ours())
            && let Some(reactor) = self.reactor()
        {
            reactor.borrow_mut().count_shed(now, reason.code());
        }
    }

    /// A request is sent to a second worker.
    pub(super) fn count_retry(&self, failure: Failure, reason: Reason) {
        self.recorder.retried(retry_code(failure));
        tracing::trace!(reason = reason.code(), "sent again");
    }
}
