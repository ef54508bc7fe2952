//! Decides what one output writes next and what it has no room for; pure.
//!
//! Invariants:
//! - Own lines go before workers' lines, which go in the order in which they came.
//! - Bytes of two origins never share a line: where a line is cut off, a newline is put in.
//! - A line too long to hold stays whole if its rest comes within [`HOLD`]: others wait that long.
//! - Each worker's room is what is left beyond its own part, so that one that floods leaves room
//!   for every other. The caller decides whether to wait for room, to drop, or to go beyond it.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use super::lines::{Begin, End};
use super::wrap::{Origin, Wrap};
use crate::policy::WorkerId;

/// Most bytes of workers' lines that wait for one output, overhead included: 10,000 lines of 300
/// bytes. A reader that comes back within a second from a pause finds everything of an app that
/// logs 4 MiB/s.
pub(super) const WAITING_BYTES: usize = 4 << 20;

/// What a chunk costs beside its bytes: its place in the queue and its allocation.
const CHUNK_BYTES: usize = 128;

/// How long others wait for the rest of a long line: 10 MB at 50 MB/s.
pub(super) const HOLD: Duration = Duration::from_millis(200);

/// Rendered bytes of one worker.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) origin: Origin,
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
    pub(super) begin: Begin,
    pub(super) end: End,
}

/// Bytes to write now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Lines in it that have not been written.
    pub(super) lines: u64,
    /// None for our own lines.
    pub(super) origin: Option<Origin>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Write(Batch),
    /// Lines wait for the rest of a long one until then.
    Held(Instant),
    Nothing,
}

/// What waits for one output.
#[derive(Debug)]
pub(super) struct Backlog {
    wrap: Wrap,
    own: Option<Batch>,
    chunks: VecDeque<Chunk>,
    waiting_bytes: usize,
    shares: HashMap<WorkerId, usize>,
    open: Option<Open>,
}

/// The line that was written last has no newline yet.
#[derive(Debug)]
struct Open {
    /// None if its origin does not matter any more: nothing can go on with it.
    origin: Option<Origin>,
    hold_until: Option<Instant>,
}

impl Backlog {
    pub(super) fn new(wrap: Wrap) -> Self {
        Self {
            wrap,
            own: None,
            chunks: VecDeque::new(),
            waiting_bytes: 0,
            shares: HashMap::new(),
            open: None,
        }
    }

    /// Bytes that `worker` may still queue: as much as is free beyond what it already holds
    /// (dynamic thresholds, Choudhury and Hahne 1998). One alone can fill a half, `k` together
    /// `k / (k + 1)`.
    pub(super) fn room(&self, worker: WorkerId) -> usize {
        let share = self.shares.get(&worker).copied().unwrap_or(0);
        WAITING_BYTES
            .saturating_sub(self.waiting_bytes)
            .saturating_sub(share)
            .saturating_sub(CHUNK_BYTES)
    }

    /// Queues `chunk`, with room for it or without.
    pub(super) fn push(&mut self, chunk: Chunk) {
        let cost = chunk.bytes.len() + CHUNK_BYTES;
        self.waiting_bytes += cost;
        *self.shares.entry(chunk.origin.worker).or_insert(0) += cost;
        self.chunks.push_back(chunk);
    }

    /// Whether own lines still wait; [`Self::push_own`] wants them gone.
    pub(super) fn has_own(&self) -> bool {
        self.own.is_some()
    }

    /// Queues whole own lines, newline included.
    pub(super) fn push_own(&mut self, bytes: Vec<u8>, lines: u64) {
        debug_assert!(self.own.is_none(), "own lines are taken only when none wait");
        self.own = Some(Batch { bytes, lines, origin: None });
    }

