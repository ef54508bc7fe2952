//! Cuts what arrives on a control channel into lines; skips over-long ones, so that an
//! application's megabyte of `process.send` is neither kept nor fatal.

/// The longest line that is looked at, in bytes. Our own messages stay below 1 KiB and Node's
/// longest (`queryServer` with TLS ticket keys and a 4 KiB path) below 8 KiB.
pub(crate) const LINE_MAX: usize = 64 * 1024;

/// Holds at most one unfinished line of at most [`LINE_MAX`] bytes.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    partial: Vec<u8>,
    /// Inside a line that grew past the bound; its bytes are dropped up to the next newline.
    skipping: Skipping,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Skipping {
    #[default]
    No,
    ToNewline,
}

impl Inbox {
    /// Hands every complete line in `bytes`, without its newline, to `each`, in order.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.skipping == Skipping::ToNewline {
                self.skipping = Skipping::No;
            } else if self.partial.is_empty() {
                if line.len() <= LINE_MAX {
                    each(line);
                }
            } else {
                if self.partial.len() + line.len() <= LINE_MAX {
                    self.partial.extend_from_slice(line);
                    each(&self.partial);
                }
                self.partial.clear();
            }
        }
        if self.skipping == Skipping::No {
            self.keep(bytes);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.partial.len() + bytes.len() > LINE_MAX {
            self.skipping = Skipping::ToNewline;
            // A buffer that once held a long line is given back, not kept for the worker's life.
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut inbox, mut seen) = (Inbox::default(), Vec::new());
        for chunk in chunks {
            inbox.feed(chunk, |line| seen.push(line.to_vec()));
        }
        seen
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let text = b"first\nsecond\n\nfourth\nunfinished";
        for cut in 0..text.len() {
            let seen = lines(&[&text[..cut], &text[cut..]]);
            assert_eq!(seen, [&b"first"[..], b"second", b"", b"fourth"], "cut at {cut}");
        }
    }

    #[test]
    fn over_long_lines_are_skipped_and_the_next_is_read() {
        let long = vec![b'x'; LINE_MAX + 1];
        assert_eq!(lines(&[&long, b"tail\nnext\n"]), [b"next"]);
        let whole: Vec<u8> = [&long[..], b"\nnext\n"].concat();
        assert_eq!(lines(&[&whole]), [b"next"]);
        let (head, tail) = long.split_at(LINE_MAX);
        assert_eq!(lines(&[head, tail, b"\n", b"next\n"]), [b"next"]);
    }

    #[test]
    fn a_line_of_exactly_the_bound_is_read() {
        let long = [vec![b'x'; LINE_MAX], vec![b'\n']].concat();
        assert_eq!(lines(&[&long[..10], &long[10..]])[0].len(), LINE_MAX);
    }
}
