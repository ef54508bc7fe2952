//! From values to what a worker's health is judged by.

use std::num::NonZeroU64;
use std::time::Duration;

use super::{DAY, HOUR, MINUTE, Resolver, SECOND, ms, non_zero, shown};
use crate::config::health::{Hang, WorkerHealth};
use crate::config::size::Size;
use crate::policy::MemorySoft;

/// A worker that serves ten thousand requests a second does not reach it in three years.
const MAX_REQUESTS: i64 = 1_000_000_000_000;

impl Resolver<'_> {
    pub(super) fn health(&mut self) -> WorkerHealth {
        let stall = self.take("workers.stall", Some(2 * SECOND), |value| {
            if value.as_text() == Some("off") {
                return Ok(None);
            }
            // Heartbeats come every second.
            value.duration(ms(1500)..=10 * MINUTE).map(Some)
        });
        let hang = self.take("workers.hang", Hang::Auto, |value| match value.as_text() {
            Some("auto") => Ok(Hang::Auto),
            Some("off") => Ok(Hang::Off),
            _ => value.duration(ms(500)..=HOUR).map(Hang::After),
        });
        if let (Some(stall), Hang::After(hang)) = (stall, hang)
            && hang < stall
        {
            let (hang, stall) = (shown(hang), shown(stall));
            let message = format!("workers.hang: {hang} is below workers.stall, {stall}");
            self.fail(message, "workers.hang");
        }
        let eject_after = self.take("workers.eject_after", Some(non_zero(5)), |value| {
            Ok(value.integer_or(1..=1_000_000, Some("off"))?.map(non_zero))
        });
        let eject_time = self.duration("workers.eject_time", 10 * SECOND, ms(10), 5 * MINUTE);
        let (max_requests, max_age) = (self.max_requests(), self.max_age());
        let memory_soft = self.memory_soft();
        let ramp = self.take("workers.ramp", Duration::ZERO, |value| match value.as_text() {
            Some("off") => Ok(Duration::ZERO),
            _ => value.duration(SECOND..=HOUR),
        });
        WorkerHealth {
            stall,
            hang,
            eject_after,
            eject_time,
            ramp,
            max_requests,
            max_age,
            memory_soft,
        }
    }

    fn max_requests(&mut self) -> Option<NonZeroU64> {
        self.take("workers.max_requests", None, |value| {
            let max = value.integer_or(1..=MAX_REQUESTS, Some("off"))?;
            Ok(max.and_then(|max| NonZeroU64::new(max.unsigned_abs())))
        })
    }

    fn max_age(&mut self) -> Option<Duration> {
        self.take("workers.max_age", None, |value| match value.as_text() {
            Some("off") => Ok(None),
            _ => value.duration(SECOND..=365 * DAY).map(Some),
        })
    }

    fn memory_soft(&mut self) -> MemorySoft {
        self.take("memory.soft", MemorySoft::Auto, |value| match value.as_text() {
            Some("auto") => Ok(MemorySoft::Auto),
            Some("off") => Ok(MemorySoft::Off),
            _ => {
                let bytes = value.size(Size(1 << 20)..=Size(1 << 40))?;
                Ok(NonZeroU64::new(bytes).map_or(MemorySoft::Off, MemorySoft::Bytes))
            }
        })
    }
}
