//! What the master itself says to clients of connection mode, and to those it has no room for.

use std::os::fd::{AsFd, OwnedFd};

use crate::config::Protocol;
use crate::sys::{channel, socket};

/// The answer of a listener with `protocol = "http"`. The client's request is unread, so closing
/// would reset the connection and could overtake this answer: RFC 9112 §9.6 asks to half-close.
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\nRetry-After: 2\r\n\
    Cache-Control: no-store\r\nConnection: close\r\n\r\nservice unavailable\n";

/// Turns one connection away, without ever waiting for its client.
pub(super) fn turn_away(socket: OwnedFd, protocol: Protocol) {
    match protocol {
        // A reset tells the client at once and leaves nothing behind in the kernel.
        Protocol::Tcp => {
            // It fails only on a connection that is gone already.
            let _ = socket::reset(socket);
        }
        Protocol::Http => {
            let _ = channel::send(socket.as_fd(), UNAVAILABLE, None);
            discard_request(&socket);
        }
    }
}

/// Reads what has arrived of the request, so that closing sends a FIN and not a reset. What comes
/// later meets a reset, after the answer has gone out.
fn discard_request(socket: &OwnedFd) {
    let _ = nix::sys::socket::shutdown(
        std::os::fd::AsRawFd::as_raw_fd(socket),
        nix::sys::socket::Shutdown::Write,
    );
    let mut buffer = [0_u8; 16 * 1024];
    // Four buffers: one head at its usual bound and some body; a client that sends more meets the
    // reset it asked for.
    for _ in 0..4 {
        match nix::unistd::read(socket, &mut buffer) {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
}
