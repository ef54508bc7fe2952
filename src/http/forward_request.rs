//! Writes a request's head as a worker gets it: order and case kept, hop-by-hop fields left out.
//!
//! Only what is written here says how long the body is, who the client is and which protocol may
//! follow; whatever the client said of these was read and is written anew.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::fields::Field;
use super::framing::Framing;
use super::head::Upgrade;
use super::name::Name;
use super::request::{RequestHead, is_h2c};
use super::syntax::{members, push_decimal};
use super::write::{
    ENCODING, LENGTH, as_sent, is_nominated, push, push_chunked, push_connection, push_field,
    push_length, push_via,
};

/// Whether the peer may speak for the clients behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// What it says of its client is kept and its own address appended.
    Trusted,
    /// What it says of a client is left out.
    Untrusted,
}

/// How the client reached us, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Who answers `Expect: 100-continue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// We do, or did: the worker does not see it.
    Answered,
    /// The worker does.
    Forwarded,
}

/// Whether `Forwarded` (RFC 7239) is written beside the `X-Forwarded-*` fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedField {
    /// An element of ours is appended, or stands alone.
    Written,
    /// It passes from trusted peers as it is.
    Passed,
}

/// What a request's head is forwarded with.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The peer, or whom the PROXY protocol named; `None` for a Unix socket.
    pub client: Option<SocketAddr>,
    /// Whether the peer's own fields about its client are kept.
    pub trust: Trust,
    /// How the client reached us.
    pub scheme: Scheme,
    /// The id; see [`RequestHead::request_id`] for the one to keep.
    pub request_id: &'a str,
    /// How the body goes on: a buffered chunked body may go with its length.
    pub body: Framing,
    /// Whether the request's upgrade goes on, if it has one.
    pub upgrade: Upgrade,
    /// Who answers `Expect: 100-continue`.
    pub expectation: Expectation,
    /// Our name in `Via`, if it is written.
    pub via: Option<&'a str>,
    /// Whether `Forwarded` is written.
    pub forwarded: ForwardedField,
}

/// Appends `head` as a worker gets it: HTTP/1.1, in origin-form.
///
/// From untrusted peers every field that speaks of a client is left out: X-Forwarded-*, X-Real-IP
/// and Forwarded. From everyone: names that read like one of ours where `_` is taken for `-`.
pub fn forward_request(head: &RequestHead, with: &Forwarding<'_>, out: &mut Vec<u8>) {
    // What we add takes less than this, unless the host is long.
    out.reserve(head.fields().bytes.len() + 300);
    push_request_line(head, out);
    let mut writer = Writer { head, with, out, done: Done::default() };
    if !head.fields().has(Name::Host) {
        push(writer.out, b"Host", head.host().unwrap_or_default());
    }
    for field in head.fields().iter() {
        writer.field(&field);
    }
    writer.rest();
}

fn push_request_line(head: &RequestHead, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method());
    out.push(b' ');
    let sent = head.path_and_query();
    // Only an absolute target can lack its path.
    if !sent.starts_with(b"/") && sent != b"*" {
        out.extend_from_slice(head.path());
    }
    out.extend_from_slice(sent);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

struct Writer<'a> {
    head: &'a RequestHead,
    with: &'a Forwarding<'a>,
    out: &'a mut Vec<u8>,
    done: Done,
}

/// What has been written already, and is not written at the end.
#[derive(Default)]
struct Done {
    framing: bool,
    te: bool,
    upgrade: bool,
    request_id: bool,
    forwarded_for: bool,
    forwarded_proto: bool,
    forwarded_host: bool,
    forwarded: bool,
}

