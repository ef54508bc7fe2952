//! Finds the requests that kill workers: in flight at crash after crash, and seldom otherwise.
//!
//! Being in flight proves little: a popular page is in flight at every crash. So a request is
//! convicted only if its share among crashes is ten times its share of the traffic since it was
//! first suspected, and that is below 1 %. It is known by method, path and query, never by a route.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Names one request: a hash of its method, path and query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey(pub u64);

/// Crashes before anybody is convicted: two may be chance.
const CRASHES_MIN: u64 = 3;

/// How much more often than in traffic a request must be found at crashes.
const FACTOR: f64 = 10.0;

/// Whoever is a larger part of the traffic is not to blame.
const TRAFFIC_MAX: f64 = 0.01;

/// How long a conviction holds: the app may be mended meanwhile.
const SENTENCE: Duration = Duration::from_secs(600);

/// Suspects that are remembered: those with the fewest crashes go first.
const SUSPECTS_MAX: usize = 256;

/// Who was in flight at crashes, and how often they came since.
#[derive(Clone, Debug, Default)]
pub struct Suspects {
    crashes: u64,
    /// Requests since anybody was suspected.
    requests: u64,
    suspects: BTreeMap<RequestKey, Suspect>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    crashes: u64,
    /// All crashes and all requests before it was suspected.
    before: (u64, u64),
    requests: u64,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Open,
    Convicted { until: Instant },
}

impl Suspects {
    /// Whether requests need to be counted, and so their keys made.
    pub fn is_empty(&self) -> bool {
        self.suspects.is_empty()
    }

    /// A request came.
    pub fn came(&mut self, key: RequestKey) {
        self.requests += 1;
        if let Some(suspect) = self.suspects.get_mut(&key) {
            suspect.requests += 1;
        }
    }

    /// Whether it was convicted in the last ten minutes.
    pub fn is_convicted(&self, now: Instant, key: RequestKey) -> bool {
        self.suspects.get(&key).is_some_and(|it| match it.verdict {
            Verdict::Open => false,
            Verdict::Convicted { until } => now < until,
        })
    }

    /// A worker died while it held these; returns who is convicted by it, each once.
    pub fn crashed(&mut self, now: Instant, held: &[RequestKey]) -> Vec<RequestKey> {
        self.suspects.retain(|_, suspect| match suspect.verdict {
            Verdict::Open => true,
            Verdict::Convicted { until } => now < until,
        });
        let before = (self.crashes, self.requests);
        self.crashes += 1;
        let mut convicted = Vec::new();
        // Several of one kind at one worker are one crash.
        for key in held.iter().collect::<BTreeSet<_>>() {
            let new = Suspect { crashes: 0, before, requests: 0, verdict: Verdict::Open };
            let suspect = self.suspects.entry(*key).or_insert(new);
            suspect.crashes += 1;
            if suspect.verdict == Verdict::Open && suspect.is_guilty(self.crashes, self.requests) {
                suspect.verdict = Verdict::Convicted { until: now + SENTENCE };
                convicted.push(*key);
            }
        }
        self.forget_the_least();
        convicted
    }

    fn forget_the_least(&mut self) {
        while self.suspects.len() > SUSPECTS_MAX {
            let least = self.suspects.iter().min_by_key(|(_, suspect)| suspect.crashes);
            let Some((&key, _)) = least else {
                return;
            };
            self.suspects.remove(&key);
        }
    }
}

impl Suspect {
    fn is_guilty(&self, crashes: u64, requests: u64) -> bool {
        let (crashes, requests) = (crashes - self.before.0, requests - self.before.1);
        if self.crashes < CRASHES_MIN {
            return false;
        }
        // It has come at least as often as it has killed since the first time.
        let share = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        let of_traffic = share(self.requests, requests);
        of_traffic < TRAFFIC_MAX && share(self.crashes, crashes) >= FACTOR * of_traffic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POISON: RequestKey = RequestKey(1);
    const HOME: RequestKey = RequestKey(2);

    /// After each crash, so many other requests and one of the poison's come; who is convicted at
    /// which crash.
    fn convicted(others: u64, crashes: u64) -> Vec<(u64, RequestKey)> {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        let mut told = Vec::new();
        for crash in 1..=crashes {
            told.extend(suspects.crashed(now, &[HOME, POISON]).into_iter().map(|key| (crash, key)));
            for other in 0..others {
                suspects.came(if other % 4 == 0 { HOME } else { RequestKey(9 + other) });
            }
            suspects.came(POISON);
        }
        told
    }

    #[test]
    fn a_seldom_request_at_every_crash_is_convicted_once_and_a_popular_one_never() {
        assert_eq!(convicted(1_000, 9), [(3, POISON)]);
    }

    #[test]
    fn a_request_that_is_much_of_the_traffic_is_not_to_blame() {
        assert_eq!(convicted(50, 9), []);
    }

    #[test]
    fn a_request_at_few_of_many_crashes_is_not_to_blame() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        for round in 0..200 {
            let held: &[RequestKey] = if round % 40 == 0 { &[POISON] } else { &[] };
            assert_eq!(suspects.crashed(now, held), []);
            (0..250).for_each(|_| suspects.came(HOME));
            suspects.came(POISON);
        }
        assert!(!suspects.is_convicted(now, POISON));
    }

    #[test]
    fn several_of_one_kind_at_one_crash_count_once() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        assert_eq!(suspects.crashed(now, &[POISON; 9]), []);
        (0..5_000).for_each(|_| suspects.came(HOME));
        assert_eq!(suspects.crashed(now, &[POISON; 9]), []);
        assert_eq!(suspects.crashed(now, &[POISON; 9]), [POISON]);
        assert!(suspects.is_convicted(now, POISON) && !suspects.is_convicted(now, HOME));
        assert!(!suspects.is_convicted(now + SENTENCE, POISON), "it may be mended by then");
    }

    #[test]
    fn suspects_are_bounded() {
        let (mut suspects, now) = (Suspects::default(), Instant::now());
        assert!(suspects.is_empty());
        let keys: Vec<RequestKey> = (0..5_000).map(RequestKey).collect();
        suspects.crashed(now, &keys);
        assert_eq!(suspects.suspects.len(), SUSPECTS_MAX);
    }
}
