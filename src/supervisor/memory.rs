//! Reads the resident memory of processes.

use std::collections::BTreeMap;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Resident bytes by pid; a process that is gone has none.
pub(super) fn resident_bytes(pids: impl IntoIterator<Item = i32>) -> BTreeMap<i32, u64> {
    let known = |pid: i32| u32::try_from(pid).ok().map(|number| (pid, Pid::from_u32(number)));
    let pids: Vec<(i32, Pid)> = pids.into_iter().filter_map(known).collect();
    let wanted: Vec<Pid> = pids.iter().map(|(_, pid)| *pid).collect();
    let mut system = System::new();
    // Not the threads: a Node worker has eleven, and theirs is the same memory.
    let what = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&wanted), true, what);
    let memory = |(pid, id): (i32, Pid)| Some((pid, system.process(id)?.memory()));
    pids.into_iter().filter_map(memory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_processes_have_memory_and_others_are_left_out() {
        let own = nix::unistd::getpid().as_raw();
        let memory = resident_bytes([own, -1, i32::MAX]);
        assert_eq!(memory.keys().collect::<Vec<_>>(), [&own]);
        assert!(memory[&own] > 1 << 20);
    }
}
