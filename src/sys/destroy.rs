//! Learns from the kernel when a TCP socket is destroyed, by cookie: exact open counts for workers
//! that report none.
//!
//! Events come for every TCP socket of the network namespace, to unprivileged processes as well.
//! They are lost when the receive buffer is full; the kernel says so, and then [`live_cookies`]
//! tells which sockets still exist.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv, send, setsockopt, sockopt};
use socket2::SockRef;

/// Wanted receive buffer, in bytes. An event is charged about 1 KiB with the kernel's overhead, so
/// this rides out a thousand closes while the reactor is busy.
const RECEIVE_BUFFER: usize = 1 << 20;
/// The kernel fills at most 32 KiB per datagram of a dump.
const DATAGRAM: usize = 64 << 10;
/// A dump is answered from the kernel's memory, at once; this only bounds the unforeseen.
const DUMP_TIMEOUT: Duration = Duration::from_secs(1);

// linux/sock_diag.h, linux/netlink.h, linux/inet_diag.h, net/tcp_states.h
const GROUP_TCP_DESTROY: i32 = 1;
const GROUP_TCP6_DESTROY: i32 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const HEADER: usize = 16;
/// Smallest inet_diag_msg, and where its cookie lies.
const MESSAGE: usize = 72;
const COOKIE: usize = 44;
/// Request: header, then family, protocol, extensions, states and the wanted socket's identity.
const REQUEST: usize = HEADER + 56;
const ALL_STATES: u32 = 0xfff;
const NOT_LIVE: [u32; 4] = [6, 7, 10, 12]; // TIME_WAIT, CLOSE, LISTEN, NEW_SYN_RECV

/// A subscription to destroy events; non-blocking, to be awaited as a readable descriptor.
#[derive(Debug)]
pub struct DestroyEvents {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Events, whose cookies were appended.
    Events,
    /// The kernel dropped events: counts must be reconciled with [`live_cookies`].
    Overrun,
}

impl DestroyEvents {
    /// Subscribes to the destruction of TCP sockets over IPv4 and IPv6 in this network namespace.
    ///
    /// # Errors
    /// Those of socket(2) and setsockopt(2): a kernel or sandbox without sock_diag. The caller then
    /// falls back to counting descriptors.
    pub fn subscribe() -> io::Result<Self> {
        let socket = open(libc::SOCK_NONBLOCK)?;
        // Above rmem_max only root may go; others get what the host allows.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        // Without an address (the kernel picks the port id), the kernel takes us for itself and
        // leaves us out of every broadcast.
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        for group in [GROUP_TCP_DESTROY, GROUP_TCP6_DESTROY] {
            join(&socket, group)?;
        }
        Ok(Self { socket, buffer: vec![0; DATAGRAM].into_boxed_slice() })
    }

    /// Reads one datagram and appends the cookies of the sockets it names.
    ///
    /// # Errors
    /// `WouldBlock` if there is none, else those of recv(2).
    pub fn receive(&mut self, cookies: &mut Vec<u64>) -> io::Result<Received> {
        match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                for message in messages(&self.buffer[..length]) {
                    cookies.extend(message.socket().map(|socket| socket.cookie));
                }
                Ok(Received::Events)
            }
            Err(Errno::ENOBUFS) => Ok(Received::Overrun),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for DestroyEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for DestroyEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The cookies of all TCP connections whose local port is `port`, in any state in which a process
/// may still hold them.
///
/// # Errors
/// Those of the netlink exchange; `TimedOut` if the kernel does not answer within a second.
pub fn live_cookies(port: u16) -> io::Result<Vec<u64>> {
    let socket = open(0)?;
    SockRef::from(&socket).set_read_timeout(Some(DUMP_TIMEOUT))?;
    let mut cookies = Vec::new();
    let mut buffer = vec![0; DATAGRAM];
    for family in [libc::AF_INET, libc::AF_INET6] {
        send(socket.as_raw_fd(), &dump_request(family as u8, port), MsgFlags::empty())?;
        read_dump(&socket, &mut buffer, port, &mut cookies)?;
    }
    Ok(cookies)
}

fn open(flags: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn join(socket: &OwnedFd, group: i32) -> io::Result<()> {
    let (level, name) = (libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP);
    let (value, length) = ((&raw const group).cast(), size_of::<i32>() as libc::socklen_t);
    // SAFETY: the option takes an int, and the pointer is to one that outlives the call.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length) };
    Errno::result(set)?;
    Ok(())
}

fn dump_request(family: u8, port: u16) -> [u8; REQUEST] {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let states = NOT_LIVE.iter().fold(ALL_STATES << 1, |states, state| states & !(1 << state));
    let mut request = [0; REQUEST];
    request[..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    request[HEADER] = family;
    request[HEADER + 1] = libc::IPPROTO_TCP as u8;
    request[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    // The identity begins with the local port, in network order; zeros after it mean "any".
    request[HEADER + 8..HEADER + 10].copy_from_slice(&port.to_be_bytes());
    request
}

fn read_dump(
    socket: &OwnedFd,
    buffer: &mut [u8],
    port: u16,
    cookies: &mut Vec<u64>,
) -> io::Result<()> {
    loop {
        let length = match recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(errno) => return Err(errno.into()),
        };
        for message in messages(&buffer[..length]) {
            if let Some(socket) = message.socket() {
                // Kernels that ignore the port in the request send everybody's.
                if socket.local_port == port {
                    cookies.push(socket.cookie);
                }
            } else if let Some(error) = message.end() {
                return error;
            }
        }
    }
}

/// One netlink message inside a datagram.
struct Message<'a> {
    kind: u16,
    payload: &'a [u8],
}

/// What we use of an inet_diag_msg.
struct DiagnosedSocket {
    cookie: u64,
    local_port: u16,
}

/// Splits a datagram; whatever does not fit its own stated length ends the iteration.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes_at(datagram, 0)?) as usize;
        let kind = u16::from_ne_bytes(bytes_at(datagram, 4)?);
        let payload = datagram.get(HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, payload })
    })
}

