//! What control tells the reactor and what the reactor tells control: the only way that the
//! supervisor and the dispatcher meet, besides the lock around `Balance`.
//!
//! Both directions are bounded. Every message is about the life of a worker or a listener, or asked
//! by a person, one at a time; never about a connection. So their number is bounded by workers,
//! and a full channel means that the other thread has stopped.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::bound::Bound;
use crate::clock::Pulse;
use crate::config::{Listeners, RequestSettings};
use crate::metrics::InFlight;
use crate::policy::{
    Duty, Generation, ListenerId, Mode, QueueBounds, Slot, Stalled, WorkerBounds, WorkerId,
};
use crate::sys::load::LoadPage;
use crate::upgrade::Lent;

/// The most orders or reports under way: 256 workers with 16 each.
pub(crate) const ORDERS_MAX: usize = 4096;

/// From control to the reactor.
#[derive(Debug)]
pub(crate) enum Order {
    /// A worker was started; this is our end of its channel.
    Attach(Attachment),
    /// It serves here, and nothing is said on its channel.
    Serve { worker: WorkerId, upstream: Upstream },
    /// It is to serve from now on, or to stand by.
    Assign { worker: WorkerId, duty: Duty },
    /// Give it nothing more and let it finish, until then: its TERM follows.
    Drain { worker: WorkerId, until: Instant },
    /// Its process is dead: read what it said last, settle its account, forget it.
    Detach(WorkerId),
    /// The pool will stop soon: ask clients that stay connected to come back elsewhere.
    WindDown,
    /// Take what has connected already, then close every listener; nobody serves after `until`.
    StopAccepting { until: Instant },
    /// Its heartbeat is late, or there again.
    SetStalled { worker: WorkerId, stalled: Stalled },
    /// Have its preload write its heap; [`Report::WroteHeap`] says what came of it.
    WriteHeap(HeapOrder),
    /// It most likely hangs: tell what it holds, and let its clients go.
    Forsake(Forsaken),
    /// Ask this worker's app for a path, outside its limit, and answer with the body. The
    /// answer is dropped where the worker cannot be asked: it serves no request-mode listener.
    FetchApp { worker: WorkerId, path: Arc<str>, accepts: Accepts, reply: FetchReply },
    /// Workers of a new generation are about to be started, and this is where it listens.
    Foresee(Box<Outlook>),
    /// Listen as this generation does, which is the one foreseen or the one before it.
    Relisten(Generation),
    /// The generation in force stays: close what it has no use for.
    Settle(Settled),
    /// Go by these from now on.
    Retune(Tuning),
    /// Tell of the exchanges under way.
    Requests(oneshot::Sender<Vec<InFlight>>),
    /// Give copies of the listening sockets.
    Lend(oneshot::Sender<Vec<Lent>>),
    /// A new master has the pool: leave the listening sockets to it, and move clients to it over
    /// this socket once they are idle.
    Bequeath { clients: OwnedFd },
    /// The pool is ours: accept.
    Accept,
    /// End the reactor.
    Quit,
}

/// Where a new generation listens.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// The generation in force.
    pub(crate) from: Generation,
    pub(crate) to: Generation,
    pub(crate) listeners: Listeners,
    /// Sockets of the addresses that are new, by their place in `listeners.listed`.
    pub(crate) bound: HashMap<usize, Vec<Bound>>,
}

/// What came of a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Every slot has a worker of it: where the app does not listen any more is known.
    Done,
    /// It was given up.
    Undone,
}

/// A worker that gives no sign of life, and what control knows of it.
#[derive(Debug)]
pub(crate) struct Forsaken {
    pub(crate) worker: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) silent: Duration,
    /// What its main thread does.
    pub(crate) main_thread: String,
    /// Where its JavaScript is, if that is known.
    pub(crate) stack: Option<String>,
    pub(crate) clients: Clients,
}

/// What a silent worker was at.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// `3 requests: 12.1 s GET /p/1; 9.0 s POST /cart`, a few of them.
    pub(crate) oldest: String,
    /// Where its JavaScript was, if that is known.
    pub(crate) stack: Option<String>,
}

/// A heap that is to be written.
#[derive(Debug)]
pub(crate) struct HeapOrder {
    pub(crate) worker: WorkerId,
    /// A file that is not there yet.
    pub(crate) path: String,
    /// The worker does nothing if it reads this later; by CLOCK_MONOTONIC.
    pub(crate) begin_by: Duration,
    /// The file system must have room for so many bytes for each that the heap uses; none: no
    /// matter.
    pub(crate) file_per_byte: Option<u64>,
}

