//! A connection within the process: two ends, each read and written like a socket, without waiting.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;

/// Bytes on their way in one direction, at most: a full window of an HTTP/2 stream.
const CAPACITY: usize = 64 * 1024;

/// One end. Dropping it is to the other what closing a socket is.
#[derive(Debug)]
pub(in crate::dispatch) struct End {
    inbound: Rc<Direction>,
    outbound: Rc<Direction>,
}

#[derive(Debug, Default)]
struct Direction {
    bytes: RefCell<Vec<u8>>,
    written: Cell<Written>,
    patience: Cell<Patience>,
    /// Wakes the one who reads, the one who writes.
    more: Notify,
    room: Notify,
}

/// Whether more can come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Written {
    #[default]
    Open,
    /// The writer has ended, or the reader is gone.
    Ended,
}

/// Whether the reader still waits for its own client to take what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Patience {
    #[default]
    Left,
    Lost,
}

/// Two ends of a new connection.
pub(super) fn pair() -> (End, End) {
    let (one, other) = (Rc::new(Direction::default()), Rc::new(Direction::default()));
    let end = End { inbound: Rc::clone(&one), outbound: Rc::clone(&other) };
    (end, End { inbound: other, outbound: one })
}

impl End {
    /// Reads what is there; `Ok(0)` is the end.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.inbound.bytes.borrow_mut();
        if bytes.is_empty() {
            return match self.inbound.written.get() {
                Written::Open => Err(io::ErrorKind::WouldBlock.into()),
                Written::Ended => Ok(0),
            };
        }
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        bytes.drain(..count);
        self.inbound.room.notify_one();
        Ok(count)
    }

    /// Writes what fits.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.outbound.written.get() == Written::Ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut held = self.outbound.bytes.borrow_mut();
        let count = bytes.len().min(CAPACITY.saturating_sub(held.len()));
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        held.extend_from_slice(&bytes[..count]);
        self.outbound.more.notify_one();
        Ok(count)
    }

    /// Waits until a read gives something, be it the end. Cancel-safe; one waiter at a time.
    pub(super) async fn readable(&self) {
        while self.inbound.bytes.borrow().is_empty() && self.inbound.written.get() == Written::Open
        {
            self.inbound.more.notified().await;
        }
    }

    /// Waits until a write takes something, or fails. Cancel-safe; one waiter at a time.
    pub(super) async fn writable(&self) {
        while self.outbound.bytes.borrow().len() >= CAPACITY
            && self.outbound.written.get() == Written::Open
        {
            self.outbound.room.notified().await;
        }
    }

    /// Tells the other end why nothing more is read: whoever it is for took nothing for too long.
    pub(super) fn lose_patience(&self) {
        self.inbound.patience.set(Patience::Lost);
    }

    /// Whether the other end said so.
    pub(super) fn is_read_too_slowly(&self) -> bool {
        self.outbound.patience.get() == Patience::Lost
    }

    /// Tells the other end that nothing more comes.
    pub(super) fn shutdown_write(&self) {
        self.outbound.written.set(Written::Ended);
        self.outbound.more.notify_one();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown_write();
        // What the other end writes from now on is for nobody.
        self.inbound.written.set(Written::Ended);
        self.inbound.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_outlives_its_writer_and_no_more() {
        let (one, other) = pair();
        let mut buffer = [0; 8];
        let blocked = other.try_read(&mut buffer).map_err(|error| error.kind());
        assert_eq!(blocked, Err(io::ErrorKind::WouldBlock));
        assert_eq!(one.try_write(b"hello").expect("room"), 5);
        drop(one);
        assert_eq!(other.try_read(&mut buffer[..2]).expect("bytes"), 2);
        assert_eq!(other.try_read(&mut buffer).expect("bytes"), 3);
        assert_eq!(other.try_read(&mut buffer).expect("the end"), 0);
        let refused = other.try_write(b"late").map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::BrokenPipe));
    }

    #[tokio::test]
    async fn full_direction_waits_for_its_reader() {
        let (one, other) = pair();
        let block = vec![7; CAPACITY + 1];
        assert_eq!(one.try_write(&block).expect("room"), CAPACITY);
        let blocked = one.try_write(b"x").map_err(|error| error.kind());
        assert_eq!(blocked, Err(io::ErrorKind::WouldBlock));
        let mut buffer = [0; 10];
        let read = async {
            other.readable().await;
            other.try_read(&mut buffer)
        };
        let ((), read) = tokio::join!(one.writable(), read);
        assert_eq!(read.expect("bytes"), 10);
        assert_eq!(one.try_write(&block).expect("room"), 10);
    }
}
