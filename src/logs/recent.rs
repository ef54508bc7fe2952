//! Keeps what the workers wrote last, all of them together, for whoever reads `tenfold logs`.
//!
//! One ring, bounded in bytes. Each reader has a place in it, and nobody waits for one: who is
//! overtaken is told how many lines were missed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::lines::{Begin, End, Piece};
use super::wrap::{Origin, Wrap};
use crate::policy::Slot;

/// The most that is kept, about 10,000 lines of 100 bytes.
const RING_BYTES: usize = 1 << 20;

/// What a piece costs besides its bytes: rings of short lines are bounded too.
const PIECE_BYTES: usize = 128;

/// The most readers at once: people and scripts.
const READERS_MAX: usize = 64;

/// A reader takes about so much at once; one piece is at most 128 KiB.
const BATCH_BYTES: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ring: Mutex<Ring>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    pieces: VecDeque<Arc<Kept>>,
    bytes: usize,
    /// How many pieces there have ever been; the number of the next one.
    count: u64,
    lines: Lines,
    readers: usize,
}

/// How many lines there have ever been.
#[derive(Debug, Default)]
struct Lines {
    all: u64,
    by_slot: BTreeMap<Slot, u64>,
}

/// A piece of a worker's output.
#[derive(Debug)]
struct Kept {
    number: u64,
    /// Lines of all workers, and of this slot, before it.
    before: u64,
    before_in_slot: u64,
    origin: Origin,
    begin: Begin,
    end: End,
    at: SystemTime,
    bytes: Box<[u8]>,
}

/// One reader's place.
#[derive(Debug)]
pub struct LogReader {
    recent: Arc<Recent>,
    /// Only of this slot.
    slot: Option<Slot>,
    /// The next piece.
    next: u64,
    /// How many lines of its slot, or of all, it has taken, missed or left out.
    lines: u64,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With everything that is kept.
    Oldest,
    /// With so many lines before the end, or all that are kept if those are fewer.
    Last(u32),
}

impl Recent {
    /// Takes note of what a worker wrote; never waits for a reader.
    pub(super) fn record(&self, origin: Origin, piece: &Piece<'_>, at: SystemTime) {
        let has_readers = {
            let mut ring = self.lock();
            ring.record(origin, piece, at);
            ring.readers > 0
        };
        if has_readers {
            self.changed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Every critical section leaves a valid state behind at each step.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn record(&mut self, origin: Origin, piece: &Piece<'_>, at: SystemTime) {
        let lines = piece.bytes.split_inclusive(|byte| *byte == b'\n').count() as u64;
        let in_slot = self.lines.by_slot.entry(origin.slot).or_default();
        let kept = Kept {
            number: self.count,
            before: self.lines.all,
            before_in_slot: *in_slot,
            origin,
            begin: piece.begin,
            end: piece.end,
            at,
            bytes: piece.bytes.into(),
        };
        *in_slot += lines;
        self.lines.all += lines;
        self.count += 1;
        self.bytes += kept.cost();
        self.pieces.push_back(Arc::new(kept));
        while self.bytes > RING_BYTES
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.bytes -= oldest.cost();
        }
    }

    /// The number of the oldest piece that is kept, or of the next one.
    fn oldest(&self) -> u64 {
        self.pieces.front().map_or(self.count, |oldest| oldest.number)
    }

    fn lines_before(&self, slot: Option<Slot>) -> u64 {
        let mut wanted = self.pieces.iter().filter(|kept| kept.is_of(slot));
        wanted.next().map_or_else(|| self.lines_of(slot), |kept| kept.lines_before(slot))
    }

    /// The piece where the last `count` lines begin, and how many lines there were before those.
    fn last(&self, slot: Option<Slot>, count: u32) -> (u64, u64) {
        let lines = self.lines_of(slot).saturating_sub(count.into());
        let wanted = self.pieces.iter().rev().filter(|kept| kept.is_of(slot));
        // The ring may have turned over the first of them.
        let mut begin = (self.count, lines);
        for kept in wanted.take_while(|kept| kept.lines_before(slot) + kept.lines() > lines) {
            begin = (kept.number, lines.max(kept.lines_before(slot)));
        }
        begin
    }

    fn lines_of(&self, slot: Option<Slot>) -> u64 {
        match slot {
            None => self.lines.all,
            Some(slot) => self.lines.by_slot.get(&slot).copied().unwrap_or(0),
        }
    }
}

impl Kept {
    fn cost(&self) -> usize {
        self.bytes.len() + PIECE_BYTES
    }

