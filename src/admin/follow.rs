//! The reading end of a stream of lines over the control socket: `tenfold events`, `tenfold logs`.

use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request as HttpRequest, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::net::UnixStream;

use super::client::{PATIENCE, explain, refused};

/// How events, and lines of workers, are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStyle {
    /// `2025-01-31T08:00:00.000Z worker_ready slot=0 worker=1 pid=17 after_ms=52`.
    Text,
    /// As they come: one JSON object a line.
    Json,
}

/// A flag of the command line: `--json`.
impl From<bool> for EventStyle {
    fn from(is_set: bool) -> Self {
        if is_set { Self::Json } else { Self::Text }
    }
}

/// These come first, in this order; the others by name.
const FIRST: [&str; 3] = ["slot", "worker", "pid"];

/// Gives every line of a master's events to `print`, until the master has ended.
///
/// # Errors
/// It cannot be reached, was killed, or has cut us for being slow; what `print` returns. A reader
/// of ours that has gone away ends it without an error.
pub async fn events(
    socket: &Path,
    style: EventStyle,
    mut print: impl FnMut(&str) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut last = String::new();
    let outcome = follow(socket, "/events", |line| {
        let event: Map<String, Value> =
            serde_json::from_str(line).context("the master sent what is no event")?;
        last = event.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
        if last == "cut" {
            let missed = event.get("missed").and_then(Value::as_u64).unwrap_or(0);
            bail!("cut: the reader was too slow and missed {missed} events");
        }
        let printed = match style {
            EventStyle::Json => print(line),
            EventStyle::Text => print(&text(&event)),
        };
        Ok(printed?)
    });
    match outcome.await {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        Ok(()) if last != "finished" => bail!("the master is gone"),
        outcome => outcome,
    }
}

/// Which lines of workers are wanted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogsWanted {
    /// Only of this slot; none: of all, each with its slot before it.
    pub slot: Option<u16>,
    /// At most so many of those that are kept; none: all of them.
    pub last: Option<u32>,
    /// Whether to go on with what the workers write from now on.
    pub follow: bool,
    /// Text as the workers wrote it, or JSON.
    pub style: EventStyle,
}

/// Gives the lines that a master keeps of its workers to `print`, and those that follow.
///
/// # Errors
/// It cannot be reached, has no such slot or does not see what its workers write; what `print`
/// returns. A reader of ours that has gone away ends it without an error, and so does the
/// master's end.
pub async fn logs(
    socket: &Path,
    wanted: LogsWanted,
    mut print: impl FnMut(&str) -> io::Result<()>,
) -> anyhow::Result<()> {
    let LogsWanted { slot, last, follow: follows, style } = wanted;
    let one = slot.map_or_else(String::new, |slot| format!("&slot={slot}"));
    let last = last.map_or_else(String::new, |last| format!("&last={last}"));
    let path = format!("/logs?follow={follows}{one}{last}");
    let outcome = follow(socket, &path, |line| {
        let printed = match style {
            EventStyle::Json => print(line),
            EventStyle::Text => {
                let log: Map<String, Value> =
                    serde_json::from_str(line).context("the master sent what is no line")?;
                print(&log_text(&log, slot))
            }
        };
        Ok(printed?)
    });
    match outcome.await {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

/// One line of a worker for a person, as the worker wrote it.
fn log_text(log: &Map<String, Value>, slot: Option<u16>) -> String {
    if let Some(missed) = log.get("missed") {
        return format!("[{missed} lines missed]");
    }
    let line = log.get("line").and_then(Value::as_str).unwrap_or_default();
    match (slot, log.get("slot")) {
        (None, Some(slot)) => format!("[{slot}] {line}"),
        (Some(_), _) | (None, None) => line.to_owned(),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// One event for a person.
fn text(event: &Map<String, Value>) -> String {
    let plain = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!("{} {}", plain("time"), plain("event"));
    let rest = event.keys().map(String::as_str);
    let rest = rest.filter(|key| !FIRST.contains(key) && !["time", "event"].contains(key));
    for key in FIRST.into_iter().chain(rest) {
        match event.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(word)) if is_word(word) => line.push_str(&format!(" {key}={word}")),
            // As JSON, so that nothing in it breaks the line or acts on a terminal.
            Some(value) => line.push_str(&format!(" {key}={value}")),
        }
    }
    line
}

fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "._-/:".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

/// Asks for `path` and takes line after line until the end.
async fn follow(
    socket: &Path,
    path: &str,
    mut take: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let whole = async {
        let stream = UnixStream::connect(socket).await.map_err(explain)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request =
            HttpRequest::get(path).header("host", "tenfold").body(Empty::<Bytes>::new())?;
        let read = async move {
            let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
            let answer = answer.context("the master does not answer")??;
            if answer.status() != StatusCode::OK {
                let status = answer.status();
                let body = answer.into_body().collect().await?.to_bytes();
                return Err(refused(status, &body));
            }
            take_lines(answer.into_body(), &mut take).await
        };
        tokio::pin!(connection, read);
        tokio::select! {
            biased;
            outcome = &mut read => outcome,
            // The connection drives the exchange; what it has read is still to be taken.
            _ = &mut connection => read.await,
        }
    };
    whole.await.with_context(|| format!("control socket {}", socket.display()))
}

async fn take_lines(
    mut body: Incoming,
    take: &mut impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut part = Vec::new();
    while let Some(frame) = body.frame().await {
        // A master that was killed ends within a chunk.
        let Ok(Ok(data)) = frame.map(hyper::body::Frame::into_data) else {
            return Ok(());
        };
        part.extend_from_slice(&data);
        let mut lines = part.split(|byte| *byte == b'\n');
        // What follows the last line break is no line yet.
        let rest = lines.next_back().unwrap_or_default().len();
        for line in lines {
            take(&String::from_utf8_lossy(line))?;
        }
        part.drain(..part.len() - rest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_for_people_is_one_line_that_begins_with_who() {
        let line = r#"{"time":"T","event":"worker_crashed","exit":"signal 9","pid":7,"slot":0,
            "worker":3,"killer":null,"last_output":"a\nb \u001b[2J","was":"ready"}"#;
        let event: Map<String, Value> = serde_json::from_str(line).expect("it is JSON");
        let expected = "T worker_crashed slot=0 worker=3 pid=7 exit=\"signal 9\" \
                        last_output=\"a\\nb \\u001b[2J\" was=ready";
        assert_eq!(text(&event), expected);
    }
}
