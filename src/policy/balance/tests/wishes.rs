//! Who comes for one worker, who avoids one, and what lasts for as long as its client stays.

use super::super::*;
use super::table::Do::*;
use super::table::check;

const ONLY_1: Wish = Wish::Only(WorkerId(1));
const NOT_1: Wish = Wish::Not(WorkerId(1));

#[test]
fn who_comes_for_one_worker_waits_for_it_and_not_for_others() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 2), ""),
        (AdmitAs(1, 1, ONLY_1), "t1>w1"),
        (AdmitAs(1, 2, ONLY_1), "queued"),
        (Admit(1, 3), "t3>w2"),
        (Release(2), ""),
        (Release(1), "t2>w1"),
    ]);
}

#[test]
fn who_waits_for_one_worker_keeps_nobody_else_waiting() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 1), ""),
        (AdmitAs(1, 1, ONLY_1), "t1>w1"),
        (Admit(1, 2), "t2>w2"),
        (AdmitAs(1, 3, ONLY_1), "queued"),
        (Admit(1, 4), "queued"),
        (Release(2), "t4>w2"),
        (Release(1), "t3>w1"),
    ]);
}

#[test]
fn others_serve_who_waited_for_a_worker_that_is_gone() {
    for end in [Remove(1), Drain(1), Unready(1), Unserve(1, 1)] {
        check(&[
            (OpenRequest(1, 9, 1000), ""),
            (Join(1, 1), ""),
            (Join(2, 1), ""),
            (AdmitAs(1, 1, ONLY_1), "t1>w1"),
            (AdmitAs(1, 2, ONLY_1), "queued"),
            (end, "t2>w2"),
        ]);
    }
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(2, 1), ""),
        (AdmitAs(1, 1, ONLY_1), "t1>w2"),
        (AdmitAs(1, 2, ONLY_1), "queued"),
        (Release(2), "t2>w2"),
    ]);
}

#[test]
fn who_avoids_a_worker_gets_it_only_if_no_other_has_room() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 2), ""),
        (Join(2, 1), ""),
        (AdmitAs(1, 1, NOT_1), "t1>w2"),
        (AdmitAs(1, 2, NOT_1), "t2>w1"),
        (Admit(1, 3), "t3>w1"),
        (AdmitAs(1, 4, NOT_1), "queued"),
        (Release(1), "t4>w1"),
    ]);
}

#[test]
fn paused_worker_gets_nothing_until_it_finishes_something_or_the_pause_ends() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 3), ""),
        (Admit(1, 1), "t1>w1"),
        (Pause(1, 1), ""),
        (Admit(1, 2), "queued"),
        (Deadline, "100"),
        (Release(1), "t2>w1"),
        (Pause(1, 1), ""),
        (Admit(1, 3), "queued"),
        (At(100), ""),
        (Expire, "t3>w1"),
    ]);
}

#[test]
fn exchange_that_was_not_taken_is_none_that_was_finished() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 3), ""),
        (Join(2, 3), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "t2>w2"),
        (Admit(1, 3), "t3>w1"),
        (NotTaken(1, 1), ""),
        (Admit(1, 4), "t4>w2"),
        (NotTaken(1, 1), ""),
        (Counts(1), "0/0/0"),
        (Admit(1, 5), "t5>w2"),
        (Admit(1, 6), "queued"),
        (At(100), ""),
        (Expire, "t6>w1"),
    ]);
}

#[test]
fn stream_goes_to_who_holds_least_whatever_the_limit() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 2), ""),
        (Join(2, 2), ""),
        (OpenStream(1, Wish::Any), "w1"),
        (OpenStream(1, Wish::Any), "w2"),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "t2>w2"),
        (Admit(1, 3), "t3>w1"),
        (OpenStream(1, Wish::Any), "w2"),
        (OpenStream(1, ONLY_1), "w1"),
        // Each has as many as it may have open.
        (OpenStream(1, Wish::Any), "none"),
        (CloseStream(2), ""),
        (OpenStream(1, ONLY_1), "w2"),
        (OpenStream(1, Wish::Any), "none"),
    ]);
}

#[test]
fn exchange_that_turns_to_a_stream_gives_its_place_to_the_next() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "queued"),
        (Admit(1, 3), "queued"),
        (TurnToStream(1), "t2>w1"),
        (TurnToStream(1), "none"),
        (Counts(1), "1/0/0"),
        (CloseStream(1), ""),
        (TurnToStream(1), "t3>w1"),
    ]);
}
