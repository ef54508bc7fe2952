//! What `Fleet` does, step by step: each row is a time, an event and the rendered actions.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use super::super::*;

/// One row: milliseconds since the start, the event, and the actions it must bring.
pub(super) type Row = (u64, Event, &'static str);

pub(super) fn check(settings: FleetSettings, rows: &[Row]) {
    let start = Instant::now();
    let mut fleet = Fleet::new(start, settings);
    for &(ms, event, expected) in rows {
        let actions = fleet.on(start + Duration::from_millis(ms), event);
        let rendered = actions.iter().map(render).collect::<Vec<_>>().join(" ");
        assert_eq!(rendered, expected, "at {ms} ms: {event:?}");
    }
}

fn render(action: &Action) -> String {
    match *action {
        Action::Spawn { worker, slot, .. } => format!("spawn:{worker}@{slot}"),
        Action::Assign { worker } => format!("assign:{worker}"),
        Action::Drain { worker } => format!("drain:{worker}"),
        Action::Terminate { worker } => format!("term:{worker}"),
        Action::Abort { worker } => format!("abort:{worker}"),
        Action::Kill { worker } => format!("kill:{worker}"),
        Action::Probe { worker } => format!("probe:{worker}"),
        Action::Commit { generation } => format!("commit:{generation}"),
        Action::Reloaded(ReloadOutcome::Done { generation }) => format!("reloaded:{generation}"),
        Action::Reloaded(ReloadOutcome::Failed(failure)) => render_abort(failure),
        Action::StopAccepting => "close".to_owned(),
        Action::Finish(Finish::Stopped) => "finish:stopped".to_owned(),
        Action::Finish(Finish::NeverReady { last }) => format!("finish:never-ready{}", cause(last)),
        Action::Finish(Finish::NeverListened) => "finish:never-listened".to_owned(),
        Action::Finish(Finish::GaveUp { last }) => format!("finish:gave-up{}", cause(last)),
        Action::Finish(Finish::AllRefused) => "finish:all-refused".to_owned(),
        Action::Note(note) => render_note(note),
    }
}

fn render_abort(failure: ReloadFailure) -> String {
    match failure {
        ReloadFailure::Died(failure) => format!("abort-reload({})", failure.cause),
        ReloadFailure::Unready { .. } => "abort-reload(unready)".to_owned(),
        ReloadFailure::Probe { .. } => "abort-reload(probe)".to_owned(),
        ReloadFailure::Storm => "abort-reload(storm)".to_owned(),
        ReloadFailure::Stopped => "abort-reload(stopped)".to_owned(),
    }
}

fn render_note(note: Note) -> String {
    match note {
        Note::Restarting { failure, delay, failures } => {
            let wait = if delay.is_zero() { "now" } else { "later" };
            format!("[restart:{} {wait} {failures} {}]", failure.slot, failure.cause)
        }
        Note::Replacing { old, .. } => format!("[replacing:{old}]"),
        Note::Replaced { old, new, .. } => format!("[replaced:{old}>{new}]"),
        Note::TookOver { slot, vacated, .. } => format!("[took-over:{slot}<{vacated}]"),
        Note::SuccessorFailed { failure, .. } => format!("[successor-failed:{}]", failure.worker),
        Note::SlotFailed { failure } => format!("[failed:{}]", failure.slot),
        Note::StartTimedOut { worker, .. } => format!("[start-timeout:{worker}]"),
        Note::DrainTimedOut { worker, .. } => format!("[drain-timeout:{worker}]"),
        Note::TermTimedOut { worker, .. } => format!("[term-timeout:{worker}]"),
        Note::Abandoned { worker, .. } => format!("[abandoned:{worker}]"),
        Note::StormBegan => "[storm]".to_owned(),
        Note::StormEnded => "[calm]".to_owned(),
        Note::Scaled { from, to } => format!("[scaled:{from}>{to}]"),
        Note::Stopping { step, left } => format!("[{step:?}:{left}]").to_lowercase(),
    }
}

fn cause(failure: Option<Failure>) -> String {
    failure.map_or(String::new(), |failure| format!("({})", failure.cause))
}

/// `count` workers, all started at once, no delay when stopping.
pub(super) fn pool(count: u16) -> FleetSettings {
    let count = NonZeroU16::new(count).expect("tests use counts above 0");
    FleetSettings { count, concurrent_starts: count, ..FleetSettings::default() }
}

pub(super) fn spawned(worker: u64) -> Event {
    Event::Spawned { worker: WorkerId(worker) }
}

pub(super) const fn ready(worker: u64) -> Event {
    Event::Ready { worker: WorkerId(worker) }
}

pub(super) fn unready(worker: u64) -> Event {
    Event::Unready { worker: WorkerId(worker) }
}

pub(super) fn drained(worker: u64) -> Event {
    Event::Drained { worker: WorkerId(worker) }
}

pub(super) fn code(worker: u64, code: i32) -> Event {
    Event::Exited { worker: WorkerId(worker), exit: WorkerExit::Code(code) }
}

pub(super) fn signal(worker: u64, signal: i32) -> Event {
    Event::Exited { worker: WorkerId(worker), exit: WorkerExit::Signal(signal) }
}

use Event::{Begin, ScaleBy, ScaleTo, Stop, Tick};
use StopKind::{Graceful, Interactive, Now};

#[test]
fn a_worker_that_says_it_leaves_is_drained_ended_and_replaced() {
    let leaves = |worker| Event::Leaves { worker: WorkerId(worker) };
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, spawned(1), ""),
            (9, ready(1), ""),
            (20, leaves(1), "drain:1"),
            (21, leaves(1), ""),
            (30, drained(1), "term:1"),
            (40, signal(1, 15), "[restart:0 now 1 signal 15] spawn:2@0"),
            (41, spawned(2), ""),
            // Nothing to finish.
            (42, leaves(2), "term:2"),
            (3_042, Tick, "[term-timeout:2] kill:2"),
        ],
    );
}

