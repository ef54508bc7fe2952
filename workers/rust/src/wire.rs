//! Turns the bytes of the control channel into messages, each with the descriptor that came with it.
//!
//! Nothing that arrives is fatal: a bad, unknown or over-long line is dropped, and every descriptor
//! that no `conn` message owns is closed.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// The longest line that is read, without its newline (docs/PROTOCOL.md). Longer ones are skipped.
pub(crate) const LINE_MAX: usize = 64 * 1024;

/// A message from the master.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Incoming {
    Conn(Conn),
    Drain,
    Pressure {
        level: u8,
    },
    #[serde(other)]
    Unknown,
}

/// A connection is handed over.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Conn {
    pub(crate) seq: u64,
    pub(crate) listener: String,
    #[serde(default)]
    pub(crate) peer: Option<String>,
}

/// A message to the master.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Outgoing<'text> {
    Ready { sdk: &'text str },
    Ack { seq: u64, accepted: bool },
    Load(Load),
}

/// Absolute counts of this worker, so that a lost or merged report heals with the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Load {
    pub(crate) seen: u64,
    pub(crate) open: u32,
    pub(crate) active: u32,
    pub(crate) lag_ms: u64,
}

impl Outgoing<'_> {
    /// Appends the message and its newline.
    pub(crate) fn write_to(&self, outbox: &mut Vec<u8>) {
        serde_json::to_writer(&mut *outbox, self).expect("plain fields always serialise to memory");
        outbox.push(b'\n');
    }
}

/// A message as it came, with its descriptor if it had exactly one use for it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Incoming,
    pub(crate) socket: Option<OwnedFd>,
}

/// Cuts the stream into lines.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    line: Vec<u8>,
    /// What came with the line in progress.
    passed: Vec<OwnedFd>,
    /// A line has begun and its newline has not come.
    inside: bool,
    /// The line in progress is over-long and will be dropped.
    skipping: bool,
}

