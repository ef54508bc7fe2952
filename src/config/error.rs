//! What is wrong with a configuration, and how it is shown: message first, then its place.
//!
//! A message is lower case and names key, value and bound. Lines of an `[env]` table are never
//! quoted: their values may be secrets.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A longer line would fill the screen and hide the message.
const EXCERPT_BYTES_MAX: usize = 200;

/// The text of a configuration file, kept for excerpts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileText {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Bytes of a file.
    File(Arc<FileText>, Range<usize>),
    /// An environment variable.
    Variable(String),
    /// A flag, as in `--workers`.
    Flag(&'static str),
    /// Nowhere in particular.
    Nowhere,
}

impl Origin {
    /// The place in few words, as `check` prints it.
    pub(super) fn label(&self) -> String {
        match self {
            Self::File(file, span) => {
                format!("{}:{}", file.path.display(), position(&file.text, span.start).line)
            }
            Self::Variable(name) => name.clone(),
            Self::Flag(flag) => (*flag).to_owned(),
            Self::Nowhere => "default".to_owned(),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
    origin: Origin,
}

impl ConfigError {
    pub(super) fn new(message: impl Into<String>, origin: Origin) -> Self {
        Self { message: message.into(), origin }
    }

    /// What is wrong, without its place: `workers.count: 0 is below 1`.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.origin {
            Origin::File(file, span) => write_excerpt(f, file, span),
            Origin::Variable(name) => write!(f, " (from {name})"),
            Origin::Flag(flag) => write!(f, " (from {flag})"),
            Origin::Nowhere => Ok(()),
        }
    }
}

/// Everything that is wrong with one configuration, in the order of the keys; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, if there are any.
    pub(super) fn collect(errors: Vec<ConfigError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }

    /// Each of them, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

struct Position {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// The byte where the line begins.
    start: usize,
}

fn position(text: &str, offset: usize) -> Position {
    let offset = offset.min(text.len());
    let boundary = (0..=offset).rev().find(|at| text.is_char_boundary(*at));
    let offset = boundary.expect("0 is a boundary");
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: before.matches('\n').count() + 1,
        column: before[start..].chars().count() + 1,
        start,
    }
}

fn write_excerpt(f: &mut fmt::Formatter<'_>, file: &FileText, span: &Range<usize>) -> fmt::Result {
    let Position { line, column, start } = position(&file.text, span.start);
    write!(f, "\n  --> {}:{line}:{column}", file.path.display())?;
    let content = file.text[start..].lines().next().unwrap_or("");
    if is_in_env_table(&file.text, start) || content.len() > EXCERPT_BYTES_MAX {
        return Ok(());
    }
    // Tabs would move the caret; anything a terminal acts on must not reach it.
    let shown: String = content.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line_end = start + content.len();
    let marked = file.text.get(span.start..span.end.min(line_end)).unwrap_or("");
    let carets = "^".repeat(marked.chars().count().max(1));
    let gutter = " ".repeat(line.to_string().len());
    write!(f, "\n {gutter} |\n {line} | {}", shown.trim_end())?;
    write!(f, "\n {gutter} | {}{carets}", " ".repeat(column - 1))
}

/// Whether the line at `line_start` may hold a value of `env`.
fn is_in_env_table(text: &str, line_start: usize) -> bool {
    let is_header = |line: &&str| line.trim_start().starts_with('[');
    let table = text[..line_start].lines().rev().find(is_header).unwrap_or("");
    let line = text[line_start..].lines().next().unwrap_or("").trim_start();
    let opens = |line: &str, open: &str| {
        line.trim_start().strip_prefix(open).is_some_and(|rest| {
            let rest = rest.trim_start();
            rest.starts_with("env") && !rest[3..].starts_with(|c: char| c.is_alphanumeric())
        })
    };
    opens(line, "") || (opens(table, "[") && !line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, marked: &str) -> String {
        let start = text.find(marked).expect("the text holds what is marked");
        let file = FileText { path: "shop.toml".into(), text: text.to_owned() };
        let origin = Origin::File(Arc::new(file), start..start + marked.len());
        ConfigError::new("queue.max: -1 is below 0", origin).to_string()
    }

    #[test]
    fn excerpt_marks_the_value_in_its_line() {
        assert_eq!(
            show("# größe\n[queue]\nmax = -1 # none\n", "-1"),
            "queue.max: -1 is below 0\n  --> shop.toml:3:7\n   |\n \
             3 | max = -1 # none\n   |       ^^"
        );
    }

    #[test]
    fn excerpt_stays_within_the_first_line_of_a_long_value() {
        let shown = show("max = [\n 1,\n]", "[\n 1,\n]");
        assert!(shown.ends_with(" 1 | max = [\n   |       ^"), "{shown}");
    }

    #[test]
    fn control_characters_are_not_shown() {
        let shown = show("max =\t\"\u{1b}[2J\"", "\"\u{1b}[2J\"");
        assert!(!shown.contains('\u{1b}') && !shown.contains('\t'), "{shown}");
    }

    #[test]
    fn lines_of_env_are_never_quoted() {
        for (text, marked) in [
            ("[env]\nTOKEN = [\"s3cret\"]", "[\"s3cret\"]"),
            ("env.TOKEN = [\"s3cret\"]", "[\"s3cret\"]"),
            ("env = { TOKEN = [\"s3cret\"] }", "[\"s3cret\"]"),
            ("[env] # x\nA = 1\nTOKEN = \"s3cret", "\"s3cret"),
        ] {
            let shown = show(text, marked);
            assert!(shown.contains("shop.toml:") && !shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn lines_after_env_are_quoted_again() {
        assert!(show("[env]\nA = 1\n[queue]\nmax = -1", "-1").contains("max = -1"));
    }
}
