//! The worker that `tenfold demo` starts N times: a small HTTP/1.1 app that says who answered.
//!
//! It is an ordinary worker of the native dialect; nothing in the master treats it differently.

use std::convert::Infallible;
use std::pin::pin;
use std::process::{self, ExitCode};
use std::time::Duration;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tenfold_worker::Handle;
use tenfold_worker::tokio::{Connection, Listener};
use tokio::task::JoinSet;

/// `/slow` waits no longer than this, so that an old request cannot outlive any drain.
const SLOW_MAX: Duration = Duration::from_secs(60);
/// A client has this long for the head of each request, idle time included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a silent connection stays open once the worker drains: one that is closed while its
/// client's next request is on the way costs that request. What `shutdown.idle` is by default.
const IDLE: Duration = Duration::from_secs(2);

/// First argument of the binary that makes it a demo worker.
pub const ARGUMENT: &str = "--demo-worker";

/// Serves until the master says drain or is gone. What is open is finished first.
///
/// # Errors
/// There is no master, or the control channel is not what the environment says.
pub fn demo_worker() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::from_env().context("the demo worker cannot start")?;
        let listener = listener.context("the demo worker has no master: run `tenfold demo`")?;
        serve(listener).await
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(mut listener: Listener) -> anyhow::Result<()> {
    let handle = listener.handle();
    let mut conversations = JoinSet::new();
    loop {
        // Ended ones first: the set must not grow while clients keep coming.
        tokio::select! { biased;
            Some(_) = conversations.join_next() => {}
            accepted = listener.accept() => match accepted? {
                Some(connection) => drop(conversations.spawn(converse(connection, handle.clone()))),
                None => break,
            },
        }
    }
    while conversations.join_next().await.is_some() {}
    Ok(())
}

/// Answers one client until either side ends it. How it ended is the client's business.
async fn converse(connection: Connection, handle: Handle) {
    let service = service_fn(|request| answer(request, handle.clone()));
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(connection), service);
    let mut conversation = pin!(conversation);
    // The conversation first: an answer that is ready goes out before the drain is looked at.
    tokio::select! { biased;
        _ = conversation.as_mut() => return,
        _ = handle.until_draining() => {}
    }
    // Whoever asks in this time is answered with `Connection: close`.
    tokio::select! { biased;
        _ = conversation.as_mut() => return,
        () = tokio::time::sleep(IDLE) => {}
    }
    conversation.as_mut().graceful_shutdown();
    let _ = conversation.await;
}

/// What a path asks for.
#[derive(Debug, PartialEq)]
enum Route {
    Hello,
    Slow(Duration),
    Crash,
    Unknown,
}

impl Route {
    fn of(path: &str, query: Option<&str>) -> Self {
        match path {
            "/" => Self::Hello,
            "/slow" => {
                let pairs = query.unwrap_or_default().split('&');
                let ms = pairs.filter_map(|pair| pair.strip_prefix("ms=")).next();
                let ms = ms.and_then(|text| text.parse().ok()).unwrap_or(1000);
                Self::Slow(Duration::from_millis(ms).min(SLOW_MAX))
            }
            "/crash" => Self::Crash,
            _ => Self::Unknown,
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    handle: Handle,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _active = handle.begin();
    let mut status = StatusCode::OK;
    let text = match Route::of(request.uri().path(), request.uri().query()) {
        Route::Hello => hello(&handle),
        Route::Slow(duration) => {
            tokio::time::sleep(duration).await;
            hello(&handle)
        }
        // The point of the demo: no destructor, no last word, and another worker takes its place.
        Route::Crash => process::abort(),
        Route::Unknown => {
            status = StatusCode::NOT_FOUND;
            "not here; try /, /slow?ms=500 and /crash\n".to_owned()
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    if handle.drain().is_some() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn hello(handle: &Handle) -> String {
    let identity = handle.identity();
    let slot = identity.slot.map_or("-".to_owned(), |slot| slot.to_string());
    let workers = identity.workers.map_or("-".to_owned(), |workers| workers.to_string());
    let (pid, open, active) = (process::id(), handle.open(), handle.active());
    format!(
        "hello from tenfold\n\
         slot {slot} of {workers}, pid {pid}; {open} open, {active} active\n\
         try /slow?ms=500 and /crash\n"
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn paths_are_routed_and_waits_are_bounded() {
        let slow = |ms| Route::Slow(Duration::from_millis(ms));
        let cases = [
            ("/", None, Route::Hello),
            ("/", Some("ms=5"), Route::Hello),
            ("/slow", None, slow(1000)),
            ("/slow", Some("ms=5"), slow(5)),
            ("/slow", Some("a=1&ms=7"), slow(7)),
            ("/slow", Some("ms=never"), slow(1000)),
            ("/slow", Some("ms=99999999"), Route::Slow(SLOW_MAX)),
            ("/crash", None, Route::Crash),
            ("/crash/", None, Route::Unknown),
            ("//", None, Route::Unknown),
        ];
        for (path, query, expected) in cases {
            assert_eq!(Route::of(path, query), expected, "{path} {query:?}");
        }
    }

    #[tokio::test]
    async fn a_request_is_answered_with_who_answered() {
        let listener = Listener::bind_or_receive("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("our own port");
        let mut server = JoinSet::new();
        server.spawn(serve(listener));
        for (path, status) in [("/", "200 OK"), ("/slow?ms=1", "200 OK"), ("/no", "404 Not Found")]
        {
            let mut client = TcpStream::connect(address).await.expect("it listens");
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).await.expect("it reads");
            let mut text = String::new();
            client.read_to_string(&mut text).await.expect("an answer in text");
            assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{text}");
            let who = format!("pid {}; 1 open, 1 active", process::id());
            assert_eq!(text.contains(&who), path != "/no", "{text}");
        }
    }
}
