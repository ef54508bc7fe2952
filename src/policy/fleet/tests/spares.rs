//! How `Fleet` keeps workers that stand by, and has them take over, step by step.

use std::num::NonZeroU16;
use std::time::Instant;

use super::super::*;
use super::behaviours::{Row, check, code, drained, pool, ready, signal};
use crate::policy::{Duty, Generation, Stalled};

use Event::{Begin, ScaleTo, Stop, Tick};

fn with_spares(count: u16, spares: u16) -> FleetSettings {
    FleetSettings { spares: Spares::Fixed(spares), ..pool(count) }
}

/// Two that serve in slots 0 and 1, and a spare in slot 2.
const UP: [Row; 4] = [
    (0, Begin, "spawn:1@0 spawn:2@1"),
    (1, ready(1), ""),
    (1, ready(2), "spawn:3@2"),
    (1, ready(3), ""),
];

fn check_up(rows: &[Row]) {
    check(with_spares(2, 1), &[&UP[..], rows].concat());
}

#[test]
fn spare_starts_last_takes_over_at_once_and_the_slot_that_failed_has_the_next_spare() {
    check_up(&[
        (10, signal(2, 9), "[restart:1 now 1 signal 9] [took-over:2<1] assign:3 spawn:4@1"),
        (20, ready(4), ""),
        (30, signal(3, 9), "[restart:2 now 1 signal 9] [took-over:1<2] assign:4 spawn:5@2"),
    ]);
}

#[test]
fn without_a_ready_spare_whoever_is_ready_first_serves() {
    check_up(&[
        (10, signal(3, 9), "[restart:2 now 1 signal 9] spawn:4@2"),
        (11, signal(1, 9), "[restart:0 now 1 signal 9] spawn:5@0"),
        (20, ready(4), "[took-over:2<0] assign:5 assign:4"),
        (30, ready(5), ""),
    ]);
}

#[test]
fn hung_worker_is_relieved_before_it_is_dead() {
    check_up(&[
        (
            10,
            Event::Condemn { worker: WorkerId(1), cause: Cause::Hung },
            "abort:1 [took-over:2<0] assign:3",
        ),
        (11, signal(1, 6), "[restart:0 now 1 hung] spawn:4@0"),
    ]);
}

fn stalled(worker: u64) -> Event {
    Event::Stalled { worker: WorkerId(worker), stalled: Stalled::Yes }
}

fn recovered(worker: u64) -> Event {
    Event::Stalled { worker: WorkerId(worker), stalled: Stalled::No }
}

#[test]
fn stalled_worker_is_relieved_at_once_and_stands_by_when_it_goes_on() {
    check_up(&[
        (10, stalled(1), "[took-over:2<0] assign:1 assign:3"),
        (20, recovered(1), ""),
        (30, stalled(2), "[took-over:0<1] assign:1 assign:2"),
    ]);
}

#[test]
fn stalled_worker_that_is_relieved_and_ends_has_the_next_spare_started() {
    let hung = Event::Condemn { worker: WorkerId(1), cause: Cause::Hung };
    check_up(&[
        (10, stalled(1), "[took-over:2<0] assign:1 assign:3"),
        (20, hung, "abort:1"),
        (21, signal(1, 6), "[restart:0 now 1 hung] spawn:4@0"),
        (30, ready(4), ""),
    ]);
}

#[test]
fn stall_of_all_starts_and_ends_nobody_and_exchanges_as_many_as_stand_by() {
    check_up(&[
        (10, stalled(1), "[took-over:2<0] assign:1 assign:3"),
        (11, stalled(2), ""),
        (12, stalled(3), ""),
        // Whoever goes on first is of use at once, and no more is exchanged after that.
        (20, recovered(1), "[took-over:0<1] assign:1 assign:2"),
        (21, recovered(2), "[took-over:1<2] assign:2 assign:3"),
        (22, recovered(3), ""),
    ]);
}

#[test]
fn spare_that_is_stalled_relieves_nobody_but_who_is_gone() {
    check_up(&[
        (10, stalled(3), ""),
        (11, stalled(1), ""),
        (12, signal(2, 9), "[restart:1 now 1 signal 9] [took-over:2<1] assign:3 spawn:4@1"),
        (20, ready(4), "[took-over:1<0] assign:1 assign:4"),
    ]);
}

#[test]
fn wrapper_whose_child_is_gone_is_stalled_no_more() {
    let unready = Event::Unready { worker: WorkerId(3) };
    check_up(&[
        (10, stalled(3), ""),
        (11, unready, ""),
        (12, ready(3), ""),
        (13, stalled(1), "[took-over:2<0] assign:1 assign:3"),
    ]);
}

