//! Binds one address: a configured one, or the one an app asked for.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::sync::Notify;

use super::layout::EntryId;
use crate::config::{Address, Backlog, Host, ListenOptions};
use crate::link::bound::{Bound, Holder, OwnPath};
use crate::link::said::{Family, Place, ServerKey};
use crate::policy::{Generation, ListenerId, Mode};
use crate::sys::passed::{self, Passed};
use crate::sys::socket::{self, Stack};

/// Permission bits of a Unix path: the user and group of the master, as a proxy in the same group
/// needs; the world never.
const UNIX_MODE: u32 = 0o660;

/// One bound address that accepts.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    /// None once it accepts no more: what it has accepted may still wait.
    pub(super) socket: Option<Rc<OwnedFd>>,
    /// The app's server that takes its connections.
    pub(super) server: ServerKey,
    /// What native workers are told: `main` for the first.
    pub(super) name: String,
    pub(super) options: ListenOptions,
    pub(super) mode: Mode,
    /// Open connections of its clients (request mode).
    pub(super) clients: Rc<Cell<u32>>,
    /// Wakes its task after a rest.
    pub(super) resume: Rc<Notify>,
    /// What was asked for; a new master knows the socket by it.
    pub(super) key: String,
    /// Its entry of the configuration; none where the app chose.
    pub(super) entry: Option<EntryId>,
    /// Workers of this generation and later ones serve it.
    pub(super) since: Generation,
    pub(super) purpose: Purpose,
    path: Option<OwnPath>,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// New clients.
    Accepts,
    /// Those it has: the address is not wanted any more.
    Empties,
}

/// Where a listener comes from, and for whom it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) entry: Option<EntryId>,
    pub(super) since: Generation,
}

impl Listener {
    pub(super) fn new(
        id: ListenerId,
        bound: Bound,
        (server, origin): (ServerKey, Origin),
        name: String,
        how: (ListenOptions, Mode),
    ) -> Self {
        let (options, mode) = how;
        let Origin { entry, since } = origin;
        Self {
            id,
            socket: Some(Rc::new(bound.socket)),
            server,
            name,
            options,
            mode,
            clients: Rc::default(),
            resume: Rc::new(Notify::new()),
            key: bound.key,
            entry,
            since,
            purpose: Purpose::Accepts,
            path: bound.path,
        }
    }
}

impl Listener {
    /// Frees the address now: the task that accepts holds the socket for a turn more, and an app
    /// may listen again before that. Only for a socket that no other process shares.
    pub(super) fn stop_listening(&self) {
        if let Some(socket) = &self.socket {
            // It fails only on a socket that does not listen, which is what is wanted.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }

    /// Accepts no more.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.path = None;
    }

    /// Says whose its path is from now on.
    pub(super) fn hold(&mut self, holder: Holder) {
        if let Some(path) = &mut self.path {
            path.hold(holder);
        }
    }
}

/// Binds a configured address.
///
/// # Errors
/// Those of resolving and binding; the last one of several addresses of a name.
pub(crate) fn bind(address: &Address, options: ListenOptions) -> io::Result<Bound> {
    let bound = bind_address(address, options)?;
    Ok(Bound { key: address.to_string(), ..bound })
}

fn bind_address(address: &Address, options: ListenOptions) -> io::Result<Bound> {
    match address {
        Address::Tcp { host, port } => {
            let mut last = None;
            for candidate in candidates(host, *port)? {
                match bind_tcp(candidate, options) {
                    Ok(bound) => return Ok(bound),
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
        }
        Address::Unix(path) => bind_path(path, options),
        // Passed sockets are there or not: see `adopt`.
        Address::Systemd(_) => Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
    }
}

/// Serves a socket that a service manager listens on for us. Its path, if it has one, is not ours
/// to remove.
///
/// # Errors
/// Why no connections can be accepted from it.
pub(crate) fn adopt(key: String, passed: Passed) -> Result<Bound, &'static str> {
    let place = passed.place()?;
    let (address, url, sockname) = match place {
        passed::Place::Tcp(actual) => {
            (actual.to_string(), format!("http://{}", visible(actual)), Some(actual))
        }
        passed::Place::Unix(path) => (format!("unix:{path}"), format!("unix:{path}"), None),
    };
    Ok(Bound { socket: passed.socket, address, url, sockname, key, path: None })
}

/// Serves a socket that an old master listens on. Its path is ours too once we accept, unless it is
/// systemd's.
///
/// # Errors
/// Why no connections can be accepted from it.
pub(crate) fn inherit(key: String, socket: OwnedFd) -> Result<Bound, &'static str> {
    let is_systemds = key.starts_with("systemd");
    let mut bound = adopt(key, Passed { name: String::new(), socket })?;
    let path = bound.address.strip_prefix("unix:").filter(|path| path.starts_with('/'));
    let path = path.filter(|_| !is_systemds);
    bound.path = path.map(|path| OwnPath::new(Path::new(path), Holder::Another));
    Ok(bound)
}

/// Binds what an app asked for, with the meaning that Node gives it: no address is every interface,
/// IPv6 with IPv4 where the host has it, else IPv4.
pub(super) fn bind_place(place: &Place, options: ListenOptions) -> io::Result<Bound> {
    match place {
        Place::Tcp { address: None, port, .. } => {
            let any6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
            match bind_tcp(any6, options) {
                Err(error) if no_ipv6(&error) => {
                    bind_tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)), options)
                }
                outcome => outcome,
            }
        }
        Place::Tcp { address: Some(text), port, family } => {
            bind_tcp(literal(text, *port, *family)?, options)
        }
        Place::Path(path) => bind_path(path, options),
        Place::Udp { .. } | Place::Descriptor(_) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// Binds a UDP address for workers to receive on.
