//! The resolved configuration: every value here is in range, so nobody checks it again.
//!
//! Built only by `resolve`. Nothing here is read from the process or the clock; what depends on
//! the host (counts, descriptor limits) is kept as `Auto` and resolved by a pure method.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use super::command::Kind;
use super::health::WorkerHealth;
use super::listen::{Address, Host, Listeners};
use super::placeholder::Placeholder;
use super::request::RequestSettings;
use crate::policy::{QueueBounds, Surge};

/// Descriptors the master keeps for itself: log, control, channels and timers of 256 workers.
const RESERVED_DESCRIPTORS: u64 = 256;

/// A waiting connection costs a descriptor and some hundred bytes; 16,384 of them stay below
/// 10 MiB and are more than one turn of any pool can bring.
const QUEUE_MAX_CEILING: u64 = 16_384;

/// What may wait in request mode however many workers there are: at the usual 1 s of patience no
/// pool that answers 1,000 requests a second leaves anybody waiting in vain.
const REQUESTS_WAITING_CEILING: u32 = 1_000;

/// One complete configuration; a reload builds a new one or changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What this instance is called in logs, sockets and `--name`.
    pub name: Name,
    /// What every worker runs.
    pub command: Command,
    /// The workers' working directory, absolute, as typed (symlinks are not resolved).
    pub directory: PathBuf,
    /// How workers speak on the control channel.
    pub dialect: Dialect,
    /// Where the master listens and how.
    pub listen: Listeners,
    /// Where a worker that names no address is served: `0.0.0.0:$PORT`, else `:3000`.
    pub fallback_listen: Address,
    /// Variables set for every worker, over the inherited ones.
    pub env: WorkerEnv,
    /// What happens to the workers' output.
    pub logs: WorkerOutput,
    /// The form of our own log lines.
    pub log: LogFormat,
    /// The least urgent of our own log lines that is written.
    pub log_level: LogLevel,
    /// The pool.
    pub workers: Workers,
    /// What waits for a worker.
    pub queue: Queue,
    /// How crashed workers come back.
    pub restart: Restart,
    /// How a new generation comes in.
    pub reload: Reload,
    /// How everything ends.
    pub shutdown: Shutdown,
    /// Where health, metrics and status are read.
    pub admin: Admin,
    /// Workers that must have been ready once for the start to count as done.
    pub ready_min: ReadyMin,
    /// The path of each worker's own metrics.
    pub metrics_app: Option<String>,
    /// What only request mode is told.
    pub request: RequestSettings,
}

/// Where health, metrics and status are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// `127.0.0.1:9900`, or `[::]:9900` as PID 1; nowhere if that is taken.
    Auto,
    /// Nowhere.
    Off,
    /// There, or the master does not start.
    At {
        /// The interface.
        host: Host,
        /// The port; 0 lets the kernel choose.
        port: u16,
    },
}

/// How a new generation comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// How long the canary must stay ready; 0 to 1 h.
    pub soak: Duration,
    /// What it must answer besides.
    pub probe: Option<String>,
    /// Workers beyond the slots meanwhile.
    pub surge: Surge,
}

/// Workers that must have been ready once for the start to count as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyMin {
    /// Half of them, rounded up.
    Auto,
    /// That many, or all if there are fewer.
    Fixed(NonZeroU16),
}

impl ReadyMin {
    /// The number for a pool of `count`; 1 to `count`.
    pub fn resolve(self, count: NonZeroU16) -> NonZeroU16 {
        match self {
            Self::Fixed(min) => min.min(count),
            Self::Auto => NonZeroU16::new(count.get().div_ceil(2)).unwrap_or(NonZeroU16::MIN),
        }
    }
}

/// The instance's name: 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with `.` or `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Asked for: a second master of this name is refused.
    Given(String),
    /// The directory's name: a second master takes `NAME-2`, `NAME-3`, …
    Derived(String),
}

impl Name {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Given(name) | Self::Derived(name) => name,
        }
    }
}

/// A command line whose first word was found, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments, at least one word; a leading `exec` is dropped.
    pub words: Vec<OsString>,
    /// What the first real word is (`env`, `exec` and absolute paths seen through).
    pub kind: Kind,
    /// Which private listener its words, or values of `env`, ask for.
    pub placeholder: Placeholder,
    /// Whether it opens an inspector, on a port that only one process can have.
    pub inspector: Inspector,
}

