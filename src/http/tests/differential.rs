//! What we accept, httparse (the parser of hyper) understands alike, as sent and as forwarded.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Pieces of heads, so that most combinations are nearly well-formed.
const PIECES: &[&str] = &[
    "GET ",
    "POST ",
    "/",
    "/a?b=c",
    "*",
    "http://b/",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "Host: a\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X-A: b\r\n",
    "X-A:b",
    ":",
    " ",
    "\t",
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\u{e4}",
    "a",
    "X",
    ",",
    "_",
    "\u{7f}",
    "GET / HTTP/1.1\r\nHost: a\r\n",
];

const REQUESTS: &[&str] = &["GET / HTTP/1.1\r\nHost: a\r\n", "POST /a HTTP/1.1\r\nhost:b\r\n", ""];

#[track_caller]
fn assert_alike(bytes: &[u8], head: &RequestHead, length: usize) {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut theirs = httparse::Request::new(&mut fields);
    let status = theirs.parse(bytes);
    let shown = bytes.escape_ascii();
    assert_eq!(status, Ok(httparse::Status::Complete(length)), "{shown}");
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method()), "{shown}");
    assert_eq!(theirs.path.map(str::as_bytes), Some(head.target()), "{shown}");
    assert_eq!(theirs.version == Some(1), head.version() == Version::Http11, "{shown}");
    let theirs: Vec<_> = theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
    let ours: Vec<_> = head.fields().iter().map(|field| (field.name, field.value)).collect();
    assert_eq!(theirs, ours, "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_request_we_accept_reads_alike(
        start in select(REQUESTS),
        pieces in vec(select(PIECES), 0..8),
    ) {
        let bytes = format!("{start}{}\r\n\r\n", pieces.concat()).into_bytes();
        if let Ok(Parsed::Complete { head, length }) = request_head(&bytes, &HeadLimits::default())
        {
            assert_alike(&bytes, &head, length);
            let mut out = Vec::new();
            forward_request(&head, &forwarding(&head), &mut out);
            assert_alike(&out, &request(&out), out.len());
        }
    }

    #[test]
    fn a_response_we_accept_reads_alike(
        start in select(&["HTTP/1.1 200 OK\r\n", "HTTP/1.1 404\r\n", "HTTP/1.0 999 \r\n", ""][..]),
        pieces in vec(select(PIECES), 0..8),
    ) {
        let bytes = format!("{start}{}\r\n\r\n", pieces.concat()).into_bytes();
        let read = response_head(&bytes, Asked::default(), &HeadLimits::default());
        if let Ok(Parsed::Complete { head, length }) = read {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut theirs = httparse::Response::new(&mut fields);
            prop_assert_eq!(theirs.parse(&bytes), Ok(httparse::Status::Complete(length)));
            prop_assert_eq!(theirs.code, Some(head.status()));
            prop_assert_eq!(theirs.version == Some(1), head.version() == Version::Http11);
            let theirs: Vec<_> =
                theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
            let ours: Vec<_> = head.fields().iter().map(|f| (f.name, f.value)).collect();
            prop_assert_eq!(theirs, ours);
        }
    }
}
