//! The fields of a head or of trailers, in order and as sent; looked up without regard to case.

use super::name::Name;
use super::refusal::FieldFault;
use super::syntax::{TOKEN, UNDERSCORE, trim};

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As sent; compare it without regard to case.
    pub name: &'a [u8],
    /// Without the spaces and tabs around it.
    pub value: &'a [u8],
    pub(super) known: Name,
    /// From the name to two bytes after the value, which are its CRLF unless a space is between.
    pub(super) line: &'a [u8],
}

/// All field lines, with the bytes that they came in.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Of a head, all of it: its first line is indexed into the same bytes.
    pub(super) bytes: Box<[u8]>,
    lines: Vec<Line>,
    /// The bits of all names in `lines`.
    names: u32,
}

/// The place of something in [`Fields::bytes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    name: Span,
    value: Span,
    known: Name,
}

impl Fields {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.iter().map(|line| Field {
            name: self.slice(line.name),
            value: self.slice(line.value),
            known: line.known,
            line: self
                .bytes
                .get(line.name.start as usize..line.value.end as usize + 2)
                .unwrap_or(&[]),
        })
    }

    /// The value of the first field called `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of all fields called `name`, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value)
    }

    pub(super) fn slice(&self, span: Span) -> &[u8] {
        span.of(&self.bytes)
    }

    pub(super) fn has(&self, name: Name) -> bool {
        self.names & name.bit() != 0
    }

    pub(super) fn known(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let lines = if self.has(name) { &self.lines[..] } else { &[] };
        lines.iter().filter(move |line| line.known == name).map(|line| self.slice(line.value))
    }
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        let place = |at| u32::try_from(at).expect("a head's bound is below 4 GiB");
        Self { start: place(start), end: place(end) }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// Field lines while they are being read.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldLines {
    lines: Vec<Line>,
    names: u32,
}

impl FieldLines {
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Reads the line `start..end` of `bytes`, which holds no control but tab. Places are counted
    /// from `base`.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        (start, end): (usize, usize),
        base: usize,
    ) -> Result<(), FieldFault> {
        let line = &bytes[start..end];
        let mut seen = 0;
        let token = line.iter().position(|byte| {
            let class = TOKEN[usize::from(*byte)];
            seen |= class;
            class == 0
        });
        let Some(length) = token else {
            return Err(FieldFault::NoColon);
        };
        if line[length] != b':' || length == 0 {
            return Err(name_fault(line, length));
        }
        let value = trim(&line[length + 1..]);
        let value_start = value.as_ptr() as usize - line.as_ptr() as usize + start - base;
        let known = match seen & UNDERSCORE {
            0 => Name::of(&line[..length]),
            _ => Name::of_underscored(&line[..length]),
        };
        if self.lines.capacity() == 0 {
            // What a browser sends fits; growing from nothing would copy three times.
            self.lines.reserve(20);
        }
        self.names |= known.bit();
        self.lines.push(Line {
            name: Span::new(start - base, start - base + length),
            value: Span::new(value_start, value_start + value.len()),
            known,
        });
        Ok(())
    }

    /// With a copy of the bytes that the places are in.
    pub(super) fn finish(self, bytes: &[u8]) -> Fields {
        Fields { bytes: bytes.into(), lines: self.lines, names: self.names }
    }
}

/// What is wrong with a name whose first byte that is no token's stands at `length`.
#[cold]
fn name_fault(line: &[u8], length: usize) -> FieldFault {
    match line[length] {
        b' ' | b'\t' if length == 0 => FieldFault::Folded,
        b':' => FieldFault::NameEmpty,
        b' ' | b'\t' if trim(&line[length..]).first() == Some(&b':') => {
            FieldFault::SpaceBeforeColon
        }
        _ if !line.contains(&b':') => FieldFault::NoColon,
        _ => FieldFault::NameInvalid,
    }
}