    fn is_of(&self, slot: Option<Slot>) -> bool {
        slot.is_none_or(|slot| slot == self.origin.slot)
    }

    fn lines_before(&self, slot: Option<Slot>) -> u64 {
        if slot.is_none() { self.before } else { self.before_in_slot }
    }

    fn lines(&self) -> u64 {
        self.bytes.split_inclusive(|byte| *byte == b'\n').count() as u64
    }

    /// What is left of it without its first lines.
    fn after(&self, lines: u64) -> Piece<'_> {
        let all = self.bytes.split_inclusive(|byte| *byte == b'\n');
        let skipped = all.zip(0..lines).map(|(line, _)| line.len()).sum::<usize>();
        let begin = if skipped == 0 { self.begin } else { Begin::Fresh };
        Piece { bytes: &self.bytes[skipped..], begin, end: self.end }
    }
}

impl LogReader {
    /// A place where `since` says; none if too many read already.
    pub(super) fn new(recent: &Arc<Recent>, slot: Option<Slot>, since: Since) -> Option<Self> {
        let mut ring = recent.lock();
        if ring.readers >= READERS_MAX {
            return None;
        }
        ring.readers += 1;
        let (next, lines) = match since {
            Since::Oldest => (ring.oldest(), ring.lines_before(slot)),
            Since::Last(count) => ring.last(slot, count),
        };
        drop(ring);
        Some(Self { recent: Arc::clone(recent), slot, next, lines })
    }

