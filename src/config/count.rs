//! How many workers `auto` means on a host, and which of its limits decided.

use std::fmt;
use std::num::NonZeroU16;

use super::command::Kind;
use super::settings::{Count, Spare};
use crate::policy::Spares;

/// The most workers of one pool: the dispatcher scans all of them for each connection.
pub const COUNT_MAX: u16 = 256;

/// Without a quota the machine is shared with others; 16 workers saturate most apps.
const UNLIMITED_MAX: u64 = 16;

/// What a server process of Node or Python needs at least.
const MEMORY_PER_WORKER: u64 = 256 << 20;

/// What a host gives us.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// CPUs' worth of time the cgroup may use; none: no quota.
    pub cpu_quota: Option<f64>,
    /// CPUs we may run on, at least 1.
    pub cpus: u32,
    /// The cgroup's memory limit in bytes; none: no limit.
    pub memory: Option<u64>,
}

/// What decided the number of workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CountReason {
    /// The configuration says so.
    Asked,
    /// Not a command that is one process per CPU.
    OneByDefault,
    /// The cgroup's CPU quota.
    Quota(f64),
    /// The CPUs we may run on.
    Cpus(u32),
    /// The cgroup's memory limit in bytes.
    Memory(u64),
    /// There is no quota, and 16 are enough.
    NoQuota,
    /// 256, the most there can be.
    Ceiling,
}

impl fmt::Display for CountReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("as configured"),
            Self::OneByDefault => f.write_str("default for this command; -n auto for more"),
            Self::Quota(quota) => write!(f, "auto: CPU quota {quota}"),
            Self::Cpus(1) => f.write_str("auto: 1 CPU"),
            Self::Cpus(cpus) => write!(f, "auto: {cpus} CPUs"),
            Self::Memory(bytes) => {
                write!(f, "auto: memory limit {} MiB, 256 MiB each", bytes >> 20)
            }
            Self::NoQuota => f.write_str("auto: 16 where there is no CPU quota"),
            Self::Ceiling => write!(f, "auto: at most {COUNT_MAX}"),
        }
    }
}

impl Count {
    /// The number of workers for a command on a host, and why that many.
    pub fn resolve(self, kind: Kind, capacity: &Capacity) -> (NonZeroU16, CountReason) {
        match (self, kind) {
            (Self::Fixed(count), _) => (count, CountReason::Asked),
            (Self::ByCommand, Kind::Other) => (NonZeroU16::MIN, CountReason::OneByDefault),
            (Self::Auto, _)
            | (Self::ByCommand, Kind::Node | Kind::Deno | Kind::Python | Kind::Demo) => {
                auto(capacity)
            }
        }
    }
}

impl Spare {
    /// What that means on a host that has `count` workers already.
    pub fn resolve(self, count: NonZeroU16, capacity: &Capacity) -> Spares {
        let wanted = (u64::from(count.get()) + 1) * MEMORY_PER_WORKER;
        match (self, capacity.memory) {
            (Self::Fixed(number), _) => Spares::Fixed(number),
            (Self::Auto, Some(memory)) if memory < wanted => Spares::Fixed(0),
            (Self::Auto, _) => Spares::WhereSlow,
        }
    }
}

/// The smallest of the bounds, at least 1. A quota is rounded down: throttling stops the master
/// along with its workers, so a worker too many costs more than a fraction of a CPU unused.
fn auto(capacity: &Capacity) -> (NonZeroU16, CountReason) {
    let mut bounds = vec![(u64::from(capacity.cpus), CountReason::Cpus(capacity.cpus))];
    match capacity.cpu_quota {
        Some(quota) => bounds.push((quota as u64, CountReason::Quota(quota))),
        None => bounds.push((UNLIMITED_MAX, CountReason::NoQuota)),
    }
    if let Some(memory) = capacity.memory {
        bounds.push((memory / MEMORY_PER_WORKER, CountReason::Memory(memory)));
    }
    bounds.push((u64::from(COUNT_MAX), CountReason::Ceiling));
    let (count, reason) =
        bounds.into_iter().min_by_key(|(count, _)| *count).expect("there are always bounds");
    let count = u16::try_from(count).expect("the ceiling is one of the bounds");
    (NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn check(cpu_quota: Option<f64>, cpus: u32, memory: Option<u64>) -> (u16, String) {
        let capacity = Capacity { cpu_quota, cpus, memory };
        let (count, reason) = Count::Auto.resolve(Kind::Node, &capacity);
        (count.get(), reason.to_string())
    }

    #[test]
    fn the_smallest_bound_decides_and_is_named() {
        for (quota, cpus, memory, count, reason) in [
            (Some(10.0), 64, Some(12 * GIB), 10, "auto: CPU quota 10"),
            (Some(2.5), 64, None, 2, "auto: CPU quota 2.5"),
            (Some(0.5), 64, None, 1, "auto: CPU quota 0.5"),
            (Some(32.0), 64, None, 32, "auto: CPU quota 32"),
            (Some(32.0), 8, None, 8, "auto: 8 CPUs"),
            (None, 64, None, 16, "auto: 16 where there is no CPU quota"),
            (None, 8, None, 8, "auto: 8 CPUs"),
            (None, 1, None, 1, "auto: 1 CPU"),
            (Some(8.0), 8, Some(GIB), 4, "auto: memory limit 1024 MiB, 256 MiB each"),
            (Some(8.0), 8, Some(GIB / 8), 1, "auto: memory limit 128 MiB, 256 MiB each"),
            (Some(1000.0), 1000, None, 256, "auto: at most 256"),
            (Some(f64::NAN), 4, None, 1, "auto: CPU quota NaN"),
        ] {
            assert_eq!(check(quota, cpus, memory), (count, reason.to_owned()));
        }
    }

    #[test]
    fn other_commands_get_one_worker_unless_auto_is_asked_for() {
        let capacity = Capacity { cpu_quota: None, cpus: 4, memory: None };
        let one = (NonZeroU16::MIN, CountReason::OneByDefault);
        assert_eq!(Count::ByCommand.resolve(Kind::Other, &capacity), one);
        assert_eq!(Count::Auto.resolve(Kind::Other, &capacity).0.get(), 4);
        for kind in [Kind::Node, Kind::Deno, Kind::Python, Kind::Demo] {
            assert_eq!(Count::ByCommand.resolve(kind, &capacity).0.get(), 4, "{kind:?}");
        }
    }

    #[test]
    fn a_spare_is_kept_where_there_is_memory_for_one_worker_more() {
        let four = NonZeroU16::new(4).expect("4 is not zero");
        for (spare, memory, meant) in [
            (Spare::Auto, None, Spares::WhereSlow),
            (Spare::Auto, Some(GIB / 4 * 5), Spares::WhereSlow),
            (Spare::Auto, Some(GIB / 4 * 5 - 1), Spares::Fixed(0)),
            (Spare::Fixed(2), Some(GIB), Spares::Fixed(2)),
            (Spare::Fixed(0), None, Spares::Fixed(0)),
        ] {
            let capacity = Capacity { cpu_quota: None, cpus: 4, memory };
            assert_eq!(spare.resolve(four, &capacity), meant, "{spare:?} in {memory:?}");
        }
    }

    #[test]
    fn a_fixed_count_is_taken_as_it_is() {
        let capacity = Capacity { cpu_quota: Some(1.0), cpus: 1, memory: Some(1) };
        let count = NonZeroU16::new(9).expect("9 is not zero");
        let resolved = Count::Fixed(count).resolve(Kind::Node, &capacity);
        assert_eq!(resolved, (count, CountReason::Asked));
    }
}
