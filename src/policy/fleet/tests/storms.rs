//! What `Fleet` does in a crash storm, step by step.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::super::*;
use super::behaviours::{check, code, pool, ready};

use Event::{Begin, Tick};

#[test]
fn storm_starts_one_at_a_time_until_a_canary_lives() {
    let burst = NonZeroU32::new(2);
    let storm = StormSettings { burst, ..StormSettings::default() };
    check(
        FleetSettings { storm, ..pool(4) },
        &[
            (0, Begin, "spawn:1@0 spawn:2@1 spawn:3@2 spawn:4@3"),
            (1, ready(4), ""),
            (10, code(1, 1), "[restart:0 now 1 exit 1] spawn:5@0"),
            (10, code(2, 1), "[restart:1 now 1 exit 1] spawn:6@1"),
            (10, code(3, 1), "[restart:2 now 1 exit 1] [storm]"),
            (11, code(6, 1), "[restart:1 later 2 exit 1]"),
            // A token comes back every 2 s from the first take on, but worker 5 is starting.
            (2_010, Tick, ""),
            (2_020, ready(5), "spawn:7@2"),
            (2_030, ready(7), ""),
            (4_010, Tick, "spawn:8@1"),
            (4_020, code(8, 1), "[restart:1 later 3 exit 1]"),
            (7_030, Tick, "[calm] spawn:9@1"),
        ],
    );
}

#[test]
fn storm_wakes_for_the_next_token() {
    let start = Instant::now();
    let storm = StormSettings { burst: NonZeroU32::new(2), ..StormSettings::default() };
    let mut fleet = Fleet::new(start, FleetSettings { storm, ..pool(3) });
    let at = |ms| start + Duration::from_millis(ms);
    for event in [Begin, code(1, 1), ready(4), code(2, 1), ready(5)] {
        fleet.on(at(10), event);
    }
    let actions = fleet.on(at(20), code(3, 1));
    assert_eq!(actions.last(), Some(&Action::Note(Note::StormBegan)));
    assert_eq!(fleet.deadline(), Some(at(2_010)));
    assert!(fleet.on(at(2_009), Tick).is_empty());
    let actions = fleet.on(at(2_010), Tick);
    assert!(matches!(actions[..], [Action::Spawn { slot: Slot(2), .. }]), "{actions:?}");
}
