//! Every way in which a message is refused: its status, its reason code and its sentence.

use std::fmt;

use super::LineFault;

/// Why a client's message is not forwarded. After one the place of the next message is unknown:
/// answer and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A line of the head is broken.
    Line(LineFault),
    /// A field line of the head or of the trailers is broken.
    Field(FieldFault),
    /// More than two empty lines stand before the request.
    LeadingLines,
    /// Not `METHOD SP TARGET SP VERSION`.
    RequestLine,
    /// The method is no token.
    MethodInvalid,
    /// The method has more than 32 bytes.
    MethodTooLong,
    /// `CONNECT`: this is no tunnel to elsewhere.
    Connect,
    /// `TRACE`: it would send cookies back to whoever asks.
    Trace,
    /// The target holds a tab, or is no UTF-8.
    TargetInvalid,
    /// The target holds a `#`.
    TargetFragment,
    /// A target of a form that its method must not have.
    TargetForm,
    /// An absolute target that is neither http nor https, names a user, or has no valid authority.
    TargetAuthority,
    /// The target exceeds its bound.
    TargetTooLong,
    /// No version, or something else in its place.
    VersionInvalid,
    /// A version other than 1.0 and 1.1.
    VersionUnsupported,
    /// The head exceeds its bound.
    HeadTooLarge,
    /// There are more fields than the bound.
    TooManyFields,
    /// An HTTP/1.1 request without Host.
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// Host is no `name[:port]`.
    HostInvalid,
    /// More than one Content-Length, equal or not.
    LengthRepeated,
    /// Content-Length is not digits only, or beyond 2^63 − 1.
    LengthInvalid,
    /// Both Content-Length and Transfer-Encoding.
    LengthAndEncoding,
    /// More than one Transfer-Encoding.
    EncodingRepeated,
    /// A Transfer-Encoding that is not exactly `chunked`.
    EncodingUnsupported,
    /// Transfer-Encoding in HTTP/1.0, which does not know it.
    EncodingInOldVersion,
    /// A chunk size that is not 1 to 16 hex digits, or beyond 2^63 − 1.
    ChunkSize,
    /// A chunk extension with a control in it.
    ChunkExtension,
    /// Chunk extensions out of proportion to the data.
    ChunkOverhead,
    /// A chunk line or a chunk's data that does not end in CRLF.
    ChunkEnd,
    /// The trailers exceed their bound.
    TrailersTooLarge,
}

impl Refusal {
    /// Every refusal there is.
    pub const ALL: [Self; 38] = [
        Self::Line(LineFault::BareLf),
        Self::Line(LineFault::BareCr),
        Self::Line(LineFault::Control),
        Self::Field(FieldFault::Folded),
        Self::Field(FieldFault::NoColon),
        Self::Field(FieldFault::NameEmpty),
        Self::Field(FieldFault::SpaceBeforeColon),
        Self::Field(FieldFault::NameInvalid),
        Self::Field(FieldFault::ValueInvalid),
        Self::LeadingLines,
        Self::RequestLine,
        Self::MethodInvalid,
        Self::MethodTooLong,
        Self::Connect,
        Self::Trace,
        Self::TargetInvalid,
        Self::TargetFragment,
        Self::TargetForm,
        Self::TargetAuthority,
        Self::TargetTooLong,
        Self::VersionInvalid,
        Self::VersionUnsupported,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::HostMissing,
        Self::HostRepeated,
        Self::HostInvalid,
        Self::LengthRepeated,
        Self::LengthInvalid,
        Self::LengthAndEncoding,
        Self::EncodingRepeated,
        Self::EncodingUnsupported,
        Self::EncodingInOldVersion,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkOverhead,
        Self::ChunkEnd,
        Self::TrailersTooLarge,
    ];

    /// The status to answer with.
    pub fn status(self) -> u16 {
        self.describe().0
    }

