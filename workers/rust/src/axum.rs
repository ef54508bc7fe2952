//! For axum: a [`Listener`] that `axum::serve` takes, and middleware that counts exchanges.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::axum::body::{Body, Bytes, HttpBody};
use ::axum::extract::connect_info::Connected;
use ::axum::extract::{Request, State};
use ::axum::middleware::Next;
use ::axum::response::Response;
use ::axum::serve::IncomingStream;
use http_body::{Frame, SizeHint};

use crate::connection::Peer;
use crate::shared::{Active, Handle};
use crate::tokio::{Connection, Listener};

/// After an error that will not pass by itself; axum's own listeners wait as long.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Middleware that counts each request as an active exchange, from its head to the last byte of its
/// response.
///
/// ```no_run
/// # use axum::{Router, middleware, routing::get};
/// # fn app(listener: &tenfold_worker::tokio::Listener) -> Router {
/// let count = middleware::from_fn_with_state(listener.handle(), tenfold_worker::axum::count);
/// Router::new().route("/", get(|| async { "hello" })).layer(count)
/// # }
/// ```
pub async fn count(State(handle): State<Handle>, request: Request, next: Next) -> Response {
    let active = handle.begin();
    next.run(request).await.map(|body| Body::new(Counted { body, _active: active }))
}

/// A response body that keeps its exchange active.
struct Counted {
    body: Body,
    _active: Active,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = ::axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ::axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Accepting never ends here, as axum wants it: pass [`until_draining`] to
/// `with_graceful_shutdown`, which answers what is in flight, closes the rest and returns.
///
/// [`until_draining`]: crate::Handle::until_draining
///
/// ```no_run
/// # async fn serve(app: axum::Router) -> std::io::Result<()> {
/// let listener = tenfold_worker::tokio::Listener::bind_or_receive("127.0.0.1:3000").await?;
/// let handle = listener.handle();
/// let draining = async move {
///     handle.until_draining().await;
/// };
/// axum::serve(listener, app).with_graceful_shutdown(draining).await
/// # }
/// ```
impl ::axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        loop {
            match Listener::accept(self).await {
                Ok(Some(connection)) => {
                    let peer = connection.peer().clone();
                    return (connection, peer);
                }
                Ok(None) => pending().await,
                Err(_) => ::tokio::time::sleep(ERROR_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Listener::local_addr(self).map_or(Peer::Other("tenfold".to_owned()), Peer::Address))
    }
}

/// For `into_make_service_with_connect_info::<Peer>()`: the client as the master saw it.
impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}
