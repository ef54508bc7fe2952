//! Reads the head of a request, strictly, as its bytes arrive.

use super::fields::{FieldLines, Fields, Span};
use super::framing::Framing;
use super::head::{Asked, Method, Options, Parsed, Upgrade, Version};
use super::limits::HeadLimits;
use super::line::Lines;
use super::name::Name;
use super::refusal::Refusal;
use super::syntax::{is_token, members};
use super::target::{Target, is_host};

/// Longer than any registered method (`UPDATEREDIRECTREF`, 17).
const METHOD_MAX: usize = 32;

/// Empty lines that may stand before a request (RFC 9112 §2.2 asks for one; some clients send two
/// after a POST).
const LEADING_LINES_MAX: usize = 2;

/// A request's head that has one reading only.
#[derive(Clone, Debug)]
pub struct RequestHead {
    fields: Fields,
    line: RequestLine,
    framing: Framing,
    pub(super) options: Options,
}

#[derive(Clone, Copy, Debug)]
struct RequestLine {
    method: Method,
    name: Span,
    target: Span,
    parts: Target,
    version: Version,
}

/// Reads one head from bytes that grow between calls.
#[derive(Clone, Debug)]
pub struct RequestReader {
    limits: HeadLimits,
    lines: Lines,
    leading: usize,
    /// Where the request line starts.
    base: usize,
    line: Option<RequestLine>,
    fields: FieldLines,
}

/// Reads a head that is expected to be complete; [`RequestReader`] is cheaper if it is not.
///
/// # Errors
/// The first reason found not to serve it.
pub fn request_head(bytes: &[u8], limits: &HeadLimits) -> Result<Parsed<RequestHead>, Refusal> {
    RequestReader::new(*limits).read(bytes)
}

impl RequestReader {
    /// For the next request of a connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            lines: Lines::default(),
            leading: 0,
            base: 0,
            line: None,
            fields: FieldLines::default(),
        }
    }

    /// Goes on reading `bytes`, which hold all that was given before, and more. After `Complete`
    /// or an error the reader is of no more use.
    ///
    /// # Errors
    /// The first reason found not to serve it, as early as its bytes are there.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Parsed<RequestHead>, Refusal> {
        while let Some((start, end)) = self.lines.next(bytes)? {
            if end + 2 - self.base > self.limits.head_bytes() {
                return Err(self.too_large(end - start));
            }
            if self.line.is_some() {
                if start == end {
                    return self.complete(&bytes[self.base..self.lines.start]);
                }
                if self.fields.len() == self.limits.fields {
                    return Err(Refusal::TooManyFields);
                }
                self.fields.push(bytes, (start, end), self.base)?;
            } else if start == end {
                self.leading += 1;
                if self.leading > LEADING_LINES_MAX {
                    return Err(Refusal::LeadingLines);
                }
                self.base = self.lines.start;
            } else {
                self.line = Some(request_line(&bytes[start..end], &self.limits)?);
            }
        }
        if bytes.len() - self.base > self.limits.head_bytes() {
            return Err(self.too_large(bytes.len() - self.lines.start));
        }
        // The method and the version take less than this beside the target.
        let line_max = self.limits.target.saturating_add(METHOD_MAX + " HTTP/1.1\r\n ".len());
        if self.line.is_none() && bytes.len() - self.base > line_max {
            return Err(Refusal::TargetTooLong);
        }
        Ok(Parsed::Incomplete)
    }

    /// The bound was passed in a line of `length`: is it the target's fault?
    fn too_large(&self, length: usize) -> Refusal {
        match self.line {
            None if length > self.limits.target => Refusal::TargetTooLong,
            None | Some(_) => Refusal::HeadTooLarge,
        }
    }

    fn complete(&mut self, bytes: &[u8]) -> Result<Parsed<RequestHead>, Refusal> {
        let line = self.line.take().expect("a head is complete after its request line");
        let fields = std::mem::take(&mut self.fields).finish(bytes);
        check_host(&fields, line.version)?;
        let framing = Framing::of(&fields, line.version)?;
        let options = Options::of(&fields);
        let head = RequestHead { fields, line, framing, options };
        Ok(Parsed::Complete { head, length: self.lines.start })
    }
}

fn request_line(line: &[u8], limits: &HeadLimits) -> Result<RequestLine, Refusal> {
    let space = memchr::memchr(b' ', line).ok_or(Refusal::RequestLine)?;
    let (name, rest) = (&line[..space], &line[space + 1..]);
    if !is_token(name) {
        return Err(Refusal::MethodInvalid);
    }
    if name.len() > METHOD_MAX {
        return Err(Refusal::MethodTooLong);
    }
    let target_length = memchr::memchr(b' ', rest).unwrap_or(rest.len());
    if target_length == 0 {
        return Err(Refusal::RequestLine);
    }
    if target_length > limits.target {
        return Err(Refusal::TargetTooLong);
    }
    let version = match rest.get(target_length + 1..) {
        Some(b"HTTP/1.1") => Version::Http11,
        Some(b"HTTP/1.0") => Version::Http10,
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::VersionUnsupported);
        }
        Some(_) | None => return Err(Refusal::VersionInvalid),
    };
    let method = Method::of(name);
    match method {
        Method::Connect => return Err(Refusal::Connect),
        Method::Trace => return Err(Refusal::Trace),
        Method::Get
        | Method::Head
        | Method::Post
        | Method::Put
        | Method::Delete
        | Method::Options
        | Method::Other => {}
    }
    let parts = Target::cut(&rest[..target_length], method)?;
    let target = Span::new(space + 1, space + 1 + target_length);
    Ok(RequestLine { method, name: Span::new(0, space), target, parts, version })
}

