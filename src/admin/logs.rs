//! The body of `GET /logs`: what the workers wrote last and, if it follows, what they write.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame};

use crate::logs::LogReader;

type Next = Pin<Box<dyn Future<Output = (LogReader, Option<Vec<u8>>)> + Send>>;

/// Whether there is an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// No: every line from now on, too.
    Yes,
    /// After what is kept.
    No,
}

/// What one reader gets.
pub(super) struct LogLines {
    follow: Follow,
    /// None once the last line is out.
    next: Option<Next>,
}

impl LogLines {
    pub(super) fn new(reader: LogReader, follow: Follow) -> Self {
        Self { follow, next: Some(Box::pin(next(reader, follow))) }
    }
}

async fn next(mut reader: LogReader, follow: Follow) -> (LogReader, Option<Vec<u8>>) {
    let lines = match follow {
        Follow::Yes => Some(reader.next().await),
        Follow::No => reader.take(),
    };
    (reader, lines)
}

impl Body for LogLines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(waits) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (reader, lines) = ready!(waits.as_mut().poll(context));
        let follow = self.follow;
        self.next = lines.is_some().then(|| Box::pin(next(reader, follow)) as Next);
        Poll::Ready(lines.map(|lines| Ok(Frame::data(lines.into()))))
    }
}

impl fmt::Debug for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLines").field("follow", &self.follow).finish_non_exhaustive()
    }
}
