//! A Unix socket that waits for room only once it has found none.
//!
//! Linux tells of room in a Unix socket at every read of its other end, wanted or not; in a TCP
//! socket only after a write that found too little. Whoever listens for room from the start, as
//! tokio's own stream does, is woken once more for each request that a worker reads. So we listen
//! for it when a write has failed, and through a duplicate: a descriptor is registered once.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv, send};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UnixStream;

use crate::dispatch::EXHAUSTED_PAUSE;
use crate::sys::accept::is_exhaustion;
use crate::sys::wait;

/// See the module.
#[derive(Debug)]
pub(in crate::dispatch) struct UnixEnd {
    /// Tells when there is something to read.
    socket: AsyncFd<Rc<OwnedFd>>,
    /// A duplicate that tells when there is room, since a write found none.
    room: OnceCell<AsyncFd<Rc<OwnedFd>>>,
}

impl UnixEnd {
    /// Registers a connected, non-blocking socket with the runtime.
    pub(super) fn register(socket: OwnedFd) -> io::Result<Self> {
        let socket = wait::shared(Rc::new(socket), Interest::READABLE)?;
        Ok(Self { socket, room: OnceCell::new() })
    }

    /// Connects to a listener on a path.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await?;
        Self::register(stream.into_std()?.into())
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = MsgFlags::empty();
        self.socket.try_io(Interest::READABLE, |it| Ok(recv(it.as_raw_fd(), buffer, flags)?))
    }

    /// Forgets that there was something to read.
    pub(super) fn await_more(&self) -> io::Result<()> {
        self.socket.try_io(Interest::READABLE, |_| Err(io::ErrorKind::WouldBlock.into()))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let wrote = send(self.socket().as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL);
        if wrote == Err(nix::Error::EAGAIN)
            && let Some(room) = self.room.get()
        {
            // What it last told of is used up.
            let used = room.try_io(Interest::WRITABLE, |_| {
                Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock))
            });
            debug_assert!(used.is_err(), "nothing was written");
        }
        Ok(wrote?)
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    /// Waits for room; ends early without a descriptor to wait with, after a pause.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self.room() {
            Ok(_) => poll_fn(|context| self.poll_writable(context)).await,
            Err(error) if is_exhaustion(&error) => {
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_readable(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Fails also where a write must wait and there is no descriptor to wait with.
    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_writable(context))?;
                }
                wrote => return Poll::Ready(wrote),
            }
        }
    }

    /// Listens for room no longer, until a write finds none again.
    pub(super) fn forget_room(&mut self) {
        self.room.take();
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(context).map_ok(drop)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.room()?.poll_write_ready(context).map_ok(drop)
    }

    fn room(&self) -> io::Result<&AsyncFd<Rc<OwnedFd>>> {
        if let Some(room) = self.room.get() {
            return Ok(room);
        }
        let duplicate = self.socket.get_ref().try_clone()?;
        let room = wait::shared(Rc::new(duplicate), Interest::WRITABLE)?;
        Ok(self.room.get_or_init(|| room))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::io::AsyncWriteExt;

    use super::super::stream::{Kind, Stream};

    /// Several times what a socket holds.
    const MUCH: usize = 4 << 20;

    /// Our end of a connection, and what its other end has read when ours is closed.
    fn end() -> (Stream, std::thread::JoinHandle<Vec<u8>>) {
        let (ours, mut theirs) =
            std::os::unix::net::UnixStream::pair().expect("descriptors are left");
        ours.set_nonblocking(true).expect("it is a socket");
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            theirs.read_to_end(&mut seen).expect("an orderly end");
            seen
        });
        (Stream::register(ours.into(), Kind::Unix).expect("a runtime is here"), reader)
    }

    #[tokio::test]
    async fn a_write_without_room_goes_on_as_the_other_end_reads() {
        let (mut stream, reader) = end();
        stream.write_all(&vec![1; MUCH]).await.expect("it is read");
        stream.forget_room();
        stream.write_all(&vec![2; MUCH]).await.expect("it is read");
        // As HTTP/2 writes.
        AsyncWriteExt::write_all(&mut stream, &vec![3; MUCH]).await.expect("it is read");
        drop(stream);
        let seen = reader.join().expect("no panic");
        let expected = [1, 2, 3].map(|byte| vec![byte; MUCH]).concat();
        assert!(seen == expected, "{} bytes of {}", seen.len(), expected.len());
    }

    #[tokio::test]
    async fn nothing_listens_for_room_before_a_write_found_none() {
        let (stream, reader) = end();
        let Stream::Unix(end) = &stream else { panic!("{stream:?}") };
        end.try_write(b"a request").expect("there is room");
        assert!(end.room.get().is_none());
        drop(stream);
        assert_eq!(reader.join().expect("no panic"), b"a request");
    }
}
