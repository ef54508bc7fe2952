//! Waits until an instant without spinning, to within what the kernel needs to wake us.
//!
//! The timers of tokio ring at whole milliseconds and round up, so a request would go out up to two
//! of them late. One of the kernel's rings when it is set to; the event loop watches it as it
//! watches a socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::consume_budget;

/// A timer that rings once each time it is set. For one waiter: another would set it anew.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: TimerFd,
    /// The same timer by a second descriptor, as the event loop watches it: nix keeps the first.
    rings: AsyncFd<Rc<OwnedFd>>,
}

impl Alarm {
    /// Call it within a runtime.
    ///
    /// # Errors
    /// No descriptor is left, or the kernel cannot watch it.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let second = Rc::new(timer.as_fd().try_clone_to_owned()?);
        let rings = tenfold::sys::wait::shared(second, Interest::READABLE)?;
        Ok(Self { timer, rings })
    }

    /// Returns at `due` or soon after it, never before. Where that has passed it returns at once,
    /// but lets others run now and then: who is always late would let nobody else run.
    ///
    /// # Errors
    /// Those of timerfd_settime(2); none is known for a delay from now on.
    pub(crate) async fn until(&self, due: Instant) -> io::Result<()> {
        consume_budget().await;
        loop {
            let left = due.saturating_duration_since(tenfold::clock::now());
            if left.is_zero() {
                return Ok(());
            }
            self.timer.set(Expiration::OneShot(left.into()), TimerSetTimeFlags::empty())?;
            let mut rung = self.rings.readable().await?;
            // Nothing is read from the timer: setting it anew takes back what it has to say, and
            // its next ring is an event of its own. A ring of an earlier wait that was given up
            // ends here too, and the loop goes on.
            rung.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn of_two_hundred_alarms_none_rings_early() {
        let alarm = Alarm::new().expect("there is a timer");
        let start = tenfold::clock::now();
        for number in 1..=200 {
            // Every tenth is due together with the one before it, and so has passed when asked for.
            let due = start + Duration::from_micros(500) * (number - u32::from(number % 10 == 0));
            alarm.until(due).await.expect("it rings");
            let now = tenfold::clock::now();
            assert!(now >= due, "alarm {number} rang {:?} early", due - now);
        }
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_does_not_end_the_next_one() {
        let (alarm, other) = (Alarm::new().expect("a timer"), Alarm::new().expect("another"));
        let soon = tenfold::clock::now() + Duration::from_millis(2);
        tokio::select! {
            biased;
            rung = alarm.until(soon) => unreachable!("it is not due: {rung:?}"),
            () = std::future::ready(()) => {}
        }
        // It rings meanwhile, and nobody hears it.
        other.until(soon + Duration::from_millis(2)).await.expect("it rings");
        let due = tenfold::clock::now() + Duration::from_millis(10);
        alarm.until(due).await.expect("it rings");
        assert!(tenfold::clock::now() >= due);
    }

    #[tokio::test]
    async fn who_is_always_late_still_lets_others_run() {
        let alarm = Alarm::new().expect("there is a timer");
        let past = tenfold::clock::now();
        let late = async {
            for _ in 0..10_000 {
                alarm.until(past).await.expect("it returns");
            }
        };
        tokio::select! {
            biased;
            () = late => unreachable!("the other one needed two turns"),
            () = tokio::task::yield_now() => {}
        }
    }
}