fn check_host(fields: &Fields, version: Version) -> Result<(), Refusal> {
    let mut hosts = fields.known(Name::Host);
    match (hosts.next(), version) {
        (None, Version::Http10) => Ok(()),
        (None, Version::Http11) => Err(Refusal::HostMissing),
        (Some(_), _) if hosts.next().is_some() => Err(Refusal::HostRepeated),
        (Some(host), _) if is_host(host) => Ok(()),
        (Some(_), _) => Err(Refusal::HostInvalid),
    }
}

impl RequestHead {
    /// The method's name.
    pub fn method(&self) -> &[u8] {
        self.fields.slice(self.line.name)
    }

    /// The method, of those that something depends on.
    pub fn method_kind(&self) -> Method {
        self.line.method
    }

    /// The target as sent.
    pub fn target(&self) -> &[u8] {
        self.fields.slice(self.line.target)
    }

    /// The path without query, `*` for the server itself; never empty.
    pub fn path(&self) -> &[u8] {
        let path = &self.target()[self.line.parts.path..self.line.parts.query];
        match (path, self.line.method) {
            // RFC 9112 §3.2.4: `OPTIONS http://host` is about the server.
            ([], Method::Options) if self.path_and_query().is_empty() => b"*",
            ([], _) => b"/",
            (path, _) => path,
        }
    }

    /// What the target holds of path and query; an absolute target may hold none, or a query only.
    pub(super) fn path_and_query(&self) -> &[u8] {
        &self.target()[self.line.parts.path..]
    }

    /// The query with its `?`, or nothing.
    pub fn query(&self) -> &[u8] {
        &self.target()[self.line.parts.query..]
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.line.version
    }

    /// The fields.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// How long the body is.
    pub fn body(&self) -> Framing {
        self.framing
    }

    /// The host that is asked: of an absolute target, otherwise of the Host field. HTTP/1.0 may
    /// name none.
    pub fn host(&self) -> Option<&[u8]> {
        match self.line.parts.authority {
            Some((start, end)) => Some(&self.target()[start..end]),
            None => self.fields.known(Name::Host).next(),
        }
    }

    /// Whether the client wants to send another request on the connection.
    pub fn keeps_alive(&self) -> bool {
        self.options.persists(self.line.version)
    }

    /// Whether the client waits for a 100 before it sends its body. HTTP/1.0 has no such thing.
    pub fn expects_continue(&self) -> bool {
        let mut expected = self.fields.known(Name::Expect).flat_map(members);
        self.line.version == Version::Http11
            && self.framing.has_body()
            && expected.any(|member| member.eq_ignore_ascii_case(b"100-continue"))
    }

    /// The protocols that the client would go on with, as sent. `None` also for HTTP/1.0, for a
    /// request with a body, and for h2c alone: behind us it would be a tunnel past every rule.
    pub fn upgrade(&self) -> Option<&[u8]> {
        let possible = self.options.upgrade && !self.framing.has_body();
        if !possible || self.line.version == Version::Http10 {
            return None;
        }
        let mut values = self.fields.known(Name::Upgrade);
        values.find(|value| members(value).any(|protocol| !is_h2c(protocol)))
    }

    /// The request's own id, where it names a usable one: 1 to 128 visible ASCII characters.
    pub fn request_id(&self) -> Option<&str> {
        let id = self.fields.known(Name::RequestId).next()?;
        let usable = (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
        if usable { std::str::from_utf8(id).ok() } else { None }
    }

    /// Whether it may be sent twice.
    pub fn is_idempotent(&self) -> bool {
        self.line.method.is_idempotent()
    }

    /// Whether the response has no body.
    pub fn is_head(&self) -> bool {
        self.line.method == Method::Head
    }

    /// What answers to it depend on. Its upgrade is the client's wish: where it is not forwarded,
    /// the caller makes it [`Upgrade::Refused`].
    pub fn asked(&self) -> Asked {
        let upgrade = match self.upgrade() {
            Some(_) => Upgrade::Allowed,
            None => Upgrade::Refused,
        };
        Asked { method: self.line.method, version: self.line.version, upgrade }
    }
}

pub(super) fn is_h2c(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"h2c") || protocol.eq_ignore_ascii_case(b"h2")
}
