//! Holds what a control channel could not take yet, in order: one descriptor per message, and after
//! a partial send the rest of that line before anything else, without the descriptor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::sys::channel;

/// The most bytes that wait for one worker. Connections are bounded by the window of un-acked ones
/// (8 messages of about 110 bytes), so only a worker that asks and never reads gets here.
const OUTBOX_MAX: usize = 1024 * 1024;

/// One line on its way, with its descriptor until the first byte is gone.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptor: Option<Rc<OwnedFd>>,
}

/// Why a channel takes nothing more for now, or ever.
#[derive(Debug)]
pub(crate) enum Stuck {
    /// Wait until the socket is writable.
    Full,
    /// The kernel is short of something: no event tells when that ends, so try later.
    Exhausted,
    /// The worker is gone, or never reads.
    Broken(io::Error),
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what waits, then this; keeps what does not fit.
    ///
    /// # Errors
    /// [`Stuck`] says what to wait for; the message is kept, except when the channel is broken.
    pub(crate) fn push(
        &mut self,
        socket: BorrowedFd<'_>,
        bytes: Vec<u8>,
        descriptor: Option<Rc<OwnedFd>>,
    ) -> Result<(), Stuck> {
        self.bytes += bytes.len();
        self.waiting.push_back(Outgoing { bytes, sent: 0, descriptor });
        self.flush(socket)?;
        Ok(())
    }

    /// Sends as much as the socket takes.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Stuck> {
        while let Some(next) = self.waiting.front_mut() {
            let descriptor = next.descriptor.as_deref().map(AsFd::as_fd);
            match channel::send(socket, &next.bytes[next.sent..], descriptor) {
                Ok(count) => {
                    next.sent += count;
                    // A descriptor travels with the first byte.
                    next.descriptor = None;
                    if next.sent == next.bytes.len() {
                        self.bytes -= next.bytes.len();
                        self.waiting.pop_front();
                    }
                }
                Err(error) => return Err(self.classify(error)),
            }
        }
        Ok(())
    }

    /// Drops what waits, except the rest of a line that has begun: the reader's framing needs it.
    pub(crate) fn forget_unsent(&mut self) {
        self.waiting.retain(|outgoing| outgoing.sent > 0);
        self.bytes = self.waiting.iter().map(|outgoing| outgoing.bytes.len()).sum();
    }

    fn classify(&self, error: io::Error) -> Stuck {
        match error.raw_os_error() {
            _ if self.bytes > OUTBOX_MAX => Stuck::Broken(io::Error::other(format!(
                "the worker left {} bytes of its control channel unread",
                self.bytes
            ))),
            Some(libc::EAGAIN) => Stuck::Full,
            _ if channel::is_exhausted(&error) => Stuck::Exhausted,
            _ => Stuck::Broken(error),
        }
    }
}
