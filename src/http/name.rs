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
    /// Ours alone: whom a request is from, between us and our preload.
    Peer,
}

impl Name {
    /// The bit of this name in a set.
    pub(super) fn bit(self) -> u32 {
        1 << self as u8
    }

    /// What the token `name`, which holds no `_`, is. Its length rules out most names at once.
    pub(super) fn of(name: &[u8]) -> Self {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            3 if is("via") => Self::Via,
            4 if is("host") => Self::Host,
            5 if is("proxy") => Self::Proxy,
            6 if is("expect") => Self::Expect,
            7 if is("trailer") => Self::Trailer,
            7 if is("upgrade") => Self::Upgrade,
            9 if is("forwarded") => Self::Forwarded,
            9 if is("x-real-ip") => Self::ForwardedOther,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::KeepAlive,
            12 if is("content-type") => Self::ContentType,
            12 if is("proxy-status") => Self::ProxyStatus,
            12 if is("x-request-id") => Self::RequestId,
            13 if is("server-timing") => Self::ServerTiming,
            14 if is("content-length") => Self::ContentLength,
            14 if is("x-tenfold-peer") => Self::Peer,
            14 if is("http2-settings") => Self::Http2Settings,
            15 if is("x-forwarded-for") => Self::ForwardedFor,
            16 if is("x-forwarded-host") => Self::ForwardedHost,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("x-forwarded-proto") => Self::ForwardedProto,
            _ => Self::by_prefix(name),
        }
    }

    fn by_prefix(name: &[u8]) -> Self {
        let starts = |text: &str| {
            name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
        };
        match name.first() {
            Some(b'p' | b'P') if starts("proxy-") => Self::Proxy,
            Some(b'x' | b'X') if starts("x-forwarded-") => Self::ForwardedOther,
            Some(_) | None => Self::Other,
        }
    }

    /// What the token `name`, which holds a `_`, is.
    #[cold]
    pub(super) fn of_underscored(name: &[u8]) -> Self {
        let mut dashed = [0_u8; LONGEST];
        let Some(dashed) = dashed.get_mut(..name.len()) else {
            return Self::Other;
        };
        for (to, from) in dashed.iter_mut().zip(name) {
            *to = if *from == b'_' { b'-' } else { *from };
        }
        match Self::of(dashed) {
            Self::Other => Self::Other,
            _ => Self::Lookalike,
        }
    }
}

/// Longer names with underscores are taken for none of ours: `x-forwarded-…` alone has no length.
const LONGEST: usize = 32;
