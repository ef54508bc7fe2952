//! Decides which peers may speak for the clients behind them.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::forward_request::Trust;

/// Loopback, RFC 1918, shared (100.64/10), link-local and unique local: where a balancer stands.
const PRIVATE: [&str; 9] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// The peers that are trusted; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeers {
    networks: Vec<IpNet>,
}

/// Not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of private, none, an address, or a network such as 10.0.0.0/8")]
pub struct NotANetwork(pub String);

impl TrustedPeers {
    /// From the words `private` and `none`, addresses, and networks with a prefix length.
    ///
    /// # Errors
    /// Names the first word that is none of these.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, NotANetwork> {
        let mut networks = Vec::new();
        for word in words {
            match word {
                "none" => {}
                "private" => networks.extend(PRIVATE.map(|network| {
                    IpNet::from_str(network).expect("the table holds networks only")
                })),
                _ => networks.push(network(word).ok_or_else(|| NotANetwork(word.to_owned()))?),
            }
        }
        Ok(Self { networks })
    }

    /// Whether `address` is one of them; an IPv4 address that an IPv6 socket accepted counts as
    /// IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The trust in a peer. One without an address came by a Unix socket, whose file decides who
    /// may connect: it is trusted.
    pub fn judge(&self, peer: Option<IpAddr>) -> Trust {
        match peer {
            Some(address) if !self.contains(address) => Trust::Untrusted,
            Some(_) | None => Trust::Trusted,
        }
    }
}

/// A network, with IPv4 written as IPv6 (`::ffff:10.0.0.0/104`) taken as IPv4.
fn network(word: &str) -> Option<IpNet> {
    let network = match IpNet::from_str(word) {
        Ok(network) => network,
        Err(_) => IpNet::from(IpAddr::from_str(word).ok()?),
    };
    let mapped = match network {
        IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    match mapped {
        Some((address, prefix)) => IpNet::new(IpAddr::V4(address), prefix).ok(),
        None => Some(network),
    }
}
