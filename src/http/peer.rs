//! The field that names a request's peer to a worker that we trust to remove it: our Node preload.
//!
//! It stands last in the head, where it is found and cut off without touching the rest. What a
//! client sends by this name goes no further (see `Name`).

use std::io::Write as _;
use std::net::SocketAddr;

use super::syntax::push_decimal;

/// The whole line: `X-Tenfold-Peer: ADDRESS PORT`, the address in the form of its own family, as a
/// socket would show it.
pub fn peer_line(peer: SocketAddr) -> Vec<u8> {
    let mut line = b"X-Tenfold-Peer: ".to_vec();
    write!(line, "{} ", peer.ip()).expect("writing into memory cannot fail");
    push_decimal(&mut line, u64::from(peer.port()));
    line.extend_from_slice(b"\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_written_in_the_form_of_its_family() {
        for (peer, expected) in [
            ("192.0.2.7:51034", "X-Tenfold-Peer: 192.0.2.7 51034\r\n"),
            ("[::ffff:192.0.2.7]:1", "X-Tenfold-Peer: ::ffff:192.0.2.7 1\r\n"),
            ("[2001:db8::1]:65535", "X-Tenfold-Peer: 2001:db8::1 65535\r\n"),
        ] {
            let peer = peer.parse().expect("an address");
            assert_eq!(String::from_utf8_lossy(&peer_line(peer)), expected);
        }
    }
}
