//! Serves the control socket on the control thread.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::lines::{Follow, Lines, of_events, of_workers};
use super::{Sources, health, requests};
use crate::config::Name;
use crate::logs::Since;
use crate::policy::StopKind;
use crate::supervisor::Charge;
use crate::supervisor::heap::{HeapRequest, HeapStatus};
use crate::supervisor::inspect::Recipient;
use crate::supervisor::reload::ReloadStatus;
use crate::supervisor::request::{Request, RequestStatus, Slots, Status, When};
use crate::supervisor::stack::StackStatus;
use crate::sys::socket::{self, ListenOptions};
use crate::upgrade::{Kind, Lent};

/// How many other names are tried where the name was only derived from a directory.
const NAMES_TRIED: u32 = 100;

/// A name that is ours for as long as this lives, and the socket that goes with it.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    listener: OwnedFd,
    /// Says that the name is taken, whatever becomes of the socket file; none only at the end.
    lock: Option<Flock<File>>,
    /// Whether name and socket are ours, and not (yet, or any more) another master's as well.
    charge: watch::Receiver<Charge>,
}

/// Another master has the name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NameTaken {
    #[error("name: {name:?} is taken by a running master ({path}); choose another with --name")]
    Taken { name: String, path: String },
    #[error("cannot make the control socket {path}: {error}")]
    Io { path: String, error: io::Error },
}

impl ControlSocket {
    /// Takes a name in the runtime directory; a derived one that is taken gets `-2`, `-3`, ….
    ///
    /// # Errors
    /// [`NameTaken`] if the name was asked for, or nothing can be made in the directory.
    pub(crate) fn take(
        directory: &Path,
        name: &Name,
        charge: watch::Receiver<Charge>,
    ) -> Result<Self, NameTaken> {
        let take = |name: &str| Self::take_exactly(directory, name, charge.clone());
        match name {
            Name::Given(name) => take(name),
            Name::Derived(name) => {
                let mut outcome = take(name);
                for number in 2..=NAMES_TRIED {
                    if !matches!(outcome, Err(NameTaken::Taken { .. })) {
                        break;
                    }
                    outcome = take(&format!("{name}-{number}"));
                }
                outcome
            }
        }
    }

    /// Takes over an old master's name: its lock and its socket.
    ///
    /// # Errors
    /// [`NameTaken::Io`] if what was passed is no lock.
    pub(crate) fn inherit(
        directory: &Path,
        name: &str,
        held: (OwnedFd, OwnedFd),
        charge: watch::Receiver<Charge>,
    ) -> Result<Self, NameTaken> {
        let path = directory.join(format!("{name}.sock"));
        let (lock, listener) = held;
        // The lock belongs to the open file that both masters have.
        match Flock::lock(File::from(lock), FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                Ok(Self { name: name.to_owned(), path, listener, lock: Some(lock), charge })
            }
            Err((_, error)) => {
                Err(NameTaken::Io { path: path.display().to_string(), error: error.into() })
            }
        }
    }

    /// Copies for a new master.
    ///
    /// # Errors
    /// Those of duplicating descriptors.
    pub(crate) fn lend(&self) -> io::Result<Vec<Lent>> {
        let lent = |kind, fd| Lent { kind, key: String::new(), fd };
        let mut all = vec![lent(Kind::Control, self.listener.try_clone()?)];
        if let Some(lock) = &self.lock {
            all.push(lent(Kind::Lock, lock.try_clone()?.into()));
        }
        Ok(all)
    }

    fn take_exactly(
        directory: &Path,
        name: &str,
        charge: watch::Receiver<Charge>,
    ) -> Result<Self, NameTaken> {
        let path = directory.join(format!("{name}.sock"));
        let io = |error: io::Error| NameTaken::Io { path: path.display().to_string(), error };
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(format!("{name}.lock")))
            .map_err(io)?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let path = path.display().to_string();
                return Err(NameTaken::Taken { name: name.to_owned(), path });
            }
            Err((_, error)) => return Err(io(error.into())),
        };
        // With the lock in hand, a socket that is still there is a dead master's.
        let listener = socket::listen_unix(&path, 0o600, &ListenOptions::default()).map_err(io)?;
        Ok(Self { name: name.to_owned(), path, listener, lock: Some(lock), charge })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if *self.charge.borrow() == Charge::Ours {
            // The lock file stays: removing it would let two masters lock two files of one name.
            let _ = std::fs::remove_file(&self.path);
        } else {
            // To unlock it would unlock it for the other master too. It closes with this process.
            std::mem::forget(self.lock.take());
        }
    }
}

