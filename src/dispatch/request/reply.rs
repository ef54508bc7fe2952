//! What the master itself says to clients of request mode, and the fields it adds to what others
//! say.

use std::net::SocketAddr;
use std::time::Instant;

use super::body::BodyFault;
use super::client::{After, Client};
use super::exchange::{HeadEnd, Request};
use super::front::Front;
use super::outcome::{Outcome, Reason};
use super::proxy_status;
use super::upload::ClientEnd;
use crate::http::answer::{Answer, Page, content_type};
use crate::http::{
    Asked, Expectation, ForwardedField, Forwarding, Persistence, RequestHead, ResponseBody,
    ResponseForwarding, ResponseHead, Scheme, Timing, Trust, Upgrade, forward_request,
};
use crate::policy::{Diagnosis, ListenerId, Shed};

/// How we call ourselves in `Via`.
const NAME: &str = "tenfold";

/// Who sent a request, and how it goes on.
pub(super) type From<'a> = (Option<SocketAddr>, Trust, &'a str, Upgrade);

/// Whether a client wants its connection kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepsAlive {
    Yes,
    No,
}

impl Front {
    /// Answers a client of whom no request could be read.
    pub(super) async fn answer_unread(
        &self,
        client: &mut Client,
        end: HeadEnd,
        begun: Instant,
    ) -> After {
        let reason = match end {
            HeadEnd::Gone => return After::Gone,
            HeadEnd::TimedOut => Reason::HeaderTimeout,
            HeadEnd::Refused(refusal) => Reason::Refused(refusal),
        };
        self.answer_nobody(client, reason, begun).await
    }

    /// Answers whom no request is known of.
    async fn answer_nobody(&self, client: &mut Client, reason: Reason, begun: Instant) -> After {
        let status = reason.status();
        self.note_unread(begun, Outcome::refused(status, reason));
        let told = self.proxy_status(reason);
        let answer = Answer { proxy_status: told.as_deref(), ..Answer::new(status, reason.code()) };
        self.send(client, Asked::default(), &answer).await
    }

    /// The value of `Proxy-Status` for an answer of our own, where it is wanted.
    fn proxy_status(&self, reason: Reason) -> Option<String> {
        self.settings.headers.proxy_status.then(|| proxy_status::of_answer(reason))
    }

    /// Answers a request whose body is too long before any of it is read.
    pub(super) async fn answer_body_fault(
        &self,
        client: &mut Client,
        fault: BodyFault,
        begun: Instant,
    ) -> After {
        let reason = Reason::of_body(fault);
        self.answer_nobody(client, reason, begun).await
    }

    /// Answers a request whose body did not come as announced.
    pub(super) async fn answer_client_end(
        &self,
        client: &mut Client,
        request: &Request,
        end: ClientEnd,
    ) -> After {
        let reason = match end {
            ClientEnd::Gone => {
                self.note(request, Outcome::gone(Reason::ClientGone));
                return After::Gone;
            }
            ClientEnd::Stalled => Reason::BodyTimeout,
            ClientEnd::Body(fault) => Reason::of_body(fault),
        };
        self.answer_failure(client, request, (reason.status(), reason)).await
    }

    /// Answers a request that nobody has room for. The connection is kept, if the body is read.
    pub(super) async fn answer_shed(
        &self,
        client: &mut Client,
        request: &Request,
        shed: Shed,
    ) -> After {
        let reason = Reason::Shed(shed);
        let (low, high) = (self.settings.shed.retry_after_min, self.settings.shed.retry_after_max);
        // Jittered, or all who were turned away together come back together.
        let seconds = self.random_between(low.as_secs(), high.as_secs());
        let told = self.proxy_status(reason);
        let mut answer = self.answer(client, request, (503, reason));
        answer.proxy_status = told.as_deref();
        answer.retry_after = u32::try_from(seconds).ok();
        answer.page = self.page();
        self.note(request, Outcome::refused(503, reason));
        self.send(client, request.asked, &answer).await
    }

    /// Answers a request that failed at a worker.
    pub(super) async fn answer_failure(
        &self,
        client: &mut Client,
        request: &Request,
        what: (u16, Reason),
    ) -> After {
        let (status, reason) = what;
        self.note(request, Outcome::refused(status, reason));
        let told = self.proxy_status(reason);
        let answer = Answer { proxy_status: told.as_deref(), ..self.answer(client, request, what) };
        self.send(client, request.asked, &answer).await
    }

