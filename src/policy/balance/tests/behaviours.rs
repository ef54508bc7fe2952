//! What `Balance` answers, step by step.

use super::table::Do::*;
use super::table::check;

#[test]
fn request_goes_to_the_worker_with_fewest_in_flight_and_ties_rotate() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 2), ""),
        (Join(2, 2), ""),
        (Join(3, 2), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "t2>w2"),
        (Admit(1, 3), "t3>w3"),
        (Release(2), ""),
        (Admit(1, 4), "t4>w2"),
        (Release(1), ""),
        (Release(2), ""),
        (Release(3), ""),
        (Admit(1, 5), "t5>w1"),
        (Admit(1, 6), "t6>w3"),
        (Admit(1, 7), "t7>w2"),
    ]);
}

#[test]
fn connection_goes_to_the_worker_with_least_open_then_least_active() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (Join(1, 99), ""),
        (Join(2, 99), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "t2>w2"),
        (Acked(1), ""),
        (Acked(2), ""),
        (Report(1, 1, 1, 1), ""),
        (Report(2, 1, 1, 0), ""),
        (Admit(1, 3), "t3>w2"),
        (Admit(1, 4), "t4>w1"),
        (Report(2, 2, 0, 0), ""),
        (Admit(1, 5), "t5>w2"),
        (Counts(1), "0/1/2"),
    ]);
}

#[test]
fn full_pool_queues_up_to_the_bound_then_sheds() {
    check(&[
        (OpenRequest(1, 2, 1000), ""),
        (Join(1, 1), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "queued"),
        (Admit(1, 2), "queued"),
        (Admit(1, 3), "queued"),
        (Admit(1, 4), "queue_full"),
        (Release(1), "t2>w1"),
        (Admit(1, 5), "queued"),
        (Length(1), "2"),
        (Bounds(1, 3), "t3>w1 t5>w1"),
        (Counts(1), "3/0/0"),
    ]);
}

#[test]
fn nothing_waits_in_a_queue_of_zero() {
    check(&[
        (OpenRequest(1, 0, 1000), ""),
        (Admit(1, 1), "queue_full"),
        (Join(1, 1), ""),
        (Admit(1, 2), "t2>w1"),
        (Admit(1, 3), "queue_full"),
    ]);
}

#[test]
fn waiters_are_served_as_soon_as_a_worker_is_ready_and_serves() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Admit(1, 1), "queued"),
        (Add(1, 1), ""),
        (Serve(1, 1), ""),
        (Ready(1), "t1>w1"),
        (Admit(1, 2), "queued"),
        (Add(2, 1), ""),
        (Ready(2), ""),
        (Serve(2, 1), "t2>w2"),
    ]);
}

#[test]
fn oldest_waiter_of_all_listeners_gets_the_room() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (OpenRequest(2, 9, 1000), ""),
        (Join(1, 1), ""),
        (Serve(1, 2), ""),
        (Admit(1, 1), "t1>w1"),
        (At(1), ""),
        (Admit(2, 2), "queued"),
        (At(2), ""),
        (Admit(1, 3), "queued"),
        (Release(1), "t2>w1"),
        (Release(1), "t3>w1"),
    ]);
}

#[test]
fn window_of_eight_bounds_unacked_connections_apart_from_open_ones() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (Join(1, 9), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "t2>w1"),
        (Admit(1, 3), "t3>w1"),
        (Admit(1, 4), "t4>w1"),
        (Admit(1, 5), "t5>w1"),
        (Admit(1, 6), "t6>w1"),
        (Admit(1, 7), "t7>w1"),
        (Admit(1, 8), "t8>w1"),
        (Admit(1, 9), "queued"),
        (Admit(1, 10), "queued"),
        (WantsRoom(1), "false"),
        (Acked(1), "t9>w1"),
        (Acked(1), ""),
        (WantsRoom(1), "true"),
        (Report(1, 9, 8, 8), "t10>w1"),
        (WantsRoom(1), "false"),
        (Counts(1), "0/8/9"),
    ]);
}

