//! The settings of workers' health as text.

use super::{quoted, shown};
use crate::config::health::{Hang, WorkerHealth};
use crate::config::size::Size;
use crate::policy::MemorySoft;

/// The value of one key in TOML; none: no key of these.
pub(super) fn value(health: &WorkerHealth, key: &str) -> Option<String> {
    let off = || quoted("off");
    Some(match key {
        "workers.stall" => health.stall.map_or_else(off, |stall| quoted(shown(stall))),
        "workers.hang" => match health.hang {
            Hang::Auto => quoted("auto"),
            Hang::Off => off(),
            Hang::After(time) => quoted(shown(time)),
        },
        "workers.eject_after" => health.eject_after.map_or_else(off, |count| count.to_string()),
        "workers.ramp" if health.ramp.is_zero() => off(),
        "workers.ramp" => quoted(shown(health.ramp)),
        "workers.max_requests" => health.max_requests.map_or_else(off, |max| max.to_string()),
        "workers.max_age" => health.max_age.map_or_else(off, |age| quoted(shown(age))),
        "memory.soft" => match health.memory_soft {
            MemorySoft::Off => off(),
            MemorySoft::Auto => quoted("auto"),
            MemorySoft::Bytes(bytes) => quoted(Size(bytes.get())),
        },
        "workers.eject_time" => quoted(shown(health.eject_time)),
        _ => return None,
    })
}
