//! Both ways in, served together: the loss of one, or of both, is no reason to end the pool.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{AdminListener, ControlSocket, Sources, listener, server};
use crate::clock::Pulse;
use crate::metrics::Reader;
use crate::supervisor::request::Request;

/// What there is to ask, and where.
#[derive(Debug)]
pub(crate) struct Entrances {
    pub(crate) control: Option<ControlSocket>,
    pub(crate) listener: Option<AdminListener>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) counts: Reader,
    /// Where each worker's app has its own metrics.
    pub(crate) app_path: Option<String>,
}

impl Entrances {
    /// Serves until it is dropped.
    pub(crate) async fn serve(&self, requests: mpsc::Sender<Request>) -> Infallible {
        let Self { control, listener, pulse, counts, app_path } = self;
        let pulse = Arc::clone(pulse);
        let sources = Sources::new(requests, pulse, counts.clone(), app_path.as_deref());
        let control = async {
            if let Some(control) = control {
                told("the control socket", server::serve(control, sources.clone()).await);
            }
        };
        let listener = async {
            if let Some(listener) = listener {
                told("the admin address", listener::serve(listener, sources.clone()).await);
            }
        };
        tokio::join!(control, listener);
        std::future::pending().await
    }
}

fn told(which: &str, served: io::Result<()>) {
    if let Err(error) = served {
        tracing::warn!(%error, "{which} is gone; the pool runs on");
    }
}
