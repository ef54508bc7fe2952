//! Carries bytes both ways after an upgrade, until both sides have ended.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::stream::Stream;

/// Bytes held for each direction of a tunnel: a WebSocket frame of usual size fits, and 10,000
/// tunnels cost 160 MiB at worst.
const BUFFER: usize = 8 * 1024;

/// Bytes carried, from the client and to it.
pub(super) type Carried = (u64, u64);

/// Carries until both directions have ended. What was read ahead goes first.
///
/// # Errors
/// Those of either connection; the other one is to be closed then.
pub(super) async fn carry(
    client: &mut Stream,
    worker: &mut Stream,
    from_client: &[u8],
) -> io::Result<Carried> {
    worker.write_all(from_client).await?;
    copy_bidirectional_with_sizes(client, worker, BUFFER, BUFFER).await
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
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
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets hold nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        })?;
        Poll::Ready(Ok(()))
    }
}
