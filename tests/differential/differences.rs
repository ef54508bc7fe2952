//! What may differ, and why; everything else must not.

use std::collections::BTreeMap;

use Only::{Alone, Behind};

use crate::exchanges;
use crate::programs::PROGRAMS;

/// Where a line is seen that the other has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Alone,
    Behind,
}

/// Lines that only one of both has: those that begin so.
struct Difference {
    /// Which programs, and which exchanges; where none of a kind is named, all of that kind.
    of: &'static [&'static str],
    only: Only,
    lines: &'static [&'static str],
    /// Read by people.
    _because: &'static str,
}

const fn differs(
    of: &'static [&'static str],
    only: Only,
    lines: &'static [&'static str],
    because: &'static str,
) -> Difference {
    Difference { of, only, lines, _because: because }
}

const DIFFERENCES: &[Difference] = &[
    differs(&[], Behind, &["X-Request-Id: ", "Server-Timing: "], "added to every response"),
    differs(
        &[],
        Alone,
        &["Connection: keep-alive", "Keep-Alive: timeout="],
        "how long a worker keeps a connection is between it and the master; clients of HTTP/1.1 \
         need not be told, and those of 1.0 are told by the master",
    ),
    differs(
        &["echo"],
        Behind,
        &["| x-forwarded-", "| x-request-id: "],
        "apps are told who their client is, and which request it is",
    ),
    differs(
        &["echo"],
        Alone,
        &["Content-Length: ", "content-length: "],
        "what is echoed is longer",
    ),
    differs(
        &["echo"],
        Behind,
        &["Content-Length: ", "content-length: "],
        "what is echoed is longer",
    ),
    differs(
        &["websocket"],
        Alone,
        &["Connection: Upgrade"],
        "options of a connection are the master's own, in lower case",
    ),
    differs(&["websocket"], Behind, &["Connection: upgrade"], "the same"),
    differs(
        &["gunicorn", "http.server"],
        Alone,
        &["Connection: close", "closed"],
        "it ends every connection, but that is the one to the master: clients keep theirs",
    ),
    differs(&["gunicorn", "http.server"], Behind, &["kept"], "the same"),
    differs(
        &["uvicorn-fd", "uvicorn-port", "gunicorn", "http.server", "old_client"],
        Alone,
        &["Connection: close", "closed"],
        "it keeps no connection of HTTP/1.0; the master does if it is asked to",
    ),
    differs(
        &["uvicorn-fd", "uvicorn-port", "gunicorn", "http.server", "old_client"],
        Behind,
        &["Connection: keep-alive", "kept"],
        "the same",
    ),
    differs(
        &["gunicorn", "http.server"],
        Alone,
        &["version HTTP/1.0"],
        "every hop states its own version (RFC 9110, 6.2)",
    ),
    differs(&["gunicorn", "http.server"], Behind, &["version HTTP/1.1"], "the same"),
    differs(
        &["http.server", "continue"],
        Behind,
        &["status 100 Continue"],
        "the master asks for a body itself, before it can know that the app refuses it",
    ),
    differs(
        &["http.server", "asked_to_close", "parallel", "old_client"],
        Behind,
        &["Connection: close"],
        "a response of HTTP/1.0 need not say that it is the last, one of HTTP/1.1 must",
    ),
];

/// Exchanges that cannot be compared with a program.
const SKIPPED: &[(&str, &str, &str)] = &[
    ("gunicorn", "pipelined", "alone it serves one request of a connection"),
    ("http.server", "pipelined", "alone it serves one request of a connection"),
];

pub(crate) fn is_skipped(program: &str, exchange: &str) -> bool {
    SKIPPED.iter().any(|(one, other, _)| (*one, *other) == (program, exchange))
}

/// The lines that only one of both has and that no entry of the table covers.
pub(crate) fn unexplained(
    program: &str,
    exchange: &str,
    alone: &[String],
    behind: &[String],
) -> Vec<String> {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    for line in alone {
        *counts.entry(line).or_default() += 1;
    }
    for line in behind {
        *counts.entry(line).or_default() -= 1;
    }
    let covers = |only: Only, line: &str| {
        DIFFERENCES.iter().any(|it| {
            let (programs, exchanges): (Vec<&str>, Vec<&str>) =
                it.of.iter().partition(|name| is_program(name));
            let is_meant = (programs.is_empty() || programs.contains(&program))
                && (exchanges.is_empty() || exchanges.contains(&exchange));
            is_meant && it.only == only && it.lines.iter().any(|start| line.starts_with(start))
        })
    };
    let mut unlike = Vec::new();
    for (line, count) in counts {
        let (only, mark) = if count > 0 { (Alone, "alone ") } else { (Behind, "behind") };
        if count != 0 && !covers(only, line) {
            unlike.push(format!("{exchange:15} {mark} {count:+} {line}"));
        }
    }
    unlike
}

fn is_program(name: &str) -> bool {
    PROGRAMS.iter().any(|program| program.name == name)
}

/// Names in the table that are nobody's.
pub(crate) fn unknown_names() -> Vec<&'static str> {
    let programs = PROGRAMS.iter().map(|program| program.name);
    let known: Vec<&str> = programs.chain(exchanges::ALL.iter().map(|it| it.name)).collect();
    let named = DIFFERENCES.iter().flat_map(|it| it.of.iter().copied());
    let skipped = SKIPPED.iter().flat_map(|(program, exchange, _)| [*program, *exchange]);
    named.chain(skipped).filter(|name| !known.contains(name)).collect()
}
