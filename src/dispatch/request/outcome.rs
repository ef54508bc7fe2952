//! What became of a request, in words that logs, counters and answers share.

use super::body::BodyFault;
use crate::http::Refusal;
use crate::metrics::{self, Abort, Failure, Timeout};
use crate::policy::Shed;

/// Why the master answered instead of a worker, or could not. Shown as the reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Refused(Refusal),
    Shed(Shed),
    HeaderTimeout,
    BodyTimeout,
    BodyTooLarge,
    ConnectFailed,
    ConnectTimeout,
    WorkerLost,
    BadResponse,
    ResponseTimeout,
    ResponseIdle,
    ClientGone,
    ClientGoneQueued,
    ResponseCut,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) end: End,
    /// Bytes that the client got.
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A worker answered, with this status.
    Answered(u16),
    /// We did.
    Refused(u16, Reason),
    /// The response was cut off, or an upgraded connection ended.
    Aborted(Reason),
    /// The client left before it was answered.
    Gone(Reason),
}

impl Outcome {
    /// What the client was told, if it was told anything whole.
    pub(super) fn status(&self) -> Option<u16> {
        match self.end {
            End::Answered(status) | End::Refused(status, _) => Some(status),
            End::Aborted(_) | End::Gone(_) => None,
        }
    }

    /// Why a worker's whole answer did not reach the client, if it did not.
    pub(super) fn reason(&self) -> Option<Reason> {
        match self.end {
            End::Answered(_) => None,
            End::Refused(_, reason) | End::Aborted(reason) | End::Gone(reason) => Some(reason),
        }
    }

    pub(super) fn answered(status: u16, bytes: u64) -> Self {
        Self { end: End::Answered(status), bytes }
    }

    pub(super) fn refused(status: u16, reason: Reason) -> Self {
        Self { end: End::Refused(status, reason), bytes: 0 }
    }

    pub(super) fn aborted(reason: Reason) -> Self {
        Self { end: End::Aborted(reason), bytes: 0 }
    }

    pub(super) fn gone(reason: Reason) -> Self {
        Self { end: End::Gone(reason), bytes: 0 }
    }
}

impl Reason {
    pub(super) fn of_body(fault: BodyFault) -> Self {
        match fault {
            BodyFault::Refused(refusal) => Self::Refused(refusal),
            BodyFault::TooLarge => Self::BodyTooLarge,
        }
    }

    /// The status of an answer for this reason, before anything of a response was forwarded.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::Shed(_) => 503,
            Self::HeaderTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::WorkerLost
            | Self::BadResponse
            | Self::ResponseCut => 502,
            Self::ResponseTimeout | Self::ResponseIdle => 504,
            // No answer reaches these; 499 is what balancers log for them.
            Self::ClientGone | Self::ClientGoneQueued => 499,
        }
    }

    /// Whether somebody who runs the pool should know: it could not serve.
    pub(super) fn is_ours(self) -> bool {
        match self {
            Self::Shed(_)
            | Self::HeaderTimeout
            | Self::BodyTimeout
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::WorkerLost
            | Self::BadResponse
            | Self::ResponseCut
            | Self::ResponseTimeout
            | Self::ResponseIdle => true,
            Self::Refused(_) | Self::BodyTooLarge | Self::ClientGone | Self::ClientGoneQueued => {
                false
            }
        }
    }

    /// The same in the words of the counters.
    pub(super) fn counted(self) -> metrics::Reason {
        match self {
            Self::Refused(refusal) => metrics::Reason::Refused(refusal.code()),
            Self::BodyTooLarge => metrics::Reason::Refused("body_too_large"),
            Self::Shed(shed) => metrics::Reason::Shed(shed),
            Self::HeaderTimeout => metrics::Reason::Timeout(Timeout::HeaderRead),
            Self::BodyTimeout => metrics::Reason::Timeout(Timeout::BodyIdle),
            Self::ConnectTimeout => metrics::Reason::Timeout(Timeout::Connect),
            Self::ResponseTimeout => metrics::Reason::Timeout(Timeout::ResponseHead),
            Self::ResponseIdle => metrics::Reason::Timeout(Timeout::ResponseIdle),
            Self::ConnectFailed => metrics::Reason::Failure(Failure::Unreachable),
            Self::WorkerLost => metrics::Reason::Failure(Failure::NoResponse),
            Self::BadResponse => metrics::Reason::Failure(Failure::BadResponse),
            Self::ResponseCut => metrics::Reason::Failure(Failure::CutResponse),
            Self::ClientGoneQueued => metrics::Reason::Abort(Abort::Queued),
            Self::ClientGone => metrics::Reason::Abort(Abort::InFlight),
        }
    }

    /// The reason code: snake_case, stable.
    pub(super) fn code(self) -> &'static str {
        self.counted().code()
    }
}
