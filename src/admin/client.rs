//! The other end of the control socket, and of the admin listener, for the command line.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request as HttpRequest, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use super::listener;
use super::server::{
    Count, HeapAsked, RecycleAsked, ReloadAsked, SignalAsked, Signalled, SlotAsked, UpgradeAsked,
};
use crate::config::Admin;
use crate::supervisor::heap::{HEAP_PATIENCE, HeapStatus, RoomCheck};
use crate::supervisor::inspect::Recipient;
use crate::supervisor::recycles::RecycleStatus;
use crate::supervisor::reload::ReloadStatus;
use crate::supervisor::request::{RequestStatus, Slots, Status};
use crate::supervisor::stack::StackStatus;
use crate::sys::socket::{is_stale, peer_credentials};
use crate::sys::{child, wait};

/// A master that does not answer within this is stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Ours; the master's may be another one.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `workers.start_timeout` is an hour at most.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(3700);

/// The running masters with a control socket in one of these directories, by name; of one name in
/// the order of the directories.
///
/// A socket that nobody serves is no instance. Directories that cannot be read have none.
#[must_use]
pub fn instances(directories: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let mut seen = HashSet::new();
    let mut found: Vec<(String, PathBuf)> = directories
        .iter()
        .filter(|directory| seen.insert(*directory))
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .filter(|path| is_served(path))
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            Some((name, path))
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

/// Whether somebody listens there; a master that is stuck, and whose backlog is full, does.
fn is_served(path: &Path) -> bool {
    let is_socket = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
    is_socket && is_stale(path).is_ok_and(|is_stale| !is_stale)
}

/// What to add to "none runs" where this user may not look everywhere.
fn unseen(directories: &[PathBuf]) -> String {
    let is_denied = |directory: &&PathBuf| {
        let denied = std::io::ErrorKind::PermissionDenied;
        directory.read_dir().is_err_and(|error| error.kind() == denied)
    };
    let denied: BTreeSet<_> =
        directories.iter().filter(is_denied).map(|it| it.display().to_string()).collect();
    if denied.is_empty() {
        return String::new();
    }
    let denied: Vec<_> = denied.into_iter().collect();
    format!(" that this user may see: permission denied for {}", denied.join(", "))
}

/// The socket of the instance of this name, or of the only one.
///
/// # Errors
/// None runs, none has the name, or there are several and none was named.
pub fn find(directories: &[PathBuf], name: Option<&str>) -> anyhow::Result<PathBuf> {
    let found = instances(directories);
    let names = || found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, found.as_slice()) {
        (Some(name), all) => match all.iter().find(|(found, _)| found == name) {
            Some((_, path)) => Ok(path.clone()),
            None if all.is_empty() => {
                bail!("no running instance is called {name:?}; none runs{}", unseen(directories))
            }
            None => bail!("no running instance is called {name:?}; running: {}", names()),
        },
        (None, []) => bail!("no instance is running{}", unseen(directories)),
        (None, [(_, path)]) => Ok(path.clone()),
        (None, _) => bail!("several instances are running: {}; choose with --name", names()),
    }
}

/// What a master says of itself.
///
/// # Errors
/// It cannot be reached, does not answer in 5 s, or answers something else.
pub async fn status(socket: &Path) -> anyhow::Result<Status> {
    let body = call(socket, Method::GET, "/status", Bytes::new()).await?;
    serde_json::from_slice(&body).context("the master's answer is not a status")
}

/// What is under way, the oldest first.
///
/// # Errors
/// As [`status`].
pub async fn requests(socket: &Path) -> anyhow::Result<Vec<RequestStatus>> {
    let body = call(socket, Method::GET, "/requests", Bytes::new()).await?;
    serde_json::from_slice(&body).context("the master's answer is not a list of requests")
}

/// What to ask about a master's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Does it live.
    Live,
    /// Should it get traffic.
    Ready,
    /// Has it started.
    Startup,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is as it should be; what it says: `ready 4/4`.
    Healthy(String),
    /// It is not; why.
    Unhealthy(String),
}

/// Whom to ask about health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The instance of this name.
    Named(String),
    /// Whoever is at this admin address.
    At(Admin),
    /// The only instance with a control socket: that needs no configuration, and works whatever
    /// became of the admin address. Where there is none (no writable directory), whoever is at this
    /// admin address.
    Only(Admin),
}

