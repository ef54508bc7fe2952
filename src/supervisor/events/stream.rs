//! The body of `GET /events`: a line for each transition, until the end or until the reader is cut.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Entry, More, Transition};

type Next = Pin<Box<dyn Future<Output = (broadcast::Receiver<Entry>, Option<Entry>)> + Send>>;

/// What one reader gets.
pub struct Lines {
    greeting: Option<Entry>,
    /// None once the last line is out; the reader no longer counts then.
    next: Option<Next>,
}

impl Lines {
    pub(super) fn new(greeting: Entry, ring: broadcast::Receiver<Entry>) -> Self {
        Self { greeting: Some(greeting), next: Some(Box::pin(receive(ring))) }
    }
}

async fn receive(
    mut ring: broadcast::Receiver<Entry>,
) -> (broadcast::Receiver<Entry>, Option<Entry>) {
    let entry = match ring.recv().await {
        Ok(entry) => Some(entry),
        Err(RecvError::Lagged(missed)) => Some(Entry::new(&Transition::Cut { missed })),
        Err(RecvError::Closed) => None,
    };
    (ring, entry)
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |entry: &Entry| Ok(Frame::data(Bytes::copy_from_slice(entry.line.as_bytes())));
        if let Some(greeting) = self.greeting.take() {
            return Poll::Ready(Some(frame(&greeting)));
        }
        let Some(next) = &mut self.next else {
            return Poll::Ready(None);
        };
        let (ring, entry) = ready!(next.as_mut().poll(context));
        let more = entry.as_ref().map_or(More::Ends, |entry| entry.more);
        self.next = match more {
            More::Follows => Some(Box::pin(receive(ring))),
            More::Ends => None,
        };
        Poll::Ready(entry.as_ref().map(frame))
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}