impl Message<'_> {
    fn socket(&self) -> Option<DiagnosedSocket> {
        if self.kind != SOCK_DIAG_BY_FAMILY || self.payload.len() < MESSAGE {
            return None;
        }
        // Two words, the low one first on every architecture.
        let low = u32::from_ne_bytes(bytes_at(self.payload, COOKIE)?);
        let high = u32::from_ne_bytes(bytes_at(self.payload, COOKIE + 4)?);
        let local_port = u16::from_be_bytes(bytes_at(self.payload, 4)?);
        Some(DiagnosedSocket { cookie: u64::from(high) << 32 | u64::from(low), local_port })
    }

    /// How a dump ended, if this message ends it. Both kinds begin with a negative errno or 0.
    fn end(&self) -> Option<io::Result<()>> {
        let kind = i32::from(self.kind);
        if kind != libc::NLMSG_DONE && kind != libc::NLMSG_ERROR {
            return None;
        }
        match bytes_at(self.payload, 0).map_or(0, i32::from_ne_bytes) {
            0 => Some(Ok(())),
            errno => Some(Err(io::Error::from_raw_os_error(errno.saturating_neg()))),
        }
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use proptest::prelude::*;

    use super::super::socket::{cookie, listen_tcp};
    use super::*;

    /// A connection to `listen`, the accepted end first.
    fn connection(
        listen: SocketAddr,
        client: impl Into<std::net::IpAddr>,
    ) -> (TcpStream, TcpStream) {
        let listener = TcpListener::from(listen_tcp(listen, &Default::default()).expect("listen"));
        listener.set_nonblocking(false).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        let client = TcpStream::connect((client.into(), port)).expect("connect");
        (listener.accept().expect("one waits").0, client)
    }

    fn wait_for(events: &mut DestroyEvents, cookie: u64) {
        let mut cookies = Vec::new();
        while !cookies.contains(&cookie) {
            let timeout = PollTimeout::from(5000u16);
            let ready = poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], timeout);
            assert_eq!(ready, Ok(1), "no event came");
            events.receive(&mut cookies).expect("readable");
        }
    }

    #[test]
    fn a_closed_connection_is_reported_by_its_cookie_in_both_families() {
        let mut events = DestroyEvents::subscribe().expect("this kernel has sock_diag");
        let v4 = (Ipv4Addr::LOCALHOST, 0).into();
        let dual = (Ipv6Addr::UNSPECIFIED, 0).into();
        for (server, _client) in
            [connection(v4, Ipv4Addr::LOCALHOST), connection(dual, Ipv4Addr::LOCALHOST)]
        {
            let closed = cookie(server.as_fd()).expect("a socket");
            drop(server);
            wait_for(&mut events, closed);
        }
    }

    #[test]
    fn live_connections_of_a_port_are_listed_until_they_close() {
        let dual = (Ipv6Addr::UNSPECIFIED, 0).into();
        let loopback = (Ipv4Addr::LOCALHOST, 0).into();
        for listen in [loopback, dual] {
            let mut events = DestroyEvents::subscribe().expect("this kernel has sock_diag");
            let (server, client) = connection(listen, Ipv4Addr::LOCALHOST);
            let port = server.local_addr().expect("connected").port();
            let ours = cookie(server.as_fd()).expect("a socket");
            assert_eq!(live_cookies(port).expect("a dump"), [ours]);
            drop((server, client));
            wait_for(&mut events, ours);
            assert!(live_cookies(port).expect("a dump").is_empty());
        }
    }

    #[test]
    fn lost_events_are_reported_as_an_overrun() {
        let mut events = DestroyEvents::subscribe().expect("this kernel has sock_diag");
        let tiny = 1;
        SockRef::from(&events).set_recv_buffer_size(tiny).expect("a socket");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("bound");
        for _ in 0..64 {
            drop(TcpStream::connect(address).expect("connect"));
            drop(listener.accept().expect("one waits"));
        }
        // Events trickle in after the closes; asked for nothing, poll still tells of an error.
        let mut overrun = [PollFd::new(events.as_fd(), PollFlags::empty())];
        assert_eq!(poll(&mut overrun, PollTimeout::from(5000u16)), Ok(1), "no event was lost");
        let first = events.receive(&mut Vec::new()).expect("no other error");
        assert_eq!(first, Received::Overrun);
    }

    #[test]
    fn without_events_a_read_would_block() {
        let socket = open(libc::SOCK_NONBLOCK).expect("netlink");
        let mut silent = DestroyEvents { socket, buffer: vec![0; 64].into() };
        let error = silent.receive(&mut Vec::new()).expect_err("not subscribed");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_error_of_the_kernel_ends_a_dump() {
        let mut bytes = vec![0; 36];
        bytes[0] = 36;
        bytes[4] = libc::NLMSG_ERROR as u8;
        bytes[HEADER..HEADER + 4].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        let message = messages(&bytes).next().expect("one message");
        let error = message.end().expect("an end").expect_err("an error");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    proptest! {
        #[test]
        fn hostile_datagrams_end_without_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            length in 0u32..320,
            kind in prop_oneof![Just(2u16), Just(3), Just(20), any::<u16>()],
        ) {
            if bytes.len() >= 8 {
                bytes[..4].copy_from_slice(&length.to_ne_bytes());
                bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            }
            let mut count = 0;
            for message in messages(&bytes) {
                let _ = (message.socket(), message.end());
                count += 1;
            }
            prop_assert!(count <= bytes.len() / HEADER);
        }
    }
}