#[test]
fn every_slot_gets_a_worker_as_the_gate_allows() {
    let settings = FleetSettings { concurrent_starts: NonZeroU16::MIN, ..pool(3) };
    check(
        settings,
        &[
            (0, Tick, ""),
            (0, Begin, "spawn:1@0"),
            (0, Begin, ""),
            (1, spawned(1), ""),
            (9, ready(1), "spawn:2@1"),
            (19, code(2, 1), "[restart:1 now 1 exit 1] spawn:3@2"),
            (29, ready(3), "spawn:4@1"),
        ],
    );
}

#[test]
fn crashed_worker_is_replaced_at_once_and_then_with_growing_delay() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (9, ready(1), ""),
            (10, signal(1, 9), "[restart:0 now 1 signal 9] spawn:2@0"),
            (20, code(2, 0), "[restart:0 later 2 exit 0]"),
            (120, Tick, "spawn:3@0"),
            (130, ready(3), ""),
            // Healthy for a minute: the failures are forgotten.
            (60_130, code(3, 1), "[restart:0 now 1 exit 1] spawn:4@0"),
        ],
    );
}

#[test]
fn late_and_unknown_events_are_ignored() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(7), ""),
            (1, code(7, 1), ""),
            (1, drained(1), ""),
            (2, ready(1), ""),
            (3, code(1, 1), "[restart:0 now 1 exit 1] spawn:2@0"),
            (4, code(1, 1), ""),
            (4, ready(1), ""),
            (4, unready(1), ""),
            (4, Event::SpawnFailed { worker: WorkerId(1) }, ""),
        ],
    );
}

#[test]
fn worker_that_is_not_ready_in_time_is_killed_and_counts_as_a_crash() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (9, ready(2), ""),
            (60_000, Tick, "[start-timeout:1] kill:1"),
            (60_001, ready(1), ""),
            (60_002, signal(1, 9), "[restart:0 now 1 not ready in time] spawn:3@0"),
        ],
    );
}

#[test]
fn worker_that_asks_for_time_gets_it_up_to_an_hour() {
    let extend = |seconds| Event::Extend { worker: WorkerId(1), by: Duration::from_secs(seconds) };
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (5_000, extend(10), ""),
            (50_000, extend(30), ""),
            (60_000, Tick, ""),
            (79_999, extend(u64::MAX), ""),
            (3_599_999, Tick, ""),
            (3_600_000, Tick, "[start-timeout:1] kill:1 close [draining:1] [killing:1]"),
        ],
    );
}

#[test]
fn wrapper_whose_child_went_away_has_the_start_time_again() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (9, ready(1), ""),
            (9, ready(2), ""),
            (50_000, unready(1), ""),
            (60_000, Tick, ""),
            (60_001, ready(1), ""),
            (70_000, unready(1), ""),
            (130_000, Tick, "[start-timeout:1] kill:1"),
        ],
    );
}

