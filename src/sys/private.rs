//! Makes listening sockets that one worker has for its master alone: a loopback port to listen on,
//! or a socket that listens already and is only passed on.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

use super::socket::BACKLOG_MAX;

/// Ports that are drawn until one can be bound: should half of them be taken, all draws meet one
/// of those once in 65,536 times, and the kernel is asked.
const DRAWS_MAX: u64 = 16;

/// Fewer ports than this are not worth drawing from: 256 workers, each with its successor next to
/// it, would hold half of them.
const PORTS_MIN: u16 = 1024;

/// The lowest port that is drawn: below, more and more of them are some service's own.
const PORT_LOWEST: u16 = 10_000;

/// A port that nobody has at this moment, for a process that binds it itself, on loopback or on
/// every address.
///
/// Outside of the ports that the kernel gives to connections, if there is room: there, only who
/// asks for this very number can be faster. Keeping it bound until then would not do: many servers
/// bind without SO_REUSEADDR.
///
/// # Errors
/// Those of bind(2), above all EADDRINUSE when every port of the kernel's range is taken.
pub fn reserve_port() -> io::Result<u16> {
    // Not all kernels tell, nor every sandbox.
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let quiet = told.ok().and_then(|told| quiet_ports(&told));
    quiet.and_then(draw_free).map_or_else(|| bind_any().and_then(|any| port_of(&any)), Ok)
}

/// Ports outside of the range in which the kernel gives them away: those above it, where few
/// services have theirs, else those below.
fn quiet_ports(kernels: &str) -> Option<RangeInclusive<u16>> {
    let mut bounds = kernels.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    let above = last.checked_add(1).map(|lowest| lowest.max(PORT_LOWEST)..=u16::MAX);
    let below = first.checked_sub(1).map(|highest| PORT_LOWEST..=highest);
    let has_room = |ports: &RangeInclusive<u16>| ports.len() >= usize::from(PORTS_MIN);
    above.filter(has_room).or(below.filter(has_room))
}

fn draw_free(ports: RangeInclusive<u16>) -> Option<u16> {
    let random = RandomState::new();
    let count = ports.len();
    (0..DRAWS_MAX).find_map(|draw| {
        let nth = random.hash_one(draw) % u64::try_from(count).ok()?;
        let port = ports.start().saturating_add(u16::try_from(nth).ok()?);
        can_be_bound(port).then_some(port)
    })
}

/// On every address, as the process may want it: a port that another has on one of them is taken.
fn can_be_bound(port: u16) -> bool {
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None)
        .and_then(|socket| socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()));
    bound.is_ok()
}

/// A socket on a loopback port of the kernel's choice.
fn bind_any() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket)
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
    let socket = bind_any()?;
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
    fn ports_are_drawn_where_the_kernel_gives_none_away() {
        for (kernels, drawn) in [
            ("32768\t60999\n", Some(61_000..=65_535)),
            ("32768 65535", Some(10_000..=32_767)),
            ("20000 64999", Some(10_000..=19_999)),
            ("1024 4999", Some(10_000..=65_535)),
            ("1024 65535", None),
            ("10500 65000", None),
            ("0 65535", None),
            ("32768", None),
            ("", None),
        ] {
            assert_eq!(quiet_ports(kernels), drawn, "{kernels}");
        }
    }

    #[test]
    fn a_port_that_another_process_has_on_any_address_is_not_drawn() {
        let _only_copy = without_forks();
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        let taken = TcpListener::bind(other).expect("all of 127.0.0.0/8 is loopback");
        let port = taken.local_addr().expect("it is bound").port();
        assert_eq!(draw_free(port..=port), None);
        drop(taken);
        assert_eq!(draw_free(port..=port), Some(port));
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