/// Whether a command, by its words or `NODE_OPTIONS`, opens Node's inspector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspector {
    /// There is a word that begins with `--inspect`.
    Asked,
    /// There is none.
    Absent,
}

impl Config {
    /// What to tell a user who debugs more than one worker.
    pub fn inspector_hint(&self, count: NonZeroU16) -> Option<String> {
        let shared = self.command.inspector == Inspector::Asked && count.get() > 1;
        shared.then(|| format!("--inspect with {count} workers: use -n 1 to debug one process"))
    }
}

/// The values of the workers' extra variables; `Debug` shows names only, values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WorkerEnv(pub BTreeMap<String, String>);

impl fmt::Debug for WorkerEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How workers speak on the control channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// What the command is, else the first message on the channel or the first answer at `PORT`.
    Auto,
    /// Node's cluster protocol.
    Node,
    /// The protocol of docs/PROTOCOL.md.
    Native,
    /// None: it inherits a private listening socket as descriptor 3.
    Fd,
    /// None: it listens where `PORT`, `{port}` or `{socket}` tell it.
    Port,
}

/// What is dispatched from a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What fits the kind of server behind it.
    Auto,
    /// Single requests.
    Request,
    /// Whole connections.
    Connection,
}

/// What happens to the workers' output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerOutput {
    /// A `[slot] ` prefix on a terminal, byte for byte otherwise.
    Auto,
    /// Always wrapped.
    Tag,
    /// Workers get our own stdout and stderr.
    Inherit,
}

/// The form of our own log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal and under `JOURNAL_STREAM`, JSON otherwise.
    Auto,
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// The least urgent of our own log lines that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Act now.
    Error,
    /// Degraded but handled.
    Warn,
    /// Lifecycle transitions.
    Info,
    /// Per connection.
    Debug,
    /// Per request and message.
    Trace,
}

/// The pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Workers {
    /// How many workers.
    pub count: Count,
    /// Workers besides, that stand by.
    pub spare: Spare,
    /// Open connections one worker may hold.
    pub max_connections: MaxConnections,
    /// Exchanges one worker may hold in flight (request mode).
    pub limit: Limit,
    /// The user, and with it the groups, that workers run as.
    pub credentials: Option<Credentials>,
    /// Whether Node workers get our preload.
    pub preload: bool,
    /// Whether they can tell where their JavaScript is, also while it runs.
    pub inspect: bool,
    /// Whether a Node worker is ready only at its `process.send('ready')`.
    pub wait_ready: bool,
    /// What a worker with a private listener must answer over HTTP to be ready.
    pub ready_path: Option<String>,
    /// A worker not ready after this is killed and counts as crashed.
    pub start_timeout: Duration,
    /// Without any ready worker for this long the master ends.
    pub give_up: Duration,
    /// Added to the workers' niceness.
    pub nice: Nice,
    /// The workers' out-of-memory score.
    pub oom_score_adj: OomScore,
    /// When one is stalled, hangs or fails too often.
    pub health: WorkerHealth,
}

/// How many workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Nobody asked: `Auto` for Node, Deno, Python and the demo, 1 for other commands.
    ByCommand,
    /// As many as the host carries.
    Auto,
    /// 1 to 256.
    Fixed(NonZeroU16),
}

/// How many workers stand by for those that serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// One where workers start slowly and there is memory for it.
    Auto,
    /// 0 to 255.
    Fixed(u16),
}

/// Open connections one worker may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxConnections {
    /// `(nofile − 256) / 2`.
    Auto,
    /// A number.
    Fixed(NonZeroU32),
}

impl MaxConnections {
    /// The bound for a soft limit of `nofile` descriptors, at least 1: a worker holds a
    /// connection and, in the usual app, one more towards what it talks to.
    pub fn resolve(self, nofile: u64) -> NonZeroU32 {
        match self {
            Self::Fixed(max) => max,
            Self::Auto => half_of_descriptors(nofile),
        }
    }
}

/// Half of what `nofile` leaves beside the reserve, at least 1.
pub(super) fn half_of_descriptors(nofile: u64) -> NonZeroU32 {
    let half = nofile.saturating_sub(RESERVED_DESCRIPTORS) / 2;
    let half = u32::try_from(half).unwrap_or(u32::MAX);
    NonZeroU32::new(half).unwrap_or(NonZeroU32::MIN)
}

/// Exchanges one worker may hold in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// 100.
    Auto,
    /// A number.
    Fixed(NonZeroU32),
}

