//! Every response that the master writes itself, apart from what connection mode says.

use super::forward_response::Persistence;
use super::head::{Asked, Method};
use super::refusal::{BadResponse, Refusal};
use super::syntax::push_decimal;
use super::write::{LENGTH, push, push_connection, push_length};

/// Tells a client to send its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A configured body, instead of our text: a static page, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Instead of the status that the answer would have.
    pub status: Option<u16>,
    /// Of the body; see [`content_type`].
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// One response of ours.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// 200 to 599.
    pub status: u16,
    /// The reason code; it stands in the body.
    pub reason: &'a str,
    /// The request's id, if it has got one.
    pub request_id: Option<&'a str>,
    /// Seconds after which it is worth trying again.
    pub retry_after: Option<u32>,
    /// A value for `Proxy-Status`.
    pub proxy_status: Option<&'a str>,
    /// The body, if it is not our text.
    pub page: Option<&'a Page>,
    /// Whether the connection is kept.
    pub connection: Persistence,
}

impl<'a> Answer<'a> {
    /// An answer that closes and has only what it must.
    pub fn new(status: u16, reason: &'a str) -> Self {
        Self {
            status,
            reason,
            request_id: None,
            retry_after: None,
            proxy_status: None,
            page: None,
            connection: Persistence::Close,
        }
    }

    /// Appends the answer to `asked`.
    pub fn write(&self, asked: Asked, out: &mut Vec<u8>) {
        let status = self.page.and_then(|page| page.status).unwrap_or(self.status);
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(phrase(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        match self.page {
            Some(page) => {
                push(out, b"Content-Type", page.content_type.as_bytes());
                push_length(out, LENGTH, page.body.len() as u64);
            }
            None => {
                push(out, b"Content-Type", b"text/plain; charset=utf-8");
                push_length(out, LENGTH, self.text_length(status));
            }
        }
        // No cache may keep what is true for this moment only.
        push(out, b"Cache-Control", b"no-store");
        self.optional_fields(out);
        if self.status == 405 {
            // RFC 9110 §15.5.6 demands it; what else an app takes is its own affair.
            push(out, b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        push_connection(out, [self.connection.option(asked.version), ""]);
        out.extend_from_slice(b"\r\n");
        match (asked.method, self.page) {
            (Method::Head, _) => {}
            (_, Some(page)) => out.extend_from_slice(&page.body),
            (_, None) => self.text(status, out),
        }
    }

    fn optional_fields(&self, out: &mut Vec<u8>) {
        if let Some(seconds) = self.retry_after {
            out.extend_from_slice(b"Retry-After: ");
            push_decimal(out, u64::from(seconds));
            out.extend_from_slice(b"\r\n");
        }
        if let Some(id) = self.request_id {
            push(out, b"X-Request-Id", id.as_bytes());
        }
        if let Some(value) = self.proxy_status {
            push(out, b"Proxy-Status", value.as_bytes());
        }
    }

    /// `503 Service Unavailable (queue_full)`, and the request's id on a line of its own.
    fn text(&self, status: u16, out: &mut Vec<u8>) {
        push_decimal(out, u64::from(status));
        for part in [" ", phrase(status), " (", self.reason, ")\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some(id) = self.request_id {
            for part in [REQUEST, id, "\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }

    fn text_length(&self, status: u16) -> u64 {
        let first = "503".len() + phrase(status).len() + self.reason.len() + "  ()\n".len();
        let second = self.request_id.map_or(0, |id| REQUEST.len() + id.len() + 1);
        (first + second) as u64
    }
}

const REQUEST: &str = "request ";

impl From<Refusal> for Answer<'static> {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status(), refusal.code())
    }
}

impl From<BadResponse> for Answer<'static> {
    /// The client is not to blame: its connection is kept if the caller says so.
    fn from(bad: BadResponse) -> Self {
        Self::new(502, bad.code())
    }
}

/// The reason phrase of the statuses that we use; others get a neutral one.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Answer",
    }
}

/// The media type of a configured file, from the extension of its name.
pub fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let table = [
        ("html", "text/html; charset=utf-8"),
        ("htm", "text/html; charset=utf-8"),
        ("json", "application/json"),
        ("xml", "application/xml"),
        ("txt", "text/plain; charset=utf-8"),
        ("css", "text/css; charset=utf-8"),
        ("js", "text/javascript; charset=utf-8"),
        ("svg", "image/svg+xml"),
        ("png", "image/png"),
        ("ico", "image/x-icon"),
    ];
    let found = table.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    found.map_or("application/octet-stream", |(_, media_type)| media_type)
}
