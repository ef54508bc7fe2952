//! A worker that costs next to nothing, so that a bench sees what stands in front of it.
//!
//! Answers as `apps/server.cjs` does, `/work` without `serial`. Elsewhere than under tenfold it is
//! plain axum and listens at PORT, a number or a path. Under tenfold it is handed its connections
//! by the listener of `tenfold-worker`, and counts its exchanges, as the manual has it. That cannot
//! be the same: nobody needs it behind a proxy, and it is part of what a worker costs under
//! tenfold. So it is paid for in tenfold's rows and in no other.

use std::time::{Duration, Instant};
use std::{env, io};

use axum::Router;
use axum::extract::Query;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use tenfold_worker::axum::count;
use tenfold_worker::tokio::Listener;
use tokio::net::{TcpListener, UnixListener};

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Work {
    wait_us: u64,
    cpu_us: u64,
    bytes: usize,
}

impl Default for Work {
    fn default() -> Self {
        Self { wait_us: 0, cpu_us: 0, bytes: 6 }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let app = Router::new()
        .route("/", get(async || answer("hello\n".to_owned(), Duration::ZERO)))
        .route("/work", get(work));
    if let Some(listener) = Listener::from_env()? {
        let handle = listener.handle();
        let app = app.layer(from_fn_with_state(handle.clone(), count));
        let draining = async move {
            handle.until_draining().await;
        };
        return axum::serve(listener, app).with_graceful_shutdown(draining).await;
    }
    let place = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    if place.starts_with('/') {
        return axum::serve(UnixListener::bind(place)?, app).await;
    }
    axum::serve(TcpListener::bind(format!("127.0.0.1:{place}")).await?, app).await
}

async fn work(Query(work): Query<Work>) -> impl IntoResponse {
    let since = tenfold::clock::now();
    if work.wait_us > 0 {
        tokio::time::sleep(Duration::from_micros(work.wait_us)).await;
    }
    spin(tenfold::clock::now() + Duration::from_micros(work.cpu_us));
    answer(".".repeat(work.bytes), tenfold::clock::now() - since)
}

fn spin(until: Instant) {
    while tenfold::clock::now() < until {
        std::hint::spin_loop();
    }
}

fn answer(body: String, service: Duration) -> impl IntoResponse {
    let worker = std::process::id().to_string();
    ([("x-worker", worker), ("x-service-us", service.as_micros().to_string())], body)
}
