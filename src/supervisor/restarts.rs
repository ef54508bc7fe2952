//! Counts restarts by how the worker before had ended, and replacements by why it had to leave.

use crate::policy::{Cause, Why, WorkerExit};

/// Restarts since the master started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restarts {
    exited: u64,
    signalled: u64,
    killed: u64,
    start_timeout: u64,
    spawn_failed: u64,
    hung: u64,
    out_of_memory: u64,
    recycled: [u64; RECYCLED.len()],
}

/// Every reason to replace a worker that could go on, and its word.
const RECYCLED: [(Why, &str); 5] = [
    (Why::Asked, "asked"),
    (Why::MaxRequests, "max_requests"),
    (Why::MaxAge, "max_age"),
    (Why::MemorySoft, "memory_soft"),
    (Why::RedLine, "red_line"),
];

impl Restarts {
    pub(super) fn count(&mut self, cause: Cause) {
        let number = match cause {
            Cause::Exited(WorkerExit::Code(_)) => &mut self.exited,
            // Where the kernel does not tell, this may be its answer to a lack of memory.
            Cause::Exited(WorkerExit::Signal(libc::SIGKILL)) => &mut self.killed,
            Cause::Exited(WorkerExit::Signal(_)) => &mut self.signalled,
            Cause::StartTimeout => &mut self.start_timeout,
            Cause::SpawnFailed => &mut self.spawn_failed,
            Cause::Hung => &mut self.hung,
        };
        *number += 1;
    }

    /// The kernel killed it for want of memory.
    pub(super) fn count_oom(&mut self) {
        self.out_of_memory += 1;
    }

    /// A worker was replaced although it could have gone on.
    pub(super) fn count_recycle(&mut self, why: Why) {
        for (number, (known, _)) in self.recycled.iter_mut().zip(RECYCLED) {
            *number += u64::from(known == why);
        }
    }

    /// Each such reason's word and number.
    pub(crate) fn recycled_by_reason(self) -> impl Iterator<Item = (&'static str, u64)> {
        RECYCLED.into_iter().map(|(_, word)| word).zip(self.recycled)
    }

    /// Each reason's word and number.
    pub(crate) fn by_reason(self) -> [(&'static str, u64); 7] {
        [
            ("exit", self.exited),
            ("signal", self.signalled),
            ("killed", self.killed),
            ("start_timeout", self.start_timeout),
            ("spawn_failed", self.spawn_failed),
            ("hung", self.hung),
            ("out_of_memory", self.out_of_memory),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_replacement_counts_under_one_reason() {
        for (why, reason) in RECYCLED {
            let mut restarts = Restarts::default();
            restarts.count_recycle(why);
            let counted = restarts.recycled_by_reason().filter(|(_, count)| *count > 0);
            assert_eq!(counted.collect::<Vec<_>>(), [(reason, 1)]);
        }
    }

    #[test]
    fn each_cause_counts_under_one_reason() {
        for (cause, reason) in [
            (Cause::Exited(WorkerExit::Code(0)), "exit"),
            (Cause::Exited(WorkerExit::Signal(libc::SIGSEGV)), "signal"),
            (Cause::Exited(WorkerExit::Signal(libc::SIGKILL)), "killed"),
            (Cause::StartTimeout, "start_timeout"),
            (Cause::SpawnFailed, "spawn_failed"),
            (Cause::Hung, "hung"),
        ] {
            let mut restarts = Restarts::default();
            restarts.count(cause);
            let counted = restarts.by_reason().into_iter().filter(|(_, count)| *count > 0);
            assert_eq!(counted.collect::<Vec<_>>(), [(reason, 1)]);
        }
    }
}
