//! What holds of every input: no panic, one reading, and nothing forwarded that reads otherwise.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const FIELDS: &[&str] = &[
    "Host: a",
    "Host: a.example:8080",
    "host: [::1]",
    "Content-Length: 5",
    "Content-Length: 0",
    "Transfer-Encoding: chunked",
    "transfer-encoding: Chunked",
    "Connection: keep-alive",
    "Connection: close, X-Hop",
    "Connection: Upgrade",
    "Connection: TE",
    "Upgrade: websocket",
    "Upgrade: h2c, websocket",
    "HTTP2-Settings: AA",
    "TE: trailers, gzip",
    "Trailer: X-Sum",
    "X-Hop: 1",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "Proxy: http://b",
    "Expect: 100-continue",
    "Forwarded: for=1.1.1.1",
    "X-Forwarded-For: 1.1.1.1",
    "X-Forwarded-Host: b",
    "X-Forwarded-Port: 1",
    "X-Request-Id: id-1",
    "X-Request-Id: other",
    "X_Request_Id: id-1",
    "Via: 1.1 b",
    "Cookie: a=1; b=2",
    "x-empty:",
    "X-Spaces: \t a b \t ",
    "User-Agent: \u{e4}",
];

const LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "GET /a/b?c=d HTTP/1.1",
    "HEAD //a HTTP/1.0",
    "POST http://b:81/x?y HTTP/1.1",
    "GET http://b HTTP/1.1",
    "GET http://b?y HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "OPTIONS http://b HTTP/1.1",
    "PROPFIND /\u{e4} HTTP/1.1",
];

/// Bytes that mean something somewhere in a head.
const SPECIAL: &[u8] = b"\r\n\0 \t:,;#?/\\*\"\x0b\x7f\x80_-5aH";

/// Requests, most of them well-formed, some with a few bytes put in, taken out or changed.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), 0..3_u8, select(SPECIAL)), 0..3);
    (select(LINES), vec(select(FIELDS), 0..8), changes).prop_map(|(line, fields, changes)| {
        let host = if fields.iter().any(|f| f.starts_with("Host")) { "" } else { "Host: a\r\n" };
        let mut bytes = format!("{line}\r\n{host}{}\r\n\r\n", fields.join("\r\n")).into_bytes();
        for (index, change, byte) in changes {
            let at = index.index(bytes.len());
            match change {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// The fields that neither direction touches.
fn plain_fields(head: &RequestHead) -> Vec<(Vec<u8>, Vec<u8>)> {
    let plain = ["cookie", "via", "x-empty", "x-spaces", "user-agent"];
    let is_plain = |field: &Field<'_>| {
        plain.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_bytes()))
    };
    let fields = head.fields().iter().filter(is_plain);
    fields.map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// Path and query as they are asked for, whatever the target's form.
fn asked_for(head: &RequestHead) -> (Vec<u8>, Vec<u8>) {
    (head.path().to_vec(), head.query().to_vec())
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..300)) {
        let limits = HeadLimits { bytes: 200, fields: 3, target: 50 };
        let _ = request_head(&bytes, &limits);
        let _ = response_head(&bytes, Asked::default(), &limits);
        let _ = proxy_header(&bytes);
        let mut chunked = Chunked::default();
        let mut rest = &bytes[..];
        while let Ok(Chunk::Data { skip, length }) = chunked.next(rest) {
            rest = &rest[skip + length..];
        }
    }

    #[test]
    fn what_goes_on_reads_as_what_came(bytes in requests()) {
        let Ok(Parsed::Complete { head, .. }) = request_head(&bytes, &HeadLimits::default()) else {
            return Ok(());
        };
        let out = forwarded_bytes(&head);
        let Ok(Parsed::Complete { head: again, length }) =
            request_head(&out, &HeadLimits::default())
        else {
            panic!("refused what we wrote: {}", out.escape_ascii());
        };
        prop_assert_eq!(length, out.len());
        prop_assert_eq!(again.method(), head.method());
        prop_assert_eq!(asked_for(&again), asked_for(&head));
        prop_assert_eq!(again.host().unwrap_or_default(), head.host().unwrap_or_default());
        prop_assert_eq!(again.body(), head.body());
        prop_assert_eq!(again.upgrade().is_some(), head.upgrade().is_some());
        prop_assert_eq!(plain_fields(&again), plain_fields(&head));
        prop_assert!(again.keeps_alive() && !again.expects_continue());
        prop_assert_eq!(forwarded_bytes(&again).escape_ascii().to_string(),
            out.escape_ascii().to_string());
    }

    #[test]
    fn pieces_read_as_the_whole(bytes in requests(), sizes in vec(1..40_usize, 1..10)) {
        let whole = request_head(&bytes, &HeadLimits::default());
        let mut reader = RequestReader::new(HeadLimits::default());
        let mut given = 0;
        let mut read = reader.read(&[]);
        for size in sizes.iter().cycle() {
            if given == bytes.len() || !matches!(read, Ok(Parsed::Incomplete)) {
                break;
            }
            given = (given + size).min(bytes.len());
            read = reader.read(&bytes[..given]);
        }
        match (whole, read) {
            (Ok(Parsed::Complete { head: a, length: x }),
                Ok(Parsed::Complete { head: b, length: y })) => {
                prop_assert_eq!(x, y);
                prop_assert_eq!(forwarded_bytes(&a), forwarded_bytes(&b));
            }
            (Ok(Parsed::Incomplete), Ok(Parsed::Incomplete)) => {}
            (Err(a), Err(b)) => prop_assert_eq!(a, b),
            (whole, pieces) => panic!("{whole:?}, in pieces {pieces:?}"),
        }
    }

    #[test]
    fn chunks_carry_any_bytes(pieces in vec(vec(any::<u8>(), 1..50), 0..10), cut in 1..70_usize) {
        let mut bytes = Vec::new();
        for piece in &pieces {
            write_size(piece.len(), &mut bytes);
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        write_end(&Fields::default(), &mut bytes);
        let (mut chunked, mut data, mut ended) = (Chunked::default(), Vec::new(), false);
        for mut rest in bytes.chunks(cut) {
            loop {
                match chunked.next(rest).expect("we wrote it") {
                    Chunk::Incomplete => break,
                    Chunk::Data { skip, length } => {
                        data.extend_from_slice(&rest[skip..skip + length]);
                        rest = &rest[skip + length..];
                    }
                    Chunk::End { consumed, .. } => {
                        prop_assert_eq!(consumed, rest.len());
                        ended = true;
                        break;
                    }
                }
            }
        }
        prop_assert!(ended);
        prop_assert_eq!(data, pieces.concat());
    }
}

fn forwarded_bytes(head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::new();
    forward_request(head, &forwarding(head), &mut out);
    out
}
