//! Remembers which requests died with their workers, tells of them, and turns convicted ones away.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use super::front::{Exchange, Front};
use super::naming::{NAMED_MAX, name_of};
use crate::clock;
use crate::config::Poison;
use crate::http::RequestHead;
use crate::metrics::InFlightState;
use crate::policy::{RequestKey, Suspects, WorkerId};

/// A request that its worker lost longer ago than this did not die with it.
const WITH_IT: Duration = Duration::from_secs(1);

/// The most that are remembered of one worker.
const HELD_MAX: usize = 64;

/// What is known of requests and deaths.
#[derive(Debug, Default)]
pub(super) struct Casualties {
    suspects: Suspects,
    /// Requests that living workers have just lost: a worker's sockets may end before its channel.
    lost: BTreeMap<WorkerId, Vec<Casualty>>,
    /// Keys are hashes with a secret, or clients could make two requests that share one.
    secret: RandomState,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    pub(super) fn lost(&self, now: Instant, worker: WorkerId, head: &RequestHead) {
        // Of a worker that is gone already everything was told.
        if self.settings.poison == Poison::Off || self.desk.balance().worker(worker).is_none() {
            return;
        }
        let mut casualties = self.casualties.borrow_mut();
        let key = casualties.key_of(head);
        let its = casualties.lost.entry(worker).or_default();
        its.retain(|casualty| now.saturating_duration_since(casualty.at) < WITH_IT);
        if its.len() < HELD_MAX {
            its.push(Casualty { at: now, key, name: name_of(head) });
        }
    }

    /// A worker died that nobody had sent away: tells what it held, and whom that convicts.
    pub(in crate::dispatch) fn died(&self, now: Instant, worker: WorkerId) {
        let mut casualties = self.casualties.borrow_mut();
        let lost = casualties.lost.remove(&worker).unwrap_or_default();
        if self.settings.poison == Poison::Off {
            return;
        }
        let held = self.in_flight();
        let held = held.values().filter(|it| it.worker.get() == Some(worker) && is_work(it));
        let held = held.map(|exchange| Casualty {
            at: exchange.since,
            key: casualties.key_of(exchange.head()),
            name: name_of(exchange.head()),
        });
        let recent = |casualty: &Casualty| now.saturating_duration_since(casualty.at) < WITH_IT;
        let all: BTreeSet<Casualty> =
            lost.into_iter().filter(recent).chain(held.take(HELD_MAX)).collect();
        let keys: Vec<RequestKey> = all.iter().map(|casualty| casualty.key).collect();
        let convicted = casualties.suspects.crashed(now, &keys);
        if !all.is_empty() {
            let names: Vec<&str> =
                all.iter().take(NAMED_MAX).map(|casualty| casualty.name.as_str()).collect();
            let (requests, oldest) = (all.len(), names.join("; "));
            tracing::warn!(%worker, requests, oldest, "worker died with requests in flight");
        }
        for casualty in all.iter().filter(|casualty| convicted.contains(&casualty.key)) {
            let request = casualty.name.as_str();
            tracing::error!(
                request,
                "this request is in flight whenever a worker dies, and seldom otherwise"
            );
        }
    }

    /// The worker is gone for good.
    pub(super) fn forget_casualties(&self, worker: WorkerId) {
        self.casualties.borrow_mut().lost.remove(&worker);
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
