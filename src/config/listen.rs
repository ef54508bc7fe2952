//! Where the master listens: the grammar of an address and the options of a listener.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::request::{MaxClients, ProxyProtocol};
use super::settings::Mode;

/// `sun_path` holds 108 bytes, one of them the final NUL (unix(7)).
const UNIX_PATH_MAX: usize = 107;

/// Every listener the configuration names, and the options of those it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// In the order written; empty: what the app asks for.
    pub listed: Vec<Listen>,
    /// Options of listeners that only the app names.
    pub options: ListenOptions,
}

/// One configured listener; at least one of `app` and `on` is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The app's listener this is about; none: its first TCP listener.
    pub app: Option<AppAddress>,
    /// Where the master listens instead; none: where the app asked.
    pub on: Option<Address>,
    /// How.
    pub options: ListenOptions,
}

/// What the app passed to its own `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAddress {
    /// A TCP port, 1 to 65535.
    Port(u16),
    /// An absolute Unix path.
    Path(PathBuf),
}

/// How a listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// What is dispatched.
    pub mode: Mode,
    /// Connections the kernel holds until we accept them.
    pub backlog: Backlog,
    /// Accept only once the client has sent a byte or this has passed; whole seconds.
    pub defer_accept: Option<Duration>,
    /// How a connection that cannot be served is turned away.
    pub protocol: Protocol,
    /// Client connections it holds in request mode.
    pub max_connections: MaxClients,
    /// Whether connections begin with a PROXY header, in request mode.
    pub proxy_protocol: ProxyProtocol,
}

/// Connections the kernel holds until we accept them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// `net.core.somaxconn`, at most 4096.
    Auto,
    /// 1 to 65535.
    Fixed(NonZeroU32),
}

/// How a connection that cannot be served is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// By a reset.
    Tcp,
    /// By a 503 answer.
    Http,
}

/// Where a listening socket comes from; `Display` gives back the grammar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `HOST:PORT`; port 0 lets the kernel choose.
    Tcp {
        /// The interface.
        host: Host,
        /// The port.
        port: u16,
    },
    /// `unix:PATH`, absolute.
    Unix(PathBuf),
    /// `systemd[:NAME]`, the passed socket of that name; none: every passed socket.
    Systemd(Option<String>),
}

/// The interface part of a TCP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Every interface, IPv4 and IPv6 on one socket: `:PORT`.
    Any,
    /// One address.
    Ip(IpAddr),
    /// A name, resolved when the socket is bound.
    Name(String),
}

impl Listeners {
    /// For each entry the one of `before` that means the same listener: it stands in for the same
    /// address of the app, at the same place.
    pub fn matched(&self, before: &Self) -> Vec<Option<usize>> {
        let mut left: Vec<Option<&Listen>> = before.listed.iter().map(Some).collect();
        let matched = self.listed.iter().map(|entry| {
            let is_it = |other: &Listen| entry.app == other.app && entry.on == other.on;
            let at = left.iter().position(|other| other.is_some_and(is_it))?;
            left[at] = None;
            Some(at)
        });
        matched.collect()
    }

    /// These listeners as a pool can be moved to them that listens as `running` says: a socket that
    /// stays keeps what was settled when it was opened.
    pub fn reachable_from(&self, running: &Self) -> Self {
        let keep = |wanted: ListenOptions, settled: ListenOptions| ListenOptions {
            mode: settled.mode,
            backlog: settled.backlog,
            defer_accept: settled.defer_accept,
            ..wanted
        };
        let mut reachable = self.clone();
        reachable.options = keep(self.options, running.options);
        for (entry, before) in reachable.listed.iter_mut().zip(self.matched(running)) {
            if let Some(before) = before {
                entry.options = keep(entry.options, running.listed[before].options);
            }
        }
        reachable
    }
}

impl Address {
    /// Reads `host:port`, `:port`, `[v6]:port`, `unix:PATH` or `systemd[:NAME]`; a relative path
    /// is taken from `base`. The error says what is wrong, beginning with the quoted text.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_unix(text, path, base);
        }
        if text == "systemd" {
            return Ok(Self::Systemd(None));
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && c != ':');
            return if valid {
                Ok(Self::Systemd(Some(name.to_owned())))
            } else {
                Err(format!("{text:?} has no socket name; write \"systemd\" or \"systemd:web\""))
            };
        }
        parse_tcp(text)
    }

    /// `0.0.0.0:PORT` for the value of `PORT`, `:3000` without one that is a port.
    pub(super) fn fallback(port: Option<&str>) -> Self {
        match port.and_then(|port| port.parse().ok()) {
            Some(port) => Self::Tcp { host: Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port },
            None => Self::Tcp { host: Host::Any, port: 3000 },
        }
    }
}

