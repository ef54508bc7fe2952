//! Makes of settings what requests are served by; a reload brings others.
//!
//! A request goes to its end by the settings that it began with, a kept connection waits for its
//! next one by those of the last; so nothing is looked up that may have changed meanwhile.

use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use super::budget::Budget;
use super::front::{Front, Shared};
use super::sticky::Stickiness;
use crate::config::{RequestSettings, ShedAnswer, TrustedProxies, TrustedProxy};
use crate::http::answer::{Page, content_type};
use crate::http::{HeadLimits, Trust, TrustedPeers};

/// A response's line and fields together, in bytes: workers are trusted with more than clients.
pub(super) const WORKER_HEAD: usize = 256 * 1024;

impl Front {
    /// The first one of a pool.
    pub(super) fn first(settings: RequestSettings, shared: Rc<Shared>) -> Self {
        let sticky = Stickiness::new(settings.sticky);
        let budget = budget(&settings);
        Self::under(settings, shared, (sticky, budget))
    }

    fn under(settings: RequestSettings, shared: Rc<Shared>, own: (Stickiness, Budget)) -> Self {
        let (sticky, budget) = own;
        let limits = settings.limits;
        Self {
            heads: HeadLimits {
                bytes: limits.head_bytes,
                fields: limits.head_fields,
                ..HeadLimits::default()
            },
            warmup: settings.warmup.iter().cloned().collect(),
            trusted: trusted_peers(&settings.trusted_proxies),
            page: page(&settings.shed),
            sticky,
            budget,
            settings,
            shared,
        }
    }

    /// The same pool under other settings.
    pub(in crate::dispatch) fn renewed(&self, settings: &RequestSettings) -> Rc<Self> {
        // Cookies name the same workers as before.
        let sticky = self.sticky.with(settings.sticky);
        let (old, new) = (self.settings.limits, settings.limits);
        let is_same = (old.response_buffer_total, old.response_buffer)
            == (new.response_buffer_total, new.response_buffer);
        // Responses under way hold what they hold of the old one, until they end.
        let budget = if is_same { self.budget.clone() } else { budget(settings) };
        let shared = Rc::clone(&self.shared);
        let front = Rc::new(Self::under(settings.clone(), shared, (sticky, budget)));
        front.publish();
        front
    }

    /// Requests that begin from now on are served by this one.
    pub(in crate::dispatch) fn publish(self: &Rc<Self>) {
        self.shared.latest.replace(Rc::downgrade(self));
    }

    /// The one for a request that begins now; none once the reactor has ended.
    pub(super) fn latest(&self) -> Option<Rc<Self>> {
        Weak::upgrade(&self.shared.latest.borrow())
    }

    /// Whom a peer may speak for.
    pub(super) fn trust(&self, peer: Option<SocketAddr>) -> Trust {
        self.trusted.judge(peer.map(|peer| peer.ip()))
    }

    /// The configured page of shed requests.
    pub(super) fn page(&self) -> Option<&Page> {
        self.page.as_ref()
    }

    /// The bounds of a worker's heads: it is not limited to what clients may send.
    pub(super) fn worker_heads(&self) -> HeadLimits {
        HeadLimits { bytes: WORKER_HEAD, fields: 1000, ..self.heads }
    }
}

fn budget(settings: &RequestSettings) -> Budget {
    Budget::new(settings.limits.response_buffer_total, settings.limits.response_buffer)
}

fn trusted_peers(proxies: &TrustedProxies) -> TrustedPeers {
    let words: Vec<String> = proxies
        .0
        .iter()
        .map(|proxy| match proxy {
            TrustedProxy::Private => "private".to_owned(),
            TrustedProxy::Network { address, prefix } => format!("{address}/{prefix}"),
        })
        .collect();
    TrustedPeers::new(words.iter().map(String::as_str)).expect("the configuration was checked")
}

/// Reads the configured page. It was there when the configuration was checked; if it is gone, the
/// short text stands in.
fn page(shed: &ShedAnswer) -> Option<Page> {
    let path = shed.page.as_ref()?;
    match std::fs::read(path) {
        Ok(body) => Some(Page {
            status: Some(shed.status),
            content_type: content_type(&path.to_string_lossy()).to_owned(),
            body,
        }),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "cannot read the page for shed requests");
            None
        }
    }
}
