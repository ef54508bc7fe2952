//! Tells, at trace level only, why each request got its worker: what everyone who could have had it
//! had in flight at that moment.

use std::fmt::Write;

use tracing::Level;

use crate::policy::{Balance, Grant, WorkerId};

/// One dispatch and what it was decided by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    worker: WorkerId,
    /// `1=0 2=1`: by worker, how many exchanges it had; only those with room.
    in_flight: String,
}

/// Whether anybody reads decisions. Without a reader they are not made.
pub(super) fn is_read() -> bool {
    tracing::enabled!(Level::TRACE)
}

/// How these grants, which one call returned in this order and has counted, were decided.
pub(super) fn decisions(balance: &Balance, grants: &[Grant]) -> Vec<Decision> {
    let decision = |(at, grant): (usize, &Grant)| {
        let mut in_flight = String::new();
        for worker in balance.serving(grant.listener) {
            // At the moment of the decision neither this grant nor a later one was counted.
            let later = grants[at..].iter().filter(|it| it.worker == worker.id).count();
            let before = worker.in_flight.saturating_sub(u32::try_from(later).unwrap_or(0));
            if before < worker.bounds.limit.get() {
                let space = if in_flight.is_empty() { "" } else { " " };
                // Writing to a String cannot fail.
                let _ = write!(in_flight, "{space}{}={before}", worker.id);
            }
        }
        Decision { worker: grant.worker, in_flight }
    };
    grants.iter().enumerate().map(decision).collect()
}

/// Writes them. Not while the balance is locked.
pub(super) fn tell(decisions: &[Decision]) {
    for Decision { worker, in_flight } in decisions {
        tracing::trace!(%worker, in_flight = in_flight.as_str(), "dispatched");
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::policy::{ListenerId, Mode, QueueBounds, Ticket, WorkerBounds};

    #[test]
    fn decisions_of_one_call_are_told_as_they_were_made() {
        let (now, listener, mut balance) = (Instant::now(), ListenerId(1), Balance::new());
        let queue = QueueBounds { max: 9, timeout: Duration::from_secs(1) };
        balance.open_listener(listener, Mode::Request, queue);
        for ticket in 1..=3 {
            let _ = balance.admit(now, listener, Ticket(ticket));
        }
        let two = NonZeroU32::new(2).expect("it is 2");
        let bounds = WorkerBounds { limit: two, max_connections: two };
        balance.add_worker(WorkerId(7), bounds);
        assert!(balance.ready(now, WorkerId(7)).is_empty());
        let grants = balance.serve(now, WorkerId(7), listener);
        let told: Vec<String> =
            decisions(&balance, &grants).into_iter().map(|it| it.in_flight).collect();
        assert_eq!(told, ["7=0", "7=1"]);
    }
}
