//! The counts of request mode: the reactor's end that writes and everybody's end that reads.

use std::cell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::cell::Cell;
use super::histogram::{Distribution, Histogram};
use super::reason::{Abort, Failure, Reason, Retry, Timeout};
use crate::policy::Shed;

/// How one exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the client was told; none: nothing.
    pub status: Option<u16>,
    /// None: its worker's response, whole.
    pub reason: Option<Reason>,
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
    /// A response without end: an event stream or an exempt route.
    Stream,
    /// A connection that has left HTTP: a WebSocket.
    Upgrade,
}

impl Held {
    pub const ALL: [Self; 4] = [Self::Client, Self::IdleClient, Self::Stream, Self::Upgrade];

    pub fn code(self) -> &'static str {
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

/// Makes both ends; `refusals` are all codes that a [`Reason::Refused`] may have.
pub fn requests(refusals: impl IntoIterator<Item = &'static str>) -> (Recorder, Reader) {
    let cells = Arc::new(Cells {
        refused: refusals.into_iter().map(Refused::new).collect(),
        ..Cells::default()
    });
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
    shed: [Cell; Shed::ALL.len()],
    timeouts: [Cell; Timeout::ALL.len()],
    failures: [Cell; Failure::ALL.len()],
    aborts: [Cell; Abort::ALL.len()],
    refused: Vec<Refused>,
    retries: [Cell; Retry::ALL.len()],
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

#[derive(Debug)]
struct Refused {
    code: &'static str,
    count: Cell,
}

impl Refused {
    fn new(code: &'static str) -> Self {
        Self { code, count: Cell::default() }
    }
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
        match outcome.reason {
            None => {}
            Some(Reason::Shed(reason)) => cells.shed[reason as usize].add(1),
            Some(Reason::Timeout(timeout)) => cells.timeouts[timeout as usize].add(1),
            Some(Reason::Failure(failure)) => cells.failures[failure as usize].add(1),
            Some(Reason::Abort(abort)) => cells.aborts[abort as usize].add(1),
            Some(Reason::Refused(code)) => {
                let refused = cells.refused.iter().find(|refused| refused.code == code);
                debug_assert!(refused.is_some(), "{code} is in the list given to `requests`");
                if let Some(refused) = refused {
                    refused.count.add(1);
                }
            }
        }
    }

    /// An exchange goes to another worker.
    pub fn retried(&self, why: Retry) {
        self.cells.retries[why as usize].add(1);
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

    /// Exchanges that did not end as their worker's response: kind, code, count.
    pub fn reasons(&self) -> Vec<(&'static str, &'static str, u64)> {
        let cells = &*self.0;
        let shed = Shed::ALL.map(Shed::code).into_iter().zip(&cells.shed);
        let timeouts = Timeout::ALL.map(Timeout::code).into_iter().zip(&cells.timeouts);
        let failures = Failure::ALL.map(Failure::code).into_iter().zip(&cells.failures);
        let aborts = Abort::ALL.map(Abort::code).into_iter().zip(&cells.aborts);
        let refused = cells.refused.iter().map(|refused| (refused.code, &refused.count));
        let of = |kind| move |(code, cell): (&'static str, &Cell)| (kind, code, cell.read());
        shed.map(of("shed"))
            .chain(timeouts.map(of("timeout")))
            .chain(refused.map(of("refused")))
            .chain(failures.map(of("failure")))
            .chain(aborts.map(of("abort")))
            .collect()
    }

    /// Exchanges sent to another worker, by why.
    pub fn retries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Retry::ALL.map(Retry::code).into_iter().zip(self.0.retries.iter().map(Cell::read))
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

    fn outcome(status: u16, reason: Option<Reason>) -> Outcome {
        Outcome { status: Some(status), reason, queued: MS, served: Some(5 * MS) }
    }

    #[test]
    fn an_outcome_counts_once_in_its_class_and_under_its_reason() {
        let (recorder, reader) = requests(["bare_lf", "host"]);
        recorder.finished(&outcome(200, None));
        recorder.finished(&outcome(503, Some(Reason::Shed(Shed::QueueTimeout))));
        recorder.finished(&outcome(504, Some(Reason::Timeout(Timeout::ResponseHead))));
        recorder.finished(&outcome(400, Some(Reason::Refused("host"))));
        recorder.finished(&outcome(502, Some(Reason::Failure(Failure::CutResponse))));
        let left = Outcome {
            status: None,
            reason: Some(Reason::Abort(Abort::Queued)),
            queued: 2 * MS,
            served: None,
        };
        recorder.finished(&left);
        let classes: Vec<u64> = reader.classes().map(|(_, count)| count).collect();
        assert_eq!(classes, [1, 0, 1, 0, 1, 3]);
        let counted: Vec<_> =
            reader.reasons().into_iter().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(
            counted,
            [
                ("shed", "queue_timeout", 1),
                ("timeout", "response_head", 1),
                ("refused", "host", 1),
                ("failure", "cut_response", 1),
                ("abort", "client_left_queue", 1),
            ]
        );
        assert_eq!((reader.queued().count, reader.served().count), (6, 5));
    }

    #[test]
    fn every_reason_is_there_before_it_happens() {
        let (_recorder, reader) = requests(["bare_lf"]);
        assert_eq!(reader.reasons().len(), 3 + 5 + 1 + 4 + 2);
    }

    #[test]
    fn what_is_held_is_counted_until_its_guard_is_dropped() {
        let (recorder, reader) = requests([]);
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
        let (recorder, reader) = requests([]);
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
