//! What `Balance` answers, step by step: each row is a call and its rendered answer.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::super::*;
use Do::*;

/// One call. Numbers name workers (`w1`), listeners (`l1`) and tickets (`t1`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Do {
    /// The clock shows this many milliseconds since the start.
    At(u64),
    /// Listener, most waiters, age bound in milliseconds (`u64::MAX`: none).
    OpenRequest(u32, usize, u64),
    OpenConnection(u32, usize, u64),
    Close(u32),
    /// Worker and both its bounds; it becomes ready and serves listener 1.
    Join(u64, u32),
    Add(u64, u32),
    Bounds(u64, u32),
    Ready(u64),
    Unready(u64),
    Serve(u64, u32),
    Unserve(u64, u32),
    Drain(u64),
    Remove(u64),
    Stall(u64, Stalled),
    /// Worker, and milliseconds at which it ends.
    Eject(u64, u64),
    Admit(u32, u64),
    /// Listener, ticket, milliseconds at which it began to wait.
    Readmit(u32, u64, u64),
    Cancel(u64),
    /// Listener, ticket, and the wish.
    AdmitAs(u32, u64, Wish),
    /// Listener and the wish.
    OpenStream(u32, Wish),
    TurnToStream(u64),
    CloseStream(u64),
    /// Worker and listener.
    NotTaken(u64, u32),
    Pause(u64, u32),
    Release(u64),
    Acked(u64),
    Refused(u64, u32),
    NotReceived(u64, u32),
    Withdraw(u64),
    /// Worker, seen, open, active.
    Report(u64, u64, u32, u32),
    Expire,
    Deadline,
    WantsRoom(u64),
    /// Worker's in-flight, un-acked and open.
    Counts(u64),
    /// Listener's waiters.
    Length(u32),
}

/// Runs the calls on a fresh `Balance` and compares each rendered answer.
pub(super) fn check(rows: &[(Do, &str)]) {
    let start = Instant::now();
    let mut now = start;
    let mut balance = Balance::new();
    for (row, &(call, expected)) in rows.iter().enumerate() {
        let answer = run(&mut balance, start, &mut now, call);
        assert_eq!(answer, expected, "row {row}: {call:?}");
    }
}

fn run(balance: &mut Balance, start: Instant, now: &mut Instant, call: Do) -> String {
    let at = |ms| start + Duration::from_millis(ms);
    match call {
        At(ms) => *now = at(ms),
        OpenRequest(l, max, ms) => {
            balance.open_listener(ListenerId(l), Mode::Request, queue(max, ms));
        }
        OpenConnection(l, max, ms) => {
            balance.open_listener(ListenerId(l), Mode::Connection, queue(max, ms));
        }
        Close(l) => return tickets(&balance.close_listener(ListenerId(l))),
        Join(w, bound) => {
            balance.add_worker(WorkerId(w), bounds(bound));
            let grants = balance.ready(*now, WorkerId(w));
            assert!(grants.is_empty(), "serves nothing yet");
            return grants_text(&balance.serve(*now, WorkerId(w), ListenerId(1)));
        }
        Add(w, bound) => balance.add_worker(WorkerId(w), bounds(bound)),
        Bounds(w, bound) => {
            return grants_text(&balance.set_bounds(*now, WorkerId(w), bounds(bound)));
        }
        Ready(w) => return grants_text(&balance.ready(*now, WorkerId(w))),
        Unready(w) => return grants_text(&balance.unready(*now, WorkerId(w))),
        Serve(w, l) => return grants_text(&balance.serve(*now, WorkerId(w), ListenerId(l))),
        Unserve(w, l) => {
            return grants_text(&balance.unserve(*now, WorkerId(w), ListenerId(l)));
        }
        Drain(w) => return grants_text(&balance.drain(*now, WorkerId(w))),
        Remove(w) => return grants_text(&balance.remove_worker(*now, WorkerId(w))),
        Eject(w, ms) => return grants_text(&balance.eject(*now, WorkerId(w), at(ms))),
        Stall(w, it) => return grants_text(&balance.set_stalled(*now, WorkerId(w), it)),
        Admit(l, t) => return admission(balance.admit(*now, ListenerId(l), Ticket(t))),
        Readmit(l, t, ms) => {
            return admission(balance.readmit(*now, ListenerId(l), Ticket(t), at(ms)));
        }
        AdmitAs(l, t, wish) => {
            let (listener, ticket) = (ListenerId(l), Ticket(t));
            return admission(balance.admit_as(Asker { listener, ticket, since: *now, wish }));
        }
        OpenStream(l, wish) => {
            let given = balance.open_stream(ListenerId(l), wish);
            return given.map_or("none".to_owned(), |worker| format!("w{}", worker.0));
        }
        TurnToStream(w) => {
            let grants = balance.turn_to_stream(*now, WorkerId(w));
            return grants.map_or("none".to_owned(), |grants| grants_text(&grants));
        }
        CloseStream(w) => balance.close_stream(WorkerId(w)),
        NotTaken(w, l) => {
            return grants_text(&balance.not_taken(*now, WorkerId(w), ListenerId(l)));
        }
        Pause(w, l) => balance.pause(*now, WorkerId(w), ListenerId(l)),
        Cancel(t) => return balance.cancel(Ticket(t)).to_string(),
        Release(w) => return grants_text(&balance.release(*now, WorkerId(w))),
        Acked(w) => return grants_text(&balance.acked(*now, WorkerId(w))),
        Refused(w, l) => return grants_text(&balance.refused(*now, WorkerId(w), ListenerId(l))),
        NotReceived(w, l) => {
            return grants_text(&balance.not_received(*now, WorkerId(w), ListenerId(l)));
        }
        Withdraw(w) => return grants_text(&balance.withdraw(*now, WorkerId(w))),
        Report(w, seen, open, active) => {
            let load = Load { seen, open, active };
            return grants_text(&balance.report(*now, WorkerId(w), load));
        }
        Expire => {
            let Expired { shed, grants } = balance.expire(*now);
            let shed = shed.iter().map(|(_, ticket, why)| format!("t{}:{why}", ticket.0));
            return shed.chain(grants.iter().map(grant)).collect::<Vec<_>>().join(" ");
        }
        Deadline => {
            let ms = balance.deadline().map(|at| at.duration_since(start).as_millis());
            return ms.map_or("none".to_owned(), |ms| ms.to_string());
        }
        WantsRoom(w) => return balance.wants_room(WorkerId(w)).to_string(),
        Counts(w) => {
            let view = balance.worker(WorkerId(w)).expect("the row names a worker that exists");
            return format!("{}/{}/{}", view.in_flight, view.unacked, view.open);
        }
        Length(l) => {
            let view = balance.listener(ListenerId(l)).expect("the row names an open listener");
            return view.length.to_string();
        }
    }
    String::new()
}