impl LineReader {
    /// Takes the bytes of one read and what was passed with them; appends the complete messages.
    ///
    /// The kernel ends a read after the first block that carries descriptors, and a sender attaches
    /// them to the first byte of a line. So they belong to the last line that begins in this read.
    pub(crate) fn feed(
        &mut self,
        chunk: &[u8],
        passed: Vec<OwnedFd>,
        messages: &mut VecDeque<Delivery>,
    ) {
        let owner = self.last_beginning(chunk);
        let mut passed = Some(passed);
        let mut offset = 0;
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            if owner == Some(offset) {
                self.passed = passed.take().unwrap_or_default();
            }
            offset += piece.len();
            self.append(piece);
            if piece.ends_with(b"\n") {
                messages.extend(self.complete());
            }
        }
    }

    /// Where in `chunk` its last line begins; None if it only continues an older one.
    fn last_beginning(&self, chunk: &[u8]) -> Option<usize> {
        let body = &chunk[..chunk.len().saturating_sub(1)];
        match body.iter().rposition(|&byte| byte == b'\n') {
            Some(newline) => Some(newline + 1),
            None => (!self.inside).then_some(0),
        }
    }

    fn append(&mut self, piece: &[u8]) {
        self.inside = true;
        let text = piece.strip_suffix(b"\n").unwrap_or(piece);
        if self.line.len() + text.len() > LINE_MAX {
            self.skipping = true;
            self.line = Vec::new();
            self.passed.clear();
        }
        if !self.skipping {
            self.line.extend_from_slice(text);
        }
    }

    fn complete(&mut self) -> Option<Delivery> {
        let delivery = if self.skipping { None } else { self.parse() };
        self.line.clear();
        self.passed.clear();
        self.inside = false;
        self.skipping = false;
        delivery
    }

    fn parse(&mut self) -> Option<Delivery> {
        let message = serde_json::from_slice(&self.line).ok()?;
        let socket = match message {
            // More than one is against the protocol; which one is meant cannot be known.
            Incoming::Conn(_) if self.passed.len() == 1 => self.passed.pop(),
            Incoming::Conn(_) | Incoming::Drain | Incoming::Pressure { .. } => None,
            Incoming::Unknown => return None,
        };
        Some(Delivery { message, socket })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn conn(seq: u64) -> String {
        format!("{{\"type\":\"conn\",\"seq\":{seq},\"listener\":\"main\"}}\n")
    }

    /// A descriptor, and the end that reads EOF once the descriptor is closed.
    fn descriptor() -> (OwnedFd, UnixStream) {
        let (kept, given) = UnixStream::pair().expect("a socket pair");
        kept.set_nonblocking(true).expect("a flag");
        (given.into(), kept)
    }

    fn is_closed(mut watch: &UnixStream) -> bool {
        matches!(watch.read(&mut [0]), Ok(0))
    }

    fn feed(reader: &mut LineReader, chunk: &str, passed: Vec<OwnedFd>) -> Vec<Delivery> {
        let mut messages = VecDeque::new();
        reader.feed(chunk.as_bytes(), passed, &mut messages);
        messages.into()
    }

    fn seqs(messages: &[Delivery]) -> Vec<(u64, bool)> {
        let conns = messages.iter().filter_map(|delivery| match &delivery.message {
            Incoming::Conn(conn) => Some((conn.seq, delivery.socket.is_some())),
            Incoming::Drain | Incoming::Pressure { .. } | Incoming::Unknown => None,
        });
        conns.collect()
    }

    #[test]
    fn a_descriptor_belongs_to_the_last_line_that_begins_in_the_read() {
        let mut reader = LineReader::default();
        let (fd, _watch) = descriptor();
        let text = "{\"type\":\"drain\"}\n".to_owned() + &conn(1);
        assert_eq!(seqs(&feed(&mut reader, &text, vec![fd])), [(1, true)]);
    }

    #[test]
    fn a_line_in_two_reads_keeps_its_descriptor_and_the_next_its_own() {
        let mut reader = LineReader::default();
        let (first, second) = (conn(1), conn(2));
        let (head, tail) = first.split_at(10);
        assert!(feed(&mut reader, head, vec![descriptor().0]).is_empty());
        let rest = format!("{tail}{second}");
        let messages = feed(&mut reader, &rest, vec![descriptor().0]);
        assert_eq!(seqs(&messages), [(1, true), (2, true)]);
    }

    #[test]
    fn a_lost_descriptor_does_not_shift_the_later_ones() {
        let mut reader = LineReader::default();
        let (first, second) = (conn(1), conn(2));
        let (head, tail) = first.split_at(10);
        assert!(feed(&mut reader, head, vec![]).is_empty());
        let messages = feed(&mut reader, &format!("{tail}{second}"), vec![descriptor().0]);
        assert_eq!(seqs(&messages), [(1, false), (2, true)]);
    }

    #[test]
    fn descriptors_without_an_owner_are_closed() {
        let bad = ["{\"type\":\"drain\"}\n", "{\"type\":\"news\"}\n", "]\n", "\n", "\u{0}\n"];
        for line in bad {
            let mut reader = LineReader::default();
            let (fd, watch) = descriptor();
            let messages = feed(&mut reader, line, vec![fd]);
            assert!(messages.iter().all(|delivery| delivery.socket.is_none()), "{line:?}");
            assert!(is_closed(&watch), "{line:?}");
        }
    }

    #[test]
    fn two_descriptors_with_one_message_are_both_closed() {
        let mut reader = LineReader::default();
        let ((one, watch_one), (two, watch_two)) = (descriptor(), descriptor());
        assert_eq!(seqs(&feed(&mut reader, &conn(1), vec![one, two])), [(1, false)]);
        assert!(is_closed(&watch_one) && is_closed(&watch_two));
    }

    #[test]
    fn an_over_long_line_is_skipped_and_its_descriptor_closed() {
        let mut reader = LineReader::default();
        let (fd, watch) = descriptor();
        assert!(feed(&mut reader, "x", vec![fd]).is_empty());
        for _ in 0..3 {
            assert!(feed(&mut reader, &"x".repeat(LINE_MAX / 2), vec![]).is_empty());
        }
        assert!(is_closed(&watch));
        assert!(reader.line.capacity() <= LINE_MAX);
        let rest = "x\n".to_owned() + &conn(3);
        assert_eq!(seqs(&feed(&mut reader, &rest, vec![descriptor().0])), [(3, true)]);
    }

    #[test]
    fn a_line_of_exactly_the_bound_is_read() {
        let mut reader = LineReader::default();
        let mut line = conn(1).trim_end().to_owned();
        line += &" ".repeat(LINE_MAX - line.len());
        assert_eq!(seqs(&feed(&mut reader, &(line + "\n"), vec![])), [(1, false)]);
    }

    #[test]
    fn unknown_fields_and_wrong_values_are_no_error() {
        let mut reader = LineReader::default();
        let text = "{\"type\":\"conn\",\"seq\":1,\"listener\":\"a\",\"x\":[{}]}\n\
                    {\"type\":\"conn\",\"seq\":-1,\"listener\":\"a\"}\n\
                    {\"type\":\"pressure\",\"level\":900}\n\
                    {\"seq\":2}\n\"ready\"\n[]\n{\"type\":\"pressure\",\"level\":3}\n";
        let messages = feed(&mut reader, text, vec![]);
        let found: Vec<_> = messages.iter().map(|delivery| &delivery.message).collect();
        let expected = [
            &Incoming::Conn(Conn { seq: 1, listener: "a".into(), peer: None }),
            &Incoming::Pressure { level: 3 },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn random_bytes_and_cuts_never_panic_and_leave_nothing_open() {
        let mut noise = [0_u8; 4096];
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut noise)).expect("noise");
        let mut reader = LineReader::default();
        let mut watches = Vec::new();
        let mut messages = VecDeque::new();
        for chunk in noise.chunks(61) {
            let (fd, watch) = descriptor();
            watches.push(watch);
            reader.feed(chunk, vec![fd], &mut messages);
        }
        reader.feed(b"\n", vec![], &mut messages);
        messages.clear();
        assert!(watches.iter().all(is_closed), "noise: {noise:?}");
    }

    #[test]
    fn messages_are_written_as_documented() {
        let mut outbox = Vec::new();
        Outgoing::Ready { sdk: "rust/0.1.0" }.write_to(&mut outbox);
        Outgoing::Ack { seq: 7, accepted: true }.write_to(&mut outbox);
        let load = Load { seen: 7, open: 3, active: 2, lag_ms: 4 };
        Outgoing::Load(load).write_to(&mut outbox);
        let expected = "{\"type\":\"ready\",\"sdk\":\"rust/0.1.0\"}\n\
                        {\"type\":\"ack\",\"seq\":7,\"accepted\":true}\n\
                        {\"type\":\"load\",\"seen\":7,\"open\":3,\"active\":2,\"lag_ms\":4}\n";
        assert_eq!(String::from_utf8(outbox).expect("text"), expected);
    }
}
