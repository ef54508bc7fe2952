//! Makes our own connections to workers: what request mode speaks HTTP over.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::listener::Listener;
use super::request::{Counted, Question};
use super::tasks::Change;
use super::upstream::Via;
use super::{Hears, Reactor, Standing};
use crate::link::orders::{Accepts, Fetched, Upstream};
use crate::link::said::ServerKey;
use crate::policy::{ListenerId, Mode, WorkerId};

type Reply = oneshot::Sender<Fetched>;

/// Our end of a connection to a worker, and the count that goes with it.
#[derive(Debug)]
pub(super) enum PrivateEnd {
    /// The other end was handed to the worker.
    Pair(OwnedFd, Counted, Hears),
    /// The worker listens there.
    At(Upstream, Counted),
}

impl Reactor {
    /// Asks a worker's app for a path. Who serves no request-mode listener cannot be asked: the
    /// dropped reply says so.
    pub(super) fn fetch_app(
        &self,
        worker: WorkerId,
        path: Arc<str>,
        accepts: Accepts,
        reply: Reply,
    ) {
        if let Some(through) = self.request_listener_of(worker) {
            self.change(Change::Fetch(Question { worker, through, path, accepts, reply }));
        }
    }

    /// There was no descriptor or no memory for a connection to a worker.
    pub(super) fn note_exhaustion(&mut self, now: Instant, error: &io::Error) {
        if self.disconnected.is_due(now) {
            tracing::warn!(%error, "cannot connect to workers, trying again every 50 ms");
        }
    }

    /// A listener of request mode that this worker serves.
    pub(super) fn request_listener_of(&self, worker: WorkerId) -> Option<(ListenerId, ServerKey)> {
        let serves = |listener: &&Listener| {
            let serves = self.servers.get(listener.server);
            let by_channel = serves.is_some_and(|server| server.workers.contains(&worker));
            let by_address =
                self.links.get(&worker).is_some_and(|it| matches!(it.via, Via::Upstream(_)));
            listener.mode == Mode::Request && (by_channel || by_address)
        };
        let listener = self.listeners.values().find(serves)?;
        Some((listener.id, listener.server))
    }

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
        let hears = member.hears;
        let sent = member.link.hand_over_private(theirs, listener.server, &listener.name);
        self.after_send(now, worker, sent);
        Ok(PrivateEnd::Pair(ours.into(), counted, hears))
    }
}
