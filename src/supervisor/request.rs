//! What people ask of a running master, and the shape of its answer.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The most requests under way: the control socket serves a handful of people.
pub(crate) const REQUESTS_MAX: usize = 64;

/// One request; the answer goes through the sender. A dropped sender means that the master ended.
#[derive(Debug)]
pub(crate) enum Request {
    Status(oneshot::Sender<Status>),
    /// Have this many workers; answered with the number as taken into bounds.
    Scale(u16, oneshot::Sender<u16>),
    Stop(oneshot::Sender<()>),
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
    /// `starting`, `running`, `stopping` or `finished`.
    pub phase: String,
    /// The newest generation.
    pub generation: u32,
    /// Seconds since the master started.
    pub uptime_s: u64,
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
    /// `starting`, `ready`, `draining`, `stopping`, `killed`, `waiting` or `failed`.
    pub state: String,
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
    /// Restarts of this slot after failures.
    pub restarts: u32,
    /// Exchanges it has finished, as it reports.
    pub requests: u64,
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

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Slots.
    pub workers: usize,
    /// Workers that serve.
    pub ready: usize,
    /// Connections they hold.
    pub open: u64,
    /// Connections they have taken since the master started, dead ones included.
    pub accepted: u64,
    /// Connections the master turned away.
    pub shed: u64,
    /// Restarts after failures.
    pub restarts: u64,
    /// Log lines that found no room.
    pub dropped_log_lines: u64,
}
