//! The field names that mean something to this proxy, told apart once, when a head is read.

/// What a field is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Name {
    /// Nothing: it passes.
    Other,
    /// Looks like one of the names below to whoever takes `_` for `-` (CGI, WSGI, PHP).
    Lookalike,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    Te,
    Trailer,
    Upgrade,
    Http2Settings,
    Expect,
    /// `Proxy` and all `Proxy-*` but Proxy-Status.
    Proxy,
    ProxyStatus,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    /// Another `X-Forwarded-*`, or X-Real-IP.
    ForwardedOther,
    Forwarded,
    RequestId,
    Via,
    ContentType,
    ServerTiming,
}

impl Name {
    /// The bit of this name in a set.
    pub(super) fn bit(self) -> u32 {
        1 << self as u8
    }

    /// What the token `name` is.
    pub(super) fn of(name: &[u8]) -> Self {
        let known = Self::spelled(name);
        // No known name holds an underscore.
        if known == Self::Other && name.len() <= LONGEST && name.contains(&b'_') {
            return Self::underscored(name);
        }
        known
    }

    #[cold]
    fn underscored(name: &[u8]) -> Self {
        let mut dashed = [0_u8; LONGEST];
        for (to, from) in dashed.iter_mut().zip(name) {
            *to = if *from == b'_' { b'-' } else { *from };
        }
        match Self::spelled(&dashed[..name.len()]) {
            Self::Other => Self::Other,
            _ => Self::Lookalike,
        }
    }

    fn spelled(name: &[u8]) -> Self {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        let starts = |text: &str| {
            name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
        };
        // The first letter rules out most names at once.
        match name.first().map(u8::to_ascii_lowercase) {
            Some(b'c') if is("connection") => Self::Connection,
            Some(b'c') if is("content-length") => Self::ContentLength,
            Some(b'c') if is("content-type") => Self::ContentType,
            Some(b'e') if is("expect") => Self::Expect,
            Some(b'f') if is("forwarded") => Self::Forwarded,
            Some(b'h') if is("host") => Self::Host,
            Some(b'h') if is("http2-settings") => Self::Http2Settings,
            Some(b'k') if is("keep-alive") => Self::KeepAlive,
            Some(b'p') if is("proxy-status") => Self::ProxyStatus,
            Some(b'p') if is("proxy") || starts("proxy-") => Self::Proxy,
            Some(b's') if is("server-timing") => Self::ServerTiming,
            Some(b't') if is("te") => Self::Te,
            Some(b't') if is("trailer") => Self::Trailer,
            Some(b't') if is("transfer-encoding") => Self::TransferEncoding,
            Some(b'u') if is("upgrade") => Self::Upgrade,
            Some(b'v') if is("via") => Self::Via,
            Some(b'x') if is("x-forwarded-for") => Self::ForwardedFor,
            Some(b'x') if is("x-forwarded-proto") => Self::ForwardedProto,
            Some(b'x') if is("x-forwarded-host") => Self::ForwardedHost,
            Some(b'x') if starts("x-forwarded-") || is("x-real-ip") => Self::ForwardedOther,
            Some(b'x') if is("x-request-id") => Self::RequestId,
            _ => Self::Other,
        }
    }
}

/// Longer names with underscores are taken for none of ours: `x-forwarded-…` alone has no length.
const LONGEST: usize = 32;
