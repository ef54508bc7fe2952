//! Why an exchange did not end as the response of its worker; the words of logs, metrics and docs.

use crate::policy::Shed;

/// Why an exchange did not end as the response of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody had room: 503.
    Shed(Shed),
    /// Something took too long: 408 or 504.
    Timeout(Timeout),
    /// The request is not one that we pass on; the code names the rule it broke: 4xx, 501, 505.
    Refused(&'static str),
    /// Its worker failed it: 502.
    Failure(Failure),
    /// Its client left.
    Abort(Abort),
}

/// Which time was over; named as the settings in `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    HeaderRead,
    BodyIdle,
    Connect,
    ResponseHead,
    ResponseIdle,
}

/// What a worker did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It takes no connection, and no other worker could be tried.
    Unreachable,
    /// It closed, or died, before its response began.
    NoResponse,
    /// What it sent is no HTTP response.
    BadResponse,
    /// It closed, or died, within its response.
    CutResponse,
}

/// When a client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// No worker had seen the request.
    Queued,
    /// A worker had it.
    InFlight,
}

/// Why an exchange was sent to another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No byte of it had been written.
    Unsent,
    /// It had been written, and its worker ended without reading it.
    Unread,
    /// It may have been read, and may be repeated: the method is idempotent.
    Repeatable,
}

impl Timeout {
    pub const ALL: [Self; 5] =
        [Self::HeaderRead, Self::BodyIdle, Self::Connect, Self::ResponseHead, Self::ResponseIdle];

    pub fn code(self) -> &'static str {
        match self {
            Self::HeaderRead => "header_read",
            Self::BodyIdle => "body_idle",
            Self::Connect => "connect",
            Self::ResponseHead => "response_head",
            Self::ResponseIdle => "response_idle",
        }
    }
}

impl Failure {
    pub const ALL: [Self; 4] =
        [Self::Unreachable, Self::NoResponse, Self::BadResponse, Self::CutResponse];

    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NoResponse => "no_response",
            Self::BadResponse => "bad_response",
            Self::CutResponse => "cut_response",
        }
    }
}

impl Abort {
    pub const ALL: [Self; 2] = [Self::Queued, Self::InFlight];

    pub fn code(self) -> &'static str {
        match self {
            Self::Queued => "client_left_queue",
            Self::InFlight => "client_left",
        }
    }
}

impl Retry {
    pub const ALL: [Self; 3] = [Self::Unsent, Self::Unread, Self::Repeatable];

    pub fn code(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Unread => "unread",
            Self::Repeatable => "repeatable",
        }
    }
}

impl Reason {
    /// The word for logs, answers and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Shed(reason) => reason.code(),
            Self::Timeout(timeout) => timeout.code(),
            Self::Refused(code) => code,
            Self::Failure(failure) => failure.code(),
            Self::Abort(abort) => abort.code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        let reasons: Vec<Reason> = Shed::ALL
            .map(Reason::Shed)
            .into_iter()
            .chain(Timeout::ALL.map(Reason::Timeout))
            .chain(Failure::ALL.map(Reason::Failure))
            .chain(Abort::ALL.map(Reason::Abort))
            .collect();
        let codes: BTreeSet<_> = reasons.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), reasons.len());
    }
}
