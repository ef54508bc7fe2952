//! Which failures may be: those with a reason code and an event in the log that explains them.
//!
//! How many workers were given a request the workers themselves have noted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::clients::{Failure, How, Kind};

/// How far a line of the log may be from what it tells of. A death is told when the last output of
/// the dead is in; strace and two busy cores delay that.
const SLACK: Duration = Duration::from_secs(2);

/// One line of tenfold's own.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: String,
    message: String,
}

/// What the log and the workers tell.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// When workers died that had not been told to.
    deaths: Vec<SystemTime>,
    /// When clients of silent workers were let go.
    hangs: Vec<SystemTime>,
    /// How often each message came.
    pub(crate) counts: BTreeMap<String, u64>,
    /// The workers that were given a request, by its number.
    seen: BTreeMap<u64, BTreeSet<u64>>,
}

/// What must not be sent again: every tenth.
pub(crate) fn is_post(number: u64) -> bool {
    number.is_multiple_of(10)
}

impl Events {
    /// Reads the log, whose lines that are not tenfold's own are passed over, and what workers
    /// noted: the number of each request and their pid.
    pub(crate) fn read(log: &str, seen: &str) -> Self {
        let mut events = Self::default();
        for line in seen.lines() {
            let (number, pid) = line.split_once(' ').expect("two numbers");
            let parse = |text: &str| text.parse().expect("a number");
            events.seen.entry(parse(number)).or_default().insert(parse(pid));
        }
        for line in log.lines() {
            let Ok(Line { timestamp, message }) = serde_json::from_str(line) else {
                continue;
            };
            let at = humantime::parse_rfc3339(&timestamp).expect("the log's times are RFC 3339");
            match message.as_str() {
                "worker crashed, restarting"
                | "worker died with requests in flight"
                | "worker left and did not finish its requests" => events.deaths.push(at),
                "worker gives no sign of life" => events.hangs.push(at),
                _ => {}
            }
            *events.counts.entry(message).or_default() += 1;
        }
        events
    }

    /// The requests that were given to more workers than may be.
    pub(crate) fn repeated(&self) -> Vec<String> {
        let most = |number| if is_post(number) { 1 } else { 2 };
        let repeated = self.seen.iter().filter(|(number, workers)| workers.len() > most(**number));
        repeated.map(|(number, workers)| format!("{number} was given to {workers:?}")).collect()
    }

    /// Why this failure should not have been; none if it may be.
    pub(crate) fn accuse(&self, failure: &Failure) -> Option<String> {
        let deaths = within(&self.deaths, failure);
        let hangs = within(&self.hangs, failure);
        match &failure.how {
            How::Refused { reason, .. } if reason == "worker_lost" => {
                // One crash is made good, unless the request must not be sent again.
                let needed = match failure.kind {
                    Kind::Post => 0,
                    Kind::Quick | Kind::Slow | Kind::Stream => 2,
                };
                let given = self.seen.get(&failure.number).map_or(0, BTreeSet::len);
                let text = format!("lost by {given} workers in the time of {deaths} deaths");
                (given < needed || deaths == 0).then_some(text)
            }
            How::Refused { reason, .. } if reason == "worker_hung" => {
                (hangs == 0).then(|| "let go, and the log tells of no silent worker".to_owned())
            }
            How::Refused { status, reason } => Some(format!("{status} for {reason}")),
            How::Cut(error) => {
                let has_halves = failure.kind == Kind::Stream;
                let text = format!("cut ({error}) in the time of {deaths} deaths");
                (deaths == 0 || !has_halves).then_some(text)
            }
            How::Silence(error) => Some(format!("not a byte of an answer: {error}")),
            How::Wrong(what) => Some(format!("a wrong answer: {what}")),
        }
    }
}

/// How many of these were while the request was under way.
fn within(times: &[SystemTime], failure: &Failure) -> usize {
    let (from, to) = (failure.began - SLACK, failure.ended + SLACK);
    times.iter().filter(|at| (from..=to).contains(*at)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"
        {"timestamp":"2025-01-31T08:00:10.000Z","message":"worker crashed, restarting"}
        what an app says
        {"timestamp":"2025-01-31T08:00:30.000Z","message":"worker gives no sign of life"}
    "#;

    fn failure(number: u64, second: u32, kind: Kind, how: How) -> Failure {
        let text = format!("2025-01-31T08:00:{second:02}Z");
        let began = humantime::parse_rfc3339(&text).expect("it is a time");
        Failure { number, kind, began, ended: began, how }
    }

    fn refused(reason: &str) -> How {
        How::Refused { status: 502, reason: reason.to_owned() }
    }

    #[test]
    fn only_what_the_log_explains_may_be() {
        let events = Events::read(LOG, "1 100\n2 100\n2 101\n10 100\n");
        assert_eq!(events.counts.values().sum::<u64>(), 2);
        for (number, second, kind, how, may_be) in [
            (1, 10, Kind::Post, refused("worker_lost"), true),
            (1, 20, Kind::Post, refused("worker_lost"), false),
            // One crash is none of its business.
            (1, 10, Kind::Quick, refused("worker_lost"), false),
            (2, 10, Kind::Quick, refused("worker_lost"), true),
            (2, 20, Kind::Quick, refused("worker_lost"), false),
            (1, 30, Kind::Quick, refused("worker_hung"), true),
            (1, 10, Kind::Quick, refused("worker_hung"), false),
            (1, 10, Kind::Stream, How::Cut(String::new()), true),
            (1, 20, Kind::Stream, How::Cut(String::new()), false),
            (1, 10, Kind::Quick, How::Cut(String::new()), false),
            (1, 10, Kind::Post, How::Silence(String::new()), false),
            (1, 10, Kind::Post, How::Wrong(String::new()), false),
            (1, 10, Kind::Post, refused("queue_timeout"), false),
        ] {
            let failure = failure(number, second, kind, how);
            assert_eq!(events.accuse(&failure).is_none(), may_be, "{failure:?}");
        }
    }

    #[test]
    fn nothing_is_given_to_a_third_worker_or_posted_twice() {
        let repeated = |seen: &str| Events::read("", seen).repeated().len();
        assert_eq!(repeated("1 100\n1 100\n1 101\n10 100\n"), 0);
        assert_eq!(repeated("1 100\n1 101\n1 102\n10 100\n10 101\n"), 2);
    }
}
