//! Tells an HTTP/2 client that knows beforehand (h2c, RFC 9113 §3.4) by its first bytes.

/// What every HTTP/2 connection starts with.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// Too few to tell.
    Incomplete,
    /// Anything but HTTP/2: read it as HTTP/1.
    Http1,
    /// HTTP/2; the preface is part of what the HTTP/2 server must get.
    Http2,
}

impl Preface {
    /// Judges the first bytes of a connection; later in it a preface is a malformed request.
    pub fn of(bytes: &[u8]) -> Self {
        let length = bytes.len().min(HTTP2.len());
        if bytes[..length] != HTTP2[..length] {
            Self::Http1
        } else if length < HTTP2.len() {
            Self::Incomplete
        } else {
            Self::Http2
        }
    }
}
