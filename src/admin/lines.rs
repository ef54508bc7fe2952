//! The bodies of `GET /events` and `GET /logs`: line after line, as they come.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame};

use crate::logs::LogReader;
use crate::supervisor::events;

/// The next lines and what follows them; none after the last.
type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Lines)>> + Send>>;

/// What one reader gets.
pub(super) struct Lines {
    /// None once the last line is out.
    next: Option<Next>,
}

/// Whether there is an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// No: every line from now on, too.
    Yes,
    /// After what is kept.
    No,
}

/// A line for each transition, until the reader is cut or the master ends.
pub(super) fn of_events(mut reader: events::Lines) -> Lines {
    Lines::new(async move {
        let line = reader.next().await?;
        Some((Bytes::copy_from_slice(line.as_bytes()), of_events(reader)))
    })
}

/// What the workers wrote last and, if it follows, what they write.
pub(super) fn of_workers(mut reader: LogReader, follow: Follow) -> Lines {
    Lines::new(async move {
        let lines = match follow {
            Follow::Yes => reader.next().await,
            Follow::No => reader.take()?,
        };
        Some((lines.into(), of_workers(reader, follow)))
    })
}

impl Lines {
    fn new(next: impl Future<Output = Option<(Bytes, Self)>> + Send + 'static) -> Self {
        Self { next: Some(Box::pin(next)) }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let Some((lines, rest)) = ready!(next.as_mut().poll(context)) else {
            self.next = None;
            return Poll::Ready(None);
        };
        *self = rest;
        Poll::Ready(Some(Ok(Frame::data(lines))))
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}
