//! What people ask of a running master, and the shape of its answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::events::Lines;
use super::heap::{HeapReply, HeapRequest};
use super::inspect::Recipient;
use super::recycles::RecycleWaiter;
use super::reload::ReloadStatus;
use super::restarts::Restarts;
use super::stack::StackReply;
use crate::link::orders::Fetched;
use crate::logs::{Dropped, LogReader, Since};
use crate::metrics::InFlight;
use crate::policy::{Health, Slot, StopKind, Tally, WorkerId};

/// The most requests under way: one for each of 64 connections of the admin listener, and as many
/// for the handful of people at the control socket.
pub(crate) const REQUESTS_MAX: usize = 128;

/// One request; the answer goes through the sender. A dropped sender means that the master ended.
#[derive(Debug)]
pub(crate) enum Request {
    Status(oneshot::Sender<Status>),
    /// Have this many workers; answered with the number as taken into bounds.
    Scale(u16, oneshot::Sender<u16>),
    /// Read the configuration again and bring in a new generation; answered when that has ended.
    Reload(oneshot::Sender<ReloadStatus>),
    /// Replace workers, one after another; answered with how many, or why not.
    Recycle(Slots, oneshot::Sender<Result<u16, String>>),
    /// The same; answered when they are replaced, or will not be.
    RecycleAndWait(Slots, RecycleWaiter),
    /// Signal this slot's worker; answered with the pid that got it, or why none.
    Signal {
        slot: u16,
        signal: Signal,
        recipient: Recipient,
        reply: oneshot::Sender<Result<i32, String>>,
    },
    /// What this slot's worker does; or why nobody knows.
    Stack(u16, StackReply),
    /// Have this slot's worker write its heap; answered when it has, or why it has not.
    Heap(HeapRequest, HeapReply),
    /// Let this slot's worker finish and start none there; answered with why not.
    Drain(u16, oneshot::Sender<Result<(), String>>),
    /// End, with so much patience.
    Stop(StopKind, oneshot::Sender<()>),
    /// Give the pool to a new master; answered with its pid once it has the pool, or why not.
    Upgrade(When, oneshot::Sender<Upgraded>),
    /// Whether it serves; cheap, for probes.
    Health(oneshot::Sender<Health>),
    /// What is under way; answered once the reactor has been asked.
    Requests(oneshot::Sender<RequestsAsked>),
    /// What `/metrics` shows of control and dispatch.
    Facts(oneshot::Sender<Facts>),
    /// Every transition from now on; none if too many read already.
    Events(oneshot::Sender<Option<Lines>>),
    /// What the workers of a slot, or all, wrote and write; or why nobody knows.
    Logs(Option<u16>, Since, oneshot::Sender<Result<LogReader, String>>),
    /// Every ready worker's own metrics; answered once the reactor has been asked.
    FetchApp(Arc<str>, oneshot::Sender<Vec<AppAsked>>),
}

/// What came of an upgrade: the new master's pid, nothing while that one starts, or why not.
pub(crate) type Upgraded = Result<Option<i32>, String>;

/// When something that takes time is answered; a refusal always at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Begun,
    Ended,
}

/// Which slots are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// Each of them.
    All,
    /// This one.
    One(u16),
}

/// What control and dispatch know, for the metrics.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) status: Status,
    pub(crate) tally: Tally,
    pub(crate) restarts: Restarts,
    pub(crate) dropped: Dropped,
    /// The master's own.
    pub(crate) pid: i32,
    /// The master's own.
    pub(crate) rss_bytes: u64,
}

/// The reactor was asked what is under way.
#[derive(Debug)]
pub(crate) struct RequestsAsked {
    /// It knows workers only.
    pub(crate) slots: BTreeMap<WorkerId, Slot>,
    pub(crate) answer: oneshot::Receiver<Vec<InFlight>>,
}

/// One worker's app was asked for its metrics.
#[derive(Debug)]
pub(crate) struct AppAsked {
    pub(crate) slot: Slot,
    pub(crate) answer: oneshot::Receiver<Fetched>,
}

/// One exchange under way, as `tenfold requests` and `GET /requests` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestStatus {
    /// The slot that has it; none while it is queued.
    pub slot: Option<u16>,
    /// The worker that has it.
    pub worker: Option<u64>,
    /// Since its head was whole.
    pub age_ms: u64,
    /// As it came.
    pub method: String,
    /// Without its query.
    pub path: String,
    /// Address and port of the peer; none: it came by a Unix socket.
    pub client: Option<String>,
    /// `queued`, `waiting`, `responding`, `streaming` or `upgraded`.
    pub state: String,
}

/// Everything `tenfold status --json` says. Fields are added, never renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The instance.
    pub name: String,
    /// The master's process id.
    pub pid: u32,
    /// The master's version.
    pub version: String,
    /// `starting`, `running`, `reloading`, `stopping` or `finished`.
    pub phase: String,
    /// The generation that workers are started with.
    pub generation: u32,
    /// Its working directory, symlinks resolved.
    #[serde(default)]
    pub directory: String,
    /// What came of the last reload.
    #[serde(default)]
    pub last_reload: Option<ReloadStatus>,
    /// Seconds since the master started.
    pub uptime_s: u64,
    /// Where health, metrics and this are read; none: nowhere but here.
    #[serde(default)]
    pub admin: Option<String>,
    /// Where it accepts.
    pub listeners: Vec<ListenerStatus>,
    /// Every live worker and every slot that waits for one, by slot.
    pub workers: Vec<WorkerStatus>,
    /// Sums.
    pub totals: Totals,
}

