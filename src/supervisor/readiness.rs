//! Decides when a worker with a private listener is ready, from what it says and what tries show.
//!
//! `workers.ready_path`, where it is set, is the only proof. Else descriptor 3 needs READY=1 or an
//! answer to `/` (a connect proves nothing: we called listen), and a port or path needs a connect.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::launch::{Private, PrivateListener};
use super::notify::message::Notice;
use super::probe::Shows;
use super::{Bypass, Supervisor, notify, probe};
use crate::clock;
use crate::link::orders::{Order, Upstream};
use crate::policy::{Event, Generation, WorkerId};

/// The most signs under way; a worker that says more waits for its turn to send.
pub(super) const SIGNS_MAX: usize = 256;

/// Something that a worker's tasks found out.
#[derive(Debug)]
pub(super) enum Sign {
    /// It serves there: at its private listener, or at a place of its own choice.
    Served { worker: WorkerId, upstream: Upstream },
    /// It said something; who waits for the barrier is let go when this is dropped.
    Notified { worker: WorkerId, notices: Vec<Notice>, barrier: Vec<OwnedFd> },
}

/// The private listener of a living worker, and the tasks that watch it.
#[derive(Debug)]
pub(super) struct Watched {
    private: Private,
    /// Where it serves, if not at its private listener.
    elsewhere: Option<Upstream>,
    probes: Vec<AbortHandle>,
    notify: AbortHandle,
    /// Its last STATUS=.
    pub(super) status: Option<String>,
    /// Its last WATCHDOG=1.
    pub(super) alive_at: Option<Instant>,
    /// How often it has said so.
    pub(super) beats: u64,
}

impl Watched {
    /// Where it is told to listen, or does although it was not.
    pub(super) fn upstream(&self) -> &Upstream {
        self.elsewhere.as_ref().unwrap_or(&self.private.upstream)
    }

    pub(super) fn kind(&self) -> &PrivateListener {
        &self.private.kind
    }
}

impl Watched {
    fn stop_probing(&mut self) {
        for probe in self.probes.drain(..) {
            probe.abort();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop_probing();
        self.notify.abort();
    }
}

impl Supervisor {
    /// Starts to watch a worker that has just been started.
    pub(super) fn watch(
        &mut self,
        worker: WorkerId,
        pid: i32,
        generation: Generation,
        (private, socket): (Private, UnixDatagram),
    ) -> Watched {
        let shows = match (self.ready_path(generation), &private.kind) {
            (Some(path), _) => Shows::Answers(path),
            (None, PrivateListener::Inherited) => Shows::Answers("/".to_owned()),
            (None, PrivateListener::Port | PrivateListener::Socket(_)) => Shows::Connects,
        };
        let probe = self.probe(worker, private.upstream.clone(), shows);
        let speaker = notify::Speaker { worker, pid, instance: self.parts.instance.clone() };
        let heard = notify::hear(socket, speaker, self.signs_in.clone());
        let notify = self.watchers.spawn(heard);
        let probes = vec![probe];
        let (status, alive_at) = (None, None);
        Watched { private, elsewhere: None, probes, notify, status, alive_at, beats: 0 }
    }

    /// What a worker of this generation must answer to be ready.
    fn ready_path(&self, generation: Generation) -> Option<String> {
        self.parts.launchers.get(&generation)?.ready_path.clone()
    }

    /// Tries another place besides; only an answer over HTTP shows that it serves there.
    pub(super) fn probe_elsewhere(&mut self, worker: WorkerId, upstream: Upstream) {
        let Some(generation) = self.processes.get(&worker).map(|it| it.generation) else {
            return;
        };
        let path = self.ready_path(generation).unwrap_or_else(|| "/".to_owned());
        let probe = self.probe(worker, upstream, Shows::Answers(path));
        match self.processes.get_mut(&worker).and_then(|process| process.watched.as_mut()) {
            Some(watched) => watched.probes.push(probe),
            None => probe.abort(),
        }
    }

    fn probe(&mut self, worker: WorkerId, upstream: Upstream, shows: Shows) -> AbortHandle {
        let signs = self.signs_in.clone();
        self.watchers.spawn(async move {
            probe::until_served(&upstream, &shows).await;
            // Without a receiver control has ended, and with it the worker.
            let _ = signs.send(Sign::Served { worker, upstream }).await;
        })
    }

    pub(super) fn noticed(&mut self, sign: Sign) {
        match sign {
            Sign::Served { worker, upstream } => self.serves(worker, upstream),
            Sign::Notified { worker, notices, barrier } => {
                for notice in notices {
                    self.notice(worker, notice);
                }
                drop(barrier);
            }
        }
    }

    fn notice(&mut self, worker: WorkerId, notice: Notice) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let launcher = self.parts.launchers.get(&process.generation);
        let is_proved_by_path = launcher.is_some_and(|it| it.ready_path.is_some());
        let Some(watched) = &mut process.watched else {
            return;
        };
        match notice {
            Notice::Ready => {
                if !is_proved_by_path && watched.private.kind == PrivateListener::Inherited {
                    let upstream = watched.private.upstream.clone();
                    self.serves(worker, upstream);
                }
            }
            Notice::Stopping => self.on(Event::Leaves { worker }),
            Notice::Status(status) => watched.status = Some(status),
            Notice::Watchdog => {
                watched.alive_at = Some(clock::now());
                watched.beats += 1;
            }
            Notice::Extend(by) => self.on(Event::Extend { worker, by }),
            Notice::Barrier => {}
        }
    }

    /// It serves there; the reactor says when it is ready.
    fn serves(&mut self, worker: WorkerId, upstream: Upstream) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        let Some(watched) = &mut process.watched else {
            return;
        };
        watched.stop_probing();
        // It has spoken on its channel meanwhile: the first of the two decides.
        if process.dialect.is_some() {
            return;
        }
        process.dialect = Some(match watched.private.kind {
            PrivateListener::Port | PrivateListener::Socket(_) => "port",
            PrivateListener::Inherited => "fd",
        });
        process.bypass = Bypass::Settled;
        if upstream != watched.private.upstream {
            watched.elsewhere = Some(upstream.clone());
        }
        self.order(Order::Serve { worker, upstream });
    }

    /// It speaks on its channel, so what it may do with its private listener means nothing.
    pub(super) fn stop_probing(&mut self, worker: WorkerId) {
        if let Some(watched) = self.processes.get_mut(&worker).and_then(|it| it.watched.as_mut()) {
            watched.stop_probing();
        }
    }
}

/// The two ends of the signs' way to control.
pub(super) fn signs() -> (mpsc::Sender<Sign>, mpsc::Receiver<Sign>) {
    mpsc::channel(SIGNS_MAX)
}
