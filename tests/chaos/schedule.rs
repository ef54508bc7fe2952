//! What goes wrong and when: a schedule made from a seed, the same for the same seed, always.

use std::time::Duration;

use tenfold::policy::SplitMix64;

use super::support::faults::REACTOR;

/// Something that happens to a running pool. Whoever is meant by `pick` is for the moment to say:
/// it counts through those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// `kill -9` of a worker.
    Kill {
        pick: u64,
    },
    /// `kill -9` of two at once.
    KillTwo {
        pick: u64,
    },
    /// A worker is stopped for a moment.
    Pause {
        pick: u64,
        ms: u64,
    },
    /// A worker is stopped for good.
    Freeze {
        pick: u64,
    },
    /// A worker's event loop is busy for so long: for a moment, or until it is killed for it.
    Hang {
        ms: u64,
    },
    /// A worker ends by itself, in the middle of its requests.
    Exit,
    /// A worker keeps more memory.
    Grow,
    /// A worker writes to a disk that is full.
    Say,
    /// For so long, whoever starts ends at once; and one is killed, so that somebody starts.
    Doom {
        pick: u64,
        ms: u64,
    },
    /// The master is stopped for a moment.
    PauseMaster {
        ms: u64,
    },
    /// The master has next to no descriptors left for so long.
    Starve {
        spare: u64,
        ms: u64,
    },
    /// System calls of the master fail for so long.
    Inject {
        fault: Fault,
        ms: u64,
    },
    /// A reload to code and configuration that are fine.
    Reload,
    /// A reload to something that is not.
    ReloadBad {
        flaw: Flaw,
    },
    Recycle {
        pick: u64,
    },
    RecycleAll,
    Scale {
        workers: u64,
    },
    /// A new master of the same program, and a release that is fine.
    Upgrade,
}

/// Which system call of which thread fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// The name of the thread; none is the main one.
    pub(crate) thread: Option<&'static str>,
    pub(crate) call: &'static str,
    pub(crate) error: &'static str,
}

/// What is wrong with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flaw {
    Throws,
    NeverReady,
    InvalidFile,
}

/// One action and when it is due, counted from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) action: Action,
}

const fn of_reactor(call: &'static str, error: &'static str) -> Fault {
    Fault { thread: Some(REACTOR), call, error }
}

const fn of_control(call: &'static str, error: &'static str) -> Fault {
    Fault { thread: None, call, error }
}

/// Failures that a kernel short of something really gives.
const FAULTS: [Fault; 9] = [
    of_reactor("accept4", "EMFILE"),
    of_reactor("accept4", "ECONNABORTED"),
    of_reactor("socketpair", "ENFILE"),
    of_reactor("sendmsg", "ENOBUFS"),
    of_control("clone,clone3,vfork,fork", "EAGAIN"),
    of_control("pipe2", "EMFILE"),
    of_control("memfd_create", "ENOMEM"),
    of_control("socketpair", "EMFILE"),
    of_control("openat", "ENFILE"),
];

const FLAWS: [Flaw; 3] = [Flaw::Throws, Flaw::NeverReady, Flaw::InvalidFile];

/// The longest pause between two actions.
const PAUSE_MAX: Duration = Duration::from_millis(900);

