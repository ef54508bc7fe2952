//! Hears what one worker says on its NOTIFY_SOCKET, from nobody but its own processes.

pub(super) mod message;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::mpsc;

use super::guardian::{INSTANCE_VARIABLE, WORKER_VARIABLE};
use super::readiness::Sign;
use crate::policy::WorkerId;
use crate::sys::notify::{self, Sender};
use crate::sys::process;

/// How long nothing is read after an error: the kernel had no memory for a moment. What waits is
/// not lost, and a worker that says too much waits itself.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Whose words count.
#[derive(Clone, Debug)]
pub(super) struct Speaker {
    pub(super) worker: WorkerId,
    /// The process that we started.
    pub(super) pid: i32,
    /// This master's life.
    pub(super) instance: String,
}

/// Reads until the worker's end aborts this. Back-pressure reaches the sender: signs are bounded,
/// and so is the socket's own queue.
pub(super) async fn hear(socket: UnixDatagram, speaker: Speaker, signs: mpsc::Sender<Sign>) {
    let worker = speaker.worker;
    let socket = match tokio::net::UnixDatagram::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%worker, %error, "cannot hear a worker's notices"),
    };
    let mut has_failed = false;
    loop {
        let received = socket.async_io(Interest::READABLE, || notify::receive(socket.as_fd()));
        match received.await {
            Ok(datagram) => {
                let Some(sign) = understand(datagram, &speaker) else { continue };
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
fn understand(datagram: notify::Datagram, speaker: &Speaker) -> Option<Sign> {
    let notify::Datagram { bytes, sender, fds } = datagram;
    let worker = speaker.worker;
    if !sender.is_some_and(|sender| speaker.has(sender)) {
        tracing::debug!(%worker, ?sender, "notice of a stranger, or of a process that has ended");
        return None;
    }
    let notices = message::read(&bytes);
    // A barrier's descriptor is closed when everything before it was acted on; others mean nothing.
    let is_barrier = notices.contains(&message::Notice::Barrier);
    let barrier: Vec<OwnedFd> = if is_barrier { fds } else { Vec::new() };
    (!notices.is_empty()).then_some(Sign::Notified { worker, notices, barrier })
}

impl Speaker {
    /// Whether a process belongs to the worker: by its ancestry, or, for one that hid from that, by
    /// the environment it was started with.
    ///
    /// Anybody may send there and start a process with any environment, and a pid is reused: so the
    /// user who sent must be one that could as well do it in the worker's name.
    fn has(&self, sender: Sender) -> bool {
        let is_user_of = |pid| process::users(pid).is_ok_and(|users| users.contains(&sender.uid));
        let ours = nix::unistd::geteuid().as_raw();
        if process::is_within(sender.pid, self.pid) {
            return is_user_of(sender.pid);
        }
        let is_trusted = sender.uid == 0 || sender.uid == ours || is_user_of(self.pid);
        let says = |name, wanted: &str| {
            let value = process::environment_variable(sender.pid, name);
            value.is_ok_and(|value| value.is_some_and(|value| value == *wanted))
        };
        is_trusted
            && says(WORKER_VARIABLE, &self.worker.to_string())
            && says(INSTANCE_VARIABLE, &self.instance)
    }
}
