//! Holds every unsafe line and every raw descriptor, behind functions that are safe to call.
//!
//! A leaf: it knows sockets, processes and files, and nothing of workers, policy or configuration.
//! Every descriptor it makes is close-on-exec from birth. It never logs; it returns errors.

pub mod accept;
pub mod channel;
pub mod child;
pub mod destroy;
mod exec;
pub mod limits;
pub mod load;
pub mod notify;
pub mod passed;
pub mod private;
pub mod process;
pub mod program;
pub mod signals;
pub mod socket;
pub mod spawn;
pub mod thread;
pub mod usage;
pub mod wait;

/// Keeps forks and tests that count on closing a descriptor apart: between fork and execve, a child
/// of another test's thread holds a copy of everything.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

    static FORKS: RwLock<()> = RwLock::new(());

    /// Held while a test starts a process.
    pub(crate) fn forking() -> RwLockWriteGuard<'static, ()> {
        FORKS.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a test relies on having the only copy of a descriptor.
    pub(crate) fn without_forks() -> RwLockReadGuard<'static, ()> {
        FORKS.read().unwrap_or_else(PoisonError::into_inner)
    }
}