#[test]
fn spare_that_crashes_is_restarted_after_a_backoff_like_any_other() {
    check_up(&[
        (10, code(3, 1), "[restart:2 now 1 exit 1] spawn:4@2"),
        (20, code(4, 1), "[restart:2 later 2 exit 1]"),
        (220, Tick, "spawn:5@2"),
        (230, code(5, 78), "[failed:2]"),
        // The others serve on, without a spare.
        (240, code(1, 1), "[restart:0 now 1 exit 1] spawn:6@0"),
    ]);
}

#[test]
fn spare_covers_a_worker_that_is_replaced_without_room_for_two() {
    let handover = Handover::StopFirst;
    check_up(&[
        (
            10,
            Event::Replace { worker: WorkerId(1), why: Why::RedLine, handover },
            "[replacing:1] drain:1 [took-over:2<0] assign:3",
        ),
        (20, drained(1), "term:1"),
        (21, code(1, 0), "spawn:4@0"),
        (30, ready(4), "[replaced:1>4]"),
    ]);
}

#[test]
fn spare_takes_the_place_of_a_drained_worker_and_comes_back_when_asked_for() {
    check_up(&[
        (10, Event::Drain { slot: Slot(0) }, "drain:1 [took-over:2<0] assign:3"),
        (20, drained(1), "term:1"),
        (21, code(1, 0), ""),
        (30, Event::Recycle { slot: Slot(0) }, "spawn:4@0"),
        (40, ready(4), ""),
        (50, signal(2, 9), "[restart:1 now 1 signal 9] [took-over:0<1] assign:4 spawn:5@1"),
    ]);
}

#[test]
fn reload_tries_a_worker_that_serves_and_renews_the_spare_last() {
    let reload = ReloadSettings { surge: Surge::Workers(1), ..ReloadSettings::default() };
    let settings = FleetSettings { reload, ..with_spares(2, 1) };
    check_up(&[
        (2, signal(1, 9), "[restart:0 now 1 signal 9] [took-over:2<0] assign:3 spawn:4@0"),
        (3, ready(4), ""),
        (10, Event::Reload { generation: Generation(2), settings }, "[replacing:2] spawn:5@1"),
        (20, ready(5), ""),
        (5_020, Tick, "commit:2 drain:2 [replaced:2>5]"),
        (5_021, code(2, 0), "[replacing:3] spawn:6@2"),
        (5_030, ready(6), "drain:3 [replaced:3>6]"),
        (5_031, code(3, 0), "[replacing:4] spawn:7@0"),
        (5_040, ready(7), "drain:4 [replaced:4>7] reloaded:2"),
    ]);
}

#[test]
fn reload_can_ask_for_more_spares_or_none() {
    let reload = |generation, spares| Event::Reload {
        generation: Generation(generation),
        settings: with_spares(1, spares),
    };
    check(
        with_spares(1, 0),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (10, reload(2, 1), "[replacing:1] spawn:2@0"),
            (20, ready(2), ""),
            (5_020, Tick, "commit:2 drain:1 [replaced:1>2] spawn:3@1"),
            (5_021, code(1, 0), ""),
            (5_030, ready(3), "reloaded:2"),
            (6_000, reload(3, 0), "[replacing:2] spawn:4@0"),
            (6_010, ready(4), ""),
            (11_010, Tick, "commit:3 drain:3 drain:2 [replaced:2>4] reloaded:3"),
        ],
    );
}

#[test]
fn scaling_keeps_the_spare_and_has_a_ready_one_serve_first() {
    check_up(&[
        (10, ScaleTo(3), "[scaled:2>3] assign:3 spawn:4@3"),
        (20, ready(4), ""),
        (30, ScaleTo(2), "[scaled:3>2] drain:4 assign:3"),
        (40, Stop(StopKind::Now), "close [terminating:4] term:1 term:2 term:3 term:4"),
    ]);
}

#[test]
fn one_stands_by_where_even_the_fastest_start_was_slow() {
    let settings = FleetSettings { spares: Spares::WhereSlow, ..pool(2) };
    check(
        settings,
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (2_001, ready(1), ""),
            (2_500, ready(2), "spawn:3@2"),
            // Alone it starts faster: nobody would wait long for the next.
            (3_500, ready(3), "drain:3"),
        ],
    );
    check(
        settings,
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (2_000, ready(1), ""),
            (9_000, ready(2), ""),
            (9_001, code(2, 1), "[restart:1 now 1 exit 1] spawn:3@1"),
        ],
    );
}

#[test]
fn spares_find_room_below_the_most_workers_of_a_pool() {
    for (count, spares, size) in [(1, 0, 1), (1, 3, 4), (250, 20, 256), (256, 1, 256)] {
        let count = NonZeroU16::new(count).expect("no pool is empty");
        let settings = FleetSettings { count, ..with_spares(1, spares) };
        let fleet = Fleet::new(Instant::now(), settings);
        let serving = fleet.slots().filter(|slot| slot.duty == Duty::Serve).count();
        assert_eq!((fleet.count(), fleet.size()), (count.get(), size));
        assert_eq!(serving, usize::from(count.get()));
    }
}
