//! Lets everybody else have a turn while one body is carried.
//!
//! A worker and a client that both keep up are always ready, and who carries between them would
//! never wait: one large download would hold the reactor, and with it all other exchanges, until
//! its end.

use tokio::task::yield_now;

/// What is carried in one turn, in bytes: well below a millisecond's worth, and enough that the
/// turns cost nothing beside the copying.
const TURN: usize = 1024 * 1024;

/// What one direction of one exchange has carried in this turn.
#[derive(Debug, Default)]
pub(super) struct Pace {
    carried: usize,
}

impl Pace {
    /// Notes that `bytes` were carried, and waits for the next turn if this one is spent.
    pub(super) async fn carried(&mut self, bytes: usize) {
        self.carried += bytes;
        if self.carried >= TURN {
            self.carried = 0;
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn others_have_a_turn_after_each_megabyte() {
        let turns = Cell::new(0);
        let other = async {
            loop {
                turns.set(turns.get() + 1);
                yield_now().await;
            }
        };
        let carrying = async {
            let mut pace = Pace::default();
            for _ in 0..160 {
                pace.carried(64 * 1024).await;
            }
        };
        tokio::select! {
            biased;
            () = carrying => {}
            () = other => {}
        }
        assert_eq!(turns.get(), 10);
    }
}