    fn answer<'a>(
        &'a self,
        client: &Client,
        request: &'a Request,
        what: (u16, Reason),
    ) -> Answer<'a> {
        let (status, reason) = what;
        let mut answer = Answer::new(status, reason.code());
        answer.request_id = self.settings.headers.request_id.then_some(request.id.as_str());
        answer.connection = self.persistence_of_answer(client, request);
        answer
    }

    fn persistence_of_answer(&self, client: &Client, request: &Request) -> Persistence {
        if request.head.keeps_alive() && request.is_read() && !self.is_closing(client.listener) {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        }
    }

    /// Writes an answer; the client has as long for it as for any response.
    async fn send(&self, client: &mut Client, asked: Asked, answer: &Answer<'_>) -> After {
        let mut bytes = Vec::with_capacity(512);
        answer.write(asked, &mut bytes);
        let patience = self.settings.timeouts.response_idle;
        match tokio::time::timeout(patience, client.stream.write_all(&bytes)).await {
            Ok(Ok(())) => match answer.connection {
                Persistence::KeepAlive => After::KeepAlive,
                Persistence::Close => After::Close,
            },
            Ok(Err(_)) | Err(_) => After::Gone,
        }
    }

    /// Whether a request asks how we are, on a path that the app does not see.
    pub(super) fn is_health(&self, head: &RequestHead) -> bool {
        let path = head.path();
        self.settings.public_health.iter().any(|public| public.as_bytes() == path)
    }

    /// Answers readiness on the public listener, without queue or lease.
    pub(super) async fn answer_health(&self, client: &mut Client, request: &Request) -> After {
        let (status, text) = match self.health.borrow().readiness() {
            Diagnosis::Well(text) => (200, text),
            Diagnosis::Unwell(text) => (503, text),
        };
        let content_type = content_type("answer.txt").to_owned();
        let page = Page { status: None, content_type, body: (text + "\n").into_bytes() };
        let mut answer = Answer::new(status, "");
        answer.page = Some(&page);
        answer.connection = self.persistence_of_answer(client, request);
        self.send(client, request.asked, &answer).await
    }

    /// Writes a request's head as a worker gets it.
    pub(super) fn forward(&self, head: &RequestHead, from: From<'_>, out: &mut Vec<u8>) {
        let (client, trust, request_id, upgrade) = from;
        let headers = &self.settings.headers;
        let with = Forwarding {
            client,
            trust,
            scheme: Scheme::Http,
            request_id,
            body: head.body(),
            upgrade,
            expectation: Expectation::Answered,
            via: headers.via.then_some(NAME),
            forwarded: match headers.forwarded {
                true => ForwardedField::Written,
                false => ForwardedField::Passed,
            },
        };
        forward_request(head, &with, out);
    }

    /// The id that a trusted peer gave a request, or a new one.
    pub(super) fn request_id(&self, head: &RequestHead, trust: Trust) -> String {
        let given = match trust {
            Trust::Trusted => head.request_id(),
            Trust::Untrusted => None,
        };
        match given {
            Some(id) => id.to_owned(),
            None => hexadecimal(self.random_between(0, u64::MAX - 1)),
        }
    }

    /// Whether the client's connection survives a response.
    pub(super) fn persistence(
        &self,
        client: (ListenerId, KeepsAlive),
        body: ResponseBody,
    ) -> Persistence {
        let (listener, keeps) = client;
        match body {
            ResponseBody::UntilClose => Persistence::Close,
            ResponseBody::None | ResponseBody::Length(_) | ResponseBody::Chunked => {
                if keeps == KeepsAlive::Yes && !self.is_closing(listener) {
                    Persistence::KeepAlive
                } else {
                    Persistence::Close
                }
            }
        }
    }

    /// What is added to a worker's response.
    pub(super) fn response_forwarding<'a>(
        &self,
        asked: Asked,
        about: (&'a str, Timing, Persistence),
        body: ResponseBody,
    ) -> ResponseForwarding<'a> {
        let (id, timing, connection) = about;
        let headers = &self.settings.headers;
        ResponseForwarding {
            asked,
            body,
            connection,
            request_id: headers.request_id.then_some(id),
            timing: headers.server_timing.then_some(timing),
            via: headers.via.then_some(NAME),
            proxy_status: None,
            set_cookie: None,
        }
    }

    /// What goes to the client of a response that only says what comes next.
    pub(super) fn bare_forwarding(
        &self,
        head: &ResponseHead,
        asked: Asked,
    ) -> ResponseForwarding<'static> {
        ResponseForwarding {
            asked,
            body: head.body(),
            connection: Persistence::KeepAlive,
            request_id: None,
            timing: None,
            via: None,
            proxy_status: None,
            set_cookie: None,
        }
    }
}

/// All sixteen digits of `number`. Every request gets one, and the general formatter takes ten
/// times as long.
fn hexadecimal(number: u64) -> String {
    let digit = |at| b"0123456789abcdef"[(number >> (60 - 4 * at) & 0xf) as usize];
    let digits: [u8; 16] = std::array::from_fn(digit);
    String::from_utf8_lossy(&digits).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_id_has_all_its_digits() {
        for number in [0, 0xf, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(super::hexadecimal(number), format!("{number:016x}"));
        }
    }
}
