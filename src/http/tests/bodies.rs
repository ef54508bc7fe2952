//! Chunked bodies: what is read of them, in pieces of any size, and what is refused.

use super::*;

/// The data, the trailers' names and values, and how many bytes were the body's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<(String, String)>,
    consumed: usize,
}

/// Reads `bytes` in pieces of `size`; `None` if they do not hold the whole body.
fn read(bytes: &[u8], size: usize) -> Result<Option<Body>, Refusal> {
    let mut chunked = Chunked::default();
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut rest = piece;
        loop {
            match chunked.next(rest)? {
                Chunk::Incomplete => {
                    consumed += rest.len();
                    break;
                }
                Chunk::Data { skip, length } => {
                    assert!(length > 0, "data has at least one byte");
                    data.extend_from_slice(&rest[skip..skip + length]);
                    consumed += skip + length;
                    rest = &rest[skip + length..];
                }
                Chunk::End { consumed: last, trailers } => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let trailers =
                        trailers.iter().map(|field| (text(field.name), text(field.value)));
                    let trailers = trailers.collect();
                    return Ok(Some(Body { data, trailers, consumed: consumed + last }));
                }
            }
        }
    }
    Ok(None)
}

const BODY: &[u8] =
    b"5;name=value\r\nhello\r\n00a\r\n, world!\r\n\r\n0\r\nX-Sum: 1\r\nX-B:2\r\n\r\nGET /";

#[test]
fn a_body_is_the_same_in_pieces_of_every_size() {
    let trailers = [("X-Sum", "1"), ("X-B", "2")];
    let expected = Body {
        data: b"hello, world!\r\n".to_vec(),
        trailers: trailers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        consumed: BODY.len() - "GET /".len(),
    };
    for size in 1..=BODY.len() {
        assert_eq!(read(BODY, size).as_ref(), Ok(&Some(expected.clone())), "pieces of {size}");
    }
}

#[test]
fn a_body_cut_anywhere_is_incomplete_and_never_refused() {
    for cut in 0..BODY.len() - "GET /".len() {
        assert_eq!(read(&BODY[..cut], 7), Ok(None), "cut at {cut}");
    }
}

#[test]
fn abuse_of_chunks_is_refused() {
    let rows: &[(&str, &str, &str)] = &[
        ("size_empty", "\r\n", "chunk_size_invalid"),
        ("size_prefixed", "0x5\r\nhello\r\n", "chunk_size_invalid"),
        ("size_signed", "+5\r\nhello\r\n", "chunk_size_invalid"),
        ("size_negative", "-5\r\nhello\r\n", "chunk_size_invalid"),
        ("size_after_space", " 5\r\nhello\r\n", "chunk_size_invalid"),
        ("size_before_space", "5 \r\nhello\r\n", "chunk_size_invalid"),
        ("size_of_17_digits", "00000000000000005\r\n", "chunk_size_invalid"),
        ("size_beyond_63_bits", "8000000000000000\r\n", "chunk_size_invalid"),
        ("size_not_hex", "g\r\n", "chunk_size_invalid"),
        ("size_line_lf", "5\nhello\r\n", "bare_lf"),
        ("size_line_cr", "5\rhello\r\n", "chunk_end_invalid"),
        ("extension_lf", "5;a\nhello\r\n", "bare_lf"),
        ("extension_cr", "5;a\rb\r\nhello\r\n", "chunk_end_invalid"),
        ("extension_nul", "5;a\0\r\nhello\r\n", "chunk_extension_invalid"),
        ("data_longer", "5\r\nhello!\r\n", "chunk_end_invalid"),
        ("data_ends_in_lf", "5\r\nhello\n0\r\n", "chunk_end_invalid"),
        ("data_ends_in_cr", "5\r\nhello\r0\r\n", "chunk_end_invalid"),
        ("trailer_folded", "0\r\nX-A: 1\r\n 2\r\n\r\n", "field_folded"),
        ("trailer_space", "0\r\nX-A : 1\r\n\r\n", "field_space_before_colon"),
        ("trailer_lf", "0\r\nX-A: 1\n\r\n", "bare_lf"),
        ("trailer_nul", "0\r\nX-A: \0\r\n\r\n", "control_in_head"),
        ("end_lf", "0\r\n\n", "bare_lf"),
    ];
    for (name, bytes, code) in rows {
        for size in [1, 3, bytes.len()] {
            let refused = read(bytes.as_bytes(), size).map_err(Refusal::code);
            assert_eq!(refused, Err(*code), "{name} in pieces of {size}");
        }
    }
}

#[test]
fn framing_out_of_proportion_is_refused() {
    let code = |bytes: String| read(bytes.as_bytes(), 4096).map_err(Refusal::code);
    let long = format!("1;{}\r\na\r\n", "x".repeat(5000));
    assert_eq!(code(long), Err("chunk_overhead"));
    let many = format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(100);
    assert_eq!(code(many), Err("chunk_overhead"));
    let trailers = format!("0\r\n{}", "X-A: 1\r\n".repeat(51));
    assert_eq!(code(trailers), Err("trailers_too_large"));
    let trailer = format!("0\r\nX-A: {}", "x".repeat(9000));
    assert_eq!(code(trailer), Err("trailers_too_large"));
}

#[test]
fn framing_in_proportion_is_not() {
    let mut single = "1\r\na\r\n".repeat(100_000);
    single.push_str("0\r\n\r\n");
    assert_eq!(read(single.as_bytes(), 4096).map(|b| b.map(|b| b.data.len())), Ok(Some(100_000)));
    let signature = format!("1000;chunk-signature={}\r\n", "f".repeat(64));
    let mut signed = format!("{signature}{}\r\n", "a".repeat(4096)).repeat(1000);
    signed.push_str("0\r\n\r\n");
    assert_eq!(read(signed.as_bytes(), 4096).map(|b| b.map(|b| b.data.len())), Ok(Some(4_096_000)));
}

#[test]
fn what_is_written_in_chunks_is_read_as_it_was() {
    for length in [1, 9, 10, 15, 16, 17, 255, 256, 65_535, 65_536, 1_000_000] {
        let mut bytes = Vec::new();
        write_size(length, &mut bytes);
        assert_eq!(bytes, format!("{length:x}\r\n").as_bytes());
        bytes.resize(bytes.len() + length, b'a');
        bytes.extend_from_slice(b"\r\n");
        write_end(&Fields::default(), &mut bytes);
        let body = read(&bytes, 4096).map(|body| body.map(|b| (b.data.len(), b.consumed)));
        assert_eq!(body, Ok(Some((length, bytes.len()))));
    }
}

#[test]
fn trailers_that_frame_route_or_name_the_client_go_no_further() {
    let body = b"0\r\nContent-Length: 5\r\nX-Sum: 1\r\nHost: b\r\nX-Forwarded-For: 1\r\nTE: x\r\n\
        Transfer-Encoding: chunked\r\nConnection: close\r\ntransfer_encoding: x\r\n\r\n";
    let Ok(Chunk::End { trailers, .. }) = Chunked::default().next(body) else {
        panic!("the body is complete");
    };
    let mut out = Vec::new();
    write_end(&trailers, &mut out);
    assert_eq!(out.escape_ascii().to_string(), "0\\r\\nX-Sum: 1\\r\\n\\r\\n");
}
