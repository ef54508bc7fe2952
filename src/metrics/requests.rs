//! The counts of request mode: the reactor's end that writes and everybody's end that reads.

use std::cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::cell::Cell;
use super::codes::{Code, Codes};
use super::histogram::{Distribution, Histogram};

/// How one exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the client was told; none: nothing.
    pub status: Option<u16>,
    /// Why it did not end as its worker's response; a code of the list given to [`requests`].
    pub reason: Option<&'static str>,
    /// From the request's being dispatchable to its lease, or to its end without one.
    pub queued: Duration,
    /// From the lease to the end of the worker's response; none: no worker had it. A stream ends
    /// for this with its head.
    pub served: Option<Duration>,
}

/// Something that is open for a while and counted meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A client's connection.
    Client,
    /// A client's connection between two requests.
    IdleClient,
    /// A response without end: an event stream or an unlimited route.
    Stream,
    /// A connection that has left HTTP: a WebSocket.
    Upgrade,
}

impl Held {
    /// In the order of their cells.
    const ALL: [Self; 4] = [Self::Client, Self::IdleClient, Self::Stream, Self::Upgrade];

    fn code(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::IdleClient => "idle_client",
            Self::Stream => "stream",
            Self::Upgrade => "upgrade",
        }
    }
}

/// The classes of status codes, and what a client got that was told nothing.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Makes both ends, for these codes of [`Outcome::reason`] and of [`Recorder::retried`].
pub fn requests(reasons: &[Code], retries: &[Code]) -> (Recorder, Reader) {
    let (reasons, retries) = (Codes::new(reasons), Codes::new(retries));
    let cells = Arc::new(Cells { reasons, retries, ..Cells::default() });
    (Recorder { cells: Arc::clone(&cells), one_writer: PhantomData }, Reader(cells))
}

/// The end that writes: one, on one thread.
#[derive(Debug)]
pub struct Recorder {
    cells: Arc<Cells>,
    /// Makes it `!Sync`: two threads that wrote would lose counts.
    one_writer: PhantomData<cell::Cell<()>>,
}

/// The end that reads.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    classes: [Cell; CLASSES.len()],
    reasons: Codes,
    retries: Codes,
    retries_denied: Cell,
    received_bytes: Cell,
    sent_bytes: Cell,
    buffered_bytes: Cell,
    queued: Histogram,
    served: Histogram,
    held: [Cell; Held::ALL.len()],
    accepted: Cell,
    accepted_refused: Cell,
}

impl Recorder {
    /// An exchange is over.
    pub fn finished(&self, outcome: &Outcome) {
        let cells = &*self.cells;
        let class = outcome.status.map_or(0, |status| usize::from(status / 100));
        cells.classes[class.min(CLASSES.len() - 1)].add(1);
        cells.queued.record(outcome.queued);
        if let Some(served) = outcome.served {
            cells.served.record(served);
        }
        if let Some(reason) = outcome.reason {
            cells.reasons.count(reason);
        }
    }

    /// An exchange goes to another worker.
    pub fn retried(&self, why: &'static str) {
        self.cells.retries.count(why);
    }

    /// An exchange could have gone to another worker; the budget was spent.
    pub fn retry_denied(&self) {
        self.cells.retries_denied.add(1);
    }

    /// Bytes came from clients.
    pub fn received(&self, bytes: usize) {
        self.cells.received_bytes.add(bytes as u64);
    }

    /// Bytes went to clients.
    pub fn sent(&self, bytes: usize) {
        self.cells.sent_bytes.add(bytes as u64);
    }

    /// So much more of responses is read ahead of clients.
    pub fn buffered(&self, bytes: usize) {
        self.cells.buffered_bytes.add(bytes as u64);
    }

    /// So much less.
    pub fn unbuffered(&self, bytes: usize) {
        self.cells.buffered_bytes.subtract(bytes as u64);
    }

    /// A client's connection was accepted, in either mode.
    pub fn accepted(&self) {
        self.cells.accepted.add(1);
    }

    /// One of those was closed at once: its listener had its fill.
    pub fn accepted_refused(&self) {
        self.cells.accepted_refused.add(1);
    }

    /// Counts one for as long as the guard lives.
    pub fn hold(self: &Rc<Self>, what: Held) -> Holding {
        self.cells.held[what as usize].add(1);
        Holding { recorder: Rc::clone(self), what }
    }
}

