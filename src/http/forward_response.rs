//! Writes a response's head as the client gets it: order and case kept, ours added at the end.

use std::time::Duration;

use super::fields::Field;
use super::framing::ResponseBody;
use super::head::{Asked, Method, Version};
use super::name::Name;
use super::response::ResponseHead;
use super::syntax::{push_decimal, push_milliseconds};
use super::write::{
    ENCODING, LENGTH, as_sent, is_nominated, push, push_chunked, push_connection, push_field,
    push_length, push_via,
};

/// Whether the client's connection is kept after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Another request may follow.
    KeepAlive,
    /// We close after the body.
    Close,
}

impl Persistence {
    /// The connection option that tells a client of `version`, if it needs telling.
    pub(super) fn option(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Close, _) => "close",
            (Self::KeepAlive, Version::Http10) => "keep-alive",
            (Self::KeepAlive, Version::Http11) => "",
        }
    }
}

/// Where the time of an exchange went, for `Server-Timing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the end of the request's head to its lease.
    pub queue: Duration,
    /// From there to the head of the response.
    pub app: Duration,
}

/// What a response's head is forwarded with. Informational responses get none of the additions.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForwarding<'a> {
    /// The request that is answered.
    pub asked: Asked,
    /// How the body goes on: usually [`ResponseBody::towards`] the client's version.
    pub body: ResponseBody,
    /// A body that ends with the connection closes it, whatever is said here.
    pub connection: Persistence,
    /// The request's id; a worker's own X-Request-Id is kept instead.
    pub request_id: Option<&'a str>,
    /// `Server-Timing`, if it is written.
    pub timing: Option<Timing>,
    /// Our name in `Via`, if it is written.
    pub via: Option<&'a str>,
    /// A value to add as `Proxy-Status`.
    pub proxy_status: Option<&'a str>,
    /// A value to add as `Set-Cookie`.
    pub set_cookie: Option<&'a str>,
}

/// Appends `head` as the client gets it, in HTTP/1.1 whatever its version (RFC 9110 §6.2).
///
/// An informational head must not go to an HTTP/1.0 client at all.
pub fn forward_response(head: &ResponseHead, with: &ResponseForwarding<'_>, out: &mut Vec<u8>) {
    // What we add takes less than this, unless a cookie is long.
    out.reserve(head.fields().bytes.len() + 300);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(out, u64::from(head.status()));
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    let mut writer = Writer { head, with, out, framed: false };
    for field in head.fields().iter() {
        writer.field(&field);
    }
    writer.rest();
}

struct Writer<'a> {
    head: &'a ResponseHead,
    with: &'a ResponseForwarding<'a>,
    out: &'a mut Vec<u8>,
    framed: bool,
}

