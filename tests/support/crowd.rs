//! Many clients at once, each request on a connection of its own that the server is asked to close.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::PATIENCE;

/// What the fixture apps answer about themselves.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Who {
    pub(crate) pid: i32,
    pub(crate) slot: Option<u16>,
}

/// Who asks, where and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd<'a> {
    pub(crate) port: u16,
    pub(crate) path: &'a str,
    /// How many ask at the same time, each again as soon as it has its answer.
    pub(crate) clients: usize,
    /// How many requests they make together.
    pub(crate) requests: usize,
}

/// One request and what came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ended: Instant,
    pub(crate) took: Duration,
    /// An error for anything but a whole answer with status 200.
    pub(crate) answer: io::Result<Who>,
}

impl Crowd<'_> {
    /// Makes all requests; gives their outcomes in the order in which they ended.
    pub(crate) fn ask(self) -> Vec<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime has all it needs");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let left = Rc::new(Cell::new(self.requests));
            let mut clients = JoinSet::new();
            for _ in 0..self.clients {
                clients.spawn_local(client(self.port, self.path.to_owned(), Rc::clone(&left)));
            }
            let mut outcomes: Vec<Outcome> =
                clients.join_all().await.into_iter().flatten().collect();
            outcomes.sort_by_key(|outcome| outcome.ended);
            outcomes
        })
    }

    /// Makes all requests and gives the answers; panics if one has none.
    #[track_caller]
    pub(crate) fn ask_all(self) -> Vec<Who> {
        let outcomes = self.ask();
        let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.answer.is_err()).collect();
        let count = failed.len();
        assert!(failed.is_empty(), "{count} of {} failed: {:?}", outcomes.len(), failed[0]);
        outcomes.into_iter().filter_map(|outcome| outcome.answer.ok()).collect()
    }
}

async fn client(port: u16, path: String, left: Rc<Cell<usize>>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while left.get() > 0 {
        left.set(left.get() - 1);
        let started = Instant::now();
        let answer = match tokio::time::timeout(PATIENCE, exchange(port, &path)).await {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let ended = Instant::now();
        outcomes.push(Outcome { ended, took: ended - started, answer });
    }
    outcomes
}

async fn exchange(port: u16, path: &str) -> io::Result<Who> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = String::from_utf8_lossy(&bytes);
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, text.clone().into_owned());
    // The body is one JSON object, whichever way it is framed: whole if it can be read.
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(invalid)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(invalid());
    }
    let object = body.find('{').and_then(|start| body.get(start..=body.rfind('}')?));
    object.and_then(|object| serde_json::from_str(object).ok()).ok_or_else(invalid)
}
