//! Tells crashes apart: whether one worker or all of them fail, and whether load had a part in it.
//!
//! What to do about a crash is the fleet's to decide, the same for every kind; the kind is for who
//! reads of it, because each has its remedy elsewhere: in the command, in the memory, in the code.

use std::fmt;

use crate::policy::{Cause, WorkerExit};

/// What the kernel sends for want of memory, and what V8 raises at the end of its heap.
const KILL: i32 = 9;
const ABORT: i32 = 6;

/// Whether a worker, or any worker of the pool, had been ready before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// It never was.
    NeverReady,
    /// It was.
    Ready,
}

/// What is known of a worker at its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSeen {
    pub worker: Past,
    pub pool: Past,
    /// What it had at hand; see [`Looks::at_hand`](super::Looks::at_hand).
    pub held: u32,
}

/// What a crash is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// No worker has ever been ready: the command, its configuration, or what it needs.
    AllFromTheStart,
    /// It never was ready, others were.
    Starting,
    /// It was killed, or aborted, with work in its hands: memory, most likely.
    UnderLoad,
    /// It served, and ended by itself.
    Serving,
    /// It gave no sign of life, and we killed it.
    Hung,
}

impl CrashKind {
    /// Of a worker that ended for this reason.
    #[must_use]
    pub fn of(cause: Cause, seen: LastSeen) -> Self {
        let kind = match cause {
            Cause::Hung => return Self::Hung,
            Cause::StartTimeout | Cause::SpawnFailed => Self::Starting,
            Cause::Exited(exit) => match (seen.worker, exit) {
                (Past::NeverReady, _) => Self::Starting,
                (Past::Ready, WorkerExit::Signal(KILL | ABORT)) if seen.held > 0 => Self::UnderLoad,
                (Past::Ready, WorkerExit::Signal(_) | WorkerExit::Code(_)) => Self::Serving,
            },
        };
        match (kind, seen.pool) {
            (Self::Starting, Past::NeverReady) => Self::AllFromTheStart,
            (kind, Past::NeverReady | Past::Ready) => kind,
        }
    }
}

impl fmt::Display for CrashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllFromTheStart => "all from the start",
            Self::Starting => "one worker, before it was ready",
            Self::UnderLoad => "killed under load",
            Self::Serving => "one worker, while it served",
            Self::Hung => "hung",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_are_told_apart_by_what_was_before() {
        let seen = |worker, pool, held| LastSeen { worker, pool, held };
        let ended = |exit| Cause::Exited(exit);
        let (never, ready) = (Past::NeverReady, Past::Ready);
        for (cause, seen, kind) in [
            (ended(WorkerExit::Code(1)), seen(never, never, 0), CrashKind::AllFromTheStart),
            (Cause::StartTimeout, seen(never, never, 0), CrashKind::AllFromTheStart),
            (Cause::SpawnFailed, seen(never, ready, 0), CrashKind::Starting),
            (ended(WorkerExit::Signal(KILL)), seen(never, ready, 0), CrashKind::Starting),
            (ended(WorkerExit::Signal(KILL)), seen(ready, ready, 7), CrashKind::UnderLoad),
            (ended(WorkerExit::Signal(ABORT)), seen(ready, ready, 1), CrashKind::UnderLoad),
            (ended(WorkerExit::Signal(KILL)), seen(ready, ready, 0), CrashKind::Serving),
            (ended(WorkerExit::Code(1)), seen(ready, ready, 7), CrashKind::Serving),
            (Cause::Hung, seen(ready, ready, 7), CrashKind::Hung),
        ] {
            assert_eq!(CrashKind::of(cause, seen), kind, "{cause:?} {seen:?}");
        }
    }
}