    /// What is there and was not taken yet, a JSON object a line: those of workers, and
    /// `{"missed":12}` where the ring has overtaken this reader. None: nothing is.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let (pieces, count) = {
            let ring = self.recent.lock();
            // The numbers in the ring have no gaps.
            let skip = self.next.saturating_sub(ring.oldest());
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            let mut bytes = 0;
            let fits = |kept: &&Arc<Kept>| {
                let has_room = bytes < BATCH_BYTES;
                bytes += if kept.is_of(self.slot) { kept.cost() } else { 0 };
                has_room
            };
            let taken: Vec<_> = ring.pieces.iter().skip(skip).take_while(fits).cloned().collect();
            (taken, ring.count)
        };
        self.next = pieces.last().map_or(count, |last| last.number + 1);
        let mut out = Vec::new();
        for kept in pieces.iter().filter(|kept| kept.is_of(self.slot)) {
            let before = kept.lines_before(self.slot);
            let taken = mem::replace(&mut self.lines, before + kept.lines());
            let missed = before.saturating_sub(taken);
            if missed > 0 {
                let mut line = String::new();
                // Writing to a String cannot fail.
                let _ = writeln!(line, "{{\"missed\":{missed}}}");
                out.extend_from_slice(line.as_bytes());
            }
            let piece = kept.after(taken.saturating_sub(before));
            out.extend_from_slice(&Wrap::Json.render(kept.origin, &piece, kept.at));
        }
        (!out.is_empty()).then_some(out)
    }

    /// The same, once there is something.
    pub async fn next(&mut self) -> Vec<u8> {
        loop {
            let recent = Arc::clone(&self.recent);
            // Before the look: what comes between the two ends the wait.
            let changed = recent.changed.notified();
            if let Some(lines) = self.take() {
                return lines;
            }
            changed.await;
        }
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.recent.lock().readers -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::Stream;
    use super::*;
    use crate::policy::WorkerId;

    fn write(recent: &Recent, slot: u16, text: &str) {
        let origin = Origin { worker: WorkerId(1), slot: Slot(slot), stream: Stream::Stdout };
        let piece = Piece { bytes: text.as_bytes(), begin: Begin::Fresh, end: End::Newline };
        recent.record(origin, &piece, UNIX_EPOCH);
    }

    fn reader(recent: &Arc<Recent>, slot: Option<u16>) -> LogReader {
        LogReader::new(recent, slot.map(Slot), Since::Oldest).expect("few read")
    }

    /// What a reader takes now: lines as they are, and how many it missed.
    fn taken(reader: &mut LogReader) -> Vec<String> {
        let mut shown = Vec::new();
        while let Some(lines) = reader.take() {
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line: serde_json::Value = serde_json::from_slice(line).expect("it is JSON");
                shown.push(match line["line"].as_str() {
                    Some(text) => text.to_owned(),
                    None => format!("missed {}", line["missed"]),
                });
            }
        }
        shown
    }

    #[test]
    fn a_reader_gets_what_is_kept_then_what_comes_and_only_of_its_slot() {
        let recent = Arc::new(Recent::default());
        write(&recent, 0, "a\nb\n");
        write(&recent, 1, "c\n");
        let (mut all, mut one) = (reader(&recent, None), reader(&recent, Some(1)));
        assert_eq!(taken(&mut all), ["a", "b", "c"]);
        assert_eq!(taken(&mut one), ["c"]);
        write(&recent, 1, "d\n");
        write(&recent, 0, "e\n");
        assert_eq!(taken(&mut all), ["d", "e"]);
        assert_eq!(taken(&mut one), ["d"]);
        assert_eq!(taken(&mut reader(&recent, Some(7))), [""; 0]);
    }

    #[test]
    fn a_reader_of_the_last_lines_gets_so_many_and_then_what_comes() {
        let recent = Arc::new(Recent::default());
        write(&recent, 0, "a\nb\n");
        write(&recent, 1, "c\nd\ne\n");
        write(&recent, 0, "f\n");
        let last = |slot: Option<u16>, count| {
            LogReader::new(&recent, slot.map(Slot), Since::Last(count)).expect("few read")
        };
        let mut none = last(None, 0);
        for (slot, count, expected) in [
            (None, 0, vec![]),
            (None, 1, vec!["f"]),
            (None, 3, vec!["d", "e", "f"]),
            (None, 4, vec!["c", "d", "e", "f"]),
            (None, 5, vec!["b", "c", "d", "e", "f"]),
            (None, u32::MAX, vec!["a", "b", "c", "d", "e", "f"]),
            (Some(0), 1, vec!["f"]),
            (Some(0), 2, vec!["b", "f"]),
            (Some(1), 2, vec!["d", "e"]),
            (Some(1), 9, vec!["c", "d", "e"]),
            (Some(2), 9, vec![]),
        ] {
            assert_eq!(taken(&mut last(slot, count)), expected, "{slot:?} {count}");
        }
        write(&recent, 1, "g\nh\n");
        assert_eq!(taken(&mut none), ["g", "h"]);
        let large = format!("{}\n", "x".repeat(100_000));
        for _ in 0..20 {
            write(&recent, 0, &large);
        }
        let kept = recent.lock().pieces.len();
        assert_eq!(taken(&mut last(None, 100)).len(), kept, "more were asked for than are kept");
        assert_eq!(taken(&mut last(Some(1), 1)), [""; 0], "it is not kept");
    }

    #[test]
    fn the_ring_is_bounded_and_who_is_overtaken_is_told_by_how_many_lines() {
        let recent = Arc::new(Recent::default());
        let (mut all, mut one) = (reader(&recent, None), reader(&recent, Some(1)));
        write(&recent, 1, "first\n");
        assert_eq!(taken(&mut one), ["first"]);
        let large = format!("{}\n", "x".repeat(100_000));
        for _ in 0..20 {
            write(&recent, 1, "short\n");
            write(&recent, 0, &large);
        }
        assert!(recent.lock().bytes <= RING_BYTES);
        let kept = recent.lock().pieces.len() as u64;
        assert_eq!(taken(&mut all)[0], format!("missed {}", 41 - kept));
        let its = taken(&mut one);
        assert_eq!(its[0], format!("missed {}", 20 - (its.len() - 1)));
        assert_eq!(its[1..], vec!["short"; its.len() - 1]);
        // One that comes now has missed nothing.
        assert!(!taken(&mut reader(&recent, None))[0].starts_with("missed"));
        for _ in 0..100_000 {
            write(&recent, 0, "\n");
        }
        assert!(recent.lock().bytes <= RING_BYTES);
    }

    #[test]
    fn readers_are_bounded_and_their_places_come_free() {
        let recent = Arc::new(Recent::default());
        let mut readers: Vec<_> = (0..READERS_MAX).map(|_| reader(&recent, None)).collect();
        assert!(LogReader::new(&recent, None, Since::Oldest).is_none());
        readers.pop();
        assert!(LogReader::new(&recent, None, Since::Oldest).is_some());
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_next_line() {
        let recent = Arc::new(Recent::default());
        let mut reader = reader(&recent, None);
        let writer = {
            let recent = Arc::clone(&recent);
            std::thread::spawn(move || write(&recent, 0, "late\n"))
        };
        let lines = String::from_utf8(reader.next().await).expect("it is UTF-8");
        assert!(lines.contains("\"line\":\"late\""), "{lines}");
        writer.join().expect("it does not panic");
    }
}
