//! A table of calls and their rendered answers, and how it is checked.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::super::*;
use crate::policy::Duty;
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
    Assign(u64, Duty),
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
        Assign(w, duty) => return grants_text(&balance.set_duty(*now, WorkerId(w), duty)),
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
