//! The shape of `/status` as a user's script would read it; unknown fields are ignored.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) version: String,
    pub(crate) phase: String,
    pub(crate) generation: u64,
    /// Where the workers of this generation run.
    #[serde(default)]
    pub(crate) directory: String,
    /// `http://127.0.0.1:9900`.
    #[serde(default)]
    pub(crate) admin: Option<String>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) workers: Vec<Worker>,
    #[serde(default)]
    pub(crate) totals: serde_json::Value,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Listener {
    pub(crate) address: String,
    pub(crate) mode: String,
    pub(crate) queue: Queue,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Queue {
    pub(crate) length: u64,
    pub(crate) max: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Worker {
    pub(crate) slot: u16,
    /// 0 for a slot without a worker.
    #[serde(deserialize_with = "or_zero")]
    pub(crate) id: u64,
    /// `None` while the slot waits for its next start.
    pub(crate) pid: Option<i32>,
    pub(crate) state: String,
    /// 0 for a slot without a worker.
    #[serde(deserialize_with = "or_zero")]
    pub(crate) generation: u64,
    #[serde(default)]
    pub(crate) in_flight: u64,
    #[serde(default)]
    pub(crate) streams: u64,
    #[serde(default)]
    pub(crate) open: u64,
    #[serde(default)]
    pub(crate) active: u64,
    #[serde(default)]
    pub(crate) unacked: u64,
    /// Connections acknowledged in all.
    #[serde(default)]
    pub(crate) accepted: u64,
    #[serde(default)]
    pub(crate) limit: u64,
    #[serde(default)]
    pub(crate) stalled: bool,
    pub(crate) ejected_ms: Option<u64>,
    #[serde(default)]
    pub(crate) restarts: u64,
    #[serde(default)]
    pub(crate) requests: u64,
    pub(crate) dialect: Option<String>,
    /// Its private listener, as `/status` prints it.
    pub(crate) upstream: Option<String>,
    /// What it said of itself.
    pub(crate) status: Option<String>,
    pub(crate) watchdog_age_ms: Option<u64>,
    pub(crate) uptime_s: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) loop_delay_ms: Option<f64>,
}

fn or_zero<'de, D: serde::Deserializer<'de>>(value: D) -> Result<u64, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(0))
}

impl Status {
    /// How many workers are ready.
    pub(crate) fn ready(&self) -> usize {
        self.workers.iter().filter(|worker| worker.state == "ready").count()
    }

    /// Connections that workers have acknowledged, over all workers in the list.
    pub(crate) fn accepted(&self) -> u64 {
        self.workers.iter().map(|worker| worker.accepted).sum()
    }

    /// The worker in `slot`; panics if there is none.
    #[track_caller]
    pub(crate) fn worker_in(&self, slot: u16) -> &Worker {
        let worker = self.workers.iter().find(|worker| worker.slot == slot);
        worker.unwrap_or_else(|| panic!("slot {slot} is not there: {self:#?}"))
    }

    /// One of the sums.
    #[track_caller]
    pub(crate) fn total(&self, name: &str) -> u64 {
        let total = self.totals.get(name).and_then(serde_json::Value::as_u64);
        total.unwrap_or_else(|| panic!("no total {name:?}: {self:#?}"))
    }

    /// Client connections that workers hold now.
    pub(crate) fn open(&self) -> u64 {
        self.workers.iter().map(|worker| worker.open).sum()
    }

    /// The port of the admin address; panics if there is none.
    #[track_caller]
    pub(crate) fn admin_port(&self) -> u16 {
        let port = self.admin.as_ref().and_then(|url| url.rsplit(':').next()?.parse().ok());
        port.unwrap_or_else(|| panic!("no admin address: {self:#?}"))
    }

    /// Whether no worker holds a connection, or has one to answer for.
    pub(crate) fn is_quiet(&self) -> bool {
        self.workers.iter().all(|worker| (worker.open, worker.unacked) == (0, 0))
    }

    /// The pid of the worker in `slot`; panics if there is none.
    #[track_caller]
    pub(crate) fn pid_of(&self, slot: u16) -> i32 {
        self.worker_in(slot).pid.unwrap_or_else(|| panic!("slot {slot} has no process: {self:#?}"))
    }
}