fn parse_unix(text: &str, path: &str, base: &Path) -> Result<Address, String> {
    if path.is_empty() {
        return Err(format!("{text:?} has no path; write \"unix:/run/app.sock\""));
    }
    let path = base.join(path);
    let length = path.as_os_str().len();
    if length > UNIX_PATH_MAX {
        return Err(format!("{text:?} is a path of {length} bytes, above {UNIX_PATH_MAX}"));
    }
    Ok(Address::Unix(path))
}

fn parse_tcp(text: &str) -> Result<Address, String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text.parse::<u16>() {
            Ok(_) => format!("{text:?} is not an address; write \":{text}\""),
            Err(_) if text.starts_with('/') => {
                format!("{text:?} is not an address; write \"unix:{text}\"")
            }
            Err(_) => format!("{text:?} has no port; write \"{text}:3000\""),
        });
    };
    let host = parse_host(text, host)?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} has the port {port:?}, not a number"));
    }
    match port.parse::<u16>() {
        Ok(port) => Ok(Address::Tcp { host, port }),
        Err(_) => Err(format!("{text:?} has a port above 65535")),
    }
}

fn parse_host(text: &str, host: &str) -> Result<Host, String> {
    if host.is_empty() {
        return Ok(Host::Any);
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match v6.parse::<Ipv6Addr>() {
            Ok(address) => Ok(Host::Ip(IpAddr::V6(address))),
            Err(_) => Err(format!("{text:?} has no IPv6 address in its brackets")),
        };
    }
    if host.contains(':') {
        return Err(format!("{text:?} needs brackets around its IPv6 address: \"[::1]:3000\""));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Ip(IpAddr::V4(address)));
    }
    // A last label of digits is an IPv4 address gone wrong, never a name (RFC 1123 §2.1).
    let last = host.rsplit('.').next().unwrap_or(host);
    let valid = host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && !last.is_empty()
        && !last.bytes().all(|b| b.is_ascii_digit());
    if valid {
        Ok(Host::Name(host.to_owned()))
    } else {
        Err(format!("{text:?} has no valid host before its port"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => match host {
                Host::Any => write!(f, ":{port}"),
                Host::Ip(IpAddr::V4(address)) => write!(f, "{address}:{port}"),
                Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{port}"),
                Host::Name(name) => write!(f, "{name}:{port}"),
            },
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(None) => f.write_str("systemd"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, String> {
        Address::parse(text, Path::new("/srv/shop"))
    }

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            ":80",
            "0.0.0.0:80",
            "127.0.0.1:0",
            "[::]:80",
            "[::1]:8080",
            "localhost:3000",
            "unix:/run/shop.sock",
            "systemd",
            "systemd:web",
        ] {
            let address = parse(text).expect("a valid address");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn port_without_host_means_every_interface() {
        assert_eq!(parse(":80"), Ok(Address::Tcp { host: Host::Any, port: 80 }));
    }

    #[test]
    fn relative_unix_path_is_taken_from_the_base() {
        assert_eq!(parse("unix:app.sock"), Ok(Address::Unix("/srv/shop/app.sock".into())));
    }

    #[test]
    fn wrong_addresses_say_what_to_write() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, message) in [
            ("3000", "\"3000\" is not an address; write \":3000\""),
            ("localhost", "\"localhost\" has no port; write \"localhost:3000\""),
            ("/run/a.sock", "\"/run/a.sock\" is not an address; write \"unix:/run/a.sock\""),
            (":70000", "\":70000\" has a port above 65535"),
            (":http", "\":http\" has the port \"http\", not a number"),
            (":+80", "\":+80\" has the port \"+80\", not a number"),
            ("::1:80", "\"::1:80\" needs brackets around its IPv6 address: \"[::1]:3000\""),
            ("[::g]:80", "\"[::g]:80\" has no IPv6 address in its brackets"),
            ("300.1.1.1:80", "\"300.1.1.1:80\" has no valid host before its port"),
            ("a b:80", "\"a b:80\" has no valid host before its port"),
            ("unix:", "\"unix:\" has no path; write \"unix:/run/app.sock\""),
            ("systemd:", "\"systemd:\" has no socket name; write \"systemd\" or \"systemd:web\""),
            (long.as_str(), &format!("{long:?} is a path of 108 bytes, above 107")),
        ] {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn fallback_is_the_port_variable_else_3000() {
        assert_eq!(Address::fallback(Some("8080")).to_string(), "0.0.0.0:8080");
        assert_eq!(Address::fallback(None).to_string(), ":3000");
        assert_eq!(Address::fallback(Some("/pipe/x")).to_string(), ":3000");
    }
}
