//! Binds the master's listening sockets: TCP, Unix paths, and UDP for the apps that ask for it.
//!
//! Every socket is non-blocking and close-on-exec. Errors keep their errno, because a Node worker
//! must get the very number that its own bind would have met.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// The longest backlog that we ask for by default. The kernel cuts it to somaxconn (4096 since
/// Linux 5.4); more than that is not a queue but a place where clients wait until they give up.
pub const BACKLOG_MAX: u32 = 4096;

/// Whether an IPv6 wildcard address also takes IPv4 clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stack {
    /// `::` takes both, whatever the sysctl bindv6only says.
    #[default]
    Dual,
    /// Only IPv6 clients.
    V6Only,
}

/// Whether a UDP port may be bound by several sockets (SO_REUSEADDR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UdpSharing {
    /// A second bind of the port fails.
    #[default]
    Exclusive,
    /// A second bind succeeds and takes the datagrams over.
    Shared,
}

/// How to listen on a stream address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted; `None` for the lesser of somaxconn and
    /// [`BACKLOG_MAX`].
    pub backlog: Option<u32>,
    /// Seconds for which a TCP connection without a first byte is kept out of accept(2)
    /// (TCP_DEFER_ACCEPT); `None` for off. Only for protocols in which the client speaks first.
    pub defer_accept_s: Option<u32>,
    /// Address families of an IPv6 wildcard.
    pub stack: Stack,
}

/// Listens on a TCP address; port 0 lets the kernel choose (see [`local_address`]).
///
/// SO_REUSEADDR is on: the port may be bound while connections of an earlier master linger in
/// TIME_WAIT, but never while another process listens on it.
///
/// # Errors
/// Those of bind(2) and listen(2), with their errno: EADDRINUSE, EACCES, EADDRNOTAVAIL, …
pub fn listen_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = unbound(address, Type::STREAM, options.stack)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    if let Some(seconds) = options.defer_accept_s {
        defer_accept(&socket, i32::try_from(seconds).unwrap_or(i32::MAX))?;
    }
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

/// Listens on a Unix path with permission bits `mode` (e.g. `0o660`).
///
/// A socket file that nobody listens on any more is replaced; any other file is left alone. The
/// bits are set before the first connect can succeed.
///
/// # Errors
/// EADDRINUSE if somebody listens there or the path is not a socket, else those of bind(2),
/// chmod(2) and listen(2); `InvalidInput` for a path of more than 107 bytes.
pub fn listen_unix(path: &Path, mode: u32, options: &ListenOptions) -> io::Result<OwnedFd> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse || !is_stale(path)? {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    // Before listen(2), every connect is refused; so nobody slips in under the umask's bits.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

/// Whether `path` is a socket that nobody listens on, as a killed master leaves behind.
///
/// # Errors
/// Those of connecting other than refusal, e.g. EACCES: then nobody can tell, and the file stays.
pub fn is_stale(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A blocking connect would wait for as long as the owner's backlog is full.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        // A datagram socket lives there.
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Binds a UDP address, for a worker that receives the socket itself.
///
/// # Errors
/// Those of bind(2), with their errno.
pub fn bind_udp(address: SocketAddr, stack: Stack, sharing: UdpSharing) -> io::Result<OwnedFd> {
    let socket = unbound(address, Type::DGRAM, stack)?;
    if sharing == UdpSharing::Shared {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The IP address that a socket is bound to; `None` for a Unix socket.
///
/// # Errors
/// Those of getsockname(2).
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    Ok(SockRef::from(&socket).local_addr()?.as_socket())
}

/// The negative errno that Node expects for a failed bind; `-EIO` if there was none.
#[must_use]
pub fn node_errno(error: &io::Error) -> i32 {
    let of_kind = match error.kind() {
        io::ErrorKind::InvalidInput => libc::EINVAL,
        _ => libc::EIO,
    };
    -error.raw_os_error().unwrap_or(of_kind)
}

/// Closes a stream socket with a reset instead of an orderly end.
///
/// A TCP client sees ECONNRESET at once, and the kernel keeps nothing (no TIME_WAIT), which is what
/// refusing under a flood must cost. On a Unix socket it is a plain close. A copy of the
/// descriptor held elsewhere delays it.
///
/// # Errors
/// Those of setsockopt(2); the socket is closed in any case.
pub fn reset(socket: OwnedFd) -> io::Result<()> {
    SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO))
}

/// The kernel's number for a socket, never reused; copies of the descriptor share it (SO_COOKIE).
///
/// # Errors
/// Those of getsockopt(2).
pub fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    SockRef::from(&socket).cookie()
}