/// Serves requests until it is dropped.
///
/// # Errors
/// Only at the start: the socket could not be registered with the runtime.
pub(super) async fn serve(
    socket: &ControlSocket,
    sources: Sources,
    passed: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Clients are told who called listen(2) last (SO_PEERCRED); the socket may be an old master's.
    nix::sys::socket::listen(&socket.listener, nix::sys::socket::Backlog::MAXCONN)?;
    let listener = std::os::unix::net::UnixListener::from(socket.listener.try_clone()?);
    let listener = Guarded(UnixListener::from_std(listener)?);
    let router = health::routes()
        .route("/status", get(status))
        .route("/requests", get(in_flight))
        .route("/scale", post(scale))
        .route("/reload", post(reload))
        .route("/recycle", post(recycle))
        .route("/drain", post(drain))
        .route("/signal", post(signal))
        .route("/stack", post(stack))
        .route("/heap", post(heap))
        .route("/stop", post(stop))
        .route("/upgrade", post(upgrade))
        .route("/events", get(events))
        .route("/logs", get(logs))
        .with_state(sources);
    // Who has asked gets an answer, and a new master takes the next.
    axum::serve(listener, router).with_graceful_shutdown(passed).await
}

/// Accepts only from our own user and root.
struct Guarded(UnixListener);

impl axum::serve::Listener for Guarded {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) if is_allowed(&stream) => return (stream, ()),
                // Dropping it is the answer to a stranger.
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "control socket: cannot accept");
                    // Out of descriptors: nothing tells when that ends.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(())
    }
}

fn is_allowed(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    socket::peer_credentials(stream.as_fd()).is_ok_and(|peer| peer.uid == 0 || peer.uid == own)
}

/// What `POST /scale` takes and gives.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) workers: u16,
}

pub(super) async fn status(State(sources): State<Sources>) -> Result<Json<Status>, StatusCode> {
    sources.ask(Request::Status).await.map(Json)
}

async fn in_flight(State(sources): State<Sources>) -> Result<Json<Vec<RequestStatus>>, StatusCode> {
    let asked = sources.ask(Request::Requests).await?;
    let in_flight = asked.answer.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(requests::shown(in_flight, &asked.slots)))
}

async fn scale(
    State(sources): State<Sources>,
    Json(Count { workers }): Json<Count>,
) -> Result<Json<Count>, StatusCode> {
    let workers = sources.ask(|reply| Request::Scale(workers, reply)).await?;
    Ok(Json(Count { workers }))
}

/// What `POST /reload` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReloadAsked {
    /// Whether to answer only when it has ended.
    pub(super) wait: bool,
}

/// Answers with 202 and nothing, or at the end with what came of it.
async fn reload(
    State(sources): State<Sources>,
    Json(ReloadAsked { wait }): Json<ReloadAsked>,
) -> Result<(StatusCode, Json<Option<ReloadStatus>>), StatusCode> {
    if wait {
        let status = sources.ask(Request::Reload).await?;
        return Ok((StatusCode::OK, Json(Some(status))));
    }
    sources.tell(Request::Reload)?;
    Ok((StatusCode::ACCEPTED, Json(None)))
}

/// What `POST /recycle` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecycleAsked {
    /// None: all of them.
    pub(super) slot: Option<u16>,
    /// Whether to answer only when it has ended.
    #[serde(default)]
    pub(super) wait: bool,
}

/// What `POST /drain` and `POST /stack` take.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SlotAsked {
    pub(super) slot: u16,
}

async fn recycle(
    State(sources): State<Sources>,
    Json(RecycleAsked { slot, wait }): Json<RecycleAsked>,
) -> Result<Response, (StatusCode, String)> {
    let slots = slot.map_or(Slots::All, Slots::One);
    if wait {
        let asked = sources.ask(|reply| Request::RecycleAndWait(slots, reply)).await;
        return Ok(Json(asked.map_err(wordless)?.map_err(conflict)?).into_response());
    }
    let asked = sources.ask(|reply| Request::Recycle(slots, reply)).await;
    let workers = asked.map_err(wordless)?.map_err(conflict)?;
    Ok(Json(Count { workers }).into_response())
}

/// What `POST /signal` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SignalAsked {
    pub(super) slot: u16,
    /// By its name, `SIGUSR2`.
    pub(super) signal: String,
    /// Whether every process of the worker's group is meant.
    pub(super) group: bool,
}

/// What it gives.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Signalled {
    pub(super) pid: i32,
}