    /// The reason code, for logs, counters and the body of the answer.
    pub fn code(self) -> &'static str {
        self.describe().1
    }

    fn describe(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Line(fault) => (400, fault.code(), fault.sentence()),
            Self::Field(fault) => (400, fault.code(), fault.sentence()),
            Self::LeadingLines => (400, "leading_lines", "empty lines stand before the request"),
            Self::RequestLine => (400, "request_line_invalid", "the request line is malformed"),
            Self::MethodInvalid => (400, "method_invalid", "the method is no token"),
            Self::MethodTooLong => (501, "method_too_long", "the method is too long"),
            Self::Connect => (501, "connect_refused", "CONNECT is not served"),
            Self::Trace => (405, "trace_refused", "TRACE is not served"),
            Self::TargetInvalid => (400, "target_invalid", "the target holds a tab or no UTF-8"),
            Self::TargetFragment => (400, "target_fragment", "the target holds a fragment"),
            Self::TargetForm => (400, "target_form", "the target's form does not fit the method"),
            Self::TargetAuthority => (400, "target_authority", "the absolute target is not ours"),
            Self::TargetTooLong => (414, "target_too_long", "the target exceeds its bound"),
            Self::VersionInvalid => (400, "version_invalid", "the request names no HTTP version"),
            Self::VersionUnsupported => (505, "version_unsupported", "not HTTP/1.0 or HTTP/1.1"),
            Self::HeadTooLarge => (431, "head_too_large", "the head exceeds its bound"),
            Self::TooManyFields => (431, "too_many_fields", "the fields exceed their bound"),
            Self::HostMissing => (400, "host_missing", "the request names no host"),
            Self::HostRepeated => (400, "host_repeated", "the request names its host twice"),
            Self::HostInvalid => (400, "host_invalid", "the host is no name and port"),
            Self::LengthRepeated => (400, "length_repeated", "Content-Length is repeated"),
            Self::LengthInvalid => (400, "length_invalid", "Content-Length is no plain number"),
            Self::LengthAndEncoding => {
                (400, "length_and_encoding", "both Content-Length and Transfer-Encoding are given")
            }
            Self::EncodingRepeated => (400, "encoding_repeated", "Transfer-Encoding is repeated"),
            Self::EncodingUnsupported => {
                (501, "encoding_unsupported", "Transfer-Encoding is not exactly chunked")
            }
            Self::EncodingInOldVersion => {
                (400, "encoding_in_old_version", "HTTP/1.0 has no Transfer-Encoding")
            }
            Self::ChunkSize => (400, "chunk_size_invalid", "a chunk's size is no plain hex number"),
            Self::ChunkExtension => {
                (400, "chunk_extension_invalid", "a chunk extension holds a control")
            }
            Self::ChunkOverhead => {
                (400, "chunk_overhead", "chunk extensions are out of proportion to the data")
            }
            Self::ChunkEnd => (400, "chunk_end_invalid", "a chunk does not end in CRLF"),
            Self::TrailersTooLarge => (431, "trailers_too_large", "trailers exceed their bound"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe().2)
    }
}

impl std::error::Error for Refusal {}

impl From<LineFault> for Refusal {
    fn from(fault: LineFault) -> Self {
        Self::Line(fault)
    }
}

impl From<FieldFault> for Refusal {
    fn from(fault: FieldFault) -> Self {
        Self::Field(fault)
    }
}

/// What is wrong with a field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldFault {
    /// It starts with a space or tab, continuing the line before it.
    Folded,
    /// It has no colon.
    NoColon,
    /// Nothing stands before the colon.
    NameEmpty,
    /// A space or tab stands before the colon.
    SpaceBeforeColon,
    /// The name is no token.
    NameInvalid,
    /// The value holds a control other than tab, or DEL.
    ValueInvalid,
}

impl FieldFault {
    /// The reason code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Folded => "field_folded",
            Self::NoColon => "field_no_colon",
            Self::NameEmpty => "field_name_empty",
            Self::SpaceBeforeColon => "field_space_before_colon",
            Self::NameInvalid => "field_name_invalid",
            Self::ValueInvalid => "field_value_invalid",
        }
    }

    /// One sentence for logs.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Folded => "a field is folded over two lines",
            Self::NoColon => "a field line has no colon",
            Self::NameEmpty => "a field has no name",
            Self::SpaceBeforeColon => "a space stands between a field's name and its colon",
            Self::NameInvalid => "a field's name is no token",
            Self::ValueInvalid => "a field's value holds a control",
        }
    }
}

/// Why a worker's response is not forwarded; the client gets a 502 and the connection to the worker
/// is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadResponse {
    /// A line of the head is broken.
    Line(LineFault),
    /// A field line is broken.
    Field(FieldFault),
    /// Not `HTTP/1.x SP STATUS [SP REASON]` with a status of 100 to 999.
    StatusLine,
    /// The head exceeds its bound.
    HeadTooLarge,
    /// There are more fields than the bound.
    TooManyFields,
    /// Content-Length is no plain number, or there are two that differ.
    Length,
    /// A Transfer-Encoding that is not exactly `chunked`, or that HTTP/1.0 carries.
    Encoding,
    /// 101 to a request that asked for no upgrade.
    UnaskedUpgrade,
}

impl BadResponse {
    /// The reason code, for logs, counters and the body of the 502.
    pub fn code(self) -> &'static str {
        self.describe().0
    }

    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Line(fault) => ("response_line_invalid", fault.sentence()),
            Self::Field(fault) => ("response_field_invalid", fault.sentence()),
            Self::StatusLine => ("response_status_line", "the status line is malformed"),
            Self::HeadTooLarge => ("response_head_too_large", "the head exceeds its bound"),
            Self::TooManyFields => ("response_too_many_fields", "the fields exceed their bound"),
            Self::Length => ("response_length_invalid", "Content-Length is no single number"),
            Self::Encoding => {
                ("response_encoding_unsupported", "Transfer-Encoding is not exactly chunked")
            }
            Self::UnaskedUpgrade => {
                ("response_upgrade_unasked", "101 answers a request that asked for no upgrade")
            }
        }
    }
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe().1)
    }
}

impl std::error::Error for BadResponse {}

impl From<LineFault> for BadResponse {
    fn from(fault: LineFault) -> Self {
        Self::Line(fault)
    }
}

impl From<FieldFault> for BadResponse {
    fn from(fault: FieldFault) -> Self {
        Self::Field(fault)
    }
}
