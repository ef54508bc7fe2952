//! One connection that this worker was given, counted as open until it is dropped.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::AddressFamily;

use crate::shared::{Active, Open, Shared};
use crate::sys;

/// A client's connection. Dropping it closes the socket and gives its place back.
///
/// Reading and writing block, as with a [`TcpStream`]; so set timeouts on the stream: the master
/// does not watch what a client sends.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    listener: String,
    peer: Peer,
    open: Open,
}

/// The socket of a connection.
#[derive(Debug)]
pub enum Stream {
    /// From a TCP listener.
    Tcp(TcpStream),
    /// From a Unix listener, or the near end of a socket pair that the master forwards requests on.
    Unix(UnixStream),
}

/// Who is at the other end, as the master saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Address(SocketAddr),
    /// Anything else: text of the master's choice, empty if unknown.
    Other(String),
}

impl Connection {
    pub(crate) fn new(stream: Stream, listener: String, peer: Peer, shared: &Arc<Shared>) -> Self {
        Self { stream, listener, peer, open: Open::new(shared) }
    }

    /// The name of the listener that accepted it; `main` unless configured.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// The client's address as the master saw it.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The socket, for its options and timeouts.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Counts one exchange on this connection as active until the guard is dropped.
    #[must_use = "the exchange counts until the guard is dropped"]
    pub fn begin(&self) -> Active {
        Active::new(self.open.shared())
    }

    /// Takes the connection apart. It counts as open until the [`Open`] guard is dropped, so keep
    /// the guard for as long as the stream.
    pub fn into_parts(self) -> (Stream, Peer, Open) {
        (self.stream, self.peer, self.open)
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.stream).read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&self.stream).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// The stream of a descriptor that was handed over; None, and closed, if it is no stream
    /// socket.
    pub(crate) fn from_descriptor(fd: OwnedFd) -> Option<Self> {
        match sys::stream_family(&fd)? {
            AddressFamily::UNIX => Some(Self::Unix(fd.into())),
            _ => Some(Self::Tcp(fd.into())),
        }
    }

    /// As with [`TcpStream::set_nonblocking`].
    ///
    /// # Errors
    /// Those of the system call.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Self::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    /// As with [`TcpStream::set_read_timeout`] and [`TcpStream::set_write_timeout`], both at once.
    ///
    /// # Errors
    /// `InvalidInput` if the timeout is zero, else those of the system call.
    pub fn set_timeout(&self, timeout: Option<std::time::Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)
            }
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read_vectored(buffers),
            Stream::Unix(stream) => (&mut &*stream).read_vectored(buffers),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(buffer),
            Stream::Unix(stream) => (&mut &*stream).write(buffer),
        }
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write_vectored(buffers),
            Stream::Unix(stream) => (&mut &*stream).write_vectored(buffers),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Peer {
    pub(crate) fn parse(text: String) -> Self {
        text.parse().map_or(Self::Other(text), Self::Address)
    }

    /// The address of a TCP client.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Other(text) => text.fmt(f),
        }
    }
}
