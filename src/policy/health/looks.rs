//! Remembers what each worker had at hand: at its death others may have it already.

use std::collections::BTreeMap;

use crate::policy::{WorkerId, WorkerView};

/// The last look at each worker.
#[derive(Clone, Debug, Default)]
pub struct Looks(BTreeMap<WorkerId, Look>);

#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Requests, or connections with something to do, that it held then, or was given since the
    /// look before: between two requests even a busy worker holds nothing.
    at_hand: u32,
    /// Requests and connections that it was given in all its life.
    given: u64,
}

impl Look {
    fn at(account: &WorkerView, before: Self) -> Self {
        let given = account.leased.saturating_add(account.accepted);
        let since = u32::try_from(given.saturating_sub(before.given)).unwrap_or(u32::MAX);
        Self { at_hand: account.in_flight.max(account.active).max(since), given }
    }
}

impl Looks {
    /// Looks at every account. Who has none any more keeps the last look while it is there: the
    /// channel of a worker that died may end long before it is reaped.
    pub fn look(&mut self, accounts: &[WorkerView], is_there: impl Fn(WorkerId) -> bool) {
        self.0.retain(|worker, _| is_there(*worker));
        for account in accounts {
            let look = self.0.entry(account.id).or_default();
            *look = Look::at(account, *look);
        }
    }

    /// Requests, or connections with something to do, that a worker had a moment ago; with its
    /// account, if it still has one.
    #[must_use]
    pub fn at_hand(&self, worker: WorkerId, account: Option<&WorkerView>) -> u32 {
        let last = self.0.get(&worker).copied().unwrap_or_default();
        account.map_or(last.at_hand, |account| last.at_hand.max(Look::at(account, last).at_hand))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::policy::{Admission, Balance, ListenerId, Mode, QueueBounds, Ticket, WorkerBounds};

    const WORKER: WorkerId = WorkerId(1);
    const LISTENER: ListenerId = ListenerId(0);

    /// One worker that serves one request at a time.
    fn balance(now: Instant) -> Balance {
        let bounds = WorkerBounds { limit: NonZeroU32::MIN, max_connections: NonZeroU32::MIN };
        let mut balance = Balance::new();
        balance.open_listener(
            LISTENER,
            Mode::Request,
            QueueBounds { max: 0, timeout: Duration::ZERO },
        );
        balance.add_worker(WORKER, bounds);
        balance.ready(now, WORKER);
        balance.serve(now, WORKER, LISTENER);
        balance
    }

    fn lease(balance: &mut Balance, now: Instant, ticket: u64) {
        let admission = balance.admit(now, LISTENER, Ticket(ticket));
        assert!(matches!(admission, Admission::Granted(_)), "{admission:?}");
    }

    fn look(looks: &mut Looks, balance: &Balance) -> u32 {
        looks.look(&balance.workers().collect::<Vec<_>>(), |_| true);
        looks.at_hand(WORKER, None)
    }

    #[test]
    fn between_two_requests_a_worker_is_at_work() {
        let now = Instant::now();
        let (mut looks, mut balance) = (Looks::default(), balance(now));
        assert_eq!(look(&mut looks, &balance), 0, "it was given nothing");
        lease(&mut balance, now, 1);
        assert_eq!(look(&mut looks, &balance), 1, "it holds one");
        assert_eq!(look(&mut looks, &balance), 1, "it still does");
        balance.release(now, WORKER);
        assert_eq!(look(&mut looks, &balance), 0, "nothing since");
        lease(&mut balance, now, 2);
        balance.release(now, WORKER);
        assert_eq!(looks.at_hand(WORKER, balance.worker(WORKER).as_ref()), 1, "no look since");
        assert_eq!(look(&mut looks, &balance), 1, "one came and went");
    }

    #[test]
    fn the_last_look_at_a_worker_without_account_stays_until_it_is_reaped() {
        let now = Instant::now();
        let (mut looks, mut balance) = (Looks::default(), balance(now));
        lease(&mut balance, now, 1);
        look(&mut looks, &balance);
        balance.remove_worker(now, WORKER);
        assert_eq!(look(&mut looks, &balance), 1, "its channel has ended");
        looks.look(&[], |_| false);
        assert_eq!(looks.at_hand(WORKER, None), 0, "it was reaped");
    }
}