/// Asks a master about its health.
///
/// # Errors
/// Nobody can be asked, or the answer is not one.
pub async fn health(directories: &[PathBuf], whom: &Whom, probe: Probe) -> anyhow::Result<Found> {
    let path = match probe {
        Probe::Live => "/livez",
        Probe::Ready => "/readyz",
        Probe::Startup => "/startupz",
    };
    let (socket, admin) = match whom {
        Whom::Named(name) => (Some(find(directories, Some(name))?), &Admin::Off),
        Whom::At(admin) => (None, admin),
        Whom::Only(admin) if instances(directories).is_empty() => (None, admin),
        Whom::Only(_) => (Some(find(directories, None)?), &Admin::Off),
    };
    let ask = async {
        if let Some(socket) = socket {
            let stream = UnixStream::connect(&socket).await.map_err(explain)?;
            return exchange(stream, Method::GET, path, Bytes::new()).await;
        }
        let addresses = listener::reachable(admin).context("no instance is running")?;
        let stream = TcpStream::connect(&*addresses).await;
        let stream = stream.with_context(|| match addresses.first() {
            Some(address) => format!("no instance answers at {address}"),
            None => "the admin address has no address".to_owned(),
        })?;
        exchange(stream, Method::GET, path, Bytes::new()).await
    };
    let answer = tokio::time::timeout(PATIENCE, ask).await;
    let (status, body) = answer.context("the master does not answer")??;
    let text = String::from_utf8_lossy(&body).trim_end().to_owned();
    Ok(match status {
        StatusCode::OK => Found::Healthy(text),
        _ if text.is_empty() => Found::Unhealthy(format!("the master answered {status}")),
        _ => Found::Unhealthy(text),
    })
}

/// Changes the number of workers; returns the number as taken into bounds.
///
/// # Errors
/// As [`status`].
pub async fn scale(socket: &Path, workers: u16) -> anyhow::Result<u16> {
    let count = serde_json::to_vec(&Count { workers })?;
    let body = call(socket, Method::POST, "/scale", count.into()).await?;
    let count: Count =
        serde_json::from_slice(&body).context("the master's answer is not a count")?;
    Ok(count.workers)
}

/// Whether to wait for what comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it has ended.
    Yes,
    /// No longer than until it was heard.
    No,
}

/// A flag of the command line.
impl From<bool> for Wait {
    fn from(is_set: bool) -> Self {
        if is_set { Self::Yes } else { Self::No }
    }
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The master knows of it.
    Asked,
    /// It has ended.
    Ended(ReloadStatus),
}

/// Asks a master to reload.
///
/// # Errors
/// As [`status`]; how long the end may take is for the master to say.
pub async fn reload(socket: &Path, wait: Wait) -> anyhow::Result<Reloaded> {
    let (wait, patience) = match wait {
        Wait::Yes => (true, LONG_PATIENCE),
        Wait::No => (false, PATIENCE),
    };
    let asked = serde_json::to_vec(&ReloadAsked { wait })?;
    let body = call_for(patience, socket, Method::POST, ("/reload", asked.into())).await?;
    let status: Option<ReloadStatus> =
        serde_json::from_slice(&body).context("the master's answer is not a reload")?;
    Ok(status.map_or(Reloaded::Asked, Reloaded::Ended))
}

/// What became of a wish for new workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recycled {
    /// The master replaces so many, one after another.
    Asked(u16),
    /// It has ended.
    Ended(RecycleStatus),
}

/// Asks a master to replace workers.
///
/// # Errors
/// As [`status`]; there is no such slot.
pub async fn recycle(socket: &Path, slots: Slots, wait: Wait) -> anyhow::Result<Recycled> {
    let slot = match slots {
        Slots::All => None,
        Slots::One(slot) => Some(slot),
    };
    let (wait, patience) = match wait {
        Wait::Yes => (true, LONG_PATIENCE),
        Wait::No => (false, PATIENCE),
    };
    let asked = serde_json::to_vec(&RecycleAsked { slot, wait })?;
    let body = call_for(patience, socket, Method::POST, ("/recycle", asked.into())).await?;
    if wait {
        let status = serde_json::from_slice(&body);
        return status.map(Recycled::Ended).context("the master's answer is not an outcome");
    }
    let count: Count =
        serde_json::from_slice(&body).context("the master's answer is not a count")?;
    Ok(Recycled::Asked(count.workers))
}

/// Asks a master to empty a slot.
///
/// # Errors
/// As [`status`]; there is no such slot, or no other serves.
pub async fn drain(socket: &Path, slot: u16) -> anyhow::Result<()> {
    let asked = serde_json::to_vec(&SlotAsked { slot })?;
    call(socket, Method::POST, "/drain", asked.into()).await.map(drop)
}

/// Asks a master to give its place to a new one; returns the new one's pid once it has the pool,
/// or nothing where that is not waited for.
///
/// # Errors
/// As [`status`]; or why the old master goes on.
pub async fn upgrade(socket: &Path, wait: Wait) -> anyhow::Result<Option<i32>> {
    let (wait, patience) = match wait {
        Wait::Yes => (true, UPGRADE_PATIENCE),
        Wait::No => (false, PATIENCE),
    };
    let asked = serde_json::to_vec(&UpgradeAsked { wait })?;
    let body = call_for(patience, socket, Method::POST, ("/upgrade", asked.into())).await?;
    serde_json::from_slice(&body).context("the master's answer is not a pid")
}

/// Asks a master to signal the worker of a slot; returns the pid that got it, or the group.
///
/// # Errors
/// As [`status`]; there is no such slot, it has no worker, or that may not be signalled.
pub async fn signal(
    socket: &Path,
    slot: u16,
    signal: Signal,
    recipient: Recipient,
) -> anyhow::Result<i32> {
    let group = recipient == Recipient::Group;
    let asked = serde_json::to_vec(&SignalAsked { slot, signal: signal.to_string(), group })?;
    let body = call(socket, Method::POST, "/signal", asked.into()).await?;
    let signalled: Signalled =
        serde_json::from_slice(&body).context("the master's answer is not a pid")?;
    Ok(signalled.pid)
}

