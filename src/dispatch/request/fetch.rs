//! Asks one worker's app for a path, outside its limit: for metrics that every worker has of its
//! own, and to warm a new one.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::download::{Download, Moved};
use super::front::Front;
use crate::clock;
use crate::http::Asked;
use crate::link::orders::{Accepts, Fetched};
use crate::link::said::ServerKey;
use crate::policy::{ListenerId, WorkerId};

/// How long an app may take; whoever asks waits no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long one request may take that warms a worker: its first may compile and connect.
const WARM_UP_PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer that is taken: some ten thousand series.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Whom to ask what, and who wants to know.
#[derive(Debug)]
pub(in crate::dispatch) struct Question {
    pub(in crate::dispatch) worker: WorkerId,
    /// A listener of request mode that it serves.
    pub(in crate::dispatch) through: (ListenerId, ServerKey),
    pub(in crate::dispatch) path: std::sync::Arc<str>,
    pub(in crate::dispatch) accepts: Accepts,
    pub(in crate::dispatch) reply: oneshot::Sender<Fetched>,
}

/// Asks, and passes the answer on. One that nobody waits for any more is dropped.
pub(in crate::dispatch) async fn fetch(front: Rc<Front>, question: Question) {
    let Question { worker, through, path, accepts, reply } = question;
    let asked = ask_for_good(&front, worker, through, (&path, accepts));
    let answer = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer,
        Err(_) => Err("it did not answer within 1 s".to_owned()),
    };
    let _ = reply.send(answer);
}

/// Asks a new worker for a path; whatever it answers warms it.
pub(in crate::dispatch) async fn visit(
    front: &Front,
    worker: WorkerId,
    through: (ListenerId, ServerKey),
    path: &str,
) {
    let asked = ask(front, worker, through, path);
    match tokio::time::timeout(WARM_UP_PATIENCE, asked).await {
        Ok(Ok((status, _))) => tracing::debug!(%worker, path, status, "warmed up"),
        Ok(Err(error)) => tracing::warn!(%worker, path, error, "cannot warm up"),
        Err(_) => tracing::warn!(%worker, path, "cannot warm up: no answer within 10 s"),
    }
}

async fn ask_for_good(
    front: &Front,
    worker: WorkerId,
    through: (ListenerId, ServerKey),
    (path, accepts): (&str, Accepts),
) -> Fetched {
    match ask(front, worker, through, path).await? {
        (status, body) if accepts.accept(status) => Ok(body),
        (status, _) => Err(format!("it answered {status}")),
    }
}

/// Status and body.
async fn ask(
    front: &Front,
    worker: WorkerId,
    through: (ListenerId, ServerKey),
    path: &str,
) -> Result<(u16, Vec<u8>), String> {
    let upstream = front
        .connect(clock::now(), worker, through)
        .await
        .map_err(|error| format!("it takes no connection: {error}"))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: tenfold\r\nConnection: close\r\n\r\n"
    );
    let lost = |_| "its connection broke".to_owned();
    upstream.stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let moved = Moved::new(clock::now());
    let mut download =
        Download::new(front, (&upstream.stream, &upstream.stream), Asked::default(), &moved);
    let head = loop {
        let head = download.head().await.map_err(|fault| format!("no answer: {fault:?}"))?;
        if !head.is_informational() {
            break head;
        }
    };
    let body = download.collect(head.body(), ANSWER_MAX).await;
    let body = body.map_err(|fault| format!("its answer broke off: {fault:?}"))?;
    Ok((head.status(), body))
}
