//! Finds workers that listen elsewhere than they should, and says so: nobody would reach them
//! through the master, or everybody past it. One that is alone in its pool is served where it is.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::launch::PrivateListener;
use super::{BYPASS_CHECK, Bypass, Supervisor};
use crate::link::orders::Upstream;
use crate::policy::WorkerId;
use crate::sys::process;

/// The most bypasses that are told; an app that listens on another port in each of its lives has no
/// end of them, and the first few say it all.
const BYPASSES_TOLD: usize = 16;

impl Supervisor {
    /// A worker listens past us, as it says or as its sockets show. Every worker of the pool does
    /// the same, again and again: each place is told once.
    pub(super) fn bypassed(&mut self, worker: WorkerId, why: &str, place: Option<&str>) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        if process.bypass == Bypass::Settled {
            return;
        }
        process.bypass = Bypass::Settled;
        let slot = process.slot;
        let place = place.map(|place| format!(" on {place}")).unwrap_or_default();
        let told = format!("worker {slot} bypasses tenfold: it listens by itself{place} ({why})");
        if self.bypasses.len() < BYPASSES_TOLD && self.bypasses.insert(format!("{why}{place}")) {
            tracing::warn!("{told}; nothing balances, bounds or drains what comes in there");
        }
    }

    /// Looks at the sockets of workers that have been starting for long: who listens by itself
    /// would never become ready.
    pub(super) fn look_for_bypasses(&mut self, now: Instant) {
        let due: Vec<WorkerId> = self
            .processes
            .iter()
            .filter(|(_, process)| matches!(process.bypass, Bypass::Check(at) if at <= now))
            .map(|(worker, _)| *worker)
            .collect();
        for worker in due {
            self.look_at(now, worker);
        }
    }

    fn look_at(&mut self, now: Instant, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        process.bypass = Bypass::Check(now + BYPASS_CHECK);
        let members = process::group_members(process.child.pid());
        let mut addresses: Vec<SocketAddr> =
            process::listening_sockets(&members).iter().map(|socket| socket.address).collect();
        if let Some(watched) = &process.watched
            && let Upstream::Tcp(told) = watched.upstream()
        {
            let before = addresses.len();
            addresses.retain(|address| address.port() != told.port());
            // Listening where it should, it is only slow. (What it inherited, it always has.)
            if addresses.len() < before && *watched.kind() != PrivateListener::Inherited {
                return;
            }
        }
        let Some(&first) = addresses.first() else {
            return;
        };
        let kind = process.watched.as_ref().map(|watched| watched.kind().clone());
        match kind.filter(|_| process.dialect.is_none()) {
            Some(kind) => self.elsewhere(worker, &kind, &addresses),
            None => {
                let why = "it does not ask its cluster primary";
                self.bypassed(worker, why, Some(&first.to_string()));
            }
        }
    }

    /// A worker that was told where to listen does so elsewhere.
    fn elsewhere(&mut self, worker: WorkerId, kind: &PrivateListener, addresses: &[SocketAddr]) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let slot = process.slot;
        let port = addresses[0].port();
        let is_one_port = addresses.iter().all(|address| address.port() == port);
        let is_alone = self.parts.fleet.size() == 1;
        // Two workers cannot have one port; one can, and there is no doubt which port is meant.
        if *kind == PrivateListener::Port && is_alone && is_one_port {
            process.bypass = Bypass::Settled;
            self.complain(port, || {
                format!(
                    "worker {slot} listens on :{port} and ignores PORT: connecting to it there, \
                     which works for one worker; for more use {{port}} or --dialect fd"
                )
            });
            let addresses = addresses.iter().map(|address| reachable(*address));
            return self.try_at(worker, addresses.collect());
        }
        let alone = if is_alone { "" } else { " or -n 1" };
        self.complain(port, || match kind {
            PrivateListener::Port => format!(
                "worker {slot} listens on :{port} and ignores PORT: use {{port}}, \
                 --dialect fd{alone}"
            ),
            PrivateListener::Socket(_) => format!(
                "worker {slot} listens on :{port} and not at {{socket}}: use {{port}} or \
                 --dialect fd"
            ),
            PrivateListener::Inherited => format!(
                "worker {slot} listens on :{port} and ignores descriptor 3: use {{port}} with \
                 --dialect port"
            ),
        });
    }

    /// Every worker of the pool does the same, again and again: each port is told once.
    fn complain(&mut self, port: u16, complaint: impl FnOnce() -> String) {
        if self.strangers.insert(port) {
            tracing::warn!("{}", complaint());
        }
    }

    /// Looks whether HTTP is spoken there; a debugger's port or the like is no place to serve.
    fn try_at(&mut self, worker: WorkerId, addresses: BTreeSet<SocketAddr>) {
        for address in addresses {
            self.probe_elsewhere(worker, Upstream::Tcp(address));
        }
    }
}

/// Where to connect for what listens at an address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_reached_on_loopback() {
        for (address, at) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("127.0.0.2:80", "127.0.0.2:80"),
            ("[fe80::1]:80", "[fe80::1]:80"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(reachable(address).to_string(), at);
        }
    }
}