/// What a slot's worker does.
///
/// # Errors
/// As [`signal`].
pub async fn stack(socket: &Path, slot: u16) -> anyhow::Result<StackStatus> {
    let asked = serde_json::to_vec(&SlotAsked { slot })?;
    let body = call(socket, Method::POST, "/stack", asked.into()).await?;
    serde_json::from_slice(&body).context("the master's answer is not a stack")
}

/// How a heap is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapWanted {
    /// Where to, absolute; none: where the control socket is.
    pub directory: Option<PathBuf>,
    /// Whether there must be room.
    pub room: RoomCheck,
}

/// Has a slot's worker write its heap; returns when the file is whole.
///
/// # Errors
/// As [`signal`]; or why there is no heap, after 11 minutes at most.
pub async fn heap(socket: &Path, slot: u16, wanted: HeapWanted) -> anyhow::Result<HeapStatus> {
    let HeapWanted { directory, room } = wanted;
    let beside = || socket.parent().map(Path::to_owned);
    let directory = directory.or_else(beside).context("the control socket is in no directory")?;
    let force = room == RoomCheck::Skipped;
    let asked = serde_json::to_vec(&HeapAsked { slot, directory, force })?;
    let body = call_for(HEAP_PATIENCE, socket, Method::POST, ("/heap", asked.into())).await?;
    serde_json::from_slice(&body).context("the master's answer is not a file")
}

/// How a master is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopWish {
    /// Let workers finish.
    Graceful,
    /// TERM at once, KILL at most 2 s later.
    Now,
}

/// Asks a master to end, and waits until its socket is gone or `patience` is over.
///
/// # Errors
/// As [`status`]; or it still runs after `patience`.
pub async fn stop(socket: &Path, wish: StopWish, patience: Duration) -> anyhow::Result<()> {
    let watch = UnixStream::connect(socket).await.map_err(explain)?;
    // Named before it is asked to end: later its pid may be somebody else's.
    let master = peer_credentials(watch.as_fd())?;
    let master = child::open_pidfd(master.pid).context("cannot watch the master's process")?;
    let master = wait::shared(Rc::new(master), Interest::READABLE)?;
    drop(watch);
    let path = match wish {
        StopWish::Graceful => "/stop",
        StopWish::Now => "/stop?now=true",
    };
    let asked = call(socket, Method::POST, path, Bytes::new()).await;
    // A master with nothing to drain may be gone before its answer is.
    let patience = if asked.is_ok() { patience } else { LAST_WORDS };
    match (tokio::time::timeout(patience, master.readable()).await, asked) {
        (Ok(_), _) => Ok(()),
        (Err(_), Err(error)) => Err(error),
        (Err(_), Ok(_)) => bail!("it still runs after {} s", patience.as_secs()),
    }
}

/// How long a master that broke off its answer may take to be gone.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Longer than any reload or recycling: 256 starts and drains of an hour are none.
const LONG_PATIENCE: Duration = Duration::from_secs(24 * 3600);

async fn call(socket: &Path, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
    call_for(PATIENCE, socket, method, (path, body)).await
}

async fn call_for(
    patience: Duration,
    socket: &Path,
    method: Method,
    (path, body): (&str, Bytes),
) -> anyhow::Result<Bytes> {
    let exchange = async {
        let stream = UnixStream::connect(socket).await.map_err(explain)?;
        let (status, body) = exchange(stream, method, path, body).await?;
        match status {
            StatusCode::OK | StatusCode::ACCEPTED => Ok(body),
            refusal => Err(refused(refusal, &body)),
        }
    };
    match tokio::time::timeout(patience, exchange).await {
        Ok(outcome) => outcome.with_context(|| format!("control socket {}", socket.display())),
        Err(_) => bail!("the master does not answer on {}", socket.display()),
    }
}

/// Why a master did not do what it was asked for.
pub(super) fn refused(status: StatusCode, body: &[u8]) -> anyhow::Error {
    let why = String::from_utf8_lossy(body);
    match status {
        StatusCode::CONFLICT => anyhow!("{why}"),
        StatusCode::SERVICE_UNAVAILABLE => anyhow!("the master is busy or ending"),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => anyhow!(
            "the running tenfold does not know this; it is another version than this one, \
             {VERSION}: see `tenfold status`"
        ),
        other => anyhow!("the master answered {other}: {why}"),
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    method: Method,
    path: &str,
    body: Bytes,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = HttpRequest::builder()
        .method(method)
        .uri(path)
        .header("host", "tenfold")
        .header("content-type", "application/json")
        .body(Full::new(body))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, body))
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection drives the exchange; it ends early only by an error.
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}

pub(super) fn explain(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            anyhow!("permission denied: only its owner and root may use it")
        }
        _ => error.into(),
    }
}
