//! What queueing theory says of k servers with one queue: the yardstick of the simulator.

/// The chance that an arrival must wait in M/M/k at utilisation `load` (Erlang's C formula).
pub(crate) fn chance_to_wait(servers: usize, load: f64) -> f64 {
    let offered = servers as f64 * load;
    // Erlang B by its recurrence, which stays within 0..1 where factorials would overflow.
    let blocked = (1..=servers).fold(1.0, |blocked, server| {
        let carried = offered * blocked;
        carried / (server as f64 + carried)
    });
    blocked / (1.0 - load * (1.0 - blocked))
}

/// The mean wait in M/M/k, in service times.
pub(crate) fn mean_wait(servers: usize, load: f64) -> f64 {
    chance_to_wait(servers, load) / (servers as f64 * (1.0 - load))
}

/// The wait that a share `quantile` of all arrivals does not exceed, in service times.
pub(crate) fn wait_quantile(servers: usize, load: f64, quantile: f64) -> f64 {
    let chance = chance_to_wait(servers, load);
    // Those who wait do so exponentially, with mean 1 / (k (1 - load)).
    let waits = (chance / (1.0 - quantile)).ln() / (servers as f64 * (1.0 - load));
    waits.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_the_textbook_queue() {
        for load in [0.1, 0.5, 0.9] {
            assert!((chance_to_wait(1, load) - load).abs() < 1e-12);
            assert!((mean_wait(1, load) - load / (1.0 - load)).abs() < 1e-9);
        }
    }

    #[test]
    fn ten_servers_wait_as_the_published_tables_say() {
        // Erlang C of 10 servers offered 8 and 9 Erlang: 0.4092 and 0.6687.
        assert!((chance_to_wait(10, 0.8) - 0.4092).abs() < 5e-4);
        assert!((chance_to_wait(10, 0.9) - 0.6687).abs() < 5e-4);
        assert!((wait_quantile(10, 0.9, 0.99) - 4.20).abs() < 0.01);
        assert!(wait_quantile(10, 0.1, 0.5) == 0.0);
    }
}