#[test]
fn reports_heal_and_impossible_ones_are_clamped() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (Join(1, 9), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "t2>w1"),
        (Report(1, 1, 1, 0), ""),
        (Counts(1), "0/2/2"),
        (Report(1, u64::MAX, u32::MAX, u32::MAX), ""),
        (Counts(1), "0/2/2"),
        (Admit(1, 3), "t3>w1"),
        (Counts(1), "0/3/3"),
        (Report(1, 3, 0, 0), ""),
        (Counts(1), "0/3/0"),
        (Acked(1), ""),
        (Acked(1), ""),
        (Acked(1), ""),
        (Acked(1), ""),
        (Release(1), ""),
        (Counts(1), "0/0/0"),
    ]);
}

#[test]
fn refusing_worker_is_left_alone_for_the_pause() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (Join(1, 9), ""),
        (At(10), ""),
        (Admit(1, 1), "t1>w1"),
        (Refused(1, 1), ""),
        (Readmit(1, 1, 10), "queued"),
        (WantsRoom(1), "true"),
        // Seen, not closed: the count of what it holds did not fall.
        (Report(1, 1, 0, 0), ""),
        (Deadline, "110"),
        (At(109), ""),
        (Expire, ""),
        (At(110), ""),
        (Expire, "t1>w1"),
        (Deadline, "none"),
    ]);
}

#[test]
fn worker_that_cannot_receive_is_left_alone_and_counts_nothing() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (Join(1, 9), ""),
        (Admit(1, 1), "t1>w1"),
        (NotReceived(1, 1), ""),
        (Counts(1), "0/0/0"),
        (Readmit(1, 1, 0), "queued"),
        (At(99), ""),
        (Expire, ""),
        (At(100), ""),
        (Expire, "t1>w1"),
        (Counts(1), "0/1/1"),
    ]);
}

#[test]
fn worker_that_refused_is_tried_with_one_and_then_with_more() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (Join(1, 9), ""),
        (Admit(1, 1), "t1>w1"),
        (Refused(1, 1), ""),
        (Readmit(1, 1, 0), "queued"),
        (Admit(1, 2), "queued"),
        (Admit(1, 3), "queued"),
        (Admit(1, 4), "queued"),
        (At(100), ""),
        (Expire, "t1>w1"),
        (Acked(1), "t2>w1 t3>w1"),
        (Acked(1), "t4>w1"),
    ]);
}

#[test]
fn worker_at_its_bound_is_asked_for_room_whatever_is_unacked() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Admit(1, 1), "t1>w1"),
        (WantsRoom(1), "false"),
        (Admit(1, 2), "queued"),
        (Counts(1), "0/1/1"),
        (WantsRoom(1), "true"),
    ]);
}

#[test]
fn refusal_ends_when_the_worker_holds_fewer_connections() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (OpenConnection(2, 9, 1000), ""),
        (Join(1, 9), ""),
        (Serve(1, 2), ""),
        (Admit(1, 1), "t1>w1"),
        (Acked(1), ""),
        (Report(1, 1, 1, 1), ""),
        (Admit(1, 2), "t2>w1"),
        (Refused(1, 1), ""),
        (Readmit(1, 2, 0), "queued"),
        (Admit(2, 3), "t3>w1"),
        (Acked(1), ""),
        (Report(1, 3, 2, 1), ""),
        (Report(1, 3, 1, 1), "t2>w1"),
    ]);
}

#[test]
fn readmitted_ticket_takes_its_old_place_even_in_a_full_queue() {
    check(&[
        (OpenRequest(1, 2, 1000), ""),
        (Join(1, 2), ""),
        (Admit(1, 1), "t1>w1"),
        (At(1), ""),
        (Admit(1, 2), "t2>w1"),
        (At(2), ""),
        (Admit(1, 3), "queued"),
        (Admit(1, 4), "queued"),
        (Remove(1), ""),
        (Release(1), ""),
        (Readmit(1, 2, 1), "queued"),
        (Readmit(1, 1, 0), "queued"),
        (Length(1), "4"),
        (Join(2, 3), "t1>w2 t2>w2 t3>w2"),
    ]);
}

