//! What request heads and response heads have in common: versions, methods, connection options.

use super::fields::Fields;
use super::name::Name;
use super::syntax::members;

/// What reading a head came to.
#[derive(Clone, Debug)]
pub enum Parsed<T> {
    /// More bytes are needed; none is used up.
    Incomplete,
    /// All is there.
    Complete {
        /// The head, independent of the bytes it was read from.
        head: T,
        /// How many of the bytes it took; what follows is the body or the next message.
        length: usize,
    },
}

/// The versions that are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// The methods that something depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `TRACE`
    Trace,
    /// `CONNECT`
    Connect,
    /// Any other token; its name is in the head.
    Other,
}

impl Method {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether sending it twice has the effect of sending it once (RFC 9110 §9.2.2).
    pub fn is_idempotent(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace => true,
            Self::Post | Self::Connect | Self::Other => false,
        }
    }
}

/// What an answer depends on of the request that it answers. The default, GET in HTTP/1.1, stands
/// for a request that could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// HEAD gets no body.
    pub method: Method,
    /// HTTP/1.0 gets no chunks.
    pub version: Version,
    /// Whether an upgrade was forwarded; only then may 101 come back.
    pub upgrade: Upgrade,
}

/// Whether an upgrade goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// `Upgrade` is passed, and 101 makes the connection a tunnel.
    Allowed,
    /// `Upgrade` is left out.
    #[default]
    Refused,
}

/// What the Connection fields of a head ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// It names fields, which are for the next hop only.
    pub(super) names_fields: bool,
}

impl Options {
    pub(super) fn of(fields: &Fields) -> Self {
        let mut options = Self::default();
        for option in fields.known(Name::Connection).flat_map(members) {
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else {
                options.names_fields = true;
            }
        }
        options
    }

    /// RFC 9112 §9.3.
    pub(super) fn persists(self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }
}
