//! Keeps the last lines of a worker's stream for the crash report.

use std::collections::VecDeque;

use super::lines::{Begin, Piece};

/// Lines kept per stream: a JavaScript or Python stack trace with its message fits.
pub(super) const TAIL_LINES: usize = 64;

/// Bytes kept of each line; with [`TAIL_LINES`] a stream costs at most 64 KiB.
pub(super) const TAIL_LINE_BYTES: usize = 1024;

/// The last lines of a worker that has ended, oldest first, without newlines, at most 64 per stream
/// and 1,024 bytes per line (a longer one ends in `…`). Bytes that are not UTF-8 show as U+FFFD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    /// From descriptor 2.
    pub stderr: Vec<String>,
    /// From descriptor 1.
    pub stdout: Vec<String>,
    /// Lines of this worker, of both streams, that were never written.
    pub dropped: u64,
}

/// A ring of lines that reuses its allocations.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Vec<u8>>,
}

impl Tail {
    pub(super) fn record(&mut self, piece: &Piece<'_>) {
        let mut bytes = piece.bytes;
        if piece.begin == Begin::Continues && !self.lines.is_empty() {
            let first = bytes.iter().position(|byte| *byte == b'\n');
            let (line, others) = bytes.split_at(first.map_or(bytes.len(), |at| at + 1));
            if let Some(last) = self.lines.back_mut() {
                append(last, line);
            }
            bytes = others;
        }
        let bytes = last_lines(bytes);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut slot = if self.lines.len() == TAIL_LINES {
                self.lines.pop_front().unwrap_or_default()
            } else {
                Vec::new()
            };
            slot.clear();
            append(&mut slot, line);
            self.lines.push_back(slot);
        }
    }

    pub(super) fn to_strings(&self) -> Vec<String> {
        self.lines.iter().map(|line| text(line)).collect()
    }
}

/// The part of `bytes` that can still be in the ring after it was recorded.
fn last_lines(bytes: &[u8]) -> &[u8] {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let newlines = body.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
    match newlines.map(|(at, _)| at).nth(TAIL_LINES - 1) {
        Some(at) => &bytes[at + 1..],
        None => bytes,
    }
}

/// Appends up to one byte more than is kept, which marks the line as cut.
fn append(line: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let room = (TAIL_LINE_BYTES + 1).saturating_sub(line.len());
    line.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn text(line: &[u8]) -> String {
    let (kept, mark) = if line.len() > TAIL_LINE_BYTES {
        (&line[..TAIL_LINE_BYTES], "…")
    } else {
        (line.strip_suffix(b"\r").unwrap_or(line), "")
    };
    String::from_utf8_lossy(kept).into_owned() + mark
}

#[cfg(test)]
mod tests {
    use super::super::lines::LineBuffer;
    use super::*;

    fn tail_of(chunks: &[&[u8]]) -> Vec<String> {
        let mut buffer = LineBuffer::new();
        let mut tail = Tail::default();
        for chunk in chunks {
            buffer.push(chunk, |piece| tail.record(&piece));
        }
        buffer.flush(|piece| tail.record(&piece));
        tail.to_strings()
    }

    #[test]
    fn the_last_64_lines_are_kept_whatever_the_chunks_were() {
        let input: String = (0..200).map(|n| format!("line {n}\r\n")).collect();
        let expected: Vec<String> = (136..200).map(|n| format!("line {n}")).collect();
        assert_eq!(tail_of(&[input.as_bytes()]), expected);
        let chunks: Vec<&[u8]> = input.as_bytes().chunks(7).collect();
        assert_eq!(tail_of(&chunks), expected);
    }

    #[test]
    fn an_unfinished_last_line_and_empty_lines_are_kept() {
        assert_eq!(tail_of(&[b"a\n\n\nno newline"]), ["a", "", "", "no newline"]);
    }

    #[test]
    fn a_long_line_is_one_line_and_is_marked_as_cut() {
        let long = vec![b'x'; 200_000];
        let out = tail_of(&[&long, b"end\n", b"next\n"]);
        assert_eq!(out.len(), 2);
        assert_eq!(out[0], "x".repeat(TAIL_LINE_BYTES) + "…");
        assert_eq!(out[1], "next");
    }
}
