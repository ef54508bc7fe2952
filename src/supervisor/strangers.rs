//! Finds workers that listen elsewhere than they should, and says so: nobody would reach them
//! through the master, or everybody past it.

use std::time::Instant;

use super::launch::PrivateListener;
use super::{BYPASS_CHECK, Bypass, Supervisor};
use crate::link::orders::Upstream;
use crate::policy::WorkerId;
use crate::sys::process::{self, ListeningSocket};

impl Supervisor {
    /// A worker says that it listens past us.
    pub(super) fn bypassed(&mut self, worker: WorkerId, why: &str, place: &str) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        if process.bypass == Bypass::Settled {
            return;
        }
        process.bypass = Bypass::Settled;
        let slot = process.slot;
        tracing::warn!(
            %slot, %worker, why, place,
            "worker listens by itself on {place} ({why}); tenfold cannot balance or drain that"
        );
    }

    /// Looks at the sockets of workers that have been starting for long: who listens by itself
    /// would never become ready.
    pub(super) fn look_for_bypasses(&mut self, now: Instant) {
        let due: Vec<WorkerId> = self
            .processes
            .iter()
            .filter(|(_, process)| matches!(process.bypass, Bypass::Check(at) if at <= now))
            .map(|(worker, _)| *worker)
            .collect();
        for worker in due {
            let Some(process) = self.processes.get_mut(&worker) else { continue };
            process.bypass = Bypass::Check(now + BYPASS_CHECK);
            let sockets = process::listening_sockets(&process::group_members(process.child.pid()));
            let told = process.watched.as_ref().map(|watched| watched.upstream().clone());
            let is_told = |socket: &&ListeningSocket| match &told {
                Some(Upstream::Tcp(address)) => socket.address.port() == address.port(),
                Some(Upstream::Unix(_)) | None => false,
            };
            // Listening where it should, it is only slow.
            if sockets.iter().any(|socket| is_told(&socket)) && !self.is_passed_on(worker) {
                continue;
            }
            let Some(socket) = sockets.iter().find(|socket| !is_told(socket)) else { continue };
            match self.complaint(worker, socket) {
                Some(complaint) => self.complain(complaint),
                None => {
                    let place = socket.address.to_string();
                    self.bypassed(worker, "it does not ask its cluster primary", &place);
                }
            }
        }
    }

    /// Whether the worker holds its private listener whatever it does.
    fn is_passed_on(&self, worker: WorkerId) -> bool {
        let watched = self.processes.get(&worker).and_then(|process| process.watched.as_ref());
        watched.is_some_and(|watched| *watched.kind() == PrivateListener::Inherited)
    }

    /// What to say of a worker that was told to listen elsewhere; none for one that was not.
    fn complaint(&self, worker: WorkerId, socket: &ListeningSocket) -> Option<String> {
        let process = self.processes.get(&worker)?;
        let watched = process.watched.as_ref()?;
        if process.dialect.is_some() {
            return None;
        }
        let (slot, port) = (process.slot, socket.address.port());
        // One worker alone can have a fixed port, but then it needs no master to share it.
        let alone = if self.parts.fleet.count() > 1 { " or -n 1" } else { "" };
        Some(match watched.kind() {
            PrivateListener::Port => format!(
                "worker {slot} listens on :{port} and ignores PORT: use {{port}}, \
                 --dialect fd{alone}"
            ),
            PrivateListener::Socket(_) => format!(
                "worker {slot} listens on :{port} and not at {{socket}}: use {{port}}, \
                 --dialect fd{alone}"
            ),
            PrivateListener::Inherited => format!(
                "worker {slot} listens on :{port} and ignores descriptor 3: use {{port}}{alone}"
            ),
        })
    }

    /// Every worker of the pool does the same, again and again: each place is told once.
    fn complain(&mut self, complaint: String) {
        let place = complaint.split_once(" listens on ").map_or("", |(_, place)| place).to_owned();
        if self.strangers.insert(place) {
            tracing::warn!("{complaint}");
        }
    }
}
