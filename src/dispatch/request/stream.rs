//! A client's or a worker's connection, TCP or Unix, read and written without waiting.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::pipe::End;
use super::unix::UnixEnd;

/// See the module. Reading and writing need no exclusive access: the two directions of an exchange
/// run side by side in one task. In each direction one task waits at a time: the last to wait is
/// the one that is woken, which saves an entry in a list for every wait.
#[derive(Debug)]
pub(in crate::dispatch) enum Stream {
    Tcp(TcpStream),
    Unix(UnixEnd),
    /// Within the process: a stream of an HTTP/2 connection.
    Memory(End),
}

/// Which kind of socket an accepted descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dispatch) enum Kind {
    Tcp,
    Unix,
}

impl Stream {
    /// Registers a connected, non-blocking socket with the reactor's runtime.
    pub(in crate::dispatch) fn register(socket: OwnedFd, kind: Kind) -> io::Result<Self> {
        Ok(match kind {
            Kind::Tcp => {
                let stream = TcpStream::from_std(socket.into())?;
                // Answers go out in one write each; waiting to join them costs 40 ms.
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Kind::Unix => Self::Unix(UnixEnd::register(socket)?),
        })
    }

    /// Connects to a worker's private listener on loopback.
    pub(super) async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Connects to a worker's private listener on a path.
    pub(super) async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(UnixEnd::connect(path).await?))
    }

    /// Reads what is there. A short read has emptied the socket: its readiness is cleared, so that
    /// the next attempt waits for an event and not for one more system call that finds nothing.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(end) => end.try_read(buffer),
            Self::Memory(end) => return end.try_read(buffer),
        }?;
        if 0 < count && count < buffer.len() {
            self.await_more();
        }
        Ok(count)
    }

    /// Forgets that the socket was readable. An end of the stream that came with the last bytes is
    /// remembered apart by the runtime, and later bytes make a new event.
    fn await_more(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let cleared = match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
            Self::Unix(end) => end.await_more(),
            Self::Memory(_) => return,
        };
        debug_assert!(cleared.is_err(), "nothing was read");
    }

    /// Writes what fits. `WouldBlock` clears the readiness.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(end) => end.try_write(bytes),
            Self::Memory(end) => end.try_write(bytes),
        }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => poll_fn(|context| stream.poll_read_ready(context)).await,
            Self::Unix(end) => end.readable().await,
            Self::Memory(end) => {
                end.readable().await;
                Ok(())
            }
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => poll_fn(|context| stream.poll_write_ready(context)).await,
            Self::Unix(end) => end.writable().await,
            Self::Memory(end) => {
                end.writable().await;
                Ok(())
            }
        }
    }

    /// It is put aside: nobody waits for room in it.
    pub(super) fn forget_room(&mut self) {
        match self {
            Self::Unix(end) => end.forget_room(),
            Self::Tcp(_) | Self::Memory(_) => {}
        }
    }

    /// Writes everything, waiting for room as needed. Not cancel-safe: some of it may be gone.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Its socket; none for a stream within the process.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream) => Some(stream.as_fd()),
            Self::Unix(end) => Some(end.socket()),
            Self::Memory(_) => None,
        }
    }

    /// Whether its other end has closed it because what is written is not taken in time.
    pub(super) fn is_read_too_slowly(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Memory(end) => end.is_read_too_slowly(),
        }
    }

    /// Closes it for that reason. A socket has no word for it.
    pub(super) fn lose_patience(&self) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {}
            Self::Memory(end) => end.lose_patience(),
        }
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn shutdown_write(&self) {
        let socket = match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(end) => end.socket().as_raw_fd(),
            Self::Memory(end) => return end.shutdown_write(),
        };
        // It fails only on a connection that is gone already.
        let _ = nix::sys::socket::shutdown(socket, nix::sys::socket::Shutdown::Write);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(end) => end.poll_read(context, buffer),
            Self::Memory(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(end) => end.poll_write(context, bytes),
            Self::Memory(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets hold nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