#[test]
fn readmitted_ticket_over_age_is_shed_only_if_nobody_has_room() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (At(1000), ""),
        (Readmit(1, 1, 0), "queue_timeout"),
        (Join(1, 1), ""),
        (Readmit(1, 2, 0), "t2>w1"),
        (Readmit(1, 3, 1), "queued"),
    ]);
}

#[test]
fn age_bound_sheds_the_oldest_first() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Deadline, "none"),
        (Admit(1, 1), "queued"),
        (At(500), ""),
        (Admit(1, 2), "queued"),
        (Deadline, "1000"),
        (At(999), ""),
        (Expire, ""),
        (At(1000), ""),
        (Expire, "t1:queue_timeout"),
        (Deadline, "1500"),
        (At(9000), ""),
        (Expire, "t2:queue_timeout"),
        (Length(1), "0"),
    ]);
}

#[test]
fn unbounded_age_has_no_deadline() {
    check(&[
        (OpenRequest(1, 9, u64::MAX), ""),
        (Admit(1, 1), "queued"),
        (Deadline, "none"),
        (Expire, ""),
    ]);
}

#[test]
fn cancelled_waiter_frees_its_place() {
    check(&[
        (OpenRequest(1, 1, 1000), ""),
        (Admit(1, 1), "queued"),
        (Cancel(1), "true"),
        (Cancel(1), "false"),
        (Admit(1, 2), "queued"),
        (Join(1, 1), "t2>w1"),
        (Cancel(2), "false"),
    ]);
}

#[test]
fn draining_or_dead_worker_gets_nothing_new() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 2), ""),
        (Admit(1, 1), "t1>w1"),
        (Drain(1), ""),
        (Admit(1, 2), "queued"),
        (Release(1), ""),
        (Ready(1), ""),
        (Serve(1, 1), ""),
        (Unready(1), ""),
        (Ready(1), ""),
        (Counts(1), "0/0/0"),
        (Remove(1), ""),
        (Ready(1), ""),
        (Length(1), "1"),
    ]);
}

#[test]
fn unready_worker_starts_from_nothing_but_keeps_its_leases() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (OpenRequest(2, 9, 1000), ""),
        (Join(1, 9), ""),
        (Serve(1, 2), ""),
        (Admit(2, 1), "t1>w1"),
        (Admit(1, 2), "t2>w1"),
        (Unready(1), ""),
        (Counts(1), "1/0/0"),
        // What the process before it says late cannot go below nothing.
        (Acked(1), ""),
        (Report(1, 7, 7, 7), ""),
        (Counts(1), "1/0/0"),
        (Readmit(1, 2, 0), "queued"),
        (Ready(1), ""),
        (Serve(1, 1), "t2>w1"),
        (Release(1), ""),
        (Counts(1), "0/1/1"),
    ]);
}

#[test]
fn withdrawn_connection_counts_nowhere() {
    check(&[
        (OpenConnection(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Admit(1, 1), "t1>w1"),
        (Admit(1, 2), "queued"),
        (Withdraw(1), "t2>w1"),
        (Withdraw(1), ""),
        (Counts(1), "0/0/0"),
    ]);
}

#[test]
fn closed_listener_turns_its_waiters_away() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Admit(1, 1), "queued"),
        (Admit(1, 2), "queued"),
        (Close(1), "t1 t2"),
        (Cancel(1), "false"),
        (Admit(1, 3), "closing"),
        (Join(1, 1), ""),
        (OpenRequest(1, 9, 1000), ""),
        (Admit(1, 4), "queued"),
        (Serve(1, 1), "t4>w1"),
        (Unserve(1, 1), ""),
        (Release(1), ""),
        (Admit(1, 5), "queued"),
    ]);
}