/// Every kind of action, as often as it is to be dealt in one round.
const DECK: &[fn(&mut SplitMix64) -> Action] = &[
    |it| Action::Kill { pick: it.next_u64() },
    |it| Action::Kill { pick: it.next_u64() },
    |it| Action::Kill { pick: it.next_u64() },
    |it| Action::KillTwo { pick: it.next_u64() },
    |it| Action::Pause { pick: it.next_u64(), ms: 100 + it.below(1400) },
    |it| Action::Freeze { pick: it.next_u64() },
    |it| Action::Hang { ms: 100 + it.below(1400) },
    |_| Action::Hang { ms: 60_000 },
    |_| Action::Exit,
    |_| Action::Exit,
    |_| Action::Grow,
    |_| Action::Grow,
    |_| Action::Grow,
    |_| Action::Say,
    |it| Action::Doom { pick: it.next_u64(), ms: 500 + it.below(1500) },
    |it| Action::PauseMaster { ms: 100 + it.below(1400) },
    |it| Action::Starve { spare: it.below(6), ms: 200 + it.below(1300) },
    |it| Action::Inject { fault: one_of(it, &FAULTS), ms: 300 + it.below(1200) },
    |it| Action::Inject { fault: one_of(it, &FAULTS), ms: 300 + it.below(1200) },
    |_| Action::Reload,
    |_| Action::Reload,
    |it| Action::ReloadBad { flaw: one_of(it, &FLAWS) },
    |it| Action::ReloadBad { flaw: one_of(it, &FLAWS) },
    |it| Action::Recycle { pick: it.next_u64() },
    |_| Action::RecycleAll,
    |it| Action::Scale { workers: 3 + it.below(4) },
    |_| Action::Upgrade,
];

/// The schedule of this seed: so long that every kind of action comes once in each round.
pub(crate) fn schedule(seed: u64, length: Duration) -> Vec<Step> {
    let mut random = SplitMix64::new(seed);
    let mut steps = Vec::new();
    let mut hand = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        let most = u64::try_from(PAUSE_MAX.as_millis()).unwrap_or(u64::MAX);
        at += Duration::from_millis(random.below(most + 1));
        if at >= length {
            return steps;
        }
        if hand.is_empty() {
            hand = DECK.to_vec();
        }
        let place = index(random.next_u64(), hand.len());
        let action = hand.swap_remove(place)(&mut random);
        steps.push(Step { at, action });
    }
}

/// Counts through `length` places; `length` is not 0.
pub(crate) fn index(pick: u64, length: usize) -> usize {
    usize::try_from(pick % length as u64).expect("it is below a length")
}

fn one_of<T: Copy>(random: &mut SplitMix64, all: &[T]) -> T {
    all[index(random.next_u64(), all.len())]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(45);

    #[test]
    fn a_seed_repeats_its_schedule_and_another_gives_another() {
        assert_eq!(schedule(7, LENGTH), schedule(7, LENGTH));
        assert_ne!(schedule(7, LENGTH), schedule(8, LENGTH));
        // A longer run begins as the shorter one.
        let (short, long) = (schedule(7, LENGTH), schedule(7, 2 * LENGTH));
        assert_eq!(short, long[..short.len()]);
    }

    #[test]
    fn every_kind_of_action_comes_in_every_round() {
        let kinds = |steps: &[Step]| {
            let mut kinds = Vec::new();
            for step in steps {
                let kind = discriminant(&step.action);
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            kinds.len()
        };
        let all = kinds(&schedule(0, 100 * LENGTH));
        for seed in 0..100 {
            let steps = schedule(seed, LENGTH);
            for round in steps.chunks_exact(DECK.len()) {
                assert_eq!(kinds(round), all, "seed {seed}");
            }
            assert!(steps.len() >= 2 * DECK.len(), "seed {seed}: {} steps", steps.len());
        }
    }

    #[test]
    fn steps_follow_each_other_within_the_length() {
        for seed in 0..100 {
            let steps = schedule(seed, LENGTH);
            assert!(steps.is_sorted_by_key(|step| step.at), "seed {seed}");
            assert!(steps.iter().all(|step| step.at < LENGTH), "seed {seed}");
        }
    }

    #[test]
    fn every_fault_and_every_flaw_comes_sooner_or_later() {
        let steps = schedule(1, 60 * LENGTH);
        let faults: BTreeSet<Fault> = steps
            .iter()
            .filter_map(|step| match step.action {
                Action::Inject { fault, .. } => Some(fault),
                _ => None,
            })
            .collect();
        assert_eq!(faults.len(), FAULTS.len());
        for flaw in FLAWS {
            assert!(steps.iter().any(|step| step.action == Action::ReloadBad { flaw }));
        }
    }
}
