//! How `Fleet` brings in a new generation, step by step.

use super::super::*;
use super::behaviours::{check, code, drained, pool, ready, unready};
use crate::policy::Generation;

use Event::{Begin, ScaleTo, Stop, Tick};

fn settings(count: u16, surge: u16, proof: Proof) -> FleetSettings {
    let reload =
        ReloadSettings { surge: Surge::Workers(surge), proof, ..ReloadSettings::default() };
    FleetSettings { reload, ..pool(count) }
}

fn reload(count: u16, surge: u16) -> Event {
    Event::Reload { generation: Generation(2), settings: settings(count, surge, Proof::Soak) }
}

fn probed(worker: u64, verdict: Verdict) -> Event {
    Event::Probed { worker: WorkerId(worker), verdict }
}

#[test]
fn canary_soaks_before_the_others_follow_one_by_one() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, reload(2, 1), "[replacing:1] spawn:3@0"),
            (10, reload(2, 1), ""),
            (20, ready(3), ""),
            (5_019, Tick, ""),
            (5_020, Tick, "commit:2 drain:1 [replaced:1>3]"),
            (5_030, drained(1), "term:1"),
            (5_031, code(1, 0), "[replacing:2] spawn:4@1"),
            (5_040, ready(4), "drain:2 [replaced:2>4] reloaded:2"),
        ],
    );
}

#[test]
fn surge_lets_several_follow_at_once() {
    check(
        pool(3),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1 spawn:3@2"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (1, ready(3), ""),
            (10, reload(3, 3), "[replacing:1] spawn:4@0"),
            (20, ready(4), ""),
            (
                5_020,
                Tick,
                "commit:2 drain:1 [replaced:1>4] [replacing:2] spawn:5@1 [replacing:3] spawn:6@2",
            ),
            (5_030, ready(5), "drain:2 [replaced:2>5]"),
            (5_031, ready(6), "drain:3 [replaced:3>6] reloaded:2"),
        ],
    );
}

#[test]
fn no_surge_takes_one_worker_away_first() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, reload(2, 0), "[replacing:1] drain:1"),
            (20, code(1, 0), "spawn:3@0"),
            (30, ready(3), ""),
            (5_030, Tick, "commit:2 [replaced:1>3] [replacing:2] drain:2"),
            (5_040, code(2, 0), "spawn:4@1"),
            (5_050, ready(4), "[replaced:2>4] reloaded:2"),
        ],
    );
}

#[test]
fn canary_that_dies_leaves_everything_as_it_was() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, reload(2, 1), "[replacing:1] spawn:3@0"),
            (20, code(3, 1), "abort-reload(exit 1)"),
            (900_000, Tick, ""),
        ],
    );
}

#[test]
fn canary_that_refuses_in_the_place_of_a_worker_leaves_the_slot_to_the_old_generation() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, reload(2, 0), "[replacing:1] drain:1"),
            (20, code(1, 0), "spawn:3@0"),
            (30, code(3, 78), "abort-reload(exit 78) [restart:0 now 1 exit 78] spawn:4@0"),
        ],
    );
}

#[test]
fn canary_must_stay_ready_while_it_soaks() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (10, reload(1, 1), "[replacing:1] spawn:2@0"),
            (20, ready(2), ""),
            (30, unready(2), "abort-reload(unready) term:2"),
        ],
    );
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (10, reload(1, 1), "[replacing:1] spawn:2@0"),
            (60_010, Tick, "[start-timeout:2] kill:2"),
            (60_011, code(2, 1), "abort-reload(not ready in time)"),
        ],
    );
}

#[test]
fn canary_must_answer_its_probe() {
    let settings = settings(1, 1, Proof::Answer);
    let reload = Event::Reload { generation: Generation(2), settings };
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (10, reload, "[replacing:1] spawn:2@0"),
            (20, ready(2), "probe:2"),
            (21, probed(1, Verdict::Failed), ""),
            (30, probed(2, Verdict::Failed), "abort-reload(probe) drain:2"),
            (31, code(2, 0), ""),
            (40, reload, "[replacing:1] spawn:3@0"),
            (50, ready(3), "probe:3"),
            (60, probed(3, Verdict::Passed), ""),
            (5_050, Tick, "commit:2 drain:1 [replaced:1>3] reloaded:2"),
        ],
    );
}

#[test]
fn follower_that_never_is_ready_turns_the_rollout_round() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, reload(2, 1), "[replacing:1] spawn:3@0"),
            (20, ready(3), ""),
            (5_020, Tick, "commit:2 drain:1 [replaced:1>3]"),
            (5_031, code(1, 0), "[replacing:2] spawn:4@1"),
            (5_040, code(4, 1), "commit:1 abort-reload(exit 1) [replacing:3] spawn:5@0"),
            (5_050, ready(5), "drain:3 [replaced:3>5]"),
        ],
    );
}

#[test]
fn worker_that_dies_beside_a_canary_is_restarted_with_its_own_generation() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), ""),
            (10, reload(1, 1), "[replacing:1] spawn:2@0"),
            (20, code(1, 1), "[restart:0 now 1 exit 1] spawn:3@0"),
            (30, ready(2), ""),
            (40, ready(3), ""),
            (5_030, Tick, "commit:2 drain:3 [replaced:1>2] reloaded:2"),
        ],
    );
}

#[test]
fn reload_heals_a_pool_that_cannot_start() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, code(1, 78), "[failed:0]"),
            (2, reload(2, 1), "spawn:3@0"),
            (3, code(2, 78), "[failed:1]"),
            (4, ready(3), ""),
            (5_004, Tick, "commit:2 spawn:4@1"),
            (5_010, ready(4), "reloaded:2"),
        ],
    );
}

#[test]
fn stop_and_scaling_find_their_way_through_a_reload() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (10, reload(2, 1), "[replacing:1] spawn:3@0"),
            (11, ScaleTo(1), "[scaled:2>1] drain:2"),
            (
                12,
                Stop(StopKind::Graceful),
                "abort-reload(stopped) term:3 close [draining:3] drain:1",
            ),
        ],
    );
}
