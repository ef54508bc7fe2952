//! Both ways in, served together: the loss of one, or of both, is no reason to end the pool.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{AdminListener, ControlSocket, Sources, listener, server};
use crate::clock::Pulse;
use crate::metrics::Reader;
use crate::supervisor::Charge;
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
    /// Whether it is us who answer.
    pub(crate) charge: watch::Receiver<Charge>,
}

impl Entrances {
    /// Serves until it is dropped, for as long as the pool is ours.
    pub(crate) async fn serve(&self, requests: mpsc::Sender<Request>) -> Infallible {
        let Self { control, listener, pulse, counts, app_path, charge } = self;
        until(charge.clone(), |charge| charge != Charge::NotYet).await;
        let passed = || until(charge.clone(), |charge| charge == Charge::Passed);
        let pulse = Arc::clone(pulse);
        let sources = Sources::new(requests, pulse, counts.clone(), app_path.as_deref());
        let control = async {
            if let Some(control) = control {
                told("the control socket", server::serve(control, sources.clone(), passed()).await);
            }
        };
        let listener = async {
            if let Some(listener) = listener {
                tokio::select! {
                    biased;
                    () = passed() => {}
                    served = listener::serve(listener, sources.clone()) => {
                        told("the admin address", served);
                    }
                }
            }
        };
        tokio::join!(control, listener);
        std::future::pending().await
    }
}

async fn until(mut charge: watch::Receiver<Charge>, wanted: fn(Charge) -> bool) {
    if charge.wait_for(|charge| wanted(*charge)).await.is_err() {
        // Control has ended, and so does this.
        std::future::pending().await
    }
}

fn told(which: &str, served: io::Result<()>) {
    if let Err(error) = served {
        tracing::warn!(%error, "{which} is gone; the pool runs on");
    }
}
