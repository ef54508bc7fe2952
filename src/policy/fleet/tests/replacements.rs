//! How `Fleet` replaces, condemns, drains and recycles, step by step.

use super::super::*;
use super::behaviours::{check, code, drained, pool, ready, signal};

use Event::{Begin, ScaleTo, Stop, Tick};

fn replace(worker: u64, handover: Handover) -> Event {
    Event::Replace { worker: WorkerId(worker), why: Why::MaxAge, handover }
}

fn start_first(worker: u64) -> Event {
    replace(worker, Handover::StartFirst)
}

fn stop_first(worker: u64) -> Event {
    replace(worker, Handover::StopFirst)
}

fn condemn(worker: u64) -> Event {
    Event::Condemn { worker: WorkerId(worker), cause: Cause::Hung }
}

fn drain(slot: u16) -> Event {
    Event::Drain { slot: Slot(slot) }
}

fn recycle(slot: u16) -> Event {
    Event::Recycle { slot: Slot(slot) }
}

#[test]
fn successor_is_ready_before_the_old_worker_leaves() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, start_first(1), "[replacing:1] spawn:3@0"),
            (10, start_first(1), ""),
            (20, ready(3), "drain:1 [replaced:1>3]"),
            (30, drained(1), "term:1"),
            (31, code(1, 0), ""),
        ],
    );
}

#[test]
fn replacements_go_one_after_another_until_the_old_worker_is_gone() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, start_first(2), "[replacing:2] spawn:3@1"),
            (11, start_first(1), ""),
            (20, ready(3), "drain:2 [replaced:2>3]"),
            (30, drained(2), "term:2"),
            (31, code(2, 0), "[replacing:1] spawn:4@0"),
        ],
    );
}

#[test]
fn successor_that_fails_is_tried_again_later_and_the_old_worker_goes_on() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (10, start_first(1), "[replacing:1] spawn:2@0"),
            (20, code(2, 1), "[successor-failed:2]"),
            (220, Tick, "[replacing:1] spawn:3@0"),
            (60_220, Tick, "[start-timeout:3] kill:3"),
            (60_221, signal(3, 9), "[successor-failed:3]"),
            (60_621, Tick, "[replacing:1] spawn:4@0"),
            (60_622, ready(4), "drain:1 [replaced:1>4]"),
        ],
    );
}

#[test]
fn successor_becomes_the_restart_of_a_worker_that_dies_meanwhile() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (10, start_first(1), "[replacing:1] spawn:2@0"),
            (20, code(1, 1), "[restart:0 now 1 exit 1]"),
            (30, ready(2), ""),
        ],
    );
}

#[test]
fn stopping_first_waits_until_another_serves_and_none_is_still_coming() {
    check(
        pool(3),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1 spawn:3@2"),
            (1, ready(1), ""),
            (2, stop_first(1), ""),
            (3, ready(2), ""),
            (4, ready(3), "[replacing:1] drain:1"),
            (4, stop_first(2), ""),
            (5, drained(1), "term:1"),
            (6, code(1, 0), "spawn:4@0"),
            (7, ready(4), "[replaced:1>4] [replacing:2] drain:2"),
        ],
    );
}

#[test]
fn order_turns_for_a_replacement_that_has_not_begun() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, start_first(1), "[replacing:1] spawn:3@0"),
            (11, start_first(2), ""),
            (12, stop_first(2), ""),
            (20, ready(3), "drain:1 [replaced:1>3]"),
            (21, code(1, 0), "[replacing:2] drain:2"),
        ],
    );
}

#[test]
fn only_worker_is_stopped_first_if_there_is_no_other_way() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (2, stop_first(1), "[replacing:1] drain:1"),
            (3, code(1, 0), "spawn:2@0"),
            (4, code(2, 1), "[restart:0 now 1 exit 1] spawn:3@0"),
        ],
    );
}

#[test]
fn condemned_worker_is_aborted_then_killed_and_counts_as_a_crash() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (10, condemn(1), "abort:1"),
            (11, condemn(1), ""),
            (2_010, Tick, "[term-timeout:1] kill:1"),
            (2_011, signal(1, 9), "[restart:0 now 1 hung] spawn:2@0"),
        ],
    );
}

#[test]
fn drained_slot_stays_empty_until_somebody_asks() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, drain(1), "term:2"),
            (2, code(2, 0), ""),
            (900_000, Tick, ""),
            // The last one that serves stays.
            (900_001, drain(0), ""),
            (900_002, recycle(1), "spawn:3@1"),
            (900_003, ready(3), ""),
            (900_004, drain(0), "drain:1"),
            (900_005, recycle(0), ""),
            (900_006, code(1, 0), "spawn:4@0"),
        ],
    );
}

#[test]
fn pool_of_drained_slots_starts_one_again() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (2, drain(0), "drain:1"),
            (3, code(1, 0), ""),
            (4, ScaleTo(1), "[scaled:2>1] drain:2 spawn:3@0"),
        ],
    );
}

#[test]
fn recycling_starts_a_slot_that_was_given_up() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (2, code(2, 78), "[failed:1]"),
            (3, recycle(1), "spawn:3@1"),
            (4, ready(3), ""),
            (5, recycle(0), "[replacing:1] spawn:4@0"),
            (6, Stop(StopKind::Now), "close [terminating:3] term:1 term:3 term:4"),
        ],
    );
}
