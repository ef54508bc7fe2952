//! Turns the channel's bytes into messages, each with the descriptor that came with it.
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
mod tests;
