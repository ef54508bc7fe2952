//! What is known about each worker's output: its last lines, and what was lost and not yet told.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::Level;

use super::format::{Line, LineStyle};
use super::inbox::Inbox;
use super::lines::Piece;
use super::tail::{LastWords, Tail};
use super::wrap::Origin;
use super::{Dropped, Stream};
use crate::policy::{Slot, WorkerId};

/// The books of the log thread.
#[derive(Debug)]
pub(super) struct Ledger {
    inbox: Arc<Inbox>,
    workers: BTreeMap<WorkerId, Entry>,
    own_untold: u64,
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    life: Life,
    dropped: u64,
    /// Those of `dropped` that no line of ours has told yet.
    untold: u64,
    stdout: Tail,
    stderr: Tail,
}

/// Whether somebody may still ask for a worker's last words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// They were given; what still comes is from grandchildren.
    Finished,
}

impl Ledger {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, workers: BTreeMap::new(), own_untold: 0 }
    }

    pub(super) fn open(&mut self, worker: WorkerId, slot: Slot) {
        self.workers.insert(worker, Entry::new(slot, Life::Running));
    }

    /// Remembers the last lines of a worker that runs, for its death, and of all for readers.
    pub(super) fn record(&mut self, origin: Origin, piece: &Piece<'_>, at: SystemTime) {
        self.inbox.recent().record(origin, piece, at);
        let Some(entry) = self.workers.get_mut(&origin.worker) else {
            return;
        };
        match (entry.life, origin.stream) {
            (Life::Running, Stream::Stdout) => entry.stdout.record(piece),
            (Life::Running, Stream::Stderr) => entry.stderr.record(piece),
            (Life::Finished, Stream::Stdout | Stream::Stderr) => (),
        }
    }

    /// Counts lines that are not written; `origin` is none for our own.
    pub(super) fn lose(&mut self, origin: Option<Origin>, lines: u64) {
        let mut dropped = Dropped::default();
        match origin {
            Some(origin) => {
                dropped.workers = lines;
                let entry = self
                    .workers
                    .entry(origin.worker)
                    .or_insert_with(|| Entry::new(origin.slot, Life::Finished));
                entry.dropped += lines;
                entry.untold += lines;
            }
            None => {
                dropped.own = lines;
                self.own_untold += lines;
            }
        }
        self.inbox.count_dropped(dropped);
    }

    /// Notes own lines that the inbox had no room for, and has counted.
    pub(super) fn missed(&mut self, lines: u64) {
        self.own_untold += lines;
    }

    /// Closes a worker's account; nothing is known of a worker that was never attached.
    pub(super) fn finish(&mut self, worker: WorkerId) -> LastWords {
        let Some(entry) = self.workers.get_mut(&worker) else {
            return LastWords::default();
        };
        entry.life = Life::Finished;
        LastWords {
            stderr: mem::take(&mut entry.stderr).to_strings(),
            stdout: mem::take(&mut entry.stdout).to_strings(),
            dropped: entry.dropped,
        }
    }

    pub(super) fn is_finished(&self, worker: WorkerId) -> bool {
        let entry = self.workers.get(&worker);
        entry.is_none_or(|entry| entry.life == Life::Finished)
    }

    /// Drops the entries of finished workers that are not in `heard`, once their losses are told.
    pub(super) fn forget(&mut self, heard: &BTreeSet<WorkerId>) {
        self.workers.retain(|worker, entry| {
            entry.life == Life::Running || entry.untold > 0 || heard.contains(worker)
        });
    }

    pub(super) fn has_untold(&self) -> bool {
        self.own_untold > 0 || self.workers.values().any(|entry| entry.untold > 0)
    }

    /// One line for each loss that has not been told.
    pub(super) fn tell(&mut self, style: LineStyle) -> Vec<Line<'static>> {
        let line = || Line::new(style, Level::WARN, module_path!());
        let mut lines = Vec::new();
        let own = mem::take(&mut self.own_untold);
        if own > 0 {
            lines.push(line().message(&format!("dropped {own} log lines")));
        }
        for (worker, entry) in &mut self.workers {
            let lost = mem::take(&mut entry.untold);
            if lost > 0 {
                let line = line().message(&format!("dropped {lost} lines of worker output"));
                lines.push(line.field("slot", entry.slot).field("worker", worker));
            }
        }
        lines
    }
}

impl Entry {
    fn new(slot: Slot, life: Life) -> Self {
        Self { slot, life, dropped: 0, untold: 0, stdout: Tail::default(), stderr: Tail::default() }
    }
}
