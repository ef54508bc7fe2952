//! Counts restarts by how the worker before had ended.

use crate::policy::{Cause, WorkerExit};

/// Restarts since the master started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restarts {
    exited: u64,
    signalled: u64,
    killed: u64,
    start_timeout: u64,
    spawn_failed: u64,
    hung: u64,
}

impl Restarts {
    pub(super) fn count(&mut self, cause: Cause) {
        let number = match cause {
            Cause::Exited(WorkerExit::Code(_)) => &mut self.exited,
            // What the kernel sends when memory is short, and hardly anybody else.
            Cause::Exited(WorkerExit::Signal(libc::SIGKILL)) => &mut self.killed,
            Cause::Exited(WorkerExit::Signal(_)) => &mut self.signalled,
            Cause::StartTimeout => &mut self.start_timeout,
            Cause::SpawnFailed => &mut self.spawn_failed,
            Cause::Hung => &mut self.hung,
        };
        *number += 1;
    }

    /// Each reason's word and number.
    pub(crate) fn by_reason(self) -> [(&'static str, u64); 6] {
        [
            ("exit", self.exited),
            ("signal", self.signalled),
            ("killed", self.killed),
            ("start_timeout", self.start_timeout),
            ("spawn_failed", self.spawn_failed),
            ("hung", self.hung),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
