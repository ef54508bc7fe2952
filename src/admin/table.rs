//! Shows a status to people.

use std::fmt::Write;

use crate::supervisor::recycles::RecycleStatus;
use crate::supervisor::reload::ReloadStatus;
use crate::supervisor::request::{CrashStatus, Status, WorkerStatus};

const HEADINGS: [&str; 9] =
    ["SLOT", "STATE", "PID", "OPEN", "ACTIVE", "ACCEPTED", "RESTARTS", "RSS", "UPTIME"];

/// A status as text: the instance, its listeners, and a row for each worker.
#[must_use]
pub fn table(status: &Status) -> String {
    let mut text = String::new();
    let Status { name, pid, version, phase, totals, .. } = status;
    let uptime = duration(status.uptime_s);
    line(&mut text, format_args!("{name}  {phase}  pid {pid}  version {version}  up {uptime}"));
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
            "workers {}/{} ready  open {}  accepted {}  shed {}  restarts {}",
            totals.ready,
            totals.workers,
            totals.open,
            totals.accepted,
            totals.shed,
            totals.restarts
        ),
    );
    text.push('\n');
    let rows: Vec<[String; 9]> = status.workers.iter().map(row).collect();
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let headings = HEADINGS.map(str::to_owned);
    for row in std::iter::once(&headings).chain(&rows) {
        for (cell, width) in row.iter().zip(&widths) {
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

fn row(worker: &WorkerStatus) -> [String; 9] {
    let dash = || "-".to_owned();
    let state = match worker.restart_in_ms {
        Some(ms) => format!("{} {ms} ms", worker.state),
        None if worker.stalled => format!("{}, stalled", worker.state),
        None if worker.ejected_ms.is_some() => format!("{}, ejected", worker.state),
        None => worker.state.clone(),
    };
    [
        worker.slot.to_string(),
        state,
        worker.pid.map_or_else(dash, |pid| pid.to_string()),
        worker.open.to_string(),
        worker.active.to_string(),
        worker.accepted.to_string(),
        worker.restarts.to_string(),
        format!("{} MiB", worker.rss_bytes >> 20),
        worker.uptime_s.map_or_else(dash, duration),
    ]
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

    #[test]
    fn durations_name_their_two_largest_units() {
        let shown = [0, 59, 185, 7_620, 442_800].map(duration);
        assert_eq!(shown, ["0s", "59s", "3m05s", "2h07m", "5d03h"]);
    }
}
