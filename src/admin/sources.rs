//! What every handler may ask: control, by a message; the reactor's pulse and counts, directly.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::clock::Pulse;
use crate::metrics::Reader;
use crate::supervisor::request::Request;

/// See the module; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    requests: mpsc::Sender<Request>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) counts: Reader,
    /// Where each worker's app has its own metrics.
    pub(super) app_path: Option<Arc<str>>,
    /// The right to ask the apps: one asks, so that a scraper gone wild does not burden them.
    pub(super) app_turn: Arc<Semaphore>,
}

impl Sources {
    pub(super) fn new(
        requests: mpsc::Sender<Request>,
        pulse: Arc<Pulse>,
        counts: Reader,
        app_path: Option<&str>,
    ) -> Self {
        let app_path = app_path.map(Arc::from);
        Self { requests, pulse, counts, app_path, app_turn: Arc::new(Semaphore::new(1)) }
    }

    /// Asks control.
    ///
    /// # Errors
    /// 503 if control is busy or ending.
    pub(super) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, StatusCode> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(request(reply)).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        answer.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Asks control, and does not wait for the answer.
    ///
    /// # Errors
    /// As [`Sources::ask`].
    pub(super) fn tell<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<(), StatusCode> {
        let (reply, _) = oneshot::channel();
        self.requests.try_send(request(reply)).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
}
