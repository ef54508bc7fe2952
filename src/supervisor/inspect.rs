//! What a person does to one worker: sends it a signal, reads what it writes.

use nix::sys::signal::Signal;

use super::events::What;
use super::recycles::worker_in;
use super::{Process, Supervisor};
use crate::config::WorkerOutput;
use crate::logs::{LogReader, Since};
use crate::policy::WorkerId;
use crate::sys::child::{self, Delivery};

/// Whom a signal for a worker reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The process that serves; not its wrappers (a shell, npm) and not its children.
    Server,
    /// Every process of the worker's group.
    Group,
}

impl Supervisor {
    /// Sends a signal to the worker of a slot; the pid that got it, or the id of the group.
    pub(super) fn signal_slot(
        &mut self,
        slot: u16,
        signal: Signal,
        recipient: Recipient,
    ) -> Result<i32, String> {
        let worker = self.worker_of(slot)?;
        let process = self.processes.get(&worker).ok_or_else(|| without_worker(slot))?;
        let (group, server) = (process.child.pid(), server(process));
        let (pid, sent) = match recipient {
            Recipient::Group => (group, child::signal_group(group, signal)),
            Recipient::Server if server == group => (group, process.child.signal(signal)),
            Recipient::Server => (server, child::signal_member(group, server, signal)),
        };
        match sent {
            Ok(Delivery::Sent) => {}
            Ok(Delivery::Gone) => return Err(without_worker(slot)),
            Err(error) => return Err(format!("cannot signal process {pid}: {error}")),
        }
        self.announce_worker(worker, What::WorkerSignalled { signal: signal.as_str() });
        Ok(pid)
    }

    /// What the workers of a slot, or all, wrote last and write.
    pub(super) fn read_logs(&self, slot: Option<u16>, since: Since) -> Result<LogReader, String> {
        if self.parts.terms.config.logs == WorkerOutput::Inherit {
            return Err("logs = \"inherit\": workers write past tenfold".to_owned());
        }
        let slot = slot.map(|slot| self.slot(slot)).transpose()?;
        self.parts.logs.read(slot, since).ok_or_else(|| "too many read logs already".to_owned())
    }

    pub(super) fn worker_of(&self, slot: u16) -> Result<WorkerId, String> {
        let slot = self.slot(slot)?;
        let view = self.parts.fleet.slots().find(|view| view.slot == slot);
        view.and_then(|view| worker_in(view.state)).ok_or_else(|| without_worker(slot.0))
    }
}

pub(super) fn without_worker(slot: u16) -> String {
    format!("slot {slot} has no worker now")
}

/// The process that serves: the one that the load page names, if it is of the worker's group; a
/// worker must not be able to point at somebody else's.
pub(super) fn server(process: &Process) -> i32 {
    let group = process.child.pid();
    let page = process.load.read().filter(|page| page.version > 0 && page.pid > 0);
    let named = page.and_then(|page| i32::try_from(page.pid).ok());
    named.filter(|pid| child::group_of(*pid) == Some(group)).unwrap_or(group)
}
