//! What one reader of events gets: a line for each transition, until the end or until it is cut.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Entry, More, Transition};

/// One reader's place.
#[derive(Debug)]
pub struct Lines {
    greeting: Option<Entry>,
    /// None once the last line is out; the reader no longer counts then.
    ring: Option<broadcast::Receiver<Entry>>,
}

impl Lines {
    pub(super) fn new(greeting: Entry, ring: broadcast::Receiver<Entry>) -> Self {
        Self { greeting: Some(greeting), ring: Some(ring) }
    }

    /// The next line, once there is one; none after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting.line);
        }
        let entry = match self.ring.as_mut()?.recv().await {
            Ok(entry) => entry,
            Err(RecvError::Lagged(missed)) => Entry::new(&Transition::Cut { missed }),
            Err(RecvError::Closed) => {
                self.ring = None;
                return None;
            }
        };
        match entry.more {
            More::Follows => {}
            More::Ends => self.ring = None,
        }
        Some(entry.line)
    }
}
