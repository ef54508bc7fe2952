//! Takes what a reload changes of dispatch, without a listener or a connection being touched.

use std::time::Instant;

use super::Reactor;
use crate::link::orders::Tuning;
use crate::policy::{Mode, WorkerId};

impl Reactor {
    /// Goes by these bounds from now on, for every worker and listener that there is.
    pub(super) fn retune(&mut self, now: Instant, tuning: Tuning) {
        let Tuning { bounds, requests, connections, idle, rules } = tuning;
        self.idle = idle;
        self.front = self.front.renewed(&rules);
        let is_rebound = self.bounds != bounds;
        self.bounds = bounds;
        self.queues.requests = requests;
        self.queues.connections = connections;
        for listener in self.listeners.values() {
            let queue = match listener.mode {
                Mode::Request => requests,
                Mode::Connection => connections,
            };
            self.balance().open_listener(listener.id, listener.mode, queue);
        }
        if !is_rebound {
            return;
        }
        let workers: Vec<WorkerId> = self.links.keys().copied().collect();
        for worker in workers {
            let grants = self.balance().set_bounds(now, worker, bounds);
            self.deliver(now, grants);
        }
    }
}