#[test]
fn pool_ends_if_none_was_ready_in_time() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (
                5,
                Event::SpawnFailed { worker: WorkerId(1) },
                "[restart:0 now 1 spawn failed] spawn:2@0",
            ),
            (60_000, Tick, "close [draining:1] term:2 [terminating:1]"),
            (60_001, signal(2, 15), "finish:never-ready(spawn failed)"),
            (60_002, Tick, ""),
        ],
    );
}

#[test]
fn pool_gives_up_only_while_no_worker_is_ready() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (9, ready(1), ""),
            (9, ready(2), ""),
            (10, code(1, 3), "[restart:0 now 1 exit 3] spawn:3@0"),
            (400_000, Tick, "[start-timeout:3] kill:3"),
            (400_000, code(2, 4), "[restart:1 now 1 exit 4] spawn:4@1"),
            (400_001, signal(3, 9), "[restart:0 later 2 not ready in time]"),
            (459_999, Tick, "spawn:5@0"),
            (699_999, Tick, "[start-timeout:4] kill:4 [start-timeout:5] kill:5"),
            (700_000, Tick, "close [draining:2] [killing:2]"),
            (700_001, signal(4, 9), ""),
            (700_002, signal(5, 9), "finish:gave-up(not ready in time)"),
        ],
    );
}

#[test]
fn command_that_ends_with_zero_twice_in_every_slot_is_no_server() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (10, code(1, 0), "[restart:0 now 1 exit 0] spawn:3@0"),
            (10, code(2, 0), "[restart:1 now 1 exit 0] spawn:4@1"),
            (20, code(3, 0), "[restart:0 later 2 exit 0]"),
            (20, code(4, 0), "close [draining:0] finish:never-listened"),
        ],
    );
}

#[test]
fn slot_that_refuses_its_configuration_is_not_restarted() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (9, ready(2), ""),
            (10, code(1, 78), "[failed:0]"),
            (99_000, Tick, ""),
            (99_001, code(2, 78), "[failed:1] close [draining:0] finish:all-refused"),
        ],
    );
}

#[test]
fn scaling_down_drains_the_highest_slots_and_up_fills_them_again() {
    check(
        pool(3),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1 spawn:3@2"),
            (1, ready(1), ""),
            (1, ready(2), ""),
            (2, ScaleTo(1), "[scaled:3>1] term:3 drain:2"),
            (3, ScaleTo(0), ""),
            (3, ScaleBy(-9), ""),
            (4, ScaleBy(1), "[scaled:1>2] spawn:4@1"),
            (5, drained(2), "term:2"),
            (6, code(2, 0), ""),
            (7, code(3, 1), ""),
            (8, ScaleTo(1), "[scaled:2>1] term:4"),
            (3_008, Tick, "[term-timeout:4] kill:4"),
            (3_009, signal(4, 9), ""),
        ],
    );
}

#[test]
fn worker_that_does_not_finish_draining_is_ended() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (0, ready(1), ""),
            (0, ready(2), ""),
            (0, ScaleTo(1), "[scaled:2>1] drain:2"),
            (22_000, Tick, "[drain-timeout:2] term:2"),
            (25_000, Tick, "[term-timeout:2] kill:2"),
        ],
    );
}

#[test]
fn graceful_stop_takes_its_steps_within_the_total() {
    let delay = Duration::from_secs(5);
    let stop = StopTimes { delay, ..StopTimes::default() };
    check(
        FleetSettings { stop, ..pool(3) },
        &[
            (0, Begin, "spawn:1@0 spawn:2@1 spawn:3@2"),
            (0, ready(1), ""),
            (0, ready(2), ""),
            (1_000, Stop(Graceful), "[delaying:3]"),
            (2_000, code(2, 1), ""),
            (2_000, ScaleTo(9), ""),
            (6_000, Tick, "close [draining:2] drain:1 term:3"),
            (6_001, signal(3, 15), ""),
            (23_000, Tick, "[drain-timeout:1] term:1 [terminating:1]"),
            (26_000, Tick, "[term-timeout:1] kill:1 [killing:1]"),
            (26_001, signal(1, 9), "finish:stopped"),
            (26_002, Stop(Graceful), ""),
        ],
    );
}

