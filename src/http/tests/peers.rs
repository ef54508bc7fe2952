//! Who the client is: trusted peers, the PROXY protocol, and the fields that a worker gets.

use std::net::SocketAddr;

use super::*;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 1.1.1.1\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 443\r\n\
    X-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\
    X_Forwarded_For: 3.3.3.3\r\n\r\n";

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().expect("it is an address"))
}

#[test]
fn a_trusted_peer_is_appended_to_what_it_says() {
    let head = request(HEAD);
    let with = Forwarding { trust: Trust::Trusted, ..forwarding(&head) };
    assert_eq!(
        forwarded(&head, &with),
        "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 1.1.1.1, 2.2.2.2, 203.0.113.9\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 443\r\n\
         X-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Request-Id: id-1\r\n\r\n"
    );
}

#[test]
fn an_empty_list_of_a_trusted_peer_is_as_none() {
    let head = request(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For:\r\n\r\n");
    let with = Forwarding { trust: Trust::Trusted, ..forwarding(&head) };
    assert!(forwarded(&head, &with).contains("\r\nX-Forwarded-For: 203.0.113.9\r\n"));
}

#[test]
fn nothing_that_an_untrusted_peer_says_of_itself_goes_on() {
    let head = request(HEAD);
    assert_eq!(
        forwarded(&head, &forwarding(&head)),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: id-1\r\nX-Forwarded-For: 203.0.113.9\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n"
    );
}

#[test]
fn forwarded_is_appended_or_replaced_where_it_is_written() {
    let head = request(HEAD);
    let written = Forwarding { forwarded: ForwardedField::Written, ..forwarding(&head) };
    let ours = "for=203.0.113.9;host=\"a\";proto=http\r\n";
    assert!(forwarded(&head, &written).contains(&format!("\r\nForwarded: {ours}")));
    let trusted = Forwarding { trust: Trust::Trusted, ..written };
    assert!(forwarded(&head, &trusted).contains(&format!("\r\nForwarded: for=1.1.1.1, {ours}")));
    let v6 = Forwarding { client: address("[2001:db8::1]:9"), ..written };
    assert!(forwarded(&head, &v6).contains("\r\nForwarded: for=\"[2001:db8::1]\";host="));
    let unix = Forwarding { client: None, ..written };
    assert!(forwarded(&head, &unix).contains("\r\nForwarded: for=unknown;host="));
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_named_as_ipv4() {
    let head = request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let with = Forwarding { client: address("[::ffff:203.0.113.9]:9"), ..forwarding(&head) };
    assert!(forwarded(&head, &with).contains("\r\nX-Forwarded-For: 203.0.113.9\r\n"));
}

#[test]
fn a_connection_field_cannot_take_away_what_names_the_client() {
    let head = request(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Stays: 1\r\n\
          Connection: close, X-Forwarded-For, host, x-hop, Content-Length\r\n\
          Content-Length: 3\r\n\r\n",
    );
    let with = Forwarding { trust: Trust::Trusted, ..forwarding(&head) };
    assert_eq!(
        forwarded(&head, &with),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 203.0.113.9\r\nX-Stays: 1\r\n\
         Content-Length: 3\r\nX-Request-Id: id-1\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: a\r\n\r\n"
    );
}

#[test]
fn private_networks_are_trusted_in_either_family() {
    let peers = TrustedPeers::new(["private"]).expect("a known word");
    let inside = ["127.0.0.1", "10.1.2.3", "172.31.255.255", "192.168.0.1", "100.127.0.1"];
    let inside_v6 = ["::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1", "169.254.1.1"];
    for text in inside.iter().chain(&inside_v6) {
        assert!(peers.contains(text.parse().expect("it is an address")), "{text}");
    }
    for text in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8", "::"] {
        assert!(!peers.contains(text.parse().expect("it is an address")), "{text}");
    }
}

#[test]
fn networks_are_read_and_anything_else_is_named() {
    let words = ["none", "203.0.113.0/24", "2001:db8::/32", "192.0.2.1", "::ffff:198.51.100.0/120"];
    let peers = TrustedPeers::new(words).expect("all are networks");
    for text in ["203.0.113.7", "2001:db8:1::1", "192.0.2.1", "198.51.100.9"] {
        let address = text.parse().expect("it is an address");
        assert_eq!(peers.judge(Some(address)), Trust::Trusted, "{text}");
    }
    for text in ["203.0.114.1", "192.0.2.2", "127.0.0.1", "2001:db9::1"] {
        let address = text.parse().expect("it is an address");
        assert_eq!(peers.judge(Some(address)), Trust::Untrusted, "{text}");
    }
    assert_eq!(peers.judge(None), Trust::Trusted);
    for word in ["privat", "10.0.0.0/33", "10.0.0", "localhost", ""] {
        assert_eq!(TrustedPeers::new([word]), Err(NotANetwork(word.to_owned())));
    }
}

/// The header's addresses and length, after a check that every cut of it is incomplete.
#[track_caller]
fn header(bytes: &[u8]) -> (Option<ProxyAddresses>, usize) {
    let Ok(Parsed::Complete { head, length }) = proxy_header(bytes) else {
        panic!("{}: not a whole header", bytes.escape_ascii());
    };
    for cut in 0..length {
        let read = proxy_header(&bytes[..cut]);
        assert!(matches!(read, Ok(Parsed::Incomplete)), "cut at {cut}: {read:?}");
    }
    (head, length)
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[command, family]);
    bytes.extend_from_slice(&u16::try_from(rest.len()).expect("it is short").to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

#[test]
fn proxy_headers_of_both_versions_name_the_client() {
    let named = |source: &str, destination: &str| {
        let both = address(source).zip(address(destination));
        both.map(|(source, destination)| ProxyAddresses { source, destination })
    };
    let v4 = named("203.0.113.9:51034", "10.0.0.1:80");
    let line = b"PROXY TCP4 203.0.113.9 10.0.0.1 51034 80\r\nGET /";
    assert_eq!(header(line), (v4, line.len() - 5));
    let line = b"PROXY TCP6 2001:db8::9 ::1 51034 80\r\n";
    assert_eq!(header(line), (named("[2001:db8::9]:51034", "[::1]:80"), line.len()));
    let line = b"PROXY UNKNOWN whatever it says\r\n";
    assert_eq!(header(line), (None, line.len()));

    let rest = [203, 0, 113, 9, 10, 0, 0, 1, 0xc7, 0x5a, 0, 80, 3, 0, 4, 1, 2, 3, 4];
    let bytes = binary(0x21, 0x11, &rest);
    assert_eq!(header(&bytes), (v4, bytes.len()));
    for (command, family) in [(0x20, 0x11), (0x21, 0x00), (0x21, 0x12), (0x21, 0x31)] {
        let bytes = binary(command, family, &rest);
        assert_eq!(header(&bytes), (None, bytes.len()));
    }
}

#[test]
fn malformed_proxy_headers_are_refused() {
    let rows: &[(&[u8], BadProxyHeader)] = &[
        (b"GET / HTTP/1.1\r\n", BadProxyHeader::Missing),
        (b"\r\nGET", BadProxyHeader::Missing),
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 51034 80\n", BadProxyHeader::Line),
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 51034\r\n", BadProxyHeader::Line),
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 51034 80 1\r\n", BadProxyHeader::Line),
        (b"PROXY TCP4 203.0.113.9  10.0.0.1 51034 80\r\n", BadProxyHeader::Line),
        (b"PROXY TCP4 ::1 ::1 51034 80\r\n", BadProxyHeader::Line),
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 +1 80\r\n", BadProxyHeader::Line),
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 65536 80\r\n", BadProxyHeader::Line),
        (b"PROXY UDP4 203.0.113.9 10.0.0.1 51034 80\r\n", BadProxyHeader::Line),
    ];
    for (bytes, bad) in rows {
        assert_eq!(proxy_header(bytes).err(), Some(*bad), "{}", bytes.escape_ascii());
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(100));
    assert_eq!(proxy_header(endless.as_bytes()).err(), Some(BadProxyHeader::Line));
    for bytes in [
        binary(0x11, 0x11, &[0; 12]),
        binary(0x22, 0x11, &[0; 12]),
        binary(0x21, 0x13, &[0; 12]),
        binary(0x21, 0x11, &[0; 11]),
        binary(0x21, 0x21, &[0; 35]),
        binary(0x20, 0x00, &[0; 4097]),
    ] {
        assert_eq!(proxy_header(&bytes).err(), Some(BadProxyHeader::Binary));
    }
}