async fn signal(
    State(sources): State<Sources>,
    Json(SignalAsked { slot, signal, group }): Json<SignalAsked>,
) -> Result<Json<Signalled>, (StatusCode, String)> {
    let signal = signal.parse::<Signal>().map_err(|_| conflict(format!("{signal} is unknown")))?;
    let recipient = if group { Recipient::Group } else { Recipient::Server };
    let asked = sources.ask(|reply| Request::Signal { slot, signal, recipient, reply }).await;
    let pid = asked.map_err(wordless)?.map_err(conflict)?;
    Ok(Json(Signalled { pid }))
}

async fn stack(
    State(sources): State<Sources>,
    Json(SlotAsked { slot }): Json<SlotAsked>,
) -> Result<Json<StackStatus>, (StatusCode, String)> {
    let asked = sources.ask(|reply| Request::Stack(slot, reply)).await;
    asked.map_err(wordless)?.map(Json).map_err(conflict)
}

/// What `POST /heap` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeapAsked {
    pub(super) slot: u16,
    /// Absolute.
    pub(super) directory: PathBuf,
    /// Whether it is tried although there is hardly room.
    #[serde(default)]
    pub(super) force: bool,
}

/// Answers when the file is whole.
async fn heap(
    State(sources): State<Sources>,
    Json(HeapAsked { slot, directory, force }): Json<HeapAsked>,
) -> Result<Json<HeapStatus>, (StatusCode, String)> {
    let request = HeapRequest { slot, directory, room: force.into() };
    let asked = sources.ask(|reply| Request::Heap(request, reply)).await;
    asked.map_err(wordless)?.map(Json).map_err(conflict)
}

async fn drain(
    State(sources): State<Sources>,
    Json(SlotAsked { slot }): Json<SlotAsked>,
) -> Result<StatusCode, (StatusCode, String)> {
    let asked = sources.ask(|reply| Request::Drain(slot, reply)).await;
    asked.map_err(wordless)?.map_err(conflict)?;
    Ok(StatusCode::ACCEPTED)
}

/// A line of JSON for each transition, from now on.
async fn events(State(sources): State<Sources>) -> Result<Response, (StatusCode, String)> {
    let lines = sources.ask(Request::Events).await.map_err(wordless)?;
    let lines = lines.ok_or((StatusCode::CONFLICT, "too many read events already".to_owned()))?;
    Ok(stream(of_events(lines)))
}

/// What `GET /logs` takes in its query.
#[derive(Debug, Deserialize)]
struct LogsAsked {
    slot: Option<u16>,
    /// How many lines of those that are kept; none: all of them.
    last: Option<u32>,
    #[serde(default)]
    follow: bool,
}

/// A line of JSON for each line of a worker.
async fn logs(
    State(sources): State<Sources>,
    Query(LogsAsked { slot, last, follow }): Query<LogsAsked>,
) -> Result<Response, (StatusCode, String)> {
    let since = last.map_or(Since::Oldest, Since::Last);
    let reader = sources.ask(|reply| Request::Logs(slot, since, reply)).await;
    let reader = reader.map_err(wordless)?.map_err(conflict)?;
    let follow = if follow { Follow::Yes } else { Follow::No };
    Ok(stream(of_workers(reader, follow)))
}

fn stream(lines: Lines) -> Response {
    ([(CONTENT_TYPE, "application/jsonl")], Body::new(lines)).into_response()
}

fn wordless(status: StatusCode) -> (StatusCode, String) {
    (status, String::new())
}

fn conflict(why: String) -> (StatusCode, String) {
    (StatusCode::CONFLICT, why)
}

/// What `POST /upgrade` takes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UpgradeAsked {
    /// Whether to answer only when it has ended.
    pub(super) wait: bool,
}

/// Answers with the new master's pid, or with nothing while it starts.
async fn upgrade(
    State(sources): State<Sources>,
    Json(UpgradeAsked { wait }): Json<UpgradeAsked>,
) -> Result<Json<Option<i32>>, (StatusCode, String)> {
    let when = if wait { When::Ended } else { When::Begun };
    let asked = sources.ask(|reply| Request::Upgrade(when, reply)).await;
    asked.map_err(wordless)?.map(Json).map_err(conflict)
}

/// What `POST /stop` takes in its query: without one, it is graceful.
#[derive(Debug, Deserialize)]
struct StopAsked {
    #[serde(default)]
    now: bool,
}

async fn stop(
    State(sources): State<Sources>,
    Query(StopAsked { now }): Query<StopAsked>,
) -> Result<StatusCode, StatusCode> {
    let kind = if now { StopKind::Now } else { StopKind::Graceful };
    sources.ask(|reply| Request::Stop(kind, reply)).await?;
    Ok(StatusCode::ACCEPTED)
}
