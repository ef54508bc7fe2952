//! Makes listening sockets that one worker has for its master alone: a loopback port to listen on,
//! or a socket that listens already and is only passed on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

use super::socket::BACKLOG_MAX;

/// A loopback port that nobody has at this moment, for a process that binds it itself.
///
/// Whoever is faster may take it in between; the process then fails with EADDRINUSE. Keeping it
/// bound until then would make that certain: many servers bind without SO_REUSEADDR.
///
/// # Errors
/// Those of bind(2), above all EADDRINUSE when every port of the range is taken.
pub fn reserve_port() -> io::Result<u16> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    port_of(&socket)
}

/// A socket that listens on a loopback port, and its address, for a process that inherits it.
///
/// TCP, because servers trust `X-Forwarded-*` from 127.0.0.1 and know no peer on a Unix socket
/// (uvicorn: no client and scheme http). Blocking, as systemd would pass it: a simple server
/// accepts in a loop. TCP_NODELAY is set, and accepted sockets inherit it: Python takes an
/// inherited socket for a Unix one and never sets it, at 40 ms for every response in two writes.
///
/// # Errors
/// Those of bind(2) and listen(2).
pub fn listen_for_child() -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.set_tcp_nodelay(true)?;
    socket.listen(i32::try_from(BACKLOG_MAX).unwrap_or(i32::MAX))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port_of(&socket)?));
    Ok((socket.into(), address))
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    address.map(|address| address.port()).ok_or_else(|| io::Error::other("not an IP socket"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use socket2::SockRef;

    use super::*;
    use crate::sys::testing::without_forks;

    #[test]
    fn a_reserved_port_can_be_bound_without_so_reuseaddr() {
        let _only_copy = without_forks();
        let port = reserve_port().expect("loopback has a free port");
        let plain = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        plain.bind(&address.into()).expect("nothing of ours is left there");
    }

    #[test]
    fn an_inherited_listener_blocks_and_hands_its_nodelay_on() {
        let (socket, address) = listen_for_child().expect("loopback has a free port");
        let _client = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = TcpListener::from(socket).accept().expect("blocks until there is one");
        assert!(accepted.nodelay().expect("a TCP socket"));
    }

    #[test]
    fn no_connect_hangs_once_the_last_copy_is_closed() {
        let _only_copy = without_forks();
        let (socket, address) = listen_for_child().expect("loopback has a free port");
        let waiting = TcpStream::connect(address).expect("it listens");
        drop(socket);
        let refused = TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let error = SockRef::from(&waiting).take_error().expect("a socket");
        assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::ConnectionReset));
    }
}