/// Counts one thing that is open until it is dropped.
#[derive(Debug)]
pub struct Holding {
    recorder: Rc<Recorder>,
    what: Held,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.recorder.cells.held[self.what as usize].subtract(1);
    }
}

impl Reader {
    /// Exchanges by the class of their status.
    pub fn classes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.into_iter().zip(self.0.classes.iter().map(Cell::read))
    }

    /// Exchanges that did not end as their worker's response.
    pub fn reasons(&self) -> impl Iterator<Item = (Code, u64)> {
        self.0.reasons.read()
    }

    /// Exchanges sent to another worker, by why.
    pub fn retries(&self) -> impl Iterator<Item = (Code, u64)> {
        self.0.retries.read()
    }

    /// Exchanges that the budget kept from another worker.
    pub fn retries_denied(&self) -> u64 {
        self.0.retries_denied.read()
    }

    /// Bytes from clients.
    pub fn received_bytes(&self) -> u64 {
        self.0.received_bytes.read()
    }

    /// Bytes to clients.
    pub fn sent_bytes(&self) -> u64 {
        self.0.sent_bytes.read()
    }

    /// Bytes of responses that are read ahead of clients now.
    pub fn buffered_bytes(&self) -> u64 {
        self.0.buffered_bytes.read()
    }

    /// How long exchanges waited for a worker.
    pub fn queued(&self) -> Distribution {
        self.0.queued.read()
    }

    /// How long workers had them.
    pub fn served(&self) -> Distribution {
        self.0.served.read()
    }

    /// What is open now.
    pub fn held(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Held::ALL.map(Held::code).into_iter().zip(self.0.held.iter().map(Cell::read))
    }

    /// Client connections accepted, in either mode.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.read()
    }

    /// Those closed at once.
    pub fn accepted_refused(&self) -> u64 {
        self.0.accepted_refused.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const REASONS: [Code; 3] = [
        Code { kind: "shed", code: "queue_full" },
        Code { kind: "timeout", code: "response_head" },
        Code { kind: "abort", code: "client_gone" },
    ];

    fn outcome(status: u16, reason: Option<&'static str>) -> Outcome {
        Outcome { status: Some(status), reason, queued: MS, served: Some(5 * MS) }
    }

    #[test]
    fn an_outcome_counts_once_in_its_class_and_under_its_reason() {
        let (recorder, reader) = requests(&REASONS, &[]);
        recorder.finished(&outcome(200, None));
        recorder.finished(&outcome(503, Some("queue_full")));
        recorder.finished(&outcome(504, Some("response_head")));
        recorder.finished(&outcome(999, None));
        let gone = Outcome { status: None, reason: Some("client_gone"), queued: MS, served: None };
        recorder.finished(&gone);
        let classes: Vec<u64> = reader.classes().map(|(_, count)| count).collect();
        assert_eq!(classes, [1, 0, 1, 0, 0, 3], "an app's 999 is its failure");
        assert!(reader.reasons().all(|(_, count)| count == 1));
        assert_eq!((reader.queued().count, reader.served().count), (5, 4));
    }

    #[test]
    fn every_code_is_there_before_it_counts() {
        let retries = [Code { kind: "", code: "unsent" }];
        let (recorder, reader) = requests(&REASONS, &retries);
        let reasons: Vec<_> = reader.reasons().collect();
        assert_eq!(reasons, REASONS.map(|code| (code, 0)));
        recorder.retried("unsent");
        assert_eq!(reader.retries().collect::<Vec<_>>(), [(retries[0], 1)]);
    }

    #[test]
    fn what_is_held_is_counted_until_its_guard_is_dropped() {
        let (recorder, reader) = requests(&[], &[]);
        let recorder = Rc::new(recorder);
        let held = |reader: &Reader| reader.held().map(|(_, count)| count).collect::<Vec<_>>();
        let client = recorder.hold(Held::Client);
        let upgrade = recorder.hold(Held::Upgrade);
        assert_eq!(held(&reader), [1, 0, 0, 1]);
        drop(client);
        drop(upgrade);
        assert_eq!(held(&reader), [0, 0, 0, 0]);
    }

    #[test]
    fn another_thread_reads_what_was_written() {
        let (recorder, reader) = requests(&[], &[]);
        recorder.received(10);
        recorder.sent(20);
        recorder.buffered(30);
        recorder.unbuffered(40);
        let read = std::thread::spawn(move || {
            (reader.received_bytes(), reader.sent_bytes(), reader.buffered_bytes())
        });
        assert_eq!(read.join().expect("it only reads"), (10, 20, 0));
    }
}
