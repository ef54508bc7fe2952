//! Turns `tracing` events into lines: for people, for the journal, or JSON.
//!
//! Spans are not rendered: an event carries its fields. No byte of a field reaches a terminal as a
//! control character, and a line break inside a message can not pass for a line of its own.

use std::error::Error;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::inbox::Inbox;

/// What one of our own lines looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStyle {
    /// `2025-01-31T08:00:00.000Z  INFO message key=value`, UTC; debug and trace name their target.
    Text,
    /// The same with ANSI colours.
    Colour,
    /// `<6>message key=value`: systemd's priority prefix, on each line of the message; the journal
    /// has a clock of its own.
    Journal,
    /// `{"timestamp":…,"level":"info","message":…,"key":value,"target":…}`.
    Json,
}

/// The layer that writes events to stderr through the log thread.
#[derive(Clone, Debug)]
pub struct OwnLines {
    style: LineStyle,
    inbox: Arc<Inbox>,
}

impl OwnLines {
    pub(super) fn new(style: LineStyle, inbox: Arc<Inbox>) -> Self {
        Self { style, inbox }
    }
}

impl<S: Subscriber> Layer<S> for OwnLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line::new(self.style, *metadata.level(), metadata.target());
        event.record(&mut line);
        self.inbox.push_own(line.finish(SystemTime::now()).as_bytes());
    }
}

/// One line in the making: a message and fields, in the order in which they come.
#[derive(Debug)]
pub(super) struct Line<'a> {
    style: LineStyle,
    level: Level,
    target: &'a str,
    message: String,
    fields: String,
}

impl<'a> Line<'a> {
    pub(super) fn new(style: LineStyle, level: Level, target: &'a str) -> Self {
        Self { style, level, target, message: String::new(), fields: String::new() }
    }

    pub(super) fn message(mut self, message: &str) -> Self {
        self.message.push_str(message);
        self
    }

    pub(super) fn field(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.bare(name, value);
        self
    }

    /// The line, newline included.
    pub(super) fn finish(self, now: SystemTime) -> String {
        match self.style {
            LineStyle::Json => self.finish_json(now),
            LineStyle::Journal => {
                let prefix = format!("<{}>", priority(self.level));
                let body = format!("{}{}", tidy(&self.message), self.fields);
                let mut out = String::with_capacity(body.len() + 8);
                for line in body.lines() {
                    out.push_str(&prefix);
                    out.push_str(line);
                    out.push('\n');
                }
                out
            }
            LineStyle::Text | LineStyle::Colour => self.finish_text(now),
        }
    }

    fn finish_text(self, now: SystemTime) -> String {
        let time = humantime::format_rfc3339_millis(now);
        let (dim, colour, plain) = match self.style {
            LineStyle::Colour => ("\x1b[2m", level_colour(self.level), "\x1b[0m"),
            LineStyle::Text | LineStyle::Journal | LineStyle::Json => ("", "", ""),
        };
        let level = self.level;
        let mut out = format!("{dim}{time}{plain} {colour}{level:>5}{plain} ");
        if level > Level::INFO {
            out.push_str(self.target);
            out.push_str(": ");
        }
        // Indented, so that what a worker printed cannot be taken for a line of ours.
        out.push_str(&tidy(&self.message).replace('\n', "\n    "));
        out.push_str(&self.fields);
        out.push('\n');
        out
    }

    fn finish_json(self, now: SystemTime) -> String {
        let time = humantime::format_rfc3339_millis(now);
        let level = self.level.as_str().to_ascii_lowercase();
        let message = json_string(&self.message);
        let target = json_string(self.target);
        let fields = self.fields;
        format!(
            "{{\"timestamp\":\"{time}\",\"level\":\"{level}\",\"message\":{message}{fields},\
             \"target\":{target}}}\n"
        )
    }

