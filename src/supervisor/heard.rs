//! Acts on what the reactor reports.

use std::num::NonZeroU16;

use super::events::Transition;
use super::health::PageBeats;
use super::{Announced, Bypass, Supervisor, announce, heap};
use crate::clock;
use crate::link::orders::Report;
use crate::policy::{Event, Past, Startup, StopKind};

impl Supervisor {
    pub(super) fn heard(&mut self, report: Report) {
        match report {
            Report::Ready(worker) => {
                if let Some(process) = self.processes.get_mut(&worker) {
                    process.bypass = Bypass::Settled;
                    process.past = Past::Ready;
                }
                self.on(Event::Ready { worker });
                self.announce_ready();
            }
            Report::Unready(worker) => {
                self.heap_lost(worker, heap::GONE);
                self.on(Event::Unready { worker });
            }
            Report::Drained(worker) => self.on(Event::Drained { worker }),
            Report::Spoke { worker, dialect, runtime } => {
                if let Some(process) = self.processes.get_mut(&worker) {
                    process.dialect = Some(dialect);
                    process.runtime = runtime.or(process.runtime.take());
                }
                self.stop_probing(worker);
            }
            Report::Bypassed { worker, why, place } => {
                self.bypassed(worker, &why, place.as_deref());
            }
            Report::Faulted { worker, error } => {
                if let Some(process) = self.processes.get_mut(&worker) {
                    process.page_beats = PageBeats::No;
                }
                tracing::warn!(%worker, %error, "the Node preload failed; the app runs without it");
            }
            Report::Forsook { worker, evidence } => {
                if let Some(process) = self.processes.get_mut(&worker) {
                    process.evidence = Some(evidence);
                }
            }
            Report::WroteHeap { worker, outcome } => self.heap_ended(worker, outcome),
            Report::Opened(listener) => {
                let (address, url) = (listener.address.clone(), listener.url.clone());
                let mode = listener.mode.to_string();
                self.announce(&Transition::Listening { address, url, mode });
                self.listeners.insert(listener.id, listener);
            }
            Report::Closed(id) => {
                if let Some(listener) = self.listeners.remove(&id) {
                    self.announce(&Transition::Closed { address: listener.address });
                }
            }
            Report::CannotListen { worker, address, error } => {
                let message = format!("cannot listen on {address}: {error}");
                tracing::error!(address, error, "cannot listen");
                if self.blames_reload(worker, &message) {
                    return;
                }
                self.useless = Some(message);
                self.on(Event::Stop(StopKind::Now));
            }
            Report::Settled => self.settled(),
            Report::Ejected { worker, until } => self.ejected(worker, until),
            Report::Shed(shed) => self.announce(&shed.into()),
            Report::ListenRefused { worker, place, error } => {
                tracing::warn!(%worker, place, error, "the app cannot listen there, and was told");
            }
        }
    }

    /// Notes that the start is over, and says once that everything is up.
    fn announce_ready(&mut self) {
        let ready = self.ready_count();
        let count = self.parts.fleet.count();
        let wanted = usize::from(count);
        if let Some(count) = NonZeroU16::new(count)
            && ready >= usize::from(self.parts.terms.config.ready_min.resolve(count).get())
        {
            self.startup = Startup::Done;
        }
        if self.announced == Announced::Nothing && ready == wanted {
            self.announced = Announced::AllReady;
            let after_ms = announce::millis(clock::now().duration_since(self.parts.started));
            self.announce(&Transition::PoolReady { ready, wanted, after_ms });
            self.ask_for_blessing();
        }
    }
}
