//! Reads the memory of processes: resident, and what is their own.

use std::collections::BTreeMap;

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::sys::process;

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

/// What the host can still give to processes; none if it does not say.
pub(super) fn available_bytes() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    Some(system.available_memory()).filter(|bytes| *bytes > 0)
}

/// The deepest tree of wrappers that is measured.
const TREE_MAX: usize = 64;

/// What a worker's whole tree holds of its own: anonymous memory, which nobody shares and the
/// kernel cannot drop. None: nothing can be read, or the worker is gone.
pub(super) fn own_bytes(pid: i32) -> Option<u64> {
    let mut bytes = anonymous(pid)?;
    let mut left = process::children(pid).unwrap_or_default();
    for _ in 0..TREE_MAX {
        let Some(child) = left.pop() else {
            break;
        };
        bytes += anonymous(child).unwrap_or(0);
        left.extend(process::children(child).unwrap_or_default());
    }
    Some(bytes)
}

fn anonymous(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_grows_by_what_is_written_to() {
        let own = nix::unistd::getpid().as_raw();
        let before = own_bytes(own).expect("we live");
        let written = vec![1_u8; 64 << 20];
        let after = own_bytes(own).expect("we live");
        assert!(after >= before + (48 << 20), "{before} {after} {}", written.len());
        assert_eq!(own_bytes(i32::MAX), None);
    }

    #[test]
    fn living_processes_have_memory_and_others_are_left_out() {
        let own = nix::unistd::getpid().as_raw();
        let memory = resident_bytes([own, -1, i32::MAX]);
        assert_eq!(memory.keys().collect::<Vec<_>>(), [&own]);
        assert!(memory[&own] > 1 << 20);
    }
}
