//! Any bytes as requests: what is served reads alike to httparse, in pieces, and when forwarded.
#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub, reason = "one module, without its crate")]

// The module alone, not the crate: it is a leaf, and builds in seconds.
#[path = "../../src/http/mod.rs"]
mod http;

use http::{
    Expectation, ForwardedField, Forwarding, HeadLimits, Parsed, RequestHead, RequestReader,
    Scheme, Trust, Upgrade, forward_request, request_head,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = request_head(bytes, &HeadLimits::default());
    let mut reader = RequestReader::new(HeadLimits::default());
    let half = reader.read(&bytes[..bytes.len() / 2]);
    let pieces = match half {
        Ok(Parsed::Incomplete) => reader.read(bytes),
        done => done,
    };
    assert_eq!(whole.as_ref().err(), pieces.as_ref().err());
    let Ok(Parsed::Complete { head, length }) = whole else {
        return;
    };
    assert_httparse_agrees(bytes, &head, length);

    let out = forwarded(&head);
    let Ok(Parsed::Complete { head: again, length }) = request_head(&out, &limits_of_ours()) else {
        panic!("refused what we wrote: {}", out.escape_ascii());
    };
    assert_httparse_agrees(&out, &again, length);
    assert_eq!(length, out.len());
    assert_eq!(again.method(), head.method());
    assert_eq!((again.path(), again.query()), (head.path(), head.query()));
    assert_eq!(again.host().unwrap_or_default(), head.host().unwrap_or_default());
    assert_eq!(again.body(), head.body());
    assert_eq!(forwarded(&again).escape_ascii().to_string(), out.escape_ascii().to_string());
});

/// What is added may pass a bound that the client kept to.
fn limits_of_ours() -> HeadLimits {
    HeadLimits { bytes: 1 << 20, fields: 120, target: 1 << 20 }
}

fn assert_httparse_agrees(bytes: &[u8], head: &RequestHead, length: usize) {
    let mut fields = [httparse::EMPTY_HEADER; 120];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(bytes), Ok(httparse::Status::Complete(length)));
    assert_eq!(theirs.method.map(str::as_bytes), Some(head.method()));
    assert_eq!(theirs.path.map(str::as_bytes), Some(head.target()));
    let theirs = theirs.headers.iter().map(|field| (field.name.as_bytes(), field.value));
    let ours = head.fields().iter().map(|field| (field.name, field.value));
    assert!(theirs.eq(ours), "{}", bytes.escape_ascii());
}

fn forwarded(head: &RequestHead) -> Vec<u8> {
    let with = Forwarding {
        client: Some(([203, 0, 113, 9], 51034).into()),
        trust: Trust::Untrusted,
        scheme: Scheme::Http,
        request_id: "id-1",
        body: head.body(),
        upgrade: Upgrade::Allowed,
        expectation: Expectation::Answered,
        via: None,
        forwarded: ForwardedField::Written,
    };
    let mut out = Vec::new();
    forward_request(head, &with, &mut out);
    out
}