/// One listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// `0.0.0.0:3000`, `unix:/run/app.sock`.
    pub address: String,
    /// For a browser, where that makes sense.
    pub url: String,
    /// `connection` or `request`.
    pub mode: String,
    /// What waits there.
    pub queue: QueueStatus,
}

/// One queue.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct QueueStatus {
    /// How many wait now.
    pub length: usize,
    /// How many may.
    pub max: usize,
    /// How long the oldest has waited, in milliseconds.
    pub oldest_ms: u64,
}

/// One slot and its worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The slot.
    pub slot: u16,
    /// The worker; none while the slot waits.
    pub id: Option<u64>,
    /// Its process.
    pub pid: Option<i32>,
    /// `starting`, `ready`, `spare` (ready, and standing by), `draining`, `stopping`, `killed`,
    /// `waiting`, `failed` or `drained`.
    pub state: String,
    /// Whether it stands by, or is to once it is ready.
    #[serde(default)]
    pub spare: bool,
    /// The configuration it was started with.
    pub generation: Option<u32>,
    /// `node`, `native`, `fd` or `port`, once it spoke or serves.
    pub dialect: Option<String>,
    /// Its private listener: `127.0.0.1:40001` or `unix:PATH`.
    pub upstream: Option<String>,
    /// What it says of itself (sd_notify's STATUS).
    pub status: Option<String>,
    /// Since it last said that it is alive (sd_notify's WATCHDOG), in milliseconds.
    pub watchdog_age_ms: Option<u64>,
    /// The runtime's version, if it says.
    pub runtime: Option<String>,
    /// Exchanges leased to it (request mode).
    pub in_flight: u32,
    /// Event streams, tunnels and exchanges of unlimited routes, which the limit does not count.
    pub streams: u32,
    /// Connections it holds.
    pub open: u32,
    /// Those that are doing something, as it reports.
    pub active: u32,
    /// Connections sent and not yet answered for.
    pub unacked: u32,
    /// Connections it has taken, in all.
    pub accepted: u64,
    /// Its bound on exchanges in flight.
    pub limit: u32,
    /// Its bound on open connections.
    pub max_connections: u32,
    /// Its heartbeat is late: it gets nothing new, unless most workers are so.
    #[serde(default)]
    pub stalled: bool,
    /// It fails what it is given, and gets nothing for this long, unless most workers are so.
    #[serde(default)]
    pub ejected_ms: Option<u64>,
    /// Restarts of this slot after failures.
    pub restarts: u32,
    /// The last crash in this slot: its kind, how the worker ended, and when.
    #[serde(default)]
    pub last_crash: Option<CrashStatus>,
    /// Exchanges it has finished, as it reports.
    pub requests: u64,
    /// Memory of its own, all its processes, when last measured; only where `memory.soft` bounds
    /// it.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Resident memory of its process.
    pub rss_bytes: u64,
    /// Worst event-loop delay of the last second.
    pub loop_delay_ms: Option<f64>,
    /// Event-loop utilisation of the last second, 0 to 1.
    pub loop_utilization: Option<f64>,
    /// V8 heap in use.
    pub heap_used_bytes: Option<u64>,
    /// V8 heap limit.
    pub heap_limit_bytes: Option<u64>,
    /// Seconds since it was started.
    pub uptime_s: Option<u64>,
    /// Until it is started again.
    pub restart_in_ms: Option<u64>,
}

/// A worker's end that nobody had asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashStatus {
    /// `all from the start`, `one worker, before it was ready`, `killed under load`,
    /// `one worker, while it served` or `hung`.
    pub kind: String,
    /// `exit 1`, `signal 9`.
    pub exit: String,
    /// Since then, in milliseconds.
    pub age_ms: u64,
}

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Slots that are to serve.
    pub workers: usize,
    /// Workers that serve.
    pub ready: usize,
    /// Workers that stand by, ready.
    #[serde(default)]
    pub spares: usize,
    /// How often one of those took the place of a worker that could not serve.
    #[serde(default)]
    pub takeovers: u64,
    /// Connections they hold.
    pub open: u64,
    /// Connections of clients that the master has accepted since it started, in either mode; those
    /// it then turned away included.
    pub accepted: u64,
    /// Connections that workers have taken since then (connection mode), dead ones included.
    #[serde(default)]
    pub taken: u64,
    /// Requests they were given since then (request mode), each retry counted again.
    #[serde(default)]
    pub requests: u64,
    /// Connections the master turned away.
    pub shed: u64,
    /// Restarts after failures.
    pub restarts: u64,
    /// Workers replaced that could have gone on.
    #[serde(default)]
    pub recycles: u64,
    /// How often a worker was found stalled.
    #[serde(default)]
    pub stalls: u64,
    /// How often a worker was ejected.
    #[serde(default)]
    pub ejections: u64,
    /// How often more than half of the workers were stalled or ejected, and all got work again.
    #[serde(default)]
    pub panics: u64,
    /// Log lines that found no room.
    pub dropped_log_lines: u64,
}
