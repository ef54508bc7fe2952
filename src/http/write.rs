//! What both directions write alike: a field, the framing, and what Connection keeps for one hop.

use super::fields::{Field, Fields};
use super::head::Options;
use super::name::Name;
use super::syntax::{members, push_decimal};

/// Appends `name: value CRLF`.
pub(super) fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends `field` as it was sent, the spaces around its value apart: nearly always the very bytes.
pub(super) fn push_field(out: &mut Vec<u8>, field: &Field<'_>) {
    let Field { name, value, line, .. } = *field;
    let is_plain = line.len() == name.len() + ": ".len() + value.len() + "\r\n".len()
        && line[name.len()..].starts_with(b": ")
        && line.ends_with(b"\r\n");
    if is_plain { out.extend_from_slice(line) } else { push(out, name, value) }
}

/// What we call the fields that frame a body where the sender had none.
pub(super) const LENGTH: &[u8] = b"Content-Length";
pub(super) const ENCODING: &[u8] = b"Transfer-Encoding";

/// Appends a length; `name` is [`LENGTH`], or as the sender wrote it.
pub(super) fn push_length(out: &mut Vec<u8>, name: &[u8], length: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Appends the only encoding there is; `name` is [`ENCODING`], or as the sender wrote it.
pub(super) fn push_chunked(out: &mut Vec<u8>, name: &[u8]) {
    push(out, name, b"chunked");
}

/// The name of the field `known` as it stands in `field`, if that is one, else `otherwise`.
pub(super) fn as_sent<'a>(
    field: Option<&Field<'a>>,
    known: Name,
    otherwise: &'static [u8],
) -> &'a [u8] {
    field.filter(|field| field.known == known).map_or(otherwise, |field| field.name)
}

/// Appends `Connection` with those of `options` that are not empty, if there is one.
pub(super) fn push_connection(out: &mut Vec<u8>, options: [&str; 2]) {
    let mut separator = "Connection: ";
    for option in options.into_iter().filter(|option| !option.is_empty()) {
        out.extend_from_slice(separator.as_bytes());
        out.extend_from_slice(option.as_bytes());
        separator = ", ";
    }
    if separator == ", " {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `Via` for a message that came in as `version`.
pub(super) fn push_via(out: &mut Vec<u8>, version: super::Version, name: &str) {
    out.extend_from_slice(match version {
        super::Version::Http10 => b"Via: 1.0 ",
        super::Version::Http11 => b"Via: 1.1 ",
    });
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Whether Connection names `field` as meant for one hop only. Only fields without meaning to us
/// can be: naming Host or X-Forwarded-For is how requests are made to lose them.
pub(super) fn is_nominated(fields: &Fields, options: Options, field: &Field<'_>) -> bool {
    options.names_fields
        && fields
            .known(Name::Connection)
            .flat_map(members)
            .any(|option| option.eq_ignore_ascii_case(field.name))
}
