//! The log line of each transition that is worth one.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::transition::{Death, Step, Transition, What, Who, WorkerTransition};

impl Transition {
    /// Writes the line, if there is one.
    pub(super) fn log(&self) {
        match self {
            // To one reader only, or seen in the lines of others.
            Self::Connected { .. }
            | Self::Cut { .. }
            | Self::Phase { .. }
            | Self::Closed { .. }
            | Self::Finished { .. } => {}
            Self::Listening { url, mode, .. } => tracing::info!("listening on {url} ({mode})"),
            Self::PoolReady { ready, wanted, after_ms } => {
                tracing::info!("ready {ready}/{wanted} in {:.1} s", seconds(*after_ms));
            }
            Self::Scaled { from, to } => tracing::info!(from, to, "pool resized"),
            Self::StormBegan => {
                tracing::warn!("too many crashes; starting one worker at a time until one stays up")
            }
            Self::StormEnded => tracing::info!("a worker stayed up; starting all again"),
            Self::PanicBegan => tracing::error!(
                "more than half of the workers are stalled or ejected; all get work again"
            ),
            Self::PanicEnded => tracing::info!("most workers are in order again"),
            Self::Shed { shed, seconds, reasons, pool } => {
                tracing::warn!("shed {shed} in {seconds} s ({}); {pool}", listed(reasons));
            }
            Self::ShedEnded { seconds } => {
                tracing::info!("nobody was turned away for {seconds} s");
            }
            Self::Stopping { step, left } => log_stop(*step, *left),
            Self::ReloadBegan { generation, directory } => {
                tracing::info!(generation, directory, "reloading");
            }
            Self::ReloadCommitted { generation } => tracing::debug!(generation, "committed"),
            Self::ReloadDone { generation, took_ms } => {
                tracing::info!(generation, took_ms, "reloaded");
            }
            Self::ReloadFailed { generation, reason, last_output, took_ms: _ } => {
                let last_output = last_output.as_deref().unwrap_or("");
                tracing::error!(
                    reason,
                    last_output,
                    generation,
                    "reload failed; the old generation goes on"
                );
            }
            Self::Worker(WorkerTransition { what, who }) => what.log(*who),
        }
    }
}

impl What {
    fn log(&self, Who { slot, worker, pid }: Who) {
        match self {
            Self::WorkerStarted { .. } => tracing::debug!(worker, slot, pid, "worker started"),
            Self::StartFailed { restart_in_ms } => {
                tracing::warn!(slot, restart_in_ms, "trying again");
            }
            Self::StartTimedOut => tracing::warn!(
                slot,
                worker,
                "worker was not ready within workers.start_timeout; killing it"
            ),
            Self::WorkerReady { .. } => tracing::debug!(worker, slot, pid, "worker is ready"),
            Self::WorkerUnready => tracing::debug!(worker, slot, pid, "worker serves no more"),
            Self::WorkerStalled { alone: true } => {
                tracing::warn!(worker, slot, "the only worker is stalled");
            }
            Self::WorkerStalled { alone: false } => {
                tracing::warn!(worker, slot, "worker is stalled; it gets nothing new");
            }
            Self::WorkerRecovered { silent_ms } => {
                let silent_s = seconds(*silent_ms);
                tracing::info!(worker, slot, silent_s, "worker is alive again");
            }
            Self::WorkerHung { silent_ms, main_thread, .. } => {
                let silent_s = seconds(*silent_ms);
                tracing::error!(worker, slot, silent_s, main_thread, "worker hangs; killing it");
            }
            Self::WorkerEjected { for_ms } => {
                let seconds = seconds(*for_ms);
                tracing::warn!(
                    worker,
                    slot,
                    seconds,
                    "worker fails request after request; it gets none for a while"
                );
            }
            Self::WorkerReadmitted => tracing::info!(worker, slot, "worker gets requests again"),
            Self::WorkerReplacing { why, first } => {
                tracing::debug!(slot, worker, why, first, "replacing a worker");
            }
            Self::WorkerReplaced { why, by, farewell } => {
                let text = farewell.as_ref().unwrap_or(why);
                tracing::info!(old = worker, new = by, "recycled slot {slot}: {text}");
            }
            Self::WorkerTookOver { vacated } => log_takeover(worker, slot, *vacated),
            Self::WorkerDraining { .. } => tracing::debug!(slot, worker, "worker drains"),
            Self::DrainTimedOut => {
                tracing::warn!(slot, worker, "worker is still busy; sending TERM")
            }
            Self::WorkerStopping { signal } => {
                tracing::debug!(slot, worker, signal, "worker is told to end");
            }
            Self::StopTimedOut => {
                tracing::warn!(slot, worker, "worker has not ended; sending KILL")
            }
            Self::WorkerKilled => tracing::debug!(slot, worker, "worker is killed"),
            Self::WorkerAbandoned => tracing::error!(
                slot,
                worker,
                "worker outlived KILL (stuck in the kernel?); ending without it"
            ),
            Self::WorkerSignalled { signal } => {
                tracing::info!(slot, worker, signal, "worker is signalled, as asked");
            }
            Self::WorkerExited { exit, asked } => {
                tracing::debug!(worker, slot, exit, asked, "worker ended");
            }
            Self::Death(death) => death.log(slot, worker),
        }
    }
}

impl Death {
    fn log(&self, slot: u16, worker: u64) {
        match self {
            Self::WorkerCrashed { kind, exit, killer, failures, restart_in_ms, last_output } => {
                tracing::warn!(
                    worker,
                    slot,
                    kind,
                    exit,
                    killer,
                    failures,
                    restart_in_ms,
                    last_output,
                    "worker crashed, restarting"
                );
            }
            Self::SuccessorFailed { exit, retry_in_ms, last_output } => tracing::warn!(
                worker,
                slot,
                exit,
                retry_in_ms,
                last_output,
                "successor ended before it was ready; the old worker goes on"
            ),
            Self::SlotFailed { exit, last_output } => tracing::error!(
                worker,
                slot,
                exit,
                last_output,
                "worker cannot run with its configuration; its slot stays empty"
            ),
        }
    }
}

fn log_stop(step: Step, left: usize) {
    match step {
        Step::Delaying => tracing::info!(left, "stopping: no longer ready, still accepting"),
        // Nobody is left to be waited for, or hurried.
        Step::Draining if left == 0 => {}
        Step::Draining => tracing::info!("draining {left}; Ctrl-C or TERM again to stop now"),
        Step::Terminating => tracing::info!(left, "stopping: sending TERM"),
        Step::Killing => tracing::warn!(left, "stopping: sending KILL"),
    }
}

fn log_takeover(worker: u64, slot: u16, vacated: u16) {
    tracing::info!(worker, slot, vacated, "spare worker takes over");
}

/// `queue_timeout 1100, queue_full 104`.
fn listed(reasons: &BTreeMap<&'static str, u64>) -> String {
    let mut reasons: Vec<_> = reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| Reverse(**count));
    let texts: Vec<String> =
        reasons.iter().map(|(code, count)| format!("{code} {count}")).collect();
    texts.join(", ")
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}
