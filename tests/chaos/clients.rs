//! A steady load of which every answer is checked: its number, its length and every byte.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::judge::is_post;
use super::support::http::Connection;

/// How many ask at once: half of them on connections that they keep.
const CLIENTS: u64 = 12;

/// How often each asks, once it has its answer.
const PACE: Duration = Duration::from_millis(20);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May be sent again, and is answered in one piece.
    Quick,
    /// The same, a while later.
    Slow,
    /// May be sent again until its first half has come; the second comes a while later.
    Stream,
    /// Must not be sent again.
    Post,
}

/// One request that did not get the answer that it should have.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
    pub(crate) how: How,
}

/// What came instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The master's own answer: its status, and the reason code in its body.
    Refused { status: u16, reason: String },
    /// Nothing.
    Silence(String),
    /// The head of a good answer, and not all of the body.
    Cut(String),
    /// Something that nobody could have meant.
    Wrong(String),
}

/// What a run of clients came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) asked: u64,
    pub(crate) failures: Vec<Failure>,
}

/// The clients, until they are told to stop.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Clients {
    pub(crate) fn begin(port: u16) -> Self {
        let (stop, numbers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
        let client = |place: u64| {
            let (stop, numbers) = (Arc::clone(&stop), Arc::clone(&numbers));
            std::thread::spawn(move || Client::new(port, place).ask_on(&stop, &numbers))
        };
        let threads = (0..CLIENTS).map(client).collect();
        Self { stop, threads }
    }

    /// Waits for the last answers.
    pub(crate) fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads {
            let tally = thread.join().expect("clients do not panic");
            all.asked += tally.asked;
            all.failures.extend(tally.failures);
        }
        all.failures.sort_by_key(|failure| failure.began);
        all
    }
}

struct Client {
    port: u16,
    keeps: bool,
    connection: Option<Connection>,
}

impl Client {
    fn new(port: u16, place: u64) -> Self {
        Self { port, keeps: place.is_multiple_of(2), connection: None }
    }

    fn ask_on(mut self, stop: &AtomicBool, numbers: &AtomicU64) -> Tally {
        let mut tally = Tally::default();
        while !stop.load(Ordering::Relaxed) {
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            let kind = match number % 10 {
                _ if is_post(number) => Kind::Post,
                1 => Kind::Stream,
                2 | 3 => Kind::Slow,
                _ => Kind::Quick,
            };
            let began = SystemTime::now();
            let outcome = self.ask(number, kind);
            tally.asked += 1;
            if let Err(how) = outcome {
                self.connection = None;
                let ended = SystemTime::now();
                tally.failures.push(Failure { number, kind, began, ended, how });
            }
            pause(PACE);
        }
        tally
    }

    fn ask(&mut self, number: u64, kind: Kind) -> Result<(), How> {
        let silence = |error: io::Error| How::Silence(error.to_string());
        let mut connection = match self.connection.take() {
            Some(kept) => kept,
            None => Connection::open(self.port).map_err(silence)?,
        };
        let sent = if kind == Kind::Post { number % 3000 } else { 0 };
        connection.send(&self.request(number, kind, sent)).map_err(silence)?;
        let (status, headers) = connection.receive_head().map_err(silence)?;
        let header = |name: &str| {
            let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        let length = header("content-length").and_then(|text| text.parse().ok());
        let length = length.ok_or_else(|| How::Wrong(format!("{status} {headers:?}")))?;
        let body = connection.receive_exactly(length);
        let body = body.map_err(|error| How::Cut(error.to_string()))?;
        let body = String::from_utf8_lossy(&body);
        if status != 200 {
            return Err(How::Refused { status, reason: reason(&body) });
        }
        let id = header("x-request-id");
        if body != wanted(number, sent) || id != Some(&request_id(number)) {
            let begin: String = body.chars().take(40).collect();
            return Err(How::Wrong(format!("{id:?} {} bytes: {begin}", body.len())));
        }
        if self.keeps && header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(())
    }

    fn request(&self, number: u64, kind: Kind, sent: u64) -> Vec<u8> {
        let (method, path) = match kind {
            Kind::Quick => ("GET", "/quick"),
            Kind::Slow => ("GET", "/slow"),
            Kind::Stream => ("GET", "/stream"),
            Kind::Post => ("POST", "/post"),
        };
        let close = if self.keeps { "" } else { "Connection: close\r\n" };
        let length = match kind {
            Kind::Post => format!("Content-Length: {sent}\r\n"),
            Kind::Quick | Kind::Slow | Kind::Stream => String::new(),
        };
        let id = request_id(number);
        let mut request = format!(
            "{method} {path}?n={number}&ms=150 HTTP/1.1\r\nHost: localhost\r\n\
             X-Request-Id: {id}\r\n{close}{length}\r\n"
        )
        .into_bytes();
        request.resize(request.len() + usize::try_from(sent).expect("it is small"), b'b');
        request
    }
}

fn request_id(number: u64) -> String {
    format!("chaos-{number}")
}

/// What `tests/fixtures/node/apps/chaos.js` answers.
fn wanted(number: u64, sent: u64) -> String {
    let filler = "x".repeat(usize::try_from(number % 5000).expect("it is small"));
    format!("{number} got {sent} {filler} end {number}")
}

/// The code in `503 Service Unavailable (queue_full)`.
fn reason(body: &str) -> String {
    let inner = body.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    inner.map_or_else(|| body.to_owned(), |(code, _)| code.to_owned())
}

/// The pace of a load or of a schedule, not a wait for anything.
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}
