//! Shows a status to people.

use std::fmt::Write;

use super::client::VERSION;
use crate::supervisor::recycles::RecycleStatus;
use crate::supervisor::reload::ReloadStatus;
use crate::supervisor::request::{CrashStatus, Status, WorkerStatus};
use crate::supervisor::stack::{JavaScript, StackStatus, ThreadStatus};

/// What workers do is counted by the mode: requests and their limit, or connections.
const IN_REQUEST_MODE: [&str; 3] = ["IN-FLIGHT", "STREAMS", "REQUESTS"];
const IN_CONNECTION_MODE: [&str; 3] = ["OPEN", "ACTIVE", "ACCEPTED"];

/// A status as text: the instance, its listeners, and a row for each worker.
#[must_use]
pub fn table(status: &Status) -> String {
    let mut text = String::new();
    let Status { name, pid, version, phase, totals, .. } = status;
    let uptime = duration(status.uptime_s);
    line(&mut text, format_args!("{name}  {phase}  pid {pid}  version {version}  up {uptime}"));
    if version != VERSION {
        line(&mut text, format_args!("running {version}, installed {VERSION}: tenfold upgrade"));
    }
    for listener in &status.listeners {
        let queue = listener.queue;
        line(
            &mut text,
            format_args!(
                "{}  {} mode  queue {}/{}",
                listener.url, listener.mode, queue.length, queue.max
            ),
        );
    }
    let generation = status.generation;
    line(&mut text, format_args!("generation {generation}  in {}", status.directory));
    if let Some(reload) = status.last_reload.as_ref().filter(|it| it.reason.is_some()) {
        line(&mut text, format_args!("{}", reload_text(reload)));
    }
    line(
        &mut text,
        format_args!(
            "workers {}/{} ready  requests {}  open {}  accepted {}  shed {}  restarts {}",
            totals.ready,
            totals.workers,
            totals.requests,
            totals.open,
            totals.accepted,
            totals.shed,
            totals.restarts
        ),
    );
    if status.workers.iter().any(|worker| worker.spare) {
        let (spares, takeovers) = (totals.spares, totals.takeovers);
        line(&mut text, format_args!("spares {spares} ready  takeovers {takeovers}"));
    }
    text.push('\n');
    let shown = Shown::of(status);
    let rows: Vec<Vec<String>> = std::iter::once(headings(shown))
        .chain(status.workers.iter().map(|worker| row(worker, shown)))
        .collect();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for worker in &status.workers {
        if let Some(CrashStatus { kind, exit, age_ms }) = &worker.last_crash {
            let (slot, ago) = (worker.slot, duration(age_ms / 1000));
            line(&mut text, format_args!("slot {slot}: crashed {ago} ago, {kind} ({exit})"));
        }
    }
    text
}

/// What came of a reload, for people.
#[must_use]
pub fn reload_text(status: &ReloadStatus) -> String {
    let ReloadStatus { generation, reason, last_output, took_ms, .. } = status;
    let Some(reason) = reason else {
        let seconds = *took_ms as f64 / 1000.0;
        return format!("generation {generation} serves, after {seconds:.1} s");
    };
    let mut text = format!("reload failed: {reason}\ngeneration {generation} goes on");
    if let Some(output) = last_output {
        line(&mut text, format_args!("\nit wrote last:\n{output}"));
    }
    text
}

/// What came of a wish for new workers, for people.
#[must_use]
pub fn recycle_text(status: &RecycleStatus) -> String {
    let RecycleStatus { recycled, asked, reason, last_output, took_ms } = status;
    let Some(reason) = reason else {
        let seconds = *took_ms as f64 / 1000.0;
        return format!("recycled {recycled} of {asked}, after {seconds:.1} s");
    };
    let mut text = format!("recycled {recycled} of {asked}: {reason}");
    if let Some(output) = last_output {
        line(&mut text, format_args!("\nit wrote last:\n{output}"));
    }
    text
}

