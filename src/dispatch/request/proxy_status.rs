//! Says in `Proxy-Status` (RFC 9209) what became of a request, for those who look for a failure
//! between several proxies.

use super::outcome::Reason;
use crate::policy::Shed;

/// How we call ourselves; the same as in `Via`.
const NAME: &str = "tenfold";

/// Of an answer of our own. The reason code stands in `details`, as it does in the body.
pub(super) fn of_answer(reason: Reason) -> String {
    let (error, code) = (error_type(reason), reason.code());
    format!("{NAME}; error={error}; details=\"{code}\"")
}

/// Of a worker's response (§2.1.4: what we got, should somebody after us change it).
pub(super) fn of_response(status: u16) -> String {
    format!("{NAME}; received-status={status}")
}

/// The nearest of the registered types (§2.3).
fn error_type(reason: Reason) -> &'static str {
    match reason {
        Reason::Refused(_)
        | Reason::HeaderTimeout
        | Reason::BodyTimeout
        | Reason::BodyTooLarge
        | Reason::ClientSlow
        | Reason::ClientGone
        | Reason::ClientGoneQueued => "http_request_error",
        Reason::Shed(Shed::QueueFull | Shed::QueueTimeout) => "connection_limit_reached",
        Reason::Shed(Shed::Closing) => "destination_unavailable",
        Reason::ConnectFailed => "connection_refused",
        Reason::ConnectTimeout => "connection_timeout",
        Reason::WorkerLost => "connection_terminated",
        Reason::BadResponse => "http_protocol_error",
        Reason::ResponseTimeout | Reason::WorkerHung => "http_response_timeout",
        Reason::Poison => "http_request_denied",
        Reason::ResponseIdle => "connection_read_timeout",
        Reason::ResponseCut => "http_response_incomplete",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_in_words_of_the_registry() {
        for (reason, expected) in [
            (Reason::Shed(Shed::QueueFull), "connection_limit_reached; details=\"queue_full\""),
            (Reason::WorkerLost, "connection_terminated; details=\"worker_lost\""),
            (Reason::ResponseTimeout, "http_response_timeout; details=\"response_timeout\""),
            (Reason::HeaderTimeout, "http_request_error; details=\"header_timeout\""),
        ] {
            assert_eq!(of_answer(reason), format!("tenfold; error={expected}"));
        }
        assert_eq!(of_response(204), "tenfold; received-status=204");
    }
}
