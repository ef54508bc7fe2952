//! What is no honest request, with its answer: sent in tests/request, told in the documents.

/// What comes, and the status and reason code that answer it.
pub(crate) struct Row {
    /// As the document names it.
    pub(crate) what: &'static str,
    pub(crate) sent: Sent,
    pub(crate) status: u16,
    pub(crate) code: &'static str,
}

/// What is sent.
pub(crate) enum Sent {
    /// A whole request, or as much of one as there is.
    Head(&'static str),
    /// Fields of a POST.
    Fields(&'static str),
    /// The body of a chunked POST.
    Chunks(&'static str),
    /// A request whose target, field or chunk extension is of that size.
    Target(usize),
    Field(usize),
    ManyFields(usize),
    Extension(usize),
}

impl Sent {
    /// The bytes that a client writes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let post = "POST / HTTP/1.1\r\nHost: a\r\n";
        let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
        let text = match self {
            Self::Head(head) => (*head).to_owned(),
            Self::Fields(fields) => format!("{post}{fields}\r\n"),
            Self::Chunks(body) => format!("{chunked}{body}"),
            Self::Target(length) => {
                format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(*length))
            }
            Self::Field(length) => format!("{post}X-A: {}\r\n\r\n", "a".repeat(*length)),
            Self::ManyFields(count) => format!("{post}{}\r\n", "X-A: 1\r\n".repeat(*count)),
            Self::Extension(length) => format!("{chunked}1;{}\r\n", "e".repeat(*length)),
        };
        text.into_bytes()
    }
}

const fn row(what: &'static str, sent: Sent, status: u16, code: &'static str) -> Row {
    Row { what, sent, status, code }
}

use Sent::{Chunks, Extension, Field, Fields, Head, ManyFields, Target};

/// Everything that is answered at once.
pub(crate) const ROWS: &[Row] = &[
    row(
        "Content-Length, then Transfer-Encoding",
        Fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        400,
        "length_and_encoding",
    ),
    row(
        "Transfer-Encoding, then Content-Length",
        Fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        400,
        "length_and_encoding",
    ),
    row(
        "Content-Length twice, be it the same",
        Fields("Content-Length: 5\r\nContent-Length: 5\r\n"),
        400,
        "length_repeated",
    ),
    row("`Content-Length: +5`", Fields("Content-Length: +5\r\n"), 400, "length_invalid"),
    row("`Content-Length: 5, 5`", Fields("Content-Length: 5, 5\r\n"), 400, "length_invalid"),
    row(
        "another transfer coding than chunked",
        Fields("Transfer-Encoding: gzip, chunked\r\n"),
        501,
        "encoding_unsupported",
    ),
    row(
        "Transfer-Encoding twice",
        Fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        400,
        "encoding_repeated",
    ),
    row(
        "a space before the colon",
        Fields("Transfer-Encoding : chunked\r\n"),
        400,
        "field_space_before_colon",
    ),
    row("a folded field (obs-fold)", Fields("X-A: 1\r\n folded\r\n"), 400, "field_folded"),
    row("a bare LF", Fields("X-A: 1\nX-B: 2\r\n"), 400, "bare_lf"),
    row("a bare CR", Fields("X-A: 1\rX-B: 2\r\n"), 400, "bare_cr"),
    row("NUL or another control in a head", Fields("X-A: a\0b\r\n"), 400, "control_in_head"),
    row("a field without a colon", Fields("No colon\r\n"), 400, "field_no_colon"),
    row("Host twice", Fields("Host: b\r\n"), 400, "host_repeated"),
    row("no Host", Head("GET / HTTP/1.1\r\n\r\n"), 400, "host_missing"),
    row("a Host that is none", Head("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400, "host_invalid"),
    row("a line of HTTP/0.9", Head("GET /\r\n"), 400, "version_invalid"),
    row(
        "HTTP/2 or 3 in a line",
        Head("GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        505,
        "version_unsupported",
    ),
    row("HTTP/1.2", Head("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), 505, "version_unsupported"),
    row("CONNECT", Head("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), 501, "connect_refused"),
    row("TRACE", Head("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"), 405, "trace_refused"),
    row(
        "a target with a user or another host",
        Head("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        400,
        "target_authority",
    ),
    row("a fragment", Head("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "target_fragment"),
    row(
        "empty lines before a request",
        Head("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        400,
        "leading_lines",
    ),
    row("TLS on a plain port", Head("\x16\x03\x01\x02\0\x01\0\x01"), 400, "control_in_head"),
    row("a chunk size that is no number", Chunks("xyz\r\n"), 400, "chunk_size_invalid"),
    row("a negative chunk size", Chunks("-5\r\nhello\r\n0\r\n\r\n"), 400, "chunk_size_invalid"),
    row("a chunk size above 2^64", Chunks("10000000000000000\r\n"), 400, "chunk_size_invalid"),
    row("a chunk that does not end", Chunks("5\r\nhelloXX"), 400, "chunk_end_invalid"),
    row(
        "a control in a chunk extension",
        Chunks("5;a=\x01b\r\nhello\r\n0\r\n\r\n"),
        400,
        "chunk_extension_invalid",
    ),
    row("a flood of chunk extensions", Extension(20_000), 400, "chunk_overhead"),
    row("a target above 8 KiB", Target(9000), 414, "target_too_long"),
    row("a head above `limits.head_bytes`", Field(33_000), 431, "head_too_large"),
    row("more fields than `limits.head_fields`", ManyFields(101), 431, "too_many_fields"),
];

/// What is answered after a while, or not at all; each is tested where its time is.
pub(crate) const SLOW: &[(&str, &str)] = &[
    (
        "a head that comes slowly",
        "408 `header_timeout` after `timeouts.header_read`, however often a byte comes",
    ),
    ("a body that comes slowly", "408 `body_timeout` after a pause of `timeouts.body_idle`"),
    (
        "a client that reads slowly",
        "its response is held within `limits.response_buffer` and the total; cut as `client_slow` \
         when it takes nothing for `timeouts.response_idle`; of HTTP/2, its stream is reset with \
         `CANCEL`",
    ),
    (
        "a client that closes its side before it is answered (`nc -N`)",
        "it counts as gone: it leaves the queue, its exchange is cancelled, nothing is answered",
    ),
    (
        "a connection that never asks",
        "closed without a word after `timeouts.header_read`, earlier when there are too many",
    ),
    (
        "more than `listen.max_connections`",
        "the longest idle one is closed; with none idle, 503 and the end",
    ),
    ("more HTTP/2 streams than clients have room", "each refused with REFUSED_STREAM"),
    ("HTTP/2 streams taken back without end", "GOAWAY with ENHANCE_YOUR_CALM"),
];
