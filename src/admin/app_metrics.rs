//! Answers `/metrics/app`: asks every ready worker's app for its own metrics, and merges the pages.
//!
//! Behind a balancer each scrape would meet another worker, whose counters fall and rise at random;
//! here every worker is asked, and its numbers bear its slot.

mod merge;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};

use super::Sources;
use crate::supervisor::request::{AppAsked, Request};
use merge::{AppPage, merge};

/// How long one app may take: all are asked at once, and a scraper waits for the slowest.
const PATIENCE: Duration = Duration::from_secs(1);

/// What prom-client and most others write.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Answer = ([(HeaderName, &'static str); 1], String);

/// `GET /metrics/app`.
pub(super) async fn app_metrics(State(sources): State<Sources>) -> Result<Answer, Refusal> {
    let path = sources.app_path.clone().ok_or((
        StatusCode::NOT_FOUND,
        "metrics.app is not set: nobody knows where the app has its metrics\n",
    ))?;
    let busy = (StatusCode::SERVICE_UNAVAILABLE, "the apps are being asked already\n");
    let _turn = sources.app_turn.try_acquire().map_err(|_| busy)?;
    let pages = fetch(&sources, path).await.map_err(|status| (status, "tenfold is ending\n"))?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], merge(&pages)))
}

type Refusal = (StatusCode, &'static str);

/// Every ready worker's page, in the order of slots.
async fn fetch(sources: &Sources, path: Arc<str>) -> Result<Vec<AppPage>, StatusCode> {
    let mut asked = sources.ask(|reply| Request::FetchApp(path, reply)).await?;
    asked.sort_by_key(|asked| asked.slot);
    // One clock for all: they were asked together.
    let deadline = tokio::time::sleep(PATIENCE);
    tokio::pin!(deadline);
    let mut pages = Vec::new();
    for AppAsked { slot, answer } in asked {
        let answer = tokio::select! {
            // An answer that is there counts, however late its turn comes.
            biased;
            answer = answer => match answer {
                Ok(fetched) => fetched,
                Err(_) => Err("it serves no listener of request mode".to_owned()),
            },
            () = &mut deadline => Err("it did not answer within 1 s".to_owned()),
        };
        let text = answer
            .and_then(|body| {
                String::from_utf8(body).map_err(|_| "its page is not UTF-8".to_owned())
            })
            .inspect_err(|error| tracing::debug!(%slot, error, "no metrics of this app"))
            .ok();
        pages.push(AppPage { slot: slot.0, text });
    }
    Ok(pages)
}