pub(super) fn bind_datagram(place: &Place) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let Place::Udp { address, port, family } = place else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let address = match address {
        Some(text) => literal(text, *port, *family)?,
        None => SocketAddr::new(unspecified(*family), *port),
    };
    let socket = socket::bind_udp(address, Stack::Dual, socket::UdpSharing::Exclusive)?;
    let sockname = socket::local_address(socket.as_fd())?;
    Ok((socket, sockname))
}

fn bind_tcp(address: SocketAddr, options: ListenOptions) -> io::Result<Bound> {
    let socket = socket::listen_tcp(address, &kernel_options(options))?;
    let actual = socket::local_address(socket.as_fd())?.unwrap_or(address);
    Ok(Bound {
        socket,
        address: actual.to_string(),
        url: format!("http://{}", visible(actual)),
        sockname: Some(actual),
        key: String::new(),
        path: None,
    })
}

fn bind_path(path: &Path, options: ListenOptions) -> io::Result<Bound> {
    let socket = socket::listen_unix(path, UNIX_MODE, &kernel_options(options))?;
    let address = format!("unix:{}", path.display());
    Ok(Bound {
        socket,
        url: address.clone(),
        address,
        sockname: None,
        key: String::new(),
        path: Some(OwnPath::new(path, Holder::Us)),
    })
}

fn kernel_options(options: ListenOptions) -> socket::ListenOptions {
    socket::ListenOptions {
        backlog: match options.backlog {
            Backlog::Auto => None,
            Backlog::Fixed(backlog) => Some(backlog.get()),
        },
        defer_accept_s: options
            .defer_accept
            .map(|period| u32::try_from(period.as_secs()).unwrap_or(u32::MAX)),
        stack: Stack::Dual,
    }
}

fn candidates(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(match host {
        Host::Any => vec![
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        ],
        Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
        Host::Name(name) => (name.as_str(), port).to_socket_addrs()?.collect(),
    })
}

/// Node resolves names before it asks, so an address is a literal; `localhost` slips through in
/// some versions for Unix-like hosts, and is resolved as bind would.
fn literal(text: &str, port: u16, family: Family) -> io::Result<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let of_family = |address: &SocketAddr| address.is_ipv6() == (family == Family::V6);
    (text, port)
        .to_socket_addrs()?
        .find(of_family)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Family::V4 | Family::Path => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// An address that a person can click on: the wildcard is shown as localhost.
fn visible(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}
