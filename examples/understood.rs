//! A worker that tells how it read each request: for tests of what arrives, by hyper and the SDK.
//!
//! `tenfold --listen :3000 --dialect native -- target/debug/examples/understood`
//!
//! Every answer is empty but for the field `understood`: a line of JSON, the same as
//! tests/fixtures/node/apps/understood.js gives. `number` counts whole requests of the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tenfold_worker::tokio::{Connection, Listener};
use tokio::task::JoinSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut listener = Listener::bind_or_receive("127.0.0.1:3000").await?;
    let requests = Arc::new(AtomicU64::new(0));
    let mut conversations = JoinSet::new();
    loop {
        // Ended ones first: the set must not grow while connections keep coming.
        tokio::select! { biased;
            Some(_) = conversations.join_next() => {}
            accepted = listener.accept() => match accepted? {
                Some(connection) => {
                    drop(conversations.spawn(converse(connection, Arc::clone(&requests))));
                }
                None => return Ok(()),
            },
        }
    }
}

/// How it ends is the other side's business.
async fn converse(connection: Connection, requests: Arc<AtomicU64>) {
    let service = service_fn(|request| answer(request, Arc::clone(&requests)));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
}

async fn answer(
    request: Request<Incoming>,
    requests: Arc<AtomicU64>,
) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    // A body that is cut off is no request, and has no answer.
    let body = body.collect().await?.to_bytes();
    let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
    let mut fields: Vec<(&str, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), latin1(value.as_bytes())))
        .collect();
    fields.sort();
    let understood = json!({
        "number": number,
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "fields": fields,
        "body": latin1(&body),
    });
    let mut response = Response::new(Empty::new());
    let text = ascii(&understood.to_string());
    response.headers_mut().insert("understood", text.parse().expect("it is visible ASCII"));
    Ok(response)
}

/// Each byte as the character of that number, as Node reads fields.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// JSON in which all but ASCII is escaped.
fn ascii(json: &str) -> String {
    json.chars()
        .map(|it| match it {
            ' '..='~' => it.to_string(),
            _ => format!("\\u{:04x}", u32::from(it)),
        })
        .collect()
}