impl Limit {
    /// The bound: 100 keeps a 1 MB page with a 100 ms wait at its best throughput.
    pub fn resolve(self) -> NonZeroU32 {
        match self {
            Self::Auto => NonZeroU32::new(100).expect("100 is not zero"),
            Self::Fixed(limit) => limit,
        }
    }
}

/// Whom workers run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name or number as written.
    pub user: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// What is added to the workers' niceness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nice {
    /// 5 where the cgroup is the pool's own, so that the master answers while workers are busy;
    /// elsewhere 0, for others would gain by it.
    Auto,
    /// −20 to 19.
    Fixed(i8),
}

/// Who else is in our cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupOwner {
    /// Nobody: we are a container's first process, or a systemd service.
    Ourselves,
    /// Anybody.
    Others,
}

impl Nice {
    /// The number to add.
    pub fn resolve(self, owner: CgroupOwner) -> i8 {
        match (self, owner) {
            (Self::Fixed(nice), _) => nice,
            (Self::Auto, CgroupOwner::Ourselves) => 5,
            (Self::Auto, CgroupOwner::Others) => 0,
        }
    }
}

/// The workers' out-of-memory score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomScore {
    /// 100 above our own, so that the kernel takes a worker before the master.
    Auto,
    /// −1000 to 1000.
    Fixed(i16),
}

impl OomScore {
    /// The workers' score where ours is `own`; `auto` never lowers it, which would need rights.
    pub fn resolve(self, own: i16) -> i16 {
        match self {
            Self::Auto => own.saturating_add(100).min(1000),
            Self::Fixed(score) => score,
        }
    }
}

/// What waits for a worker, per listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait.
    pub max: QueueMax,
    /// How long one may wait before it is shed.
    pub timeout: QueueTimeout,
}

/// How many may wait at one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMax {
    /// By what is dispatched.
    Auto,
    /// A number; 0 sheds at once.
    Fixed(u32),
}

/// How long one may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueTimeout {
    /// 1 s for requests, 10 s for connections.
    Auto,
    /// 1 ms to 10 minutes.
    Fixed(Duration),
}

impl Queue {
    /// The bounds of a connection listener, for a master with a soft limit of `nofile` descriptors:
    /// each waiter holds one, and as many again are on their way to a worker.
    ///
    /// 10 s outlasts the restart of a crashed worker and stays below the usual 15 s to 60 s of
    /// patience of clients and balancers.
    pub fn of_connections(self, nofile: u64) -> QueueBounds {
        let max = match self.max {
            QueueMax::Fixed(max) => max as usize,
            QueueMax::Auto => {
                let half = u64::from(half_of_descriptors(nofile).get());
                half.min(QUEUE_MAX_CEILING) as usize
            }
        };
        QueueBounds { max, timeout: self.wait(Duration::from_secs(10)) }
    }

    /// The bounds of a request listener, for a pool of `count` workers with this `limit` each: as
    /// many as run may wait, so that a full queue is served within one more round.
    pub fn of_requests(self, count: NonZeroU16, limit: NonZeroU32) -> QueueBounds {
        let max = match self.max {
            QueueMax::Fixed(max) => max,
            QueueMax::Auto => {
                limit.get().saturating_mul(count.get().into()).min(REQUESTS_WAITING_CEILING)
            }
        };
        QueueBounds { max: max as usize, timeout: self.wait(Duration::from_secs(1)) }
    }

    fn wait(self, auto: Duration) -> Duration {
        match self.timeout {
            QueueTimeout::Auto => auto,
            QueueTimeout::Fixed(timeout) => timeout,
        }
    }
}

/// How crashed workers come back: the first at once, then full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The first waiting time, doubled per failure.
    pub base: Duration,
    /// The longest waiting time, at least `base`.
    pub cap: Duration,
    /// After this long ready, earlier failures are forgotten.
    pub healthy: Duration,
    /// How many restarts in a row make a storm; none: one per worker, at least 4.
    pub burst: Option<NonZeroU32>,
}

/// How everything ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// From the signal to the last KILL.
    pub total: Duration,
    /// From the signal until listeners stop accepting, below `total`.
    pub delay: Duration,
    /// How long a kept connection may stay silent while its end drains, before it is closed.
    pub idle: Duration,
    /// What a drain may take after Ctrl-C on a terminal.
    pub interactive_grace: Duration,
}
