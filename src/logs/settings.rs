//! Decides from the environment how lines look and which descriptors they go to.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::stat::fstat;

use super::LineStyle;

/// The form of our own lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// What happens to the lines that workers print. (`logs = "inherit"` needs nothing from here: the
/// workers are given our own descriptors.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerOutput {
    /// On a terminal a `[slot] ` prefix; otherwise byte for byte.
    Auto,
    /// Always wrapped: the prefix, or in JSON an object with `timestamp`, `worker`, `slot`,
    /// `stream`, `line`, and `partial: true` on every piece of a line that came without its
    /// newline (too long, or unfinished). In JSON, bytes that are not UTF-8 become U+FFFD: JSON has
    /// no bytes, and an escape of our own would be read by nobody.
    Tag,
}

/// What the log thread is started with.
#[derive(Debug)]
pub struct LogSettings {
    /// Where workers' stdout goes. Its flags are never changed.
    pub stdout: OwnedFd,
    /// Where workers' stderr and our own lines go. Its flags are never changed.
    pub stderr: OwnedFd,
    /// The look of our own lines; colours workers' prefixes too.
    pub style: LineStyle,
    /// The look of workers' lines.
    pub workers: WorkerOutput,
    /// How long a reader that takes nothing may hold a worker back before lines are dropped until
    /// most of the backlog is gone; [`PATIENCE`] by default.
    pub patience: Duration,
}

/// The default of [`LogSettings::patience`].
///
/// Longer than a busy machine leaves a reader unscheduled, far shorter than the 2 s after which an
/// event loop counts as hung. A reader of 0.7 MB/s or more (64 KiB in this time) loses nothing; one
/// that is dead costs a worker that logs without end this much, once.
pub const PATIENCE: Duration = Duration::from_millis(100);

impl LogSettings {
    /// The process's own stdout and stderr, in the style that suits them.
    ///
    /// Without a `format`, text on a terminal and under the journal, JSON otherwise. `env` looks up
    /// `JOURNAL_STREAM`, `NO_COLOR` and `TERM`. Fails if a descriptor cannot be duplicated.
    pub fn detect(
        format: Option<LogFormat>,
        workers: WorkerOutput,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(Self {
            style: style_for(&stderr, format, env),
            stdout,
            stderr,
            workers,
            patience: PATIENCE,
        })
    }
}

/// The style of lines written to `stderr`.
pub(super) fn style_for(
    stderr: &OwnedFd,
    format: Option<LogFormat>,
    env: impl Fn(&str) -> Option<OsString>,
) -> LineStyle {
    let terminal = stderr.is_terminal();
    let journal = is_journal(stderr, env("JOURNAL_STREAM"));
    match format {
        Some(LogFormat::Json) => LineStyle::Json,
        None if !terminal && !journal => LineStyle::Json,
        Some(LogFormat::Text) | None => {
            // no-color.org: present and not empty. A dumb terminal shows escapes as they are.
            let refused = env("NO_COLOR").is_some_and(|value| !value.is_empty())
                || env("TERM").is_some_and(|value| value == "dumb");
            if journal {
                LineStyle::Journal
            } else if terminal && !refused {
                LineStyle::Colour
            } else {
                LineStyle::Text
            }
        }
    }
}

/// Whether `JOURNAL_STREAM` names this very descriptor: the variable is inherited by everything a
/// service starts, redirected or not (systemd.exec(5)).
fn is_journal(stderr: &OwnedFd, variable: Option<OsString>) -> bool {
    let (Some(variable), Ok(stat)) = (variable, fstat(stderr)) else {
        return false;
    };
    variable.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;
    use nix::unistd::pipe;

    use super::*;

    fn check(fd: &OwnedFd, format: Option<LogFormat>, env: &[(&str, &str)], expected: LineStyle) {
        let lookup = |name: &str| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        assert_eq!(style_for(fd, format, lookup), expected, "{format:?} {env:?}");
    }

    #[test]
    fn the_style_follows_the_descriptor_and_the_environment() {
        let pty = openpty(None, None).expect("pty");
        let (pipe, _writer) = pipe().expect("pipe");
        let (text, json) = (Some(LogFormat::Text), Some(LogFormat::Json));
        check(&pty.slave, None, &[], LineStyle::Colour);
        check(&pty.slave, None, &[("NO_COLOR", "1")], LineStyle::Text);
        check(&pty.slave, None, &[("NO_COLOR", "")], LineStyle::Colour);
        check(&pty.slave, None, &[("TERM", "dumb")], LineStyle::Text);
        check(&pty.slave, json, &[], LineStyle::Json);
        check(&pipe, None, &[], LineStyle::Json);
        check(&pipe, text, &[], LineStyle::Text);
    }

    #[test]
    fn the_journal_is_recognised_by_device_and_inode_only() {
        let (pipe, _writer) = pipe().expect("pipe");
        let stat = fstat(&pipe).expect("fstat");
        let ours = format!("{}:{}", stat.st_dev, stat.st_ino);
        check(&pipe, None, &[("JOURNAL_STREAM", &ours)], LineStyle::Journal);
        check(&pipe, None, &[("JOURNAL_STREAM", "8:1")], LineStyle::Json);
        let json = Some(LogFormat::Json);
        check(&pipe, json, &[("JOURNAL_STREAM", &ours)], LineStyle::Json);
    }
}
