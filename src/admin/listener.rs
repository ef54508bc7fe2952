//! Serves the admin address, on the control thread, within bounds that nobody can use up for long.
//!
//! One request per connection, 5 s for all of it, and where 64 are open the oldest goes: it has had
//! the most time, and a probe needs a millisecond.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::server::status;
use super::{Sources, app_metrics, exposition, health};
use crate::config::{Address, Admin, Host};
use crate::sys::socket::{self, ListenOptions};
use crate::upgrade::{Kind, Lent};

/// Where it listens unless told otherwise.
const PORT: u16 = 9900;

/// Prometheus, a kubelet's three probes and a person need five; this is room for twelve of each.
const CONNECTIONS_MAX: usize = 64;

/// From accepting to the last byte. Probes give up after 1 s, scrapers after 10 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// A pause when the kernel is out of descriptors: nothing tells when that ends.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Whether this process is the first of its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// Others, outside, probe it.
    First,
    /// Whoever asks is on this host.
    Other,
}

/// A bound admin address.
#[derive(Debug)]
pub(crate) struct AdminListener {
    socket: OwnedFd,
    address: SocketAddr,
}

/// Binds the admin address; none where there is to be none, or a default one cannot be had, which
/// is logged.
///
/// # Errors
/// An address that was asked for cannot be had.
pub(crate) fn bind(admin: &Admin, process: Process) -> anyhow::Result<Option<AdminListener>> {
    match (admin, process) {
        (Admin::Off, _) => Ok(None),
        (Admin::At { host, port }, _) => {
            let bound = candidates(host, *port).and_then(|all| bind_one_of(&all));
            let address = Address::Tcp { host: host.clone(), port: *port };
            bound.map(Some).with_context(|| format!("admin: cannot listen on {address}"))
        }
        (Admin::Auto, Process::First) => Ok(or_none(&[
            (Ipv6Addr::UNSPECIFIED, PORT).into(),
            // A host without IPv6.
            (Ipv4Addr::UNSPECIFIED, PORT).into(),
        ])),
        (Admin::Auto, Process::Other) => Ok(or_none(&[(Ipv4Addr::LOCALHOST, PORT).into()])),
    }
}

/// Where a master of this configuration would be found from this host; none where it has no admin
/// address, or a name that cannot be resolved, or a port that only the kernel knows.
pub(super) fn reachable(admin: &Admin) -> Option<Vec<SocketAddr>> {
    let addresses = match admin {
        Admin::Off => return None,
        // As PID 1 it listens on every interface, this one too.
        Admin::Auto => vec![(Ipv4Addr::LOCALHOST, PORT).into()],
        Admin::At { port: 0, .. } => return None,
        Admin::At { host, port } => candidates(host, *port).ok()?,
    };
    Some(addresses.into_iter().map(from_this_host).collect())
}

/// An address that one can connect to: this host, for one that only means every interface.
fn from_this_host(address: SocketAddr) -> SocketAddr {
    let local: IpAddr = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(local, address.port())
}

fn or_none(candidates: &[SocketAddr]) -> Option<AdminListener> {
    match bind_one_of(candidates) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(%error, "port {PORT} cannot be had: no admin address; see --admin");
            None
        }
    }
}

fn candidates(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(match host {
        Host::Any => {
            vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
        }
        Host::Ip(address) => vec![(*address, port).into()],
        Host::Name(name) => (name.as_str(), port).to_socket_addrs()?.collect(),
    })
}

