//! Ends what is left when the fleet has finished: last words, descendants, the guardian.

use std::time::Duration;

use super::events::Transition;
use super::{Ending, Supervisor, act, announce};
use crate::link::orders::Order;

/// How long the end waits for what dead workers wrote last.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Between two looks at who is left at the end, and how often is looked: what is killed is gone in
/// no time, unless it forks meanwhile, or the machine is busy.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LOOKS_AT_END: u32 = 200;

impl Supervisor {
    /// Kills whatever workers have left, until nothing is.
    async fn end_descendants(&mut self) {
        for _ in 0..LOOKS_AT_END {
            let left = act::kill_descendants(&self.parts.instance);
            self.reap();
            if left == 0 {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends what is left, after the fleet has finished.
    pub(super) async fn end(mut self) -> Ending {
        self.order(Order::Quit);
        let gather = async {
            while let Some(Ok(obituary)) = self.obituaries.join_next().await {
                self.bury(obituary);
            }
        };
        // What hangs on to a dead worker's output must not hold up the end.
        let _ = tokio::time::timeout(LAST_WORDS, gather).await;
        self.end_descendants().await;
        if let Some(guardian) = self.parts.guardian.take()
            && let Err(error) = guardian.dismiss()
        {
            tracing::debug!(%error, "the guardian was gone already");
        }
        let finish = self.finish.expect("the loop ends with a finish");
        self.announce(&Transition::Finished { reason: announce::finish_name(finish) });
        Ending { finish, last_words: self.last_words, failure: self.useless }
    }
}