impl Writer<'_> {
    fn field(&mut self, field: &Field<'_>) {
        match field.known {
            Name::Other | Name::Lookalike => {
                if !is_nominated(self.head.fields(), self.head.options, field) {
                    push_field(self.out, field);
                }
            }
            Name::ContentLength => self.length(field),
            Name::TransferEncoding => self.encoding(field),
            Name::Trailer if self.with.body == ResponseBody::Chunked => {
                push_field(self.out, field);
            }
            // RFC 9110 §15.5.22: 426 names what it requires.
            Name::Upgrade if matches!(self.head.status(), 101 | 426) => {
                push_field(self.out, field);
            }
            Name::Trailer
            | Name::Peer
            | Name::Upgrade
            | Name::Connection
            | Name::KeepAlive
            | Name::Http2Settings
            | Name::Te => {}
            // The challenge is the client's business, its credentials are not.
            Name::Proxy if field.name.eq_ignore_ascii_case(b"proxy-authenticate") => {
                push_field(self.out, field);
            }
            Name::Proxy => {}
            Name::Host
            | Name::Expect
            | Name::ProxyStatus
            | Name::ForwardedFor
            | Name::ForwardedProto
            | Name::ForwardedHost
            | Name::ForwardedOther
            | Name::Forwarded
            | Name::RequestId
            | Name::Via
            | Name::ContentType
            | Name::ServerTiming => push_field(self.out, field),
        }
    }

    fn length(&mut self, field: &Field<'_>) {
        match self.with.body {
            // It tells what GET would have had; 1xx and 204 must not have it (RFC 9110 §8.6).
            ResponseBody::None if self.tells_length() && !self.framed => {
                self.framed = true;
                push_field(self.out, field);
            }
            ResponseBody::None => {}
            ResponseBody::Length(_) | ResponseBody::Chunked | ResponseBody::UntilClose => {
                self.framing(Some(field));
            }
        }
    }

    fn encoding(&mut self, field: &Field<'_>) {
        match (self.with.body, self.with.asked.version) {
            (ResponseBody::None, Version::Http11) if self.tells_encoding() && !self.framed => {
                self.framed = true;
                push_chunked(self.out, field.name);
            }
            (ResponseBody::None, _) => {}
            (ResponseBody::Length(_) | ResponseBody::Chunked | ResponseBody::UntilClose, _) => {
                self.framing(Some(field));
            }
        }
    }

    /// Whether a response without body keeps the length it would have: 304, and HEAD's, unless it
    /// also says chunked.
    fn tells_length(&self) -> bool {
        let may_have = !matches!(self.head.status(), 100..=199 | 204);
        may_have && !self.head.fields().has(Name::TransferEncoding)
    }

    fn tells_encoding(&self) -> bool {
        self.with.asked.method == Method::Head
            && !matches!(self.head.status(), 100..=199 | 204 | 304)
    }

    /// Where the worker's own framing stood, or at the end.
    fn framing(&mut self, field: Option<&Field<'_>>) {
        if std::mem::replace(&mut self.framed, true) {
            return;
        }
        match self.with.body {
            ResponseBody::Length(length) => {
                push_length(self.out, as_sent(field, Name::ContentLength, LENGTH), length);
            }
            ResponseBody::Chunked => {
                push_chunked(self.out, as_sent(field, Name::TransferEncoding, ENCODING));
            }
            ResponseBody::None | ResponseBody::UntilClose => {}
        }
    }

    /// The additions, and the end of the head.
    fn rest(mut self) {
        if self.head.is_informational() {
            self.out.extend_from_slice(b"\r\n");
            return;
        }
        self.framing(None);
        let fields = self.head.fields();
        if let Some(id) = self.with.request_id.filter(|_| !fields.has(Name::RequestId)) {
            push(self.out, b"X-Request-Id", id.as_bytes());
        }
        if let Some(Timing { queue, app }) = self.with.timing {
            self.out.extend_from_slice(b"Server-Timing: queue;dur=");
            push_milliseconds(self.out, queue);
            self.out.extend_from_slice(b", app;dur=");
            push_milliseconds(self.out, app);
            self.out.extend_from_slice(b"\r\n");
        }
        if let Some(name) = self.with.via {
            push_via(self.out, self.head.version(), name);
        }
        if let Some(value) = self.with.proxy_status {
            push(self.out, b"Proxy-Status", value.as_bytes());
        }
        if let Some(value) = self.with.set_cookie {
            push(self.out, b"Set-Cookie", value.as_bytes());
        }
        self.connection();
        self.out.extend_from_slice(b"\r\n");
    }

    fn connection(&mut self) {
        let upgrade = match self.head.status() {
            101 => return push_connection(self.out, ["upgrade", ""]),
            426 if self.head.fields().has(Name::Upgrade) => "upgrade",
            _ => "",
        };
        let persistence = match self.with.body {
            ResponseBody::UntilClose => Persistence::Close,
            ResponseBody::None | ResponseBody::Length(_) | ResponseBody::Chunked => {
                self.with.connection
            }
        };
        push_connection(self.out, [upgrade, persistence.option(self.with.asked.version)]);
    }
}