    /// Adds a number or another value that needs no quotes.
    fn bare(&mut self, name: &str, value: impl fmt::Display) {
        match self.style {
            LineStyle::Json => push(&mut self.fields, format_args!(",\"{name}\":{value}")),
            LineStyle::Colour => {
                push(&mut self.fields, format_args!(" \x1b[2m{name}=\x1b[0m{value}"));
            }
            LineStyle::Text | LineStyle::Journal => {
                push(&mut self.fields, format_args!(" {name}={value}"));
            }
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        if name == "message" {
            self.message.push_str(value);
            return;
        }
        let quoted = value.is_empty()
            || value.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"' || c == '=');
        match self.style {
            LineStyle::Json => self.bare(name, json_string(value)),
            LineStyle::Text | LineStyle::Colour | LineStyle::Journal if quoted => {
                self.bare(name, format_args!("{value:?}"));
            }
            LineStyle::Text | LineStyle::Colour | LineStyle::Journal => self.bare(name, value),
        }
    }
}

impl Visit for Line<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field.name(), value);
        } else {
            self.text(field.name(), &value.to_string());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut chain = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            push(&mut chain, format_args!(": {error}"));
            cause = error.source();
        }
        self.text(field.name(), &chain);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }
}

/// Escapes control characters other than line breaks.
fn tidy(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for c in message.trim_end_matches('\n').chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` as a JSON string, quotes included.
pub(super) fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string can always be written as JSON")
}

fn push(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}

/// syslog(3) priorities, as sd-daemon(3) wants them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

fn level_colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[34m",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::UNIX_EPOCH;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What the layer writes for the events of `events`.
    fn written(style: LineStyle, events: impl FnOnce()) -> String {
        let inbox = Arc::new(Inbox::new().expect("eventfd"));
        let layer = OwnLines::new(style, Arc::clone(&inbox));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(inbox.take_own().bytes).expect("own lines are UTF-8")
    }

    fn hostile() {
        tracing::warn!(slot = 3, why = "a \"b\"\x1b[2J", "worker said \x1b]0;x\x07\nfake line");
    }

    #[test]
    fn text_escapes_controls_and_indents_line_breaks() {
        let out = written(LineStyle::Text, hostile);
        let (time, rest) = out.split_at("2025-01-31T08:00:00.000Z".len());
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert_eq!(
            rest,
            "  WARN worker said \\u{1b}]0;x\\u{7}\n    fake line slot=3 \
             why=\"a \\\"b\\\"\\u{1b}[2J\"\n"
        );
    }

    #[test]
    fn the_journal_gets_a_priority_on_every_line_and_no_time() {
        let out = written(LineStyle::Journal, hostile);
        assert!(out.starts_with("<4>worker said "), "{out}");
        assert!(out.contains("\n<4>fake line slot=3 why="), "{out}");
    }

    #[test]
    fn json_is_one_valid_object_with_typed_fields() {
        let out = written(LineStyle::Json, || {
            let error = io::Error::other("inner");
            let error: &(dyn Error + 'static) = &error;
            tracing::info!(slot = 3, share = 0.5, nan = f64::NAN, ok = true, error, "started");
            hostile();
        });
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["level"], "info");
        assert_eq!(lines[0]["message"], "started");
        assert_eq!(lines[0]["slot"], 3);
        assert_eq!(lines[0]["share"], 0.5);
        assert_eq!(lines[0]["nan"], "NaN");
        assert_eq!(lines[0]["ok"], true);
        assert_eq!(lines[0]["error"], "inner");
        assert_eq!(lines[1]["message"], "worker said \u{1b}]0;x\u{7}\nfake line");
    }

    #[test]
    fn only_debug_and_trace_name_their_target() {
        let line = |level| Line::new(LineStyle::Text, level, "t::x").message("m");
        let out = line(Level::INFO).field("n", 1).finish(UNIX_EPOCH);
        assert_eq!(out, "1970-01-01T00:00:00.000Z  INFO m n=1\n");
        let out = line(Level::DEBUG).finish(UNIX_EPOCH);
        assert_eq!(out, "1970-01-01T00:00:00.000Z DEBUG t::x: m\n");
    }
}
