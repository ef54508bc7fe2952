//! Decides who says how long a body is (RFC 9112 §6); ambiguity is refused, never resolved.

use super::fields::Fields;
use super::head::{Asked, Method, Version};
use super::name::Name;
use super::refusal::{BadResponse, Refusal};
use super::syntax::decimal;

/// How the end of a request's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body, and nothing said of one.
    None,
    /// So many bytes; 0 was said, too.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

/// How the end of a response's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// No body whatever the fields say: HEAD, 1xx, 204, 304.
    None,
    /// So many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

impl Framing {
    pub(super) fn of(fields: &Fields, version: Version) -> Result<Self, Refusal> {
        if !fields.has(Name::ContentLength) && !fields.has(Name::TransferEncoding) {
            return Ok(Self::None);
        }
        let mut codings = fields.known(Name::TransferEncoding);
        let mut lengths = fields.known(Name::ContentLength);
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(Self::None),
            (Some(_), Some(_)) => Err(Refusal::LengthAndEncoding),
            (Some(_), None) if version == Version::Http10 => Err(Refusal::EncodingInOldVersion),
            (Some(_), None) if codings.next().is_some() => Err(Refusal::EncodingRepeated),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Self::Chunked),
            (Some(_), None) => Err(Refusal::EncodingUnsupported),
            (None, Some(_)) if lengths.next().is_some() => Err(Refusal::LengthRepeated),
            (None, Some(digits)) => decimal(digits).map(Self::Length).ok_or(Refusal::LengthInvalid),
        }
    }

    /// Whether body bytes follow the head.
    pub fn has_body(self) -> bool {
        match self {
            Self::None | Self::Length(0) => false,
            Self::Length(_) | Self::Chunked => true,
        }
    }
}

impl ResponseBody {
    pub(super) fn of(
        fields: &Fields,
        status: u16,
        version: Version,
        asked: Asked,
    ) -> Result<Self, BadResponse> {
        let said = Self::said(fields, version)?;
        if asked.method == Method::Head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Self::None);
        }
        Ok(said)
    }

    /// What the fields say. A worker that says both chunked and a length is read as chunked (RFC
    /// 9112 §6.3), the length goes no further and the connection is not used again; equal lengths
    /// count as one.
    fn said(fields: &Fields, version: Version) -> Result<Self, BadResponse> {
        let mut codings = fields.known(Name::TransferEncoding);
        if let Some(coding) = codings.next() {
            let only = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            return match (only, version) {
                (true, Version::Http11) => Ok(Self::Chunked),
                (true, Version::Http10) | (false, _) => Err(BadResponse::Encoding),
            };
        }
        let mut lengths = fields.known(Name::ContentLength);
        let Some(first) = lengths.next() else {
            return Ok(Self::UntilClose);
        };
        let length = decimal(first).ok_or(BadResponse::Length)?;
        if lengths.any(|other| other != first) {
            return Err(BadResponse::Length);
        }
        Ok(Self::Length(length))
    }

    /// How a client of `version` gets this body with its connection kept if possible: bytes until
    /// the worker closes become chunks, and chunks become bytes until we close for HTTP/1.0.
    pub fn towards(self, version: Version) -> Self {
        match (self, version) {
            (Self::UntilClose, Version::Http11) => Self::Chunked,
            (Self::Chunked, Version::Http10) => Self::UntilClose,
            (body, _) => body,
        }
    }
}
