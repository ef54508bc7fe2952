//! Renders a worker's lines for one output: byte for byte, with a prefix, or as JSON objects.

use std::fmt::Write;
use std::io::Write as _;
use std::time::SystemTime;

use super::Stream;
use super::format::json_string;
use super::lines::{Begin, End, Piece};
use crate::policy::{Slot, WorkerId};

/// Where a worker's line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) worker: WorkerId,
    pub(super) slot: Slot,
    pub(super) stream: Stream,
}

/// How workers' lines look on one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrap {
    /// As they came.
    Raw,
    /// `[3] line`.
    Prefix,
    /// The same with the prefix in the slot's colour.
    ColourPrefix,
    /// One JSON object per line.
    Json,
}

/// Colours that read well on light and dark grounds; red is left for errors.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

impl Wrap {
    /// Most bytes to read at once. Wrapping makes short lines longer, so less is read.
    pub(super) fn read_bytes(self) -> usize {
        match self {
            // The default capacity of a pipe.
            Wrap::Raw => 64 * 1024,
            Wrap::Prefix | Wrap::ColourPrefix | Wrap::Json => 8 * 1024,
        }
    }

    /// Room to have before reading that much, so that what is read need not be dropped.
    ///
    /// Per byte read, in the worst case of empty lines: 9 bytes `[12345] \n` plus 9 of colour; in
    /// JSON about 128. A held line of 64 KiB may come on top, escaped to at most 6 bytes per byte.
    pub(super) fn room_bytes(self) -> usize {
        match self {
            Wrap::Raw => 192 * 1024,
            Wrap::Prefix | Wrap::ColourPrefix => 256 * 1024,
            Wrap::Json => 1536 * 1024,
        }
    }

    /// The bytes to write for `piece`.
    pub(super) fn render(self, origin: Origin, piece: &Piece<'_>, now: SystemTime) -> Vec<u8> {
        match self {
            Wrap::Raw => piece.bytes.to_vec(),
            Wrap::Prefix | Wrap::ColourPrefix => {
                let prefix = self.prefix(origin);
                let mut out = Vec::with_capacity(piece.bytes.len() * 5 / 4 + prefix.len());
                let lines = piece.bytes.split_inclusive(|byte| *byte == b'\n');
                for (index, line) in lines.enumerate() {
                    if index > 0 || piece.begin == Begin::Fresh {
                        out.extend_from_slice(prefix.as_bytes());
                    }
                    out.extend_from_slice(line);
                }
                out
            }
            Wrap::Json => json(origin, piece, now),
        }
    }

    /// How the rendered piece ends: a JSON object is always a line of its own.
    pub(super) fn end(self, piece: &Piece<'_>) -> End {
        match self {
            Wrap::Raw | Wrap::Prefix | Wrap::ColourPrefix => piece.end,
            Wrap::Json => End::Newline,
        }
    }

    /// What to put before the rest of a line whose beginning another line has cut off.
    pub(super) fn prefix(self, origin: Origin) -> String {
        let slot = origin.slot;
        match self {
            Wrap::Raw | Wrap::Json => String::new(),
            Wrap::Prefix => format!("[{slot}] "),
            Wrap::ColourPrefix => {
                let colour = COLOURS[usize::from(slot.0) % COLOURS.len()];
                format!("\x1b[{colour}m[{slot}]\x1b[0m ")
            }
        }
    }
}

fn json(origin: Origin, piece: &Piece<'_>, now: SystemTime) -> Vec<u8> {
    let mut head = String::new();
    let time = humantime::format_rfc3339_millis(now);
    let (worker, slot) = (origin.worker, origin.slot);
    let stream = match origin.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    write!(
        head,
        "{{\"timestamp\":\"{time}\",\"worker\":{worker},\"slot\":{slot},\"stream\":\"{stream}\",\
         \"line\":"
    )
    .expect("writing to a String cannot fail");
    let mut out = Vec::with_capacity(piece.bytes.len() * 2 + head.len());
    let lines = piece.bytes.split_inclusive(|byte| *byte == b'\n');
    for (index, line) in lines.enumerate() {
        let continues = index == 0 && piece.begin == Begin::Continues;
        let (line, ended) = match line.strip_suffix(b"\n") {
            Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), true),
            None => (line, false),
        };
        let line = json_string(&String::from_utf8_lossy(line));
        let tail = if continues || !ended { ",\"partial\":true}" } else { "}" };
        writeln!(out, "{head}{line}{tail}").expect("writing to a Vec cannot fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const ORIGIN: Origin = Origin { worker: WorkerId(7), slot: Slot(3), stream: Stream::Stderr };

    fn render(wrap: Wrap, bytes: &[u8], begin: Begin, end: End) -> String {
        let piece = Piece { bytes, begin, end };
        let out = wrap.render(ORIGIN, &piece, UNIX_EPOCH);
        assert!(out.len() <= wrap.room_bytes());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn every_line_gets_its_prefix_and_the_rest_of_a_line_none() {
        let out = render(Wrap::Prefix, b"a\n\nb\n", Begin::Fresh, End::Newline);
        assert_eq!(out, "[3] a\n[3] \n[3] b\n");
        let out = render(Wrap::Prefix, b"rest\nb\n", Begin::Continues, End::Newline);
        assert_eq!(out, "rest\n[3] b\n");
        let out = render(Wrap::ColourPrefix, b"a\n", Begin::Fresh, End::Newline);
        assert_eq!(out, "\x1b[35m[3]\x1b[0m a\n");
    }

    #[test]
    fn json_objects_name_their_origin_and_mark_partial_lines() {
        let out = render(Wrap::Json, b"a\"\xff\x1b\r\n\n", Begin::Fresh, End::Newline);
        let values: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let expected = serde_json::json!({
            "timestamp": "1970-01-01T00:00:00.000Z",
            "worker": 7, "slot": 3, "stream": "stderr", "line": "a\"\u{fffd}\u{1b}",
        });
        assert_eq!(values[0], expected);
        assert_eq!(values[1]["line"], "");
        let out = render(Wrap::Json, b"name? ", Begin::Fresh, End::Pause);
        assert!(out.ends_with(",\"line\":\"name? \",\"partial\":true}\n"), "{out}");
    }

    #[test]
    fn the_worst_input_of_one_read_fits_the_room_asked_for() {
        for wrap in [Wrap::Raw, Wrap::Prefix, Wrap::ColourPrefix, Wrap::Json] {
            let lines = vec![b'\n'; wrap.read_bytes()];
            render(wrap, &lines, Begin::Fresh, End::Newline);
            let held = vec![0x01; super::super::lines::HELD_BYTES + wrap.read_bytes()];
            render(wrap, &held, Begin::Fresh, End::More);
        }
    }
}
