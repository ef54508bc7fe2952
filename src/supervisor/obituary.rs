//! Tells of a worker's end, together with what it wrote last.

use std::time::{Duration, Instant};

use super::Supervisor;
use super::announce::millis;
use super::events::{Death, What, Who};
use super::reload::Mourned;
use crate::clock;
use crate::logs::LastWords;
use crate::policy::{Cause, CrashKind, Failure, LastSeen, Past, Phase, Slot, WorkerExit, WorkerId};

/// What is known of a dead worker.
#[derive(Debug)]
pub(super) struct Obituary {
    worker: WorkerId,
    who: Who,
    exit: WorkerExit,
    last_words: String,
    /// What ended it, where that is known from outside.
    killer: Option<String>,
}

/// A crash that was told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crash {
    pub(super) at: Instant,
    pub(super) kind: CrashKind,
    pub(super) exit: WorkerExit,
}

/// What follows a death; told in the same line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequel {
    /// It was asked to end.
    Wanted,
    /// The slot starts again after this.
    Restart { cause: Cause, delay: Duration, failures: u32, kind: CrashKind },
    /// It was to take over; the next is tried after this, and the old worker goes on.
    Again { cause: Cause, delay: Duration },
    /// The slot is given up.
    Failed,
}

/// What a worker wrote last: of stderr, or of stdout if it wrote nothing there. All that is kept:
/// the first line of a stack is what tells the cause.
fn last_lines(words: &LastWords) -> String {
    let lines = if words.stderr.is_empty() { &words.stdout } else { &words.stderr };
    lines.join("\n")
}

impl Supervisor {
    /// What is known of a worker that has just ended, before anything forgets it.
    pub(super) fn last_seen(&self, worker: WorkerId, past: Past) -> LastSeen {
        let pool = match self.parts.fleet.phase() {
            Phase::Starting => Past::NeverReady,
            Phase::Running | Phase::Reloading | Phase::Stopping(_) | Phase::Finished => Past::Ready,
        };
        let account = crate::link::lock(&self.parts.balance).worker(worker);
        let held = self.health.looks.at_hand(worker, account.as_ref());
        LastSeen { worker: past, pool, held }
    }

    /// What a crash is called.
    pub(super) fn kind_of(&self, failure: Failure) -> CrashKind {
        // Without a process there was nothing to be seen.
        let seen = self.seen.get(&failure.worker).copied();
        CrashKind::of(
            failure.cause,
            seen.unwrap_or_else(|| self.last_seen(failure.worker, Past::NeverReady)),
        )
    }

    /// Begins to gather what a dead worker wrote last; [`Supervisor::bury`] tells of it.
    pub(super) fn expect_last_words(
        &mut self,
        (worker, who): (WorkerId, Who),
        how: (WorkerExit, Option<String>),
    ) {
        let (exit, killer) = how;
        let words = self.parts.logs.finish(worker);
        self.obituaries.spawn(async move {
            // The sender is dropped only when the log thread has ended; then there are no words.
            let words = words.await.unwrap_or_default();
            Obituary { worker, who, exit, last_words: last_lines(&words), killer }
        });
    }

    /// Tells of a dead worker.
    pub(super) fn bury(&mut self, obituary: Obituary) {
        let Obituary { worker, who, exit, last_words, killer } = obituary;
        // Whatever else follows: a reload may have failed by it.
        let mourned = self.mourn(worker, &last_words);
        let last_output = last_words.clone();
        let death = match self.sequels.remove(&worker).unwrap_or(Sequel::Wanted) {
            Sequel::Wanted if mourned == Mourned::Yes => None,
            Sequel::Wanted => return,
            Sequel::Restart { cause, delay, failures, kind } => {
                self.recycle_failed(who, &cause.to_string(), &last_words);
                self.crashes.insert(Slot(who.slot), Crash { at: clock::now(), kind, exit });
                Some(Death::WorkerCrashed {
                    kind: kind.to_string(),
                    exit: exit.to_string(),
                    killer,
                    failures,
                    restart_in_ms: millis(delay),
                    last_output,
                })
            }
            Sequel::Again { cause, delay } => {
                self.recycle_failed(who, &cause.to_string(), &last_words);
                let retry_in_ms = millis(delay);
                Some(Death::SuccessorFailed { exit: exit.to_string(), retry_in_ms, last_output })
            }
            Sequel::Failed => {
                let exit = exit.to_string();
                self.recycle_failed(who, &exit, &last_words);
                Some(Death::SlotFailed { exit, last_output })
            }
        };
        if let Some(death) = death {
            self.announce_of(who, What::Death(death));
        }
        if !last_words.is_empty() {
            self.last_words = Some(last_words);
        }
    }
}
