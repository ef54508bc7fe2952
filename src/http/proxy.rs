//! Reads the header by which a balancer names the client before the first byte of HTTP.
//!
//! Versions 1 and 2 of the PROXY protocol (HAProxy, doc/proxy-protocol.txt). It is read only where
//! it is configured, and then every connection must start with it: guessing would let a client name
//! itself. Type-length-value fields are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::head::Parsed;
use super::syntax::decimal;

/// Both ends of the connection that the balancer accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// Why a connection is closed without an answer: what follows would be read as somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadProxyHeader {
    /// It starts with something else.
    #[error("the connection does not start with a PROXY header")]
    Missing,
    /// A line of version 1 that is too long, or not as specified.
    #[error("the PROXY line is malformed")]
    Line,
    /// A header of version 2 that is too long, or not as specified.
    #[error("the binary PROXY header is malformed")]
    Binary,
}

const V1_START: &[u8] = b"PROXY ";
/// The specification's own bound, CRLF included.
const V1_MAX: usize = 107;

const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// What may follow. Addresses take 216 at most; the rest is fields, of which a client's certificate
/// is the largest.
const V2_MAX: usize = 4096;

/// Reads the header at the start of a connection. `None` stands for the balancer's own connections
/// (health checks) and for clients without an IP address: the peer is the client then.
///
/// # Errors
/// As early as its bytes are there.
pub fn proxy_header(bytes: &[u8]) -> Result<Parsed<Option<ProxyAddresses>>, BadProxyHeader> {
    if starts_alike(bytes, V2_START) {
        binary(bytes)
    } else if starts_alike(bytes, V1_START) {
        line(bytes)
    } else {
        Err(BadProxyHeader::Missing)
    }
}

/// Whether `bytes` starts with `start`, as far as it goes.
fn starts_alike(bytes: &[u8], start: &[u8]) -> bool {
    let length = bytes.len().min(start.len());
    bytes[..length] == start[..length]
}

fn line(bytes: &[u8]) -> Result<Parsed<Option<ProxyAddresses>>, BadProxyHeader> {
    let Some(lf) = memchr::memchr(b'\n', &bytes[..bytes.len().min(V1_MAX)]) else {
        let may_grow = bytes.len() < V1_MAX;
        return if may_grow { Ok(Parsed::Incomplete) } else { Err(BadProxyHeader::Line) };
    };
    let line = bytes[..lf].strip_suffix(b"\r").ok_or(BadProxyHeader::Line)?;
    let words = std::str::from_utf8(line).map_err(|_| BadProxyHeader::Line)?;
    let mut words = words.split(' ').skip(1);
    let head = match (words.next(), [words.next(), words.next(), words.next(), words.next()]) {
        // Whatever stands behind it is to be ignored.
        (Some("UNKNOWN"), _) => None,
        (Some("TCP4"), [Some(from), Some(to), Some(from_port), Some(to_port)]) => Some((
            address(Ipv4Addr::from_str(from), from_port)?,
            address(Ipv4Addr::from_str(to), to_port)?,
        )),
        (Some("TCP6"), [Some(from), Some(to), Some(from_port), Some(to_port)]) => Some((
            address(Ipv6Addr::from_str(from), from_port)?,
            address(Ipv6Addr::from_str(to), to_port)?,
        )),
        _ => return Err(BadProxyHeader::Line),
    };
    if head.is_some() && words.next().is_some() {
        return Err(BadProxyHeader::Line);
    }
    let head = head.map(|(source, destination)| ProxyAddresses { source, destination });
    Ok(Parsed::Complete { head, length: lf + 1 })
}

fn address<A: Into<IpAddr>, E>(
    address: Result<A, E>,
    port: &str,
) -> Result<SocketAddr, BadProxyHeader> {
    let port = decimal(port.as_bytes()).and_then(|port| u16::try_from(port).ok());
    match (address, port) {
        (Ok(address), Some(port)) => Ok(SocketAddr::new(address.into(), port)),
        (Err(_), _) | (_, None) => Err(BadProxyHeader::Line),
    }
}

fn binary(bytes: &[u8]) -> Result<Parsed<Option<ProxyAddresses>>, BadProxyHeader> {
    // The version is the high half of the byte, the command the low one.
    let command = match bytes.get(12) {
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(BadProxyHeader::Binary),
        None => return Ok(Parsed::Incomplete),
    };
    let Some(fixed) = bytes.get(..V2_FIXED) else {
        return Ok(Parsed::Incomplete);
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_MAX {
        return Err(BadProxyHeader::Binary);
    }
    let Some(rest) = bytes.get(V2_FIXED..V2_FIXED + length) else {
        return Ok(Parsed::Incomplete);
    };
    let head = match (command, fixed[13]) {
        (Command::Local, _) => None,
        (Command::Proxy, 0x11) => Some(addresses::<4>(rest)?),
        (Command::Proxy, 0x21) => Some(addresses::<16>(rest)?),
        // Unspecified, datagrams, Unix sockets.
        (Command::Proxy, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => None,
        (Command::Proxy, _) => return Err(BadProxyHeader::Binary),
    };
    Ok(Parsed::Complete { head, length: V2_FIXED + length })
}

enum Command {
    Local,
    Proxy,
}

/// Two addresses of `N` bytes, then two ports.
fn addresses<const N: usize>(bytes: &[u8]) -> Result<ProxyAddresses, BadProxyHeader>
where
    [u8; N]: Into<IpAddr>,
{
    let cut = |from: usize| -> Option<SocketAddr> {
        let address: [u8; N] = bytes.get(from * N..(from + 1) * N)?.try_into().ok()?;
        let at = 2 * N + 2 * from;
        let port: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(SocketAddr::new(address.into(), u16::from_be_bytes(port)))
    };
    let (Some(source), Some(destination)) = (cut(0), cut(1)) else {
        return Err(BadProxyHeader::Binary);
    };
    Ok(ProxyAddresses { source, destination })
}
