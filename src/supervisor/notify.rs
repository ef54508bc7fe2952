//! Hears what one worker says on its NOTIFY_SOCKET, from nobody but its own processes.

pub(super) mod message;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::mpsc;

use super::readiness::Sign;
use crate::policy::WorkerId;
use crate::sys::{notify, process};

/// How long nothing is read after an error: the kernel had no memory for a moment. What waits is
/// not lost, and a worker that says too much waits itself.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Reads until the worker's end aborts this. Back-pressure reaches the sender: signs are bounded,
/// and so is the socket's own queue.
pub(super) async fn hear(
    socket: UnixDatagram,
    worker: WorkerId,
    pid: i32,
    signs: mpsc::Sender<Sign>,
) {
    let socket = match tokio::net::UnixDatagram::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%worker, %error, "cannot hear a worker's notices"),
    };
    let mut has_failed = false;
    loop {
        let received = socket.async_io(Interest::READABLE, || notify::receive(socket.as_fd()));
        match received.await {
            Ok(datagram) => {
                let Some(sign) = understand(datagram, worker, pid) else { continue };
                if signs.send(sign).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // To stop here would make a healthy worker look hung.
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(%worker, %error, "cannot hear a worker's notice; trying again");
                }
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// The sign of one message, if a process of the worker sent it.
fn understand(datagram: notify::Datagram, worker: WorkerId, pid: i32) -> Option<Sign> {
    let notify::Datagram { bytes, sender, fds } = datagram;
    if !sender.is_some_and(|sender| is_of(sender.pid, worker, pid)) {
        tracing::debug!(%worker, ?sender, "notice of a stranger, or of a process that has ended");
        return None;
    }
    let notices = message::read(&bytes);
    // A barrier's descriptor is closed when everything before it was acted on; others mean nothing.
    let is_barrier = notices.contains(&message::Notice::Barrier);
    let barrier: Vec<OwnedFd> = if is_barrier { fds } else { Vec::new() };
    (!notices.is_empty()).then_some(Sign::Notified { worker, notices, barrier })
}

/// Whether a process belongs to a worker: by its ancestry, or, for one that hid from that, by the
/// environment it was started with.
fn is_of(sender: i32, worker: WorkerId, pid: i32) -> bool {
    process::is_within(sender, pid)
        || process::environment_variable(sender, "TENFOLD_WORKER")
            .is_ok_and(|owner| owner.is_some_and(|owner| owner == *worker.to_string()))
}
