//! An axum app as a worker: the only lines that know of tenfold make the listener, drain and count.
//!
//! Alone, on port 3000: `cargo run --example axum`. Four of it behind one socket:
//! `tenfold -n 4 --listen :3000 --dialect native -- target/debug/examples/axum`
//!
//! `GET /` says hello to the client, `POST /` sends the body back. An argument replaces the
//! address; `MAX_CONNECTIONS` bounds what one process takes at once.

use std::{env, io};

use axum::Router;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tenfold_worker::Peer;
use tenfold_worker::axum::count;
use tenfold_worker::tokio::Listener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let mut listener = Listener::bind_or_receive(address).await?;
    if let Ok(max) = env::var("MAX_CONNECTIONS") {
        let max = max.parse().map_err(|_| io::Error::other("MAX_CONNECTIONS: not a number"))?;
        listener = listener.max_connections(max);
    }
    if let Some(address) = listener.local_addr() {
        eprintln!("listening on {address}");
    }
    let handle = listener.handle();
    let app = Router::new()
        .route("/", get(hello).post(echo))
        .layer(from_fn_with_state(handle.clone(), count));
    let draining = async move {
        handle.until_draining().await;
    };
    axum::serve(listener, app.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(draining)
        .await
}

async fn hello(ConnectInfo(peer): ConnectInfo<Peer>) -> String {
    format!("hello {peer} from process {}\n", std::process::id())
}

async fn echo(body: Bytes) -> Bytes {
    body
}
