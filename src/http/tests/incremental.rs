//! Heads that arrive in pieces read as they do in one.

use super::*;

const REQUEST: &[u8] = b"\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\nX-A:  1 \r\nX-B:\r\n\
    Content-Length: 3\r\n\r\nabcGET";

/// All that a caller can see of a head.
fn shape(head: &RequestHead) -> String {
    let fields: Vec<_> = head.fields().iter().collect();
    format!("{:?} {:?} {fields:?}", head.target(), head.body())
}

#[test]
fn a_request_cut_anywhere_goes_on_where_it_was() {
    let whole = shape(&request(REQUEST));
    let end = REQUEST.len() - "abcGET".len();
    for cut in 0..end {
        let mut reader = RequestReader::new(HeadLimits::default());
        let first = reader.read(&REQUEST[..cut]);
        assert!(matches!(first, Ok(Parsed::Incomplete)), "cut at {cut}: {first:?}");
        let Ok(Parsed::Complete { head, length }) = reader.read(REQUEST) else {
            panic!("cut at {cut}");
        };
        assert_eq!((shape(&head), length), (whole.clone(), end), "cut at {cut}");
    }
}

#[test]
fn a_request_byte_by_byte_is_complete_at_its_last_byte() {
    let mut reader = RequestReader::new(HeadLimits::default());
    let end = REQUEST.len() - "abcGET".len();
    for length in 0..end {
        assert!(matches!(reader.read(&REQUEST[..length]), Ok(Parsed::Incomplete)), "at {length}");
    }
    assert!(matches!(reader.read(&REQUEST[..end]), Ok(Parsed::Complete { .. })));
}

#[test]
fn a_response_cut_anywhere_goes_on_where_it_was() {
    let bytes = b"HTTP/1.1 404\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc";
    for cut in 0..bytes.len() - 3 {
        let mut reader = ResponseReader::new(Asked::default(), HeadLimits::default());
        assert!(matches!(reader.read(&bytes[..cut]), Ok(Parsed::Incomplete)), "cut at {cut}");
        let Ok(Parsed::Complete { head, length }) = reader.read(bytes) else {
            panic!("cut at {cut}");
        };
        assert_eq!((head.status(), head.reason(), length), (404, &b""[..], bytes.len() - 3));
        assert_eq!(head.body(), ResponseBody::Length(3));
    }
}

#[test]
fn a_preface_is_told_from_http1_by_its_first_different_byte() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for cut in 0..preface.len() {
        assert_eq!(Preface::of(&preface[..cut]), Preface::Incomplete, "cut at {cut}");
    }
    assert_eq!(Preface::of(preface), Preface::Http2);
    assert_eq!(Preface::of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"), Preface::Http2);
    for other in [&b"G"[..], b"POST", b"PR /", b"PRI * HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nGET"]
    {
        assert_eq!(Preface::of(other), Preface::Http1, "{}", other.escape_ascii());
    }
}
