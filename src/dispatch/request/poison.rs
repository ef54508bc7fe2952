//! Remembers which requests died with their workers, tells of them, and turns convicted ones away.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use super::front::{Exchange, Front, InFlight};
use super::naming::{NAMED_MAX, name_of};
use crate::clock;
use crate::config::Poison;
use crate::http::RequestHead;
use crate::metrics::InFlightState;
use crate::policy::{RequestKey, Suspects, WorkerId};

/// A request that its worker lost longer ago than this did not die with it.
const WITH_IT: Duration = Duration::from_secs(1);

/// How long after a death its requests are counted. Their connections end with the process, about
/// when its channel does; only by how each ends is it known whether the worker had read it.
pub(in crate::dispatch) const SETTLED: Duration = Duration::from_millis(200);

/// The most that are remembered of one worker.
const HELD_MAX: usize = 64;

/// What is known of requests and deaths.
#[derive(Debug, Default)]
pub(super) struct Casualties {
    suspects: Suspects,
    /// Requests that workers have just lost: a worker's connections may end before its channel.
    lost: BTreeMap<WorkerId, Vec<Casualty>>,
    /// Workers that have just died.
    dying: BTreeMap<WorkerId, Death>,
    /// Keys are hashes with a secret, or clients could make two requests that share one.
    secret: RandomState,
}

/// How a worker ended, as far as its requests are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dispatch) enum Death {
    /// Nobody had sent it away.
    Crash,
    /// It was leaving, and had not finished.
    Leaving,
}

#[derive(Clone, Debug)]
struct Casualty {
    at: Instant,
    key: RequestKey,
    /// `GET /p/1`.
    name: String,
}

impl Front {
    /// A request came: whether it may be served.
    pub(super) fn may_serve(&self, head: &RequestHead) -> bool {
        let mut casualties = self.casualties.borrow_mut();
        if casualties.suspects.is_empty() {
            return true;
        }
        let key = casualties.key_of(head);
        casualties.suspects.came(key);
        match self.settings.poison {
            Poison::Off | Poison::Report => true,
            Poison::Block => !casualties.suspects.is_convicted(clock::now(), key),
        }
    }

    /// A worker lost a request that it may have read.
    pub(super) fn lost(&self, now: Instant, worker: WorkerId, entry: &InFlight) {
        let exchange = entry.exchange();
        let mut casualties = self.casualties.borrow_mut();
        // Of a worker that is gone for longer everything was told.
        let is_told = || {
            let is_gone = self.desk.balance().worker(worker).is_none();
            is_gone && !casualties.dying.contains_key(&worker)
        };
        if self.settings.poison == Poison::Off || !is_work(exchange) || is_told() {
            return;
        }
        let key = casualties.key_of(exchange.head());
        let its = casualties.lost.entry(worker).or_default();
        its.retain(|casualty| now.saturating_duration_since(casualty.at) < WITH_IT);
        if its.len() < HELD_MAX {
            its.push(Casualty { at: now, key, name: name_of(exchange.head()) });
        }
    }

    /// A worker died: [`Self::count_casualties`] is due after [`SETTLED`].
    pub(in crate::dispatch) fn died(&self, worker: WorkerId, death: Death) {
        self.casualties.borrow_mut().dying.insert(worker, death);
    }

    /// Tells what a dead worker had read and not finished, and whom that convicts.
    pub(in crate::dispatch) fn count_casualties(&self, now: Instant, worker: WorkerId) {
        let mut casualties = self.casualties.borrow_mut();
        let mut all = casualties.lost.remove(&worker).unwrap_or_default();
        let Some(death) = casualties.dying.remove(&worker) else {
            return;
        };
        all.retain(|it| now.saturating_duration_since(it.at) < WITH_IT + SETTLED);
        let names: Vec<&str> = all.iter().take(NAMED_MAX).map(|it| it.name.as_str()).collect();
        let (requests, oldest) = (all.len(), names.join("; "));
        match death {
            Death::Leaving if all.is_empty() => return,
            Death::Leaving => {
                tracing::warn!(
                    %worker, requests, oldest, "worker left and did not finish its requests"
                );
                return;
            }
            Death::Crash if all.is_empty() => {}
            Death::Crash => {
                tracing::warn!(%worker, requests, oldest, "worker died with requests in flight");
            }
        }
        let keys: Vec<RequestKey> = all.iter().map(|casualty| casualty.key).collect();
        for convicted in casualties.suspects.crashed(now, &keys) {
            let request = all.iter().find(|casualty| casualty.key == convicted);
            let request = request.map(|casualty| casualty.name.as_str());
            tracing::error!(
                request,
                "this request is in flight whenever a worker dies, and seldom otherwise"
            );
        }
    }
}

/// Streams and tunnels stay for hours, and would be at every death.
fn is_work(exchange: &Exchange) -> bool {
    match exchange.state.get() {
        InFlightState::Waiting | InFlightState::Responding => true,
        InFlightState::Queued | InFlightState::Streaming | InFlightState::Upgraded => false,
    }
}

impl Casualties {
    fn key_of(&self, head: &RequestHead) -> RequestKey {
        let mut hasher = self.secret.build_hasher();
        hasher.write(head.method());
        hasher.write_u8(b' ');
        hasher.write(head.target());
        RequestKey(hasher.finish())
    }
}