/// What a worker does, for people.
#[must_use]
pub fn stack_text(stack: &StackStatus) -> String {
    let StackStatus { slot, worker, pid, runtime, javascript, threads } = stack;
    let runtime = runtime.as_ref().map_or_else(String::new, |it| format!(", {it}"));
    let mut text = format!("slot {slot}, worker {worker}, process {pid}{runtime}\n");
    match javascript {
        JavaScript::Script { frames } => {
            line(&mut text, format_args!("JavaScript:"));
            for frame in frames {
                line(&mut text, format_args!("    at {frame}"));
            }
        }
        JavaScript::Idle | JavaScript::Native | JavaScript::Unknown { .. } => {
            line(&mut text, format_args!("JavaScript {javascript}"));
        }
    }
    line(&mut text, format_args!("threads:"));
    for ThreadStatus { tid, name, doing, kernel } in threads {
        line(&mut text, format_args!("    {tid} {name}: {doing}"));
        for function in kernel {
            line(&mut text, format_args!("        {function}"));
        }
    }
    text
}

/// Which counts have a meaning for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Requests,
    Connections,
    Both,
}

impl Shown {
    fn of(status: &Status) -> Self {
        let has = |mode: &str| status.listeners.iter().any(|listener| listener.mode == mode);
        match (has("request"), has("connection")) {
            (true, false) => Self::Requests,
            (false, true) => Self::Connections,
            (true, true) | (false, false) => Self::Both,
        }
    }

    /// Those of the two groups that are shown.
    fn pick(self, requests: [String; 3], connections: [String; 3]) -> Vec<String> {
        match self {
            Self::Requests => requests.to_vec(),
            Self::Connections => connections.to_vec(),
            Self::Both => requests.into_iter().chain(connections).collect(),
        }
    }
}

fn headings(shown: Shown) -> Vec<String> {
    let counts =
        shown.pick(IN_REQUEST_MODE.map(str::to_owned), IN_CONNECTION_MODE.map(str::to_owned));
    let before = ["SLOT", "STATE", "PID"].map(str::to_owned);
    let after = ["RESTARTS", "RSS", "UPTIME"].map(str::to_owned);
    before.into_iter().chain(counts).chain(after).collect()
}

fn row(worker: &WorkerStatus, shown: Shown) -> Vec<String> {
    let dash = || "-".to_owned();
    let state = match worker.restart_in_ms {
        Some(ms) => format!("{} {ms} ms", worker.state),
        None if worker.stalled => format!("{}, stalled", worker.state),
        None if worker.spare && worker.state != "spare" => format!("{}, spare", worker.state),
        None if worker.ejected_ms.is_some() => format!("{}, ejected", worker.state),
        None => worker.state.clone(),
    };
    let counts = shown.pick(
        [
            format!("{}/{}", worker.in_flight, worker.limit),
            worker.streams.to_string(),
            worker.requests.to_string(),
        ],
        [worker.open.to_string(), worker.active.to_string(), worker.accepted.to_string()],
    );
    let before =
        [worker.slot.to_string(), state, worker.pid.map_or_else(dash, |pid| pid.to_string())];
    let after = [
        worker.restarts.to_string(),
        format!("{} MiB", worker.rss_bytes >> 20),
        worker.uptime_s.map_or_else(dash, duration),
    ];
    before.into_iter().chain(counts).chain(after).collect()
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

/// Seconds as `42s`, `3m05s`, `2h07m`, `5d03h`.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::request::Totals;

    #[test]
    fn durations_name_their_two_largest_units() {
        let shown = [0, 59, 185, 7_620, 442_800].map(duration);
        assert_eq!(shown, ["0s", "59s", "3m05s", "2h07m", "5d03h"]);
    }

    /// What a master of this version says, as one of a later version would: with more fields.
    fn status_of(version: &str) -> Status {
        let said = serde_json::json!({
            "name": "shop", "pid": 7, "version": version, "phase": "running", "generation": 1,
            "uptime_s": 60, "listeners": [], "workers": [], "mood": "good",
            "totals": Totals::default(),
        });
        serde_json::from_value(said).expect("unknown fields are left out")
    }

    #[test]
    fn another_version_than_the_installed_one_is_told() {
        let other = table(&status_of("0.0.9"));
        assert!(other.contains(&format!("running 0.0.9, installed {VERSION}: tenfold upgrade")));
        assert!(!table(&status_of(VERSION)).contains("installed"));
    }
}