    /// Bytes of workers' lines that wait, with their overhead.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes out what to write now.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if let Some(open) = &mut self.open
            && let Some(until) = open.hold_until
        {
            if now < until {
                let rest = |chunk: &Chunk| Some(chunk.origin) == open.origin;
                return match self.chunks.iter().position(rest) {
                    Some(at) => self.take(at, now),
                    None if self.own.is_none() && self.chunks.is_empty() => Next::Nothing,
                    None => Next::Held(until),
                };
            }
            open.hold_until = None;
        }
        match self.own.take() {
            Some(mut own) => {
                if self.open.take().is_some() {
                    own.bytes.insert(0, b'\n');
                }
                Next::Write(own)
            }
            None => self.take(0, now),
        }
    }

    /// Nothing more comes: long lines wait for no rest.
    pub(super) fn release(&mut self) {
        if let Some(open) = &mut self.open {
            open.hold_until = None;
        }
    }

    /// Drops everything that waits and returns whose lines were lost.
    pub(super) fn clear(&mut self) -> Vec<(Option<Origin>, u64)> {
        self.waiting_bytes = 0;
        self.shares.clear();
        let own = self.own.take().map(|own| (None, own.lines));
        let chunks = mem::take(&mut self.chunks).into_iter();
        own.into_iter().chain(chunks.map(|chunk| (Some(chunk.origin), chunk.lines))).collect()
    }

    /// Tells that what was taken last was not written to its end; `last_byte` was.
    pub(super) fn torn_after(&mut self, last_byte: u8) {
        self.open = (last_byte != b'\n').then_some(Open { origin: None, hold_until: None });
    }

    fn take(&mut self, at: usize, now: Instant) -> Next {
        let Some(chunk) = self.chunks.remove(at) else {
            return Next::Nothing;
        };
        self.settle(&chunk);
        let open = self.open.take();
        let goes_on = chunk.begin == Begin::Continues
            && open.as_ref().is_some_and(|open| open.origin == Some(chunk.origin));
        let mut joint = String::new();
        if open.is_some() && !goes_on {
            joint.push('\n');
        }
        if chunk.begin == Begin::Continues && !goes_on {
            joint.push_str(&self.wrap.prefix(chunk.origin));
        }
        let hold_until = match (chunk.end, chunk.begin, open) {
            (End::More, Begin::Fresh, _) => Some(now + HOLD),
            // The time runs from the line's beginning, and a line once broken is not held again.
            (End::More, Begin::Continues, Some(open)) if goes_on => open.hold_until,
            (End::Newline | End::More | End::Pause, Begin::Fresh | Begin::Continues, _) => None,
        };
        self.open = match chunk.end {
            End::Newline => None,
            End::More | End::Pause => Some(Open { origin: Some(chunk.origin), hold_until }),
        };
        let mut bytes = chunk.bytes;
        if !joint.is_empty() {
            bytes.splice(0..0, joint.into_bytes());
        }
        Next::Write(Batch { bytes, lines: chunk.lines, origin: Some(chunk.origin) })
    }

    fn settle(&mut self, chunk: &Chunk) {
        let cost = chunk.bytes.len() + CHUNK_BYTES;
        self.waiting_bytes -= cost;
        let worker = chunk.origin.worker;
        if let Some(share) = self.shares.get_mut(&worker) {
            *share -= cost;
            if *share == 0 {
                self.shares.remove(&worker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stream;
    use super::*;
    use crate::policy::Slot;

    fn chunk(worker: u64, bytes: &[u8], begin: Begin, end: End) -> Chunk {
        Chunk {
            origin: Origin { worker: WorkerId(worker), slot: Slot(0), stream: Stream::Stdout },
            bytes: bytes.to_vec(),
            lines: 1,
            begin,
            end,
        }
    }

    /// Writes all that is ready at `now`.
    fn written(backlog: &mut Backlog, now: Instant) -> String {
        let mut out = Vec::new();
        while let Next::Write(batch) = backlog.next(now) {
            out.extend(batch.bytes);
        }
        String::from_utf8(out).expect("UTF-8")
    }

    fn push(backlog: &mut Backlog, worker: u64, bytes: &str, begin: Begin, end: End) {
        backlog.push(chunk(worker, bytes.as_bytes(), begin, end));
    }

    #[test]
    fn a_prompt_cut_off_by_another_line_goes_on_in_a_new_one_with_its_prefix() {
        let now = Instant::now();
        let mut backlog = Backlog::new(Wrap::Prefix);
        push(&mut backlog, 1, "[0] name? ", Begin::Fresh, End::Pause);
        push(&mut backlog, 2, "[0] other\n", Begin::Fresh, End::Newline);
        push(&mut backlog, 1, "Ann", Begin::Continues, End::Pause);
        push(&mut backlog, 1, "a\n", Begin::Continues, End::Newline);
        assert_eq!(written(&mut backlog, now), "[0] name? \n[0] other\n[0] Anna\n");
    }

    #[test]
    fn a_long_line_stays_whole_while_its_rest_keeps_coming() {
        let now = Instant::now();
        let mut backlog = Backlog::new(Wrap::Raw);
        push(&mut backlog, 1, "long-", Begin::Fresh, End::More);
        push(&mut backlog, 2, "other\n", Begin::Fresh, End::Newline);
        push(&mut backlog, 1, "er-", Begin::Continues, End::More);
        assert_eq!(written(&mut backlog, now), "long-er-");
        assert_eq!(backlog.next(now), Next::Held(now + HOLD));
        push(&mut backlog, 1, "end\n", Begin::Continues, End::Newline);
        backlog.push_own(b"own\n".to_vec(), 1);
        assert_eq!(written(&mut backlog, now), "end\nown\nother\n");
    }

    #[test]
    fn a_long_line_that_takes_too_long_is_broken_once_and_held_no_more() {
        let start = Instant::now();
        let mut backlog = Backlog::new(Wrap::Raw);
        push(&mut backlog, 1, "long-", Begin::Fresh, End::More);
        assert_eq!(written(&mut backlog, start), "long-");
        backlog.push_own(b"own\n".to_vec(), 1);
        assert_eq!(written(&mut backlog, start + HOLD), "\nown\n");
        push(&mut backlog, 1, "more", Begin::Continues, End::More);
        push(&mut backlog, 2, "other\n", Begin::Fresh, End::Newline);
        assert_eq!(written(&mut backlog, start + HOLD), "more\nother\n");
    }

    #[test]
    fn one_that_floods_leaves_room_for_every_other() {
        let mut backlog = Backlog::new(Wrap::Raw);
        let line = vec![b'x'; 1000];
        for worker in 0..10 {
            while backlog.room(WorkerId(worker)) >= line.len() {
                backlog.push(chunk(worker, &line, Begin::Fresh, End::Newline));
            }
        }
        assert!(backlog.waiting_bytes() < WAITING_BYTES);
        assert!(backlog.room(WorkerId(99)) >= 1000);
        let lost = backlog.clear();
        assert_eq!(backlog.room(WorkerId(0)), WAITING_BYTES - CHUNK_BYTES);
        assert!(lost.len() > 3000);
    }

    #[test]
    fn what_is_taken_gives_its_room_back() {
        let mut backlog = Backlog::new(Wrap::Raw);
        for _ in 0..100 {
            push(&mut backlog, 1, "line\n", Begin::Fresh, End::Newline);
        }
        written(&mut backlog, Instant::now());
        assert_eq!(backlog.waiting_bytes(), 0);
        assert!(backlog.shares.is_empty());
    }

    #[test]
    fn after_a_torn_write_the_next_line_starts_fresh() {
        let now = Instant::now();
        let mut backlog = Backlog::new(Wrap::Raw);
        backlog.torn_after(b'x');
        push(&mut backlog, 1, "next\n", Begin::Fresh, End::Newline);
        assert_eq!(written(&mut backlog, now), "\nnext\n");
        backlog.torn_after(b'\n');
        push(&mut backlog, 1, "next\n", Begin::Fresh, End::Newline);
        assert_eq!(written(&mut backlog, now), "next\n");
    }
}
