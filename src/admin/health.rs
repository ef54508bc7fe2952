//! Answers probes: lives it, has it started, should it get traffic.
//!
//! Liveness depends on the master alone: killing it because its workers are busy would make an
//! overload an outage. The other two are for policy to judge.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use super::Sources;
use crate::clock;
use crate::policy::Diagnosis;
use crate::supervisor::request::Request;

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
    sources.ask(Request::Health).await.map(|health| said(health.readiness()))
}

async fn started(State(sources): State<Sources>) -> Result<Answer, StatusCode> {
    sources.ask(Request::Health).await.map(|health| said(health.start()))
}

fn judge_life(pulse_age: Duration) -> Answer {
    if pulse_age < PULSE_MAX {
        (StatusCode::OK, "alive\n".to_owned())
    } else {
        let text = format!("the reactor has not moved for {} s\n", pulse_age.as_secs());
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

fn said(diagnosis: Diagnosis) -> Answer {
    match diagnosis {
        Diagnosis::Well(text) => (StatusCode::OK, text + "\n"),
        Diagnosis::Unwell(text) => (StatusCode::SERVICE_UNAVAILABLE, text + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reactor_that_hangs_is_not_alive() {
        assert_eq!(judge_life(Duration::from_millis(9_999)).0.as_u16(), 200);
        let (status, text) = judge_life(Duration::from_secs(12));
        let text = (status.as_u16(), text.as_str());
        assert_eq!(text, (503, "the reactor has not moved for 12 s\n"));
    }
}
