//! Says how long requests would wait in one first-come queue before servers that lose no time.
//!
//! It is given the very arrivals and service times that a stream sends, so it is what a dispatcher
//! could do at best in that window. What theory says of a queue that has always been there is no
//! yardstick for a window of seconds that begins empty: less waits in that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::{Arrival, Stream, arrivals};

/// Its row in tables, beside those of peers. Nobody can start it.
pub(crate) const NAME: &str = "ideal queue";

/// The wait of each request of `stream`, in the order of arrival, with so many servers.
pub(crate) fn waits(stream: &Stream, servers: u16) -> Vec<Duration> {
    first_come(servers, arrivals(stream))
}

fn first_come(servers: u16, arrivals: Vec<Arrival>) -> Vec<Duration> {
    // When each server comes free; all are from the beginning on.
    let mut free: BinaryHeap<Reverse<Duration>> =
        (0..servers).map(|_| Reverse(Duration::ZERO)).collect();
    let wait = |Arrival { due, service, .. }| {
        let Reverse(soonest) = free.pop().expect("there are servers");
        let begun = soonest.max(due);
        free.push(Reverse(begun + service));
        begun - due
    };
    arrivals.into_iter().map(wait).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::load::{Travel, Work};
    use crate::sim::erlang;

    #[test]
    fn the_oldest_takes_the_server_that_comes_free_first() {
        // When each is due, and how long it takes. The first two find a free server, the next two
        // wait for the end of the first and of the second; the last finds both free again.
        let jobs = [(0, 10), (1, 10), (2, 5), (3, 1), (20, 3)];
        let millis = Duration::from_millis;
        let arrivals = jobs.map(|(due, service)| Arrival {
            due: millis(due),
            client: 0,
            service: millis(service),
        });
        let expected = [0, 0, 8, 8, 0].map(millis);
        assert_eq!(first_come(2, arrivals.into()), expected);
    }

    #[test]
    fn over_many_jobs_the_mean_wait_is_erlangs() {
        let mean = Duration::from_millis(20);
        for (servers, load, jobs) in [(2, 0.5, 400_000), (10, 0.8, 1_000_000)] {
            let rate = load * f64::from(servers) / mean.as_secs_f64();
            let stream = Stream {
                target: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                rate,
                from: Duration::ZERO,
                until: Duration::from_secs_f64(f64::from(jobs) / rate),
                work: Work::Burned(mean),
                travel: Travel::KeepAlive,
                clients: 64,
                net: 1,
                timeout: Duration::ZERO,
                seed: 11,
            };
            let waits = waits(&stream, servers);
            let sum: f64 = waits.iter().map(Duration::as_secs_f64).sum();
            let found = sum / waits.len() as f64 / mean.as_secs_f64();
            let expected = erlang::mean_wait(usize::from(servers), load);
            assert!((found / expected - 1.0).abs() < 0.03, "{servers}: {found}, not {expected}");
        }
    }
}
