//! Reads the head of a worker's response, as its bytes arrive.

use super::fields::{FieldLines, Fields, Span};
use super::framing::ResponseBody;
use super::head::{Asked, Options, Parsed, Upgrade, Version};
use super::limits::HeadLimits;
use super::line::Lines;
use super::name::Name;
use super::refusal::BadResponse;

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    fields: Fields,
    line: StatusLine,
    body: ResponseBody,
    pub(super) options: Options,
}

#[derive(Clone, Copy, Debug)]
struct StatusLine {
    version: Version,
    status: u16,
    reason: Span,
}

/// Reads one head from bytes that grow between calls.
#[derive(Clone, Debug)]
pub struct ResponseReader {
    limits: HeadLimits,
    asked: Asked,
    lines: Lines,
    line: Option<StatusLine>,
    fields: FieldLines,
}

/// Reads a head that is expected to be complete; [`ResponseReader`] is cheaper if it is not.
///
/// # Errors
/// The first reason found not to forward it.
pub fn response_head(
    bytes: &[u8],
    asked: Asked,
    limits: &HeadLimits,
) -> Result<Parsed<ResponseHead>, BadResponse> {
    ResponseReader::new(asked, *limits).read(bytes)
}

impl ResponseReader {
    /// For the next response to `asked`, interim ones included.
    pub fn new(asked: Asked, limits: HeadLimits) -> Self {
        Self { limits, asked, lines: Lines::default(), line: None, fields: FieldLines::default() }
    }

    /// Goes on reading `bytes`, which hold all that was given before, and more. After `Complete`
    /// or an error the reader is of no more use.
    ///
    /// # Errors
    /// The first reason found not to forward it.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Parsed<ResponseHead>, BadResponse> {
        while let Some((start, end)) = self.lines.next(bytes)? {
            if end + 2 > self.limits.head_bytes() {
                return Err(BadResponse::HeadTooLarge);
            }
            if self.line.is_none() {
                self.line = Some(status_line(&bytes[start..end])?);
            } else if start == end {
                return self.complete(&bytes[..self.lines.start]);
            } else if self.fields.len() == self.limits.fields {
                return Err(BadResponse::TooManyFields);
            } else {
                self.fields.push(bytes, (start, end), 0)?;
            }
        }
        if bytes.len() > self.limits.head_bytes() {
            return Err(BadResponse::HeadTooLarge);
        }
        Ok(Parsed::Incomplete)
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<Parsed<ResponseHead>, BadResponse> {
        let line = self.line.take().expect("a head is complete after its status line");
        if line.status == 101 && self.asked.upgrade == Upgrade::Refused {
            return Err(BadResponse::UnaskedUpgrade);
        }
        let fields = std::mem::take(&mut self.fields).finish(bytes);
        let body = ResponseBody::of(&fields, line.status, line.version, self.asked)?;
        let options = Options::of(&fields);
        let head = ResponseHead { fields, line, body, options };
        Ok(Parsed::Complete { head, length: self.lines.start })
    }
}

/// `HTTP/1.x SP STATUS SP REASON`; the last space may be missing where the reason is.
fn status_line(line: &[u8]) -> Result<StatusLine, BadResponse> {
    let (version, rest) = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', rest @ ..] => match minor {
            b'1' => (Version::Http11, rest),
            b'0' => (Version::Http10, rest),
            _ => return Err(BadResponse::StatusLine),
        },
        _ => return Err(BadResponse::StatusLine),
    };
    let [hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', after @ ..] = rest else {
        return Err(BadResponse::StatusLine);
    };
    let digits = [hundreds, tens, ones].map(|digit| u16::from(digit - b'0'));
    let reason = match after {
        [] => Span::default(),
        [b' ', reason @ ..] => Span::new(line.len() - reason.len(), line.len()),
        _ => return Err(BadResponse::StatusLine),
    };
    let status = digits[0] * 100 + digits[1] * 10 + digits[2];
    Ok(StatusLine { version, status, reason })
}

impl ResponseHead {
    /// The status, 100 to 999.
    pub fn status(&self) -> u16 {
        self.line.status
    }

    /// The reason phrase as sent, often empty.
    pub fn reason(&self) -> &[u8] {
        self.fields.slice(self.line.reason)
    }

    /// The worker's version.
    pub fn version(&self) -> Version {
        self.line.version
    }

    /// The fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// How long the body is.
    pub fn body(&self) -> ResponseBody {
        self.body
    }

    /// Whether the final response is still to come. 101 is final: the protocol changes after it.
    pub fn is_informational(&self) -> bool {
        matches!(self.line.status, 100..=199) && self.line.status != 101
    }

    /// Whether the connection becomes a tunnel after this head.
    pub fn is_upgrade(&self) -> bool {
        self.line.status == 101
    }

    /// Whether the worker takes another request on the connection once the body has ended.
    pub fn keeps_alive(&self) -> bool {
        let two_lengths =
            self.fields.has(Name::TransferEncoding) && self.fields.has(Name::ContentLength);
        let ends = self.body == ResponseBody::UntilClose || self.is_upgrade() || two_lengths;
        !ends && self.options.persists(self.line.version)
    }

    /// Whether the body is a stream of events that lasts as long as its client stays.
    pub fn is_event_stream(&self) -> bool {
        self.fields.known(Name::ContentType).any(|value| {
            let essence = value.split(|byte| *byte == b';').next().unwrap_or_default();
            super::syntax::trim(essence).eq_ignore_ascii_case(b"text/event-stream")
        })
    }
}