#[test]
fn stop_ends_as_soon_as_the_workers_have() {
    check(
        pool(2),
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (0, ready(1), ""),
            (0, ready(2), ""),
            (1, Stop(Graceful), "close [draining:2] drain:1 drain:2"),
            (2, drained(1), "term:1"),
            (3, code(1, 0), ""),
            (4, code(2, 0), "finish:stopped"),
        ],
    );
}

#[test]
fn each_further_stop_skips_a_step() {
    let delay = Duration::from_secs(5);
    let stop = StopTimes { delay, ..StopTimes::default() };
    check(
        FleetSettings { stop, ..pool(1) },
        &[
            (0, Begin, "spawn:1@0"),
            (0, ready(1), ""),
            (1, Stop(Graceful), "[delaying:1]"),
            (2, Stop(Graceful), "close [draining:1] drain:1"),
            (3, Stop(Graceful), "[terminating:1] term:1"),
            (4, Stop(Graceful), "[killing:1] kill:1"),
            (5, Stop(Graceful), ""),
            (2_004, Tick, "[abandoned:1] finish:stopped"),
        ],
    );
}

#[test]
fn interactive_stop_has_a_short_grace() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (0, ready(1), ""),
            (0, Stop(Interactive), "close [draining:1] drain:1"),
            (2_000, Tick, "[drain-timeout:1] term:1 [terminating:1]"),
            (5_000, Tick, "[term-timeout:1] kill:1 [killing:1]"),
        ],
    );
}

#[test]
fn stop_now_terminates_at_once_and_kills_within_two_seconds() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (0, ready(1), ""),
            (0, Stop(Now), "close [terminating:1] term:1"),
            (2_000, Tick, "[term-timeout:1] kill:1 [killing:1]"),
        ],
    );
}

#[test]
fn stop_reaches_a_process_that_did_not_exist_yet() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (0, Stop(Now), "close [terminating:1] term:1"),
            (1, spawned(1), "term:1"),
            (2, Stop(Now), "[killing:1] kill:1"),
            (3, spawned(1), "kill:1"),
            (4, signal(1, 9), "finish:stopped"),
        ],
    );
}

#[test]
fn stop_before_the_beginning_ends_at_once() {
    check(pool(1), &[(0, Stop(Graceful), "close [draining:0] finish:stopped"), (1, Begin, "")]);
}

#[test]
fn zero_exits_count_only_in_a_row() {
    check(
        pool(1),
        &[
            (0, Begin, "spawn:1@0"),
            (1, code(1, 0), "[restart:0 now 1 exit 0] spawn:2@0"),
            (2, code(2, 1), "[restart:0 later 2 exit 1]"),
            (200, Tick, "spawn:3@0"),
            (201, code(3, 0), "[restart:0 later 3 exit 0]"),
            (500, Tick, "spawn:4@0"),
            (501, code(4, 0), "close [draining:0] finish:never-listened"),
        ],
    );
}

#[test]
fn wrapper_that_waits_for_its_child_holds_no_start_back() {
    let settings = FleetSettings { concurrent_starts: NonZeroU16::MIN, ..pool(2) };
    check(
        settings,
        &[
            (0, Begin, "spawn:1@0"),
            (1, ready(1), "spawn:2@1"),
            (2, ready(2), ""),
            (3, unready(1), ""),
            (4, code(2, 1), "[restart:1 now 1 exit 1] spawn:3@1"),
        ],
    );
}

#[test]
fn impatient_second_stop_shortens_what_the_first_one_granted() {
    let delay = Duration::from_secs(5);
    let stop = StopTimes { delay, ..StopTimes::default() };
    check(
        FleetSettings { stop, ..pool(2) },
        &[
            (0, Begin, "spawn:1@0 spawn:2@1"),
            (0, ready(1), ""),
            (0, Stop(Graceful), "[delaying:2]"),
            (0, Stop(Interactive), "close [draining:2] drain:1 term:2"),
            (500, Stop(Graceful), "[terminating:2] term:1"),
            (2_500, Tick, "[term-timeout:1] kill:1 [term-timeout:2] kill:2 [killing:2]"),
        ],
    );
    check(
        FleetSettings { stop, ..pool(1) },
        &[
            (0, Begin, "spawn:1@0"),
            (0, ready(1), ""),
            (0, Stop(Graceful), "[delaying:1]"),
            (0, Stop(Interactive), "close [draining:1] drain:1"),
            (2_000, Tick, "[drain-timeout:1] term:1 [terminating:1]"),
        ],
    );
}
