//! Prints what reading and forwarding a head costs: `cargo run --release --example http_cost`.

use std::hint::black_box;
use std::time::Duration;

use tenfold::clock;
use tenfold::http::{
    Asked, Expectation, ForwardedField, Forwarding, HeadLimits, Parsed, Persistence, RequestHead,
    ResponseForwarding, ResponseHead, Scheme, Trust, Upgrade, forward_request, forward_response,
    request_head, response_head,
};

const WRK: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\r\n";

const BROWSER: &[u8] = b"GET /products/4711?utm_source=news HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/130.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; _ga=GA1.2.1234567890.1234567890\r\n\r\n";

const EXPRESS: &[u8] = b"HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\n\
    Content-Type: text/html; charset=utf-8\r\nContent-Length: 12\r\n\
    ETag: W/\"c-Lve95gjOVATpfV8EL5X4nxwjKHE\"\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n";

/// Short batches, so that most are not interrupted; below a second per row.
const BATCHES: u32 = 2000;
const BATCH: u32 = 200;

fn main() {
    let mut out = Vec::with_capacity(4096);
    for (name, bytes) in [("wrk", WRK), ("browser", BROWSER)] {
        report(name, "read", bytes, || {
            black_box(read_request(black_box(bytes)));
        });
        report(name, "read and forward", bytes, || {
            let head = read_request(black_box(bytes));
            out.clear();
            forward_request(&head, &forwarding(&head), &mut out);
            black_box(&out);
        });
    }
    report("express", "read", EXPRESS, || {
        black_box(read_response(black_box(EXPRESS)));
    });
    report("express", "read and forward", EXPRESS, || {
        let head = read_response(black_box(EXPRESS));
        out.clear();
        forward_response(&head, &returning(&head), &mut out);
        black_box(&out);
    });
}

/// Prints the median batch and the cheapest one, which nothing else on the machine has slowed.
fn report(name: &str, what: &str, bytes: &[u8], mut once: impl FnMut()) {
    let mut batches: Vec<Duration> = (0..BATCHES)
        .map(|_| {
            let start = clock::now();
            (0..BATCH).for_each(|_| once());
            clock::now() - start
        })
        .collect();
    batches.sort_unstable();
    let ns = |at: u32| batches[at as usize].as_nanos() / u128::from(BATCH);
    let (median, best) = (ns(BATCHES / 2), ns(0));
    println!("{name:8} {:4} bytes  {what:17} median {median:5} ns  best {best:5} ns", bytes.len());
}

fn read_request(bytes: &[u8]) -> RequestHead {
    match request_head(bytes, &HeadLimits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("the head is well-formed: {other:?}"),
    }
}

fn read_response(bytes: &[u8]) -> ResponseHead {
    match response_head(bytes, Asked::default(), &HeadLimits::default()) {
        Ok(Parsed::Complete { head, .. }) => head,
        other => panic!("the head is well-formed: {other:?}"),
    }
}

fn forwarding(head: &RequestHead) -> Forwarding<'static> {
    Forwarding {
        client: Some(([203, 0, 113, 9], 51034).into()),
        trust: Trust::Trusted,
        scheme: Scheme::Http,
        request_id: "0123456789abcdef0123456789abcdef",
        body: head.body(),
        upgrade: Upgrade::Allowed,
        expectation: Expectation::Answered,
        via: None,
        forwarded: ForwardedField::Passed,
    }
}

fn returning(head: &ResponseHead) -> ResponseForwarding<'static> {
    ResponseForwarding {
        asked: Asked::default(),
        body: head.body(),
        connection: Persistence::KeepAlive,
        request_id: Some("0123456789abcdef0123456789abcdef"),
        timing: None,
        via: None,
        proxy_status: None,
        set_cookie: None,
    }
}
