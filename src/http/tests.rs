//! Tests of `http` that concern more than one of its files.

mod abuse;
mod answers;
mod bodies;
mod differential;
mod exchange;
mod incremental;
mod peers;
mod properties;

use super::*;

/// The head of `bytes`, which must be complete and served.
#[track_caller]
fn request(bytes: &[u8]) -> RequestHead {
    match request_head(bytes, &HeadLimits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

/// The head of `bytes`, which must be complete and fit to forward.
#[track_caller]
fn response(bytes: &[u8], asked: Asked) -> ResponseHead {
    match response_head(bytes, asked, &HeadLimits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

/// What an untrusted client's request goes on with, unless a test says otherwise.
fn forwarding(head: &RequestHead) -> Forwarding<'static> {
    Forwarding {
        client: Some("203.0.113.9:51034".parse().expect("it is an address")),
        trust: Trust::Untrusted,
        scheme: Scheme::Http,
        request_id: "id-1",
        body: head.body(),
        upgrade: Upgrade::Allowed,
        expectation: Expectation::Answered,
        via: None,
        forwarded: ForwardedField::Passed,
    }
}

fn forwarded(head: &RequestHead, with: &Forwarding<'_>) -> String {
    let mut out = Vec::new();
    forward_request(head, with, &mut out);
    String::from_utf8(out).expect("tests write UTF-8")
}

/// What a response goes on with, unless a test says otherwise.
fn returning(head: &ResponseHead, asked: Asked) -> ResponseForwarding<'static> {
    ResponseForwarding {
        asked,
        body: head.body().towards(asked.version),
        connection: Persistence::KeepAlive,
        request_id: None,
        timing: None,
        via: None,
        proxy_status: None,
        set_cookie: None,
    }
}

fn returned(head: &ResponseHead, with: &ResponseForwarding<'_>) -> String {
    let mut out = Vec::new();
    forward_response(head, with, &mut out);
    String::from_utf8(out).expect("tests write UTF-8")
}
