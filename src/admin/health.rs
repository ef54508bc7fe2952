//! Answers probes: lives it, has it started, should it get traffic.
//!
//! Liveness depends on the master alone: killing it because its workers are busy would make an
//! overload an outage. Readiness does not depend on load either: a pod that sheds is still the best
//! place for what it can serve.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use super::Sources;
use crate::clock;
use crate::supervisor::request::{Health, Request, Startup, Stop};

/// The reactor goes round every second; ten without is a thread that hangs, not one that is busy.
const PULSE_MAX: Duration = Duration::from_secs(10);

/// The three probes.
pub(super) fn routes() -> Router<Sources> {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
}

type Answer = (StatusCode, String);

/// That control answers, this answer shows.
async fn live(State(sources): State<Sources>) -> Result<Answer, StatusCode> {
    // Asked all the same: the supervisor's loop must go round, not this task alone.
    sources.ask(Request::Health).await?;
    Ok(judge_life(sources.pulse.age(clock::now())))
}

async fn ready(State(sources): State<Sources>) -> Result<Answer, StatusCode> {
    sources.ask(Request::Health).await.map(judge_readiness)
}

async fn started(State(sources): State<Sources>) -> Result<Answer, StatusCode> {
    sources.ask(Request::Health).await.map(judge_start)
}

fn judge_life(pulse_age: Duration) -> Answer {
    if pulse_age < PULSE_MAX {
        (StatusCode::OK, "alive\n".to_owned())
    } else {
        let text = format!("the reactor has not moved for {} s\n", pulse_age.as_secs());
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

fn judge_readiness(health: Health) -> Answer {
    let Health { startup, stop, ready, wanted } = health;
    match (stop, startup) {
        (Stop::Begun, _) => unavailable("stopping", health),
        (Stop::No, Startup::Pending) => unavailable("starting", health),
        (Stop::No, Startup::Done) if ready == 0 => unavailable("ready", health),
        (Stop::No, Startup::Done) => (StatusCode::OK, format!("ready {ready}/{wanted}\n")),
    }
}

fn judge_start(health: Health) -> Answer {
    let Health { startup, ready, wanted, .. } = health;
    match startup {
        Startup::Pending => unavailable("starting", health),
        Startup::Done => (StatusCode::OK, format!("ready {ready}/{wanted}\n")),
    }
}

fn unavailable(word: &str, Health { ready, wanted, .. }: Health) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{word} {ready}/{wanted}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(startup: Startup, stop: Stop, ready: usize) -> Health {
        Health { startup, stop, ready, wanted: 10 }
    }

    #[test]
    fn readiness_needs_a_start_a_ready_worker_and_no_stop() {
        for (startup, stop, workers, code, body) in [
            (Startup::Pending, Stop::No, 0, 503, "starting 0/10\n"),
            (Startup::Pending, Stop::No, 4, 503, "starting 4/10\n"),
            (Startup::Done, Stop::No, 1, 200, "ready 1/10\n"),
            (Startup::Done, Stop::No, 0, 503, "ready 0/10\n"),
            (Startup::Done, Stop::Begun, 10, 503, "stopping 10/10\n"),
        ] {
            let (status, text) = judge_readiness(health(startup, stop, workers));
            assert_eq!((status.as_u16(), text.as_str()), (code, body));
        }
    }

    #[test]
    fn a_start_stays_done_whatever_becomes_of_the_workers() {
        let (status, text) = judge_start(health(Startup::Done, Stop::Begun, 0));
        assert_eq!((status.as_u16(), text.as_str()), (200, "ready 0/10\n"));
        let (status, _) = judge_start(health(Startup::Pending, Stop::No, 4));
        assert_eq!(status.as_u16(), 503);
    }

    #[test]
    fn a_reactor_that_hangs_is_not_alive() {
        assert_eq!(judge_life(Duration::from_millis(9_999)).0.as_u16(), 200);
        let (status, text) = judge_life(Duration::from_secs(12));
        let text = (status.as_u16(), text.as_str());
        assert_eq!(text, (503, "the reactor has not moved for 12 s\n"));
    }
}