/// Binds the first that can be; a taken port is not tried in another family, where a client would
/// find it or the other by chance.
fn bind_one_of(candidates: &[SocketAddr]) -> io::Result<AdminListener> {
    let mut last = io::Error::other("the name has no address");
    for candidate in candidates {
        match socket::listen_tcp(*candidate, &ListenOptions::default()) {
            Ok(socket) => {
                let address = socket::local_address(socket.as_fd())?.unwrap_or(*candidate);
                return Ok(AdminListener { socket, address });
            }
            Err(error) if socket::is_address_in_use(&error) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl AdminListener {
    /// Takes over an old master's.
    ///
    /// # Errors
    /// It is no socket with an address.
    pub(crate) fn inherit(socket: OwnedFd) -> io::Result<Self> {
        let address = socket::local_address(socket.as_fd())?;
        let address = address.ok_or_else(|| io::Error::other("the admin socket has no address"))?;
        Ok(Self { socket, address })
    }

    /// A copy for a new master.
    ///
    /// # Errors
    /// Those of duplicating a descriptor.
    pub(crate) fn lend(&self) -> io::Result<Lent> {
        Ok(Lent { kind: Kind::Admin, key: String::new(), fd: self.socket.try_clone()? })
    }

    /// For a browser on this host.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", from_this_host(self.address))
    }

    /// Which paths a peer may read.
    fn exposure(&self, peer: SocketAddr) -> Exposure {
        let is_local = peer.ip().to_canonical().is_loopback();
        if is_local || !self.address.ip().is_unspecified() { Exposure::All } else { Exposure::Few }
    }
}

/// What a peer may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exposure {
    /// Everything: it is on this host, or the address was chosen for it.
    All,
    /// What a cluster needs.
    Few,
}

/// Serves until it is dropped.
///
/// # Errors
/// Only at the start: the socket could not be registered with the runtime.
pub(super) async fn serve(listener: &AdminListener, sources: Sources) -> io::Result<()> {
    let socket = std::net::TcpListener::from(listener.socket.try_clone()?);
    let socket = TcpListener::from_std(socket)?;
    let few = few(sources.clone());
    let all = all(sources);
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            // Ends first: they make room.
            biased;
            Some(ended) = connections.tasks.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "an answer on the admin address ended by a panic");
                }
            }
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => {
                    let router = match listener.exposure(peer) {
                        Exposure::All => all.clone(),
                        Exposure::Few => few.clone(),
                    };
                    connections.serve(stream, router);
                }
                Err(error) => {
                    tracing::debug!(%error, "admin address: cannot accept");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

fn few(sources: Sources) -> Router {
    health::routes()
        .route("/metrics", get(exposition::metrics))
        .fallback(not_from_there)
        .with_state(sources)
}

fn all(sources: Sources) -> Router {
    health::routes()
        .route("/metrics", get(exposition::metrics))
        .route("/metrics/app", get(app_metrics::app_metrics))
        .route("/status", get(status))
        .fallback(not_found)
        .with_state(sources)
}

async fn not_from_there() -> (StatusCode, &'static str) {
    (StatusCode::FORBIDDEN, "other hosts may read /livez /readyz /startupz /metrics\n")
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "/livez /readyz /startupz /metrics /metrics/app /status\n")
}

/// The open connections, the oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    order: VecDeque<AbortHandle>,
}

impl Connections {
    fn serve(&mut self, stream: TcpStream, router: Router) {
        self.order.retain(|task| !task.is_finished());
        if self.order.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        let task = self.tasks.spawn(serve_one(stream, router));
        self.order.push_back(task);
    }
}

/// One request and its answer. A client that has gone, or is too slow, is no error of ours.
async fn serve_one(stream: TcpStream, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::trace!(%error, "admin address: connection lost"),
        Err(_) => tracing::debug!("admin address: a client took longer than 5 s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure(address: &str, peer: &str) -> Exposure {
        let socket = OwnedFd::from(std::fs::File::open("/dev/null").expect("it is always there"));
        let address = address.parse().expect("an address");
        let listener = AdminListener { socket, address };
        listener.exposure(peer.parse().expect("an address"))
    }

    #[test]
    fn a_wildcard_shows_other_hosts_the_few_only() {
        for (address, peer, expected) in [
            ("[::]:9900", "[::1]:1", Exposure::All),
            ("[::]:9900", "[::ffff:127.0.0.1]:1", Exposure::All),
            ("[::]:9900", "[::ffff:10.0.0.7]:1", Exposure::Few),
            ("[::]:9900", "[fd00::7]:1", Exposure::Few),
            ("0.0.0.0:9900", "127.0.0.1:1", Exposure::All),
            ("0.0.0.0:9900", "10.0.0.7:1", Exposure::Few),
            ("10.0.0.1:9900", "10.0.0.7:1", Exposure::All),
            ("127.0.0.1:9900", "127.0.0.1:1", Exposure::All),
        ] {
            assert_eq!(exposure(address, peer), expected, "{address} {peer}");
        }
    }
}
