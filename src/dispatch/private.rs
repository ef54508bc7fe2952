//! Makes our own connections to workers: what request mode speaks HTTP over.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Instant;

use super::request::Counted;
use super::upstream::Via;
use super::{Reactor, Standing};
use crate::link::orders::Upstream;
use crate::policy::{ListenerId, WorkerId};

/// Our end of a connection to a worker, and the count that goes with it.
#[derive(Debug)]
pub(super) enum PrivateEnd {
    /// The other end was handed to the worker.
    Pair(OwnedFd, Counted),
    /// The worker listens there.
    At(Upstream, Counted),
}

impl Reactor {
    /// Hands one end of a new pair to a worker, as a connection of this listener's server.
    ///
    /// # Errors
    /// The worker is gone, or there are no descriptors left.
    pub(super) fn open_private(
        &mut self,
        now: Instant,
        worker: WorkerId,
        listener: ListenerId,
    ) -> io::Result<PrivateEnd> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let listener = self.listeners.get(&listener).ok_or_else(gone)?;
        let member = self.links.get_mut(&worker).ok_or_else(gone)?;
        if member.standing == Standing::Ended {
            return Err(gone());
        }
        let counted = Counted::new(Rc::clone(&member.private_open));
        if let Via::Upstream(upstream) = &member.via {
            return Ok(PrivateEnd::At(upstream.clone(), counted));
        }
        let (ours, theirs) = UnixStream::pair()?;
        for end in [&ours, &theirs] {
            // A worker that is handed a blocking socket would be frozen by its first slow read.
            end.set_nonblocking(true)?;
        }
        let theirs = Rc::new(OwnedFd::from(theirs));
        let sent = member.link.hand_over_private(theirs, listener.server, &listener.name);
        self.after_send(now, worker, sent);
        Ok(PrivateEnd::Pair(ours.into(), counted))
    }
}
