//! Cuts a worker's byte stream into pieces that end with a line wherever possible; pure.
//!
//! The concatenation of all pieces is the input, byte for byte.

use std::mem;

/// Bytes of an unfinished line that are held back; a longer line passes in several pieces. Equal to
/// the default pipe capacity, so one worker costs at most two of these per stream.
pub(super) const HELD_BYTES: usize = 64 * 1024;

/// Whether a piece starts a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// It starts a line.
    Fresh,
    /// It goes on with the line whose beginning was the piece before it.
    Continues,
}

/// How a piece ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a newline.
    Newline,
    /// In the middle of a line too long to hold; the rest is on its way.
    More,
    /// In the middle of a line that the worker may or may not go on with: a prompt, a progress
    /// bar, or the end of the stream.
    Pause,
}

/// A run of bytes: whole lines, or a part of one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) begin: Begin,
    pub(super) end: End,
}

/// The unfinished line of one stream.
#[derive(Debug)]
pub(super) struct LineBuffer {
    held: Vec<u8>,
    /// Whether a part of the unfinished line has already left.
    next: Begin,
}

impl Piece<'_> {
    /// Lines that end in this piece. A line cut short by [`End::Pause`] counts where it is cut.
    pub(super) fn lines(&self) -> u64 {
        match self.end {
            End::Newline => self.bytes.iter().filter(|byte| **byte == b'\n').count() as u64,
            End::More => 0,
            End::Pause => 1,
        }
    }
}

impl LineBuffer {
    pub(super) fn new() -> Self {
        Self { held: Vec::new(), next: Begin::Fresh }
    }

    /// Takes in `bytes` and passes on what is ready.
    pub(super) fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            self.hold(bytes, &mut emit);
            return;
        };
        let (mut whole, rest) = bytes.split_at(last + 1);
        if !self.held.is_empty() || self.next == Begin::Continues {
            let first =
                whole.iter().position(|byte| *byte == b'\n').expect("`whole` ends with a newline");
            let (finish, others) = whole.split_at(first + 1);
            self.held.extend_from_slice(finish);
            self.release(End::Newline, &mut emit);
            whole = others;
        }
        if !whole.is_empty() {
            emit(Piece { bytes: whole, begin: Begin::Fresh, end: End::Newline });
        }
        self.hold(rest, &mut emit);
    }

    /// Passes on the unfinished line, if any, as it is.
    pub(super) fn flush(&mut self, mut emit: impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            self.release(End::Pause, &mut emit);
        }
    }

    /// Whether bytes are held back.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    fn hold(&mut self, bytes: &[u8], emit: &mut impl FnMut(Piece<'_>)) {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= HELD_BYTES {
            let cut = self.held.len() - unfinished_character(&self.held);
            let rest = self.held.split_off(cut);
            self.release(End::More, emit);
            self.held.extend_from_slice(&rest);
        }
    }

    fn release(&mut self, end: End, emit: &mut impl FnMut(Piece<'_>)) {
        let bytes = mem::take(&mut self.held);
        let begin = self.next;
        self.next = match end {
            End::Newline => Begin::Fresh,
            End::More | End::Pause => Begin::Continues,
        };
        emit(Piece { bytes: &bytes, begin, end });
        // Workers that hold short lines keep their small buffer; a long line's is given back.
        if bytes.capacity() <= 4096 {
            self.held = bytes;
            self.held.clear();
        }
    }
}

/// Bytes at the end that begin a UTF-8 character and do not complete it, 0 to 3.
fn unfinished_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let needed = match bytes[bytes.len() - back] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if needed > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<(Vec<u8>, Begin, End)> {
        let mut buffer = LineBuffer::new();
        let mut out = Vec::new();
        for chunk in chunks {
            buffer.push(chunk, |p| out.push((p.bytes.to_vec(), p.begin, p.end)));
        }
        buffer.flush(|p| out.push((p.bytes.to_vec(), p.begin, p.end)));
        out
    }

    #[test]
    fn a_line_is_held_until_its_newline() {
        let out = pieces(&[b"one\ntw", b"o", b"\nthree\nfour\nfi"]);
        let expected: Vec<(&[u8], Begin, End)> = vec![
            (b"one\n", Begin::Fresh, End::Newline),
            (b"two\n", Begin::Fresh, End::Newline),
            (b"three\nfour\n", Begin::Fresh, End::Newline),
            (b"fi", Begin::Fresh, End::Pause),
        ];
        let out: Vec<_> = out.iter().map(|(b, s, e)| (b.as_slice(), *s, *e)).collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_line_that_went_out_in_part_goes_on_and_the_next_one_is_fresh() {
        let mut buffer = LineBuffer::new();
        buffer.push(b"name? ", |_| panic!("a partial line is held"));
        buffer.flush(|p| assert_eq!((p.begin, p.end), (Begin::Fresh, End::Pause)));
        let mut begins = Vec::new();
        buffer.push(b"\nnext\n", |p| begins.push((p.bytes.to_vec(), p.begin)));
        let expected = [(b"\n".to_vec(), Begin::Continues), (b"next\n".to_vec(), Begin::Fresh)];
        assert_eq!(begins, expected);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let long = "ä".repeat(HELD_BYTES);
        // An odd chunk size cuts every second character.
        let chunks: Vec<&[u8]> = long.as_bytes().chunks(999).collect();
        let out = pieces(&chunks);
        assert!(out.len() > 1);
        for (bytes, _, end) in &out {
            assert!(std::str::from_utf8(bytes).is_ok());
            assert!(bytes.len() <= HELD_BYTES + 999);
            assert_ne!(*end, End::Newline);
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_never_held_for_longer() {
        assert_eq!(unfinished_character(b"a\xff"), 0);
        assert_eq!(unfinished_character(b"\x80\x80\x80\x80"), 0);
        assert_eq!(unfinished_character("…".as_bytes()), 0);
        assert_eq!(unfinished_character(b"a\xe2\x80"), 2);
        assert_eq!(unfinished_character(b"\xf0\x9f\x98"), 3);
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_input_and_begin_where_the_last_one_ended(
            input in prop::collection::vec(
                prop_oneof![3 => Just(b'\n'), 10 => any::<u8>()], 0..2000),
            sizes in prop::collection::vec(1_usize..300, 1..20),
        ) {
            let mut chunks: Vec<&[u8]> = Vec::new();
            let (mut at, mut turn) = (0, 0);
            while at < input.len() {
                let end = (at + sizes[turn % sizes.len()]).min(input.len());
                chunks.push(&input[at..end]);
                (at, turn) = (end, turn + 1);
            }
            let out = pieces(&chunks);
            let joined: Vec<u8> = out.iter().flat_map(|(b, _, _)| b.clone()).collect();
            prop_assert_eq!(joined, input);
            let mut expected = Begin::Fresh;
            for (bytes, begin, end) in out {
                prop_assert_eq!(begin, expected);
                prop_assert_eq!(bytes.ends_with(b"\n"), end == End::Newline);
                expected = if end == End::Newline { Begin::Fresh } else { Begin::Continues };
            }
        }
    }
}
