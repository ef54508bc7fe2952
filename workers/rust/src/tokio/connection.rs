//! One connection on a tokio runtime, counted as open until it is dropped.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ::tokio::net::{TcpStream, UnixStream};

use super::task::Given;
use crate::connection::{Peer, Stream as StdStream};
use crate::server::OWN_LISTENER;
use crate::shared::{Active, Open, Shared, Unread};

/// A client's connection on this runtime. Dropping it closes the socket and gives its place back.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    listener: String,
    peer: Peer,
    open: Open,
    /// Until the first read.
    unread: Option<Unread>,
}

/// The socket of a connection.
#[derive(Debug)]
pub enum Stream {
    /// From a TCP listener.
    Tcp(TcpStream),
    /// From a Unix listener, or the near end of a socket pair that the master forwards requests on.
    Unix(UnixStream),
}

impl Connection {
    pub(super) fn own(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) -> Self {
        Self {
            stream: Stream::Tcp(stream),
            listener: OWN_LISTENER.to_owned(),
            peer: Peer::Address(peer),
            open: Open::new(shared),
            unread: None,
        }
    }

    /// Puts a connection that was handed over on the current runtime.
    pub(super) fn register(given: Given) -> io::Result<Self> {
        let Given { connection, unread } = given;
        let listener = connection.listener().to_owned();
        let (stream, peer, open) = connection.into_parts();
        // The protocol promises it; tokio would hang the whole thread if it were not so.
        stream.set_nonblocking(true)?;
        let stream = match stream {
            StdStream::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            StdStream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
        };
        Ok(Self { stream, listener, peer, open, unread: Some(unread) })
    }

    /// The name of the listener that accepted it; `main` unless configured.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// The client's address as the master saw it.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The socket, for its options.
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

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_ready() {
            this.unread = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, buffer),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
