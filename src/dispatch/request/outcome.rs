//! What became of a request, in words that logs, counters and answers share.

use super::body::BodyFault;
use crate::http::Refusal;
use crate::metrics::Code;
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
    WorkerHung,
    Poison,
    ClientSlow,
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
            Self::Shed(_) | Self::Poison => 503,
            Self::HeaderTimeout | Self::BodyTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::WorkerLost
            | Self::BadResponse
            | Self::ResponseCut => 502,
            Self::ResponseTimeout | Self::ResponseIdle | Self::WorkerHung => 504,
            // No answer reaches these; 499 is what balancers log for them.
            Self::ClientSlow | Self::ClientGone | Self::ClientGoneQueued => 499,
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
            | Self::ResponseIdle
            | Self::WorkerHung
            | Self::Poison
            | Self::ClientSlow => true,
            Self::Refused(_) | Self::BodyTooLarge | Self::ClientGone | Self::ClientGoneQueued => {
                false
            }
        }
    }

    /// Whether it says that the worker fails what it is given: by what it does, not by how long it
    /// takes.
    pub(super) fn is_workers(self) -> bool {
        match self {
            Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::WorkerLost
            | Self::BadResponse
            | Self::ResponseCut => true,
            Self::Refused(_)
            | Self::Shed(_)
            | Self::HeaderTimeout
            | Self::BodyTimeout
            | Self::BodyTooLarge
            | Self::ResponseTimeout
            | Self::ResponseIdle
            | Self::WorkerHung
            | Self::Poison
            | Self::ClientSlow
            | Self::ClientGone
            | Self::ClientGoneQueued => false,
        }
    }

    /// The reason code: snake_case, stable. The word for logs, answers and counters.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Shed(shed) => shed.code(),
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::WorkerLost => "worker_lost",
            Self::BadResponse => "bad_response",
            Self::ResponseCut => "response_cut",
            Self::ResponseTimeout => "response_timeout",
            Self::ResponseIdle => "response_idle",
            Self::WorkerHung => "worker_hung",
            Self::Poison => "poison",
            Self::ClientSlow => "client_slow",
            Self::ClientGone => "client_gone",
            Self::ClientGoneQueued => "client_gone_queued",
        }
    }

    /// Every reason that an exchange may have.
    pub(super) fn all() -> Vec<Self> {
        let others = [
            Self::HeaderTimeout,
            Self::BodyTimeout,
            Self::BodyTooLarge,
            Self::ConnectFailed,
            Self::ConnectTimeout,
            Self::WorkerLost,
            Self::BadResponse,
            Self::ResponseCut,
            Self::ResponseTimeout,
            Self::ResponseIdle,
            Self::WorkerHung,
            Self::Poison,
            Self::ClientSlow,
            Self::ClientGone,
            Self::ClientGoneQueued,
        ];
        let refused = Refusal::ALL.into_iter().map(Self::Refused);
        let shed = Shed::ALL.into_iter().map(Self::Shed);
        refused.chain(shed).chain(others).collect()
    }

    /// What kind of end this is, for who counts them.
    fn kind(self) -> &'static str {
        match self {
            Self::Refused(_) | Self::BodyTooLarge | Self::Poison => "refused",
            Self::Shed(_) => "shed",
            Self::HeaderTimeout
            | Self::BodyTimeout
            | Self::ConnectTimeout
            | Self::ResponseTimeout
            | Self::ResponseIdle
            | Self::WorkerHung
            | Self::ClientSlow => "timeout",
            Self::ConnectFailed | Self::WorkerLost | Self::BadResponse | Self::ResponseCut => {
                "failure"
            }
            Self::ClientGone | Self::ClientGoneQueued => "abort",
        }
    }
}

/// The codes of all reasons, for who counts them.
pub(crate) fn reason_codes() -> Vec<Code> {
    let code = |reason: Reason| Code { kind: reason.kind(), code: reason.code() };
    Reason::all().into_iter().map(code).collect()
}