/// What becomes of the requests that a silent worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// Those without any byte of a response get a 504.
    LetGo,
    /// They wait on: the worker has no heartbeat and may only be slow.
    Keep,
}

/// Who waits for an app's answer.
pub(crate) type FetchReply = oneshot::Sender<Fetched>;

/// Which answers of an app are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// 200.
    Ok,
    /// 2xx and 3xx.
    NoError,
}

impl Accepts {
    pub(crate) fn accept(self, status: u16) -> bool {
        match self {
            Self::Ok => status == 200,
            Self::NoError => (200..400).contains(&status),
        }
    }
}

/// What a reload may change of dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    /// Of every worker, those that run included.
    pub(crate) bounds: WorkerBounds,
    /// What may wait, at each listener of request mode.
    pub(crate) requests: QueueBounds,
    /// What may wait, at each listener of connection mode.
    pub(crate) connections: QueueBounds,
    /// How long a kept connection may stay silent while its worker drains.
    pub(crate) idle: Duration,
    /// By what later requests are served.
    pub(crate) rules: Arc<RequestSettings>,
}

/// The body of an app's answer, or why there is none.
pub(crate) type Fetched = Result<Vec<u8>, String>;

/// The master's ends of what a worker was started with.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) worker: WorkerId,
    pub(crate) generation: Generation,
    pub(crate) duty: Duty,
    pub(crate) pid: i32,
    pub(crate) channel: OwnedFd,
    /// Write end of the pipe whose one byte is the right to claim the channel.
    pub(crate) token: OwnedFd,
    pub(crate) load: Arc<LoadPage>,
    pub(crate) expects: Expects,
    /// Beats when it says how it is, in the native dialect.
    pub(crate) heard: Arc<Pulse>,
    /// Where it was told to listen; [`Order::Serve`] says that it does.
    pub(crate) upstream: Option<Upstream>,
}

/// Where a worker listens for its master alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which dialect a worker will speak, as far as its command tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expects {
    /// Its first message tells.
    Either,
    /// Its first message, or the first sign that it serves at its private listener.
    Any,
    /// None: it serves at its private listener.
    Upstream,
    /// Node's own cluster child, without our preload.
    PlainNode,
    /// A program that uses an SDK.
    Native,
}

/// From the reactor to control.
#[derive(Debug)]
pub(crate) enum Report {
    /// Serves now.
    Ready(WorkerId),
    /// Served, and lives, but does not serve any more (a wrapper restarts its child).
    Unready(WorkerId),
    /// Finished after a drain, although a process of it still lives.
    Drained(WorkerId),
    /// Spoke for the first time.
    Spoke { worker: WorkerId, dialect: &'static str, runtime: Option<String> },
    /// Listens past us.
    Bypassed { worker: WorkerId, why: String, place: Option<String> },
    /// The preload failed at something; the app runs on.
    Faulted { worker: WorkerId, error: String },
    /// [`Order::Forsake`] is carried out.
    Forsook { worker: WorkerId, evidence: Evidence },
    /// Its heap is written, so many bytes; or why not.
    WroteHeap { worker: WorkerId, outcome: Result<u64, String> },
    /// A listener accepts.
    Opened(OpenListener),
    /// A listener is gone.
    Closed(ListenerId),
    /// The address on which this worker is served cannot be listened on.
    CannotListen { worker: WorkerId, address: String, error: String },
    /// [`Order::Settle`] is carried out.
    Settled,
    /// Gets nothing until then, because it failed what it was given.
    Ejected { worker: WorkerId, until: Instant },
    /// Clients were turned away.
    Shed(ShedSummary),
    /// A worker's listen request failed; the app got the error.
    ListenRefused { worker: WorkerId, place: String, error: String },
}

/// What was turned away in one stretch of time; nothing, if that is news.
#[derive(Clone, Debug)]
pub(crate) struct ShedSummary {
    pub(crate) over: Duration,
    /// By reason code.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    /// `queue 400/400; 10/10 workers at limit 100`.
    pub(crate) pool: String,
}

/// One listener, as people name it.
#[derive(Clone, Debug)]
pub(crate) struct OpenListener {
    pub(crate) id: ListenerId,
    pub(crate) address: String,
    pub(crate) url: String,
    pub(crate) mode: Mode,
}