fn queue(max: usize, ms: u64) -> QueueBounds {
    let timeout = if ms == u64::MAX { Duration::MAX } else { Duration::from_millis(ms) };
    QueueBounds { max, timeout }
}

fn bounds(bound: u32) -> WorkerBounds {
    let bound = NonZeroU32::new(bound).expect("rows use bounds above 0");
    WorkerBounds { limit: bound, max_connections: bound }
}

fn grant(grant: &Grant) -> String {
    format!("t{}>w{}", grant.ticket.0, grant.worker.0)
}

fn grants_text(grants: &[Grant]) -> String {
    grants.iter().map(grant).collect::<Vec<_>>().join(" ")
}

fn tickets(tickets: &[Ticket]) -> String {
    tickets.iter().map(|ticket| format!("t{}", ticket.0)).collect::<Vec<_>>().join(" ")
}

fn admission(admission: Admission) -> String {
    match admission {
        Admission::Granted(it) => grant(&it),
        Admission::Queued => "queued".to_owned(),
        Admission::Shed(why) => why.to_string(),
    }
}

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
fn stalled_worker_gets_nothing_until_it_beats_again() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 1), ""),
        (Stall(1, Stalled::Yes), ""),
        (Admit(1, 1), "t1>w2"),
        (Admit(1, 2), "queued"),
        (Stall(1, Stalled::No), "t2>w1"),
    ]);
}

#[test]
fn ejected_worker_gets_nothing_until_its_time_is_over() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 1), ""),
        (Eject(1, 300), ""),
        (Admit(1, 1), "t1>w2"),
        (Admit(1, 2), "queued"),
        (Deadline, "300"),
        (At(299), ""),
        (Expire, ""),
        (At(300), ""),
        (Expire, "t2>w1"),
    ]);
}

#[test]
fn when_more_than_half_are_out_all_get_work_those_in_order_first() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 1), ""),
        (Join(2, 1), ""),
        (Join(3, 2), ""),
        (Stall(1, Stalled::Yes), ""),
        (Admit(1, 1), "t1>w2"),
        (Admit(1, 2), "t2>w3"),
        (Eject(2, 900), ""),
        (Admit(1, 3), "t3>w3"),
        (Admit(1, 4), "t4>w1"),
        (Release(2), ""),
        (Admit(1, 5), "t5>w2"),
        (Admit(1, 6), "queued"),
        // One of three is no more than half.
        (At(900), ""),
        (Expire, ""),
        (Release(1), ""),
        (Release(3), "t6>w3"),
    ]);
}

#[test]
fn a_worker_alone_is_never_out() {
    check(&[
        (OpenRequest(1, 9, 1000), ""),
        (Join(1, 2), ""),
        (Stall(1, Stalled::Yes), ""),
        (Admit(1, 1), "t1>w1"),
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
