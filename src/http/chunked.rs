//! Reads a chunked body as it arrives (RFC 9112 §7.1), and writes one; extensions go no further.

use super::fields::{FieldLines, Fields};
use super::line::{LineFault, Lines};
use super::name::Name;
use super::refusal::Refusal;
use super::syntax::is_control;

/// What the next bytes of a chunked body are.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// All bytes given are used up, and more are needed.
    Incomplete,
    /// Data: after `skip` bytes of framing, `length` of it, at least 1. Go on after both.
    Data {
        /// Bytes to leave out.
        skip: usize,
        /// Bytes of the body.
        length: usize,
    },
    /// The body has ended.
    End {
        /// Bytes that still belonged to it; the next message starts after them.
        consumed: usize,
        /// The fields after the last chunk.
        trailers: Fields,
    },
}

/// A chunk's size line, extensions included; longer ones carry data where none belongs.
const LINE_MAX: usize = 4096;

/// How many bytes of framing a body may have beyond 16 a chunk and its data: 64 of the signatures
/// that some object stores put on each chunk.
const OVERHEAD_MAX: u64 = 16 * 1024;

/// Trailers are checksums, signatures and timings.
const TRAILERS_MAX: usize = 8 * 1024;
const TRAILERS_FIELDS_MAX: usize = 50;

/// Reads one chunked body, from its first byte on.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    /// Framing beyond what the data excuses.
    overhead: u64,
    trailers: Vec<u8>,
    lines: Lines,
    fields: FieldLines,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the digits of a size.
    Size { digits: u32, size: u64 },
    /// After the `;` of a size line.
    Extension { line: usize, size: u64 },
    /// The CR of a size line was read.
    SizeLf { size: u64 },
    /// In the data of a chunk; never 0.
    Data { left: u64 },
    /// The data has been read, its CRLF has not.
    DataCr,
    /// The CR after the data was read.
    DataLf,
    /// After the last chunk.
    Trailers,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

impl Chunked {
    /// Reads on. `input` starts where the last call ended.
    ///
    /// # Errors
    /// Where framing is malformed or out of proportion. What was given out as data stands.
    pub fn next(&mut self, input: &[u8]) -> Result<Chunk, Refusal> {
        let mut at = 0;
        while at < input.len() {
            let byte = input[at];
            self.state = match self.state {
                State::Data { left } => return Ok(self.data(left, at, input.len() - at)),
                State::Trailers => return self.trailers(&input[at..], at),
                State::Size { digits, size } => size_digit(byte, digits, size)?,
                State::Extension { line, size } => extension(byte, line, size)?,
                State::SizeLf { size } => self.size_end(byte, size)?,
                State::DataCr if byte == b'\r' => State::DataLf,
                State::DataLf if byte == b'\n' => State::default(),
                State::DataCr | State::DataLf => return Err(Refusal::ChunkEnd),
            };
            self.count(byte)?;
            at += 1;
        }
        Ok(Chunk::Incomplete)
    }

    fn data(&mut self, left: u64, skip: usize, available: usize) -> Chunk {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(available);
        self.state = match left - length as u64 {
            0 => State::DataCr,
            left => State::Data { left },
        };
        self.overhead = self.overhead.saturating_sub(length as u64);
        Chunk::Data { skip, length }
    }

    /// Counts a byte of framing; each chunk's LF pays for 16 of them.
    fn count(&mut self, byte: u8) -> Result<(), Refusal> {
        self.overhead += 1;
        if byte == b'\n' {
            self.overhead = self.overhead.saturating_sub(16);
        }
        if self.overhead > OVERHEAD_MAX { Err(Refusal::ChunkOverhead) } else { Ok(()) }
    }

    fn size_end(&mut self, byte: u8, size: u64) -> Result<State, Refusal> {
        if byte != b'\n' {
            return Err(Refusal::ChunkEnd);
        }
        Ok(if size == 0 { State::Trailers } else { State::Data { left: size } })
    }

    fn trailers(&mut self, input: &[u8], skipped: usize) -> Result<Chunk, Refusal> {
        // What is kept is bounded; what lies beyond it may be the next message.
        let kept = self.trailers.len();
        let room = (TRAILERS_MAX + 1).saturating_sub(kept).min(input.len());
        self.trailers.extend_from_slice(&input[..room]);
        while let Some((start, end)) = self.lines.next(&self.trailers)? {
            if start == end {
                let consumed = skipped + self.lines.start - kept;
                let bytes = std::mem::take(&mut self.trailers);
                let trailers = std::mem::take(&mut self.fields).finish(&bytes[..end]);
                return Ok(Chunk::End { consumed, trailers });
            }
            if self.fields.len() == TRAILERS_FIELDS_MAX {
                return Err(Refusal::TrailersTooLarge);
            }
            self.fields.push(&self.trailers, (start, end), 0)?;
        }
        if self.trailers.len() > TRAILERS_MAX {
            return Err(Refusal::TrailersTooLarge);
        }
        Ok(Chunk::Incomplete)
    }
}

fn size_digit(byte: u8, digits: u32, size: u64) -> Result<State, Refusal> {
    match byte {
        b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' if digits < 16 => {
            let digit = (byte as char).to_digit(16).expect("it is a hex digit");
            let size = size << 4 | u64::from(digit);
            if size > i64::MAX as u64 {
                return Err(Refusal::ChunkSize);
            }
            Ok(State::Size { digits: digits + 1, size })
        }
        b'\r' if digits > 0 => Ok(State::SizeLf { size }),
        b';' if digits > 0 => Ok(State::Extension { line: 0, size }),
        b'\n' if digits > 0 => Err(Refusal::Line(LineFault::BareLf)),
        _ => Err(Refusal::ChunkSize),
    }
}

fn extension(byte: u8, line: usize, size: u64) -> Result<State, Refusal> {
    match byte {
        b'\r' => Ok(State::SizeLf { size }),
        b'\n' => Err(Refusal::Line(LineFault::BareLf)),
        _ if is_control(byte) => Err(Refusal::ChunkExtension),
        _ if line == LINE_MAX => Err(Refusal::ChunkOverhead),
        _ => Ok(State::Extension { line: line + 1, size }),
    }
}

/// Appends the line before a chunk of `length` bytes; after its data goes `\r\n`. A length of 0
/// would end the body: it must not be 0.
pub fn write_size(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length > 0, "an empty chunk ends the body");
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[length >> (4 * place) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body with those of `trailers` that may stand there (RFC 9110
/// §6.5.1): nothing that frames, routes or speaks for us.
pub fn write_end(trailers: &Fields, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for field in trailers.iter() {
        if matches!(field.known, Name::Other | Name::ServerTiming) {
            out.extend_from_slice(field.name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(field.value);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}