impl Writer<'_> {
    fn field(&mut self, field: &Field<'_>) {
        let is_trusted = self.with.trust == Trust::Trusted;
        match field.known {
            Name::Other => {
                if !is_nominated(self.head.fields(), self.head.options, field) {
                    push_field(self.out, field);
                }
            }
            Name::ContentType | Name::ServerTiming | Name::Via | Name::ProxyStatus => {
                push_field(self.out, field);
            }
            Name::Host => push(self.out, field.name, self.head.host().unwrap_or_default()),
            Name::ContentLength | Name::TransferEncoding => self.framing(Some(field)),
            Name::Trailer if self.with.body == Framing::Chunked => push_field(self.out, field),
            Name::Te => self.te(field),
            Name::Upgrade => self.upgrade(field),
            Name::Expect => self.expect(field),
            Name::RequestId => self.request_id(field),
            Name::ForwardedFor if is_trusted => self.forwarded_for(field),
            Name::Forwarded if is_trusted => self.forwarded(field),
            Name::ForwardedProto if is_trusted => {
                self.done.forwarded_proto = true;
                push_field(self.out, field);
            }
            Name::ForwardedHost if is_trusted => {
                self.done.forwarded_host = true;
                push_field(self.out, field);
            }
            Name::ForwardedOther if is_trusted => push_field(self.out, field),
            Name::Trailer
            | Name::ForwardedFor
            | Name::Forwarded
            | Name::ForwardedProto
            | Name::ForwardedHost
            | Name::ForwardedOther
            | Name::Lookalike
            | Name::Peer
            | Name::Connection
            | Name::KeepAlive
            | Name::Http2Settings
            | Name::Proxy => {}
        }
    }

    /// Where the client's own framing stood, or at the end.
    fn framing(&mut self, field: Option<&Field<'_>>) {
        if !std::mem::replace(&mut self.done.framing, true) {
            match self.with.body {
                Framing::None => {}
                Framing::Length(length) => {
                    push_length(self.out, as_sent(field, Name::ContentLength, LENGTH), length);
                }
                Framing::Chunked => {
                    push_chunked(self.out, as_sent(field, Name::TransferEncoding, ENCODING));
                }
            }
        }
    }

    /// Of the codings that a client takes only trailers concern more than its own hop.
    fn te(&mut self, field: &Field<'_>) {
        let mut codings = members(field.value);
        if !self.done.te && codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers")) {
            self.done.te = true;
            push(self.out, field.name, b"trailers");
        }
    }

    fn upgrade(&mut self, field: &Field<'_>) {
        if self.with.upgrade == Upgrade::Refused || self.head.upgrade().is_none() {
            return;
        }
        let mut separator: &[u8] = b": ";
        for protocol in members(field.value).filter(|protocol| !is_h2c(protocol)) {
            if separator == b": " {
                self.out.extend_from_slice(field.name);
            }
            self.out.extend_from_slice(separator);
            self.out.extend_from_slice(protocol);
            separator = b", ";
        }
        if separator == b", " {
            self.out.extend_from_slice(b"\r\n");
            self.done.upgrade = true;
        }
    }

    fn expect(&mut self, field: &Field<'_>) {
        let is_continue =
            members(field.value).any(|member| member.eq_ignore_ascii_case(b"100-continue"));
        match self.with.expectation {
            Expectation::Answered if is_continue => {}
            Expectation::Answered | Expectation::Forwarded => push_field(self.out, field),
        }
    }

    fn request_id(&mut self, field: &Field<'_>) {
        if !self.done.request_id && field.value == self.with.request_id.as_bytes() {
            self.done.request_id = true;
            push_field(self.out, field);
        }
    }

    /// All addresses so far in one field, where the first stood, with the peer's behind them.
    fn forwarded_for(&mut self, first: &Field<'_>) {
        if std::mem::replace(&mut self.done.forwarded_for, true) {
            return;
        }
        let separator = self.joined(first, Name::ForwardedFor);
        if let Some(client) = self.with.client {
            self.out.extend_from_slice(separator);
            push_address(self.out, client.ip());
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn forwarded(&mut self, first: &Field<'_>) {
        match self.with.forwarded {
            ForwardedField::Passed => push_field(self.out, first),
            ForwardedField::Written if self.done.forwarded => {}
            ForwardedField::Written => {
                self.done.forwarded = true;
                let separator = self.joined(first, Name::Forwarded);
                self.out.extend_from_slice(separator);
                self.forwarded_element();
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// The values of all fields called `name`, in one; returns what to write before another.
    fn joined(&mut self, first: &Field<'_>, name: Name) -> &'static [u8] {
        self.out.extend_from_slice(first.name);
        self.out.extend_from_slice(b": ");
        let mut separator: &[u8] = b"";
        for value in self.head.fields().known(name).filter(|value| !value.is_empty()) {
            self.out.extend_from_slice(separator);
            self.out.extend_from_slice(value);
            separator = b", ";
        }
        separator
    }

    /// One element of RFC 7239. The host is quoted: it may hold a colon.
    fn forwarded_element(&mut self) {
        self.out.extend_from_slice(b"for=");
        match self.with.client.map(|client| client.ip().to_canonical()) {
            Some(IpAddr::V4(address)) => push_address(self.out, IpAddr::V4(address)),
            Some(IpAddr::V6(address)) => {
                self.out.extend_from_slice(b"\"[");
                push_address(self.out, IpAddr::V6(address));
                self.out.extend_from_slice(b"]\"");
            }
            None => self.out.extend_from_slice(b"unknown"),
        }
        if let Some(host) = self.head.host().filter(|host| !host.is_empty()) {
            self.out.extend_from_slice(b";host=\"");
            self.out.extend_from_slice(host);
            self.out.push(b'"');
        }
        self.out.extend_from_slice(b";proto=");
        self.out.extend_from_slice(self.with.scheme.text().as_bytes());
    }

    /// What no field of the client gave a place to, and the end of the head.
    fn rest(mut self) {
        self.framing(None);
        // Before what a next proxy replaces: forwarded again, the head stays the same.
        if !self.done.request_id {
            push(self.out, b"X-Request-Id", self.with.request_id.as_bytes());
        }
        if let Some(client) = self.with.client
            && !self.done.forwarded_for
        {
            self.out.extend_from_slice(b"X-Forwarded-For: ");
            push_address(self.out, client.ip());
            self.out.extend_from_slice(b"\r\n");
        }
        if !self.done.forwarded_proto {
            push(self.out, b"X-Forwarded-Proto", self.with.scheme.text().as_bytes());
        }
        if !self.done.forwarded_host
            && let Some(host) = self.head.host().filter(|host| !host.is_empty())
        {
            push(self.out, b"X-Forwarded-Host", host);
        }
        if self.with.forwarded == ForwardedField::Written && !self.done.forwarded {
            self.out.extend_from_slice(b"Forwarded: ");
            self.forwarded_element();
            self.out.extend_from_slice(b"\r\n");
        }
        if let Some(name) = self.with.via {
            push_via(self.out, self.head.version(), name);
        }
        let upgrade = if self.done.upgrade { "upgrade" } else { "" };
        push_connection(self.out, [upgrade, if self.done.te { "TE" } else { "" }]);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Without brackets or port; IPv4 in its own form, also where an IPv6 socket accepted it.
fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        // Most are: the general formatter takes longer than the rest of the head.
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                push_decimal(out, u64::from(octet));
            }
        }
        IpAddr::V6(address) => {
            write!(out, "{address}").expect("writing into memory cannot fail");
        }
    }
}