/// Who is at the other end of a Unix socket, as the kernel recorded at connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process that connected; it may have passed the socket on since.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// The peer of a connected Unix socket.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<PeerCredentials> {
    let option = nix::sys::socket::sockopt::PeerCredentials;
    let peer = nix::sys::socket::getsockopt(&socket.as_fd(), option)?;
    Ok(PeerCredentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
}

fn unbound(address: SocketAddr, kind: Type, stack: Stack) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(stack == Stack::V6Only)?;
    }
    Ok(socket)
}

fn defer_accept(socket: &Socket, seconds: i32) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);
    // SAFETY: the option takes an int, and the pointer is to one that outlives the call.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const seconds).cast(), length)
    };
    Errno::result(set)?;
    Ok(())
}

fn backlog(options: &ListenOptions) -> i32 {
    // The kernel itself takes the lesser of this and somaxconn.
    i32::try_from(options.backlog.unwrap_or(BACKLOG_MAX)).unwrap_or(i32::MAX)
}

/// Whether an error means that the address belongs to somebody else.
#[must_use]
pub fn is_address_in_use(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EADDRINUSE as i32)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;
    use crate::sys::testing::without_forks;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn port(socket: &OwnedFd) -> u16 {
        local_address(socket.as_fd()).expect("bound").expect("an IP socket").port()
    }

    #[test]
    fn a_tcp_listener_is_reachable_and_never_blocks() {
        let socket = listen_tcp(LOOPBACK, &ListenOptions::default()).expect("listen");
        let address = local_address(socket.as_fd()).expect("bound").expect("an IP socket");
        let listener = TcpListener::from(socket);
        let idle = listener.accept().expect_err("nobody has connected");
        assert_eq!(idle.kind(), io::ErrorKind::WouldBlock);
        TcpStream::connect(address).expect("connect");
        listener.accept().expect("the connection is there");
    }

    #[test]
    fn a_port_in_use_keeps_its_errno_for_node() {
        let first = listen_tcp(LOOPBACK, &ListenOptions::default()).expect("listen");
        let taken = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&first)));
        let error = listen_tcp(taken, &ListenOptions::default()).expect_err("in use");
        assert!(is_address_in_use(&error));
        assert_eq!(node_errno(&error), -98);
    }

    #[test]
    fn a_dual_stack_wildcard_takes_ipv4_clients_and_a_v6_only_one_does_not() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let dual = listen_tcp(any, &ListenOptions::default()).expect("this host has IPv6");
        TcpStream::connect((Ipv4Addr::LOCALHOST, port(&dual))).expect("IPv4 reaches it");
        let options = ListenOptions { stack: Stack::V6Only, ..ListenOptions::default() };
        let v6 = listen_tcp(any, &options).expect("listen");
        TcpStream::connect((Ipv4Addr::LOCALHOST, port(&v6))).expect_err("IPv6 only");
        TcpStream::connect((Ipv6Addr::LOCALHOST, port(&v6))).expect("IPv6 reaches it");
    }

    #[test]
    fn defer_accept_keeps_silent_connections_out() {
        let options = ListenOptions { defer_accept_s: Some(30), ..ListenOptions::default() };
        let listener = TcpListener::from(listen_tcp(LOOPBACK, &options).expect("listen"));
        let address = listener.local_addr().expect("bound");
        let mut silent = TcpStream::connect(address).expect("the handshake succeeds");
        let error = listener.accept().expect_err("no byte was sent yet");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        io::Write::write_all(&mut silent, b"GET").expect("connected");
        listener.accept().expect("the first byte brought it in");
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_gets_its_mode() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("app.sock");
        let _only_copy = without_forks();
        drop(UnixListener::bind(&path).expect("bind"));
        assert!(is_stale(&path).expect("readable"));
        let socket = listen_unix(&path, 0o620, &ListenOptions::default()).expect("replaced");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o620);
        UnixStream::connect(&path).expect("somebody listens");
        UnixListener::from(socket).accept().expect("and accepts");
    }

    #[test]
    fn a_live_socket_or_another_file_is_never_replaced() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let live = dir.path().join("live.sock");
        let owner = UnixListener::bind(&live).expect("bind");
        let datagram = dir.path().join("datagram.sock");
        let _owner = UnixDatagram::bind(&datagram).expect("bind");
        let file = dir.path().join("file");
        fs::write(&file, "precious").expect("written");
        for path in [&live, &datagram, &file] {
            let error = listen_unix(path, 0o600, &ListenOptions::default()).expect_err("in use");
            assert!(is_address_in_use(&error), "{}: {error}", path.display());
        }
        assert_eq!(fs::read(&file).expect("still there"), b"precious");
        // The probe itself is one connection to the live one; it must not have stayed open.
        let (mut probe, _) = owner.accept().expect("the probe");
        assert_eq!(probe.read(&mut [0; 1]).expect("closed"), 0);
    }

    #[test]
    fn a_socket_whose_backlog_is_full_is_in_use_and_does_not_block_the_probe() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("full.sock");
        let options = ListenOptions { backlog: Some(0), ..ListenOptions::default() };
        let _listener = listen_unix(&path, 0o600, &options).expect("listen");
        let _waiting = UnixStream::connect(&path).expect("one fits");
        assert!(!is_stale(&path).expect("full, but alive"));
    }

    #[test]
    fn a_path_too_long_for_an_address_is_invalid() {
        let long = "x".repeat(120);
        let error = listen_unix(Path::new(&long), 0o600, &ListenOptions::default());
        assert_eq!(node_errno(&error.expect_err("too long")), -libc::EINVAL);
    }

    #[test]
    fn reset_gives_the_client_econnreset() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        reset(server.into()).expect("a TCP socket");
        let error = client.read(&mut [0; 1]).expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn copies_share_a_cookie_and_other_sockets_do_not() {
        let socket = listen_tcp(LOOPBACK, &ListenOptions::default()).expect("listen");
        let copy = socket.try_clone().expect("a free descriptor");
        let other = listen_tcp(LOOPBACK, &ListenOptions::default()).expect("listen");
        let of = |fd: &OwnedFd| cookie(fd.as_fd()).expect("a socket");
        assert_eq!(of(&socket), of(&copy));
        assert_ne!(of(&socket), of(&other));
    }

    #[test]
    fn a_udp_port_is_exclusive_unless_shared() {
        let first = bind_udp(LOOPBACK, Stack::Dual, UdpSharing::Exclusive).expect("bind");
        let taken = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&first)));
        let error = bind_udp(taken, Stack::Dual, UdpSharing::Exclusive).expect_err("in use");
        assert!(is_address_in_use(&error));
        let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
        client.send_to(b"ping", taken).expect("sent");
        let mut buffer = [0; 8];
        let (length, _) = UdpSocket::from(first).recv_from(&mut buffer).expect("loopback is sync");
        assert_eq!(&buffer[..length], b"ping");
        let shared = bind_udp(LOOPBACK, Stack::Dual, UdpSharing::Shared).expect("bind");
        let again = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&shared)));
        bind_udp(again, Stack::Dual, UdpSharing::Shared).expect("shared");
    }

    #[test]
    fn peer_credentials_name_this_process() {
        let (_ours, theirs) = UnixStream::pair().expect("socketpair");
        let peer = peer_credentials(theirs.as_fd()).expect("a Unix socket");
        assert_eq!(peer.pid, std::process::id() as i32);
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    }
}
