//! Registers descriptors with the runtime's event loop.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::destroy::DestroyEvents;

/// Registers a descriptor that others may use too. Call it within a runtime.
///
/// # Errors
/// Those of epoll_ctl(2): EPERM for a file that cannot be waited on, EEXIST for a second
/// registration of the same descriptor.
pub fn shared(descriptor: Rc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Rc<OwnedFd>>> {
    // SAFETY: an OwnedFd is open for as long as it lives, its number never changes, and the Rc
    // keeps it alive until the AsyncFd is gone.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(io::Error::from)
}

/// Registers a subscription to destroy events. Call it within a runtime.
///
/// # Errors
/// As [`shared`].
pub fn destroy_events(events: DestroyEvents) -> io::Result<AsyncFd<DestroyEvents>> {
    // SAFETY: it owns one OwnedFd from its making to its end, which is what as_raw_fd returns.
    let registered = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
