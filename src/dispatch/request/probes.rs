//! Recognises health checks of orchestrators and balancers on their way to a worker, and tells of
//! the first: under load it waits behind users, fails, and the pod that served them is killed.

use std::cell::Cell;

use super::front::Front;
use crate::http::RequestHead;

/// How they begin to name themselves in User-Agent.
const NAMES: [&[u8]; 3] = [b"kube-probe/", b"ELB-HealthChecker/", b"GoogleHC/"];

/// They send few fields; a head with more is not looked through.
const FIELDS_MAX: usize = 6;

/// Whether one was told of.
#[derive(Debug, Default)]
pub(super) struct Probes {
    told: Cell<bool>,
}

impl Front {
    /// Looks at a request that goes to a worker.
    pub(super) fn note_probe(&self, head: &RequestHead) {
        if self.probes.told.get() || head.fields().len() > FIELDS_MAX {
            return;
        }
        if let Some(agent) = head.fields().get("user-agent")
            && NAMES.iter().any(|name| agent.starts_with(name))
        {
            self.probes.told.set(true);
            let agent = String::from_utf8_lossy(agent);
            let path = String::from_utf8_lossy(head.path());
            tracing::warn!(
                %agent, %path,
                "a health check reached a worker, where it waits behind users under load: let it \
                 ask /readyz at the admin address, or name its path in health.public"
            );
        }
    }
}
