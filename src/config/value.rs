//! Values as written, each with its place, and the conversions that every key uses.
//!
//! A value from a file has a type; one from a variable or a flag is bare text and becomes what
//! its key asks for. Errors say value and bound; the caller puts the key in front.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::error::Origin;
use super::size::Size;

/// How many characters of a string an error shows: one line.
const SHOWN_MAX: usize = 80;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) data: Data,
    pub(super) origin: Origin,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum Data {
    /// From a variable or a flag: no type yet.
    Bare(String),
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Value>),
    Table(Vec<Field>),
    /// A float, a date or an integer beyond 64 bits, which no key takes: its text.
    Other(String),
}

/// One entry of a table.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// Where the name stands.
    pub(super) at: Origin,
    pub(super) value: Value,
}

impl Value {
    pub(super) fn bare(text: &str, origin: Origin) -> Self {
        Self { data: Data::Bare(text.to_owned()), origin }
    }

    /// Takes over a parsed value; `place` turns its span into an origin.
    pub(super) fn from_toml(
        value: &toml::Spanned<DeValue<'_>>,
        place: &dyn Fn(Range<usize>) -> Origin,
    ) -> Self {
        let data = match value.get_ref() {
            DeValue::String(text) => Data::Text(text.to_string()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(integer) => Data::Integer(integer),
                    Err(_) => Data::Other(integer.to_string()),
                }
            }
            DeValue::Float(float) => Data::Other(float.to_string()),
            DeValue::Boolean(boolean) => Data::Boolean(*boolean),
            DeValue::Datetime(datetime) => Data::Other(datetime.to_string()),
            DeValue::Array(array) => {
                Data::List(array.iter().map(|item| Self::from_toml(item, place)).collect())
            }
            DeValue::Table(table) => Data::Table(fields(table, place)),
        };
        Self { data, origin: place(value.span()) }
    }

    /// The value as an error shows it.
    pub(super) fn shown(&self) -> String {
        match &self.data {
            Data::Bare(text) | Data::Text(text) if text.chars().count() > SHOWN_MAX => {
                let start: String = text.chars().take(SHOWN_MAX).collect();
                format!("{start:?}…")
            }
            Data::Bare(text) | Data::Text(text) => format!("{text:?}"),
            Data::Integer(integer) => integer.to_string(),
            Data::Boolean(boolean) => boolean.to_string(),
            Data::List(_) => "a list".to_owned(),
            Data::Table(_) => "a table".to_owned(),
            Data::Other(text) => text.clone(),
        }
    }

    /// The text of a string or of a bare value.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.data {
            Data::Bare(text) | Data::Text(text) => Some(text),
            Data::Integer(_) | Data::Boolean(_) | Data::List(_) | Data::Table(_) => None,
            Data::Other(_) => None,
        }
    }

    /// A string without NUL, which neither a path nor an argument can hold.
    pub(super) fn text(&self) -> Result<&str, String> {
        match self.as_text() {
            Some(text) if text.contains('\0') => Err(format!("{text:?} holds a NUL")),
            Some(text) => Ok(text),
            None => Err(format!("{} is not a string", self.shown())),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, String> {
        match &self.data {
            Data::Boolean(boolean) => Ok(*boolean),
            Data::Bare(text) if text == "true" => Ok(true),
            Data::Bare(text) if text == "false" => Ok(false),
            _ => Err(format!("{} is not true or false", self.shown())),
        }
    }

    /// A whole number in `range`.
    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Result<i64, String> {
        self.integer_or(range, None).map(|number| number.expect("no word was allowed"))
    }

    /// A whole number in `range`, or none for `word`.
    pub(super) fn integer_or(
        &self,
        range: RangeInclusive<i64>,
        word: Option<&str>,
    ) -> Result<Option<i64>, String> {
        if word.is_some() && self.as_text() == word {
            return Ok(None);
        }
        let number = match &self.data {
            Data::Integer(number) => Some(*number),
            Data::Bare(text) => text.parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            let or_word = word.map(|word| format!(" or {word:?}")).unwrap_or_default();
            return Err(format!("{} is not a whole number{or_word}", self.shown()));
        };
        if number < *range.start() {
            return Err(format!("{number} is below {}", range.start()));
        }
        if number > *range.end() {
            return Err(format!("{number} is above {}", range.end()));
        }
        Ok(Some(number))
    }

    /// A duration in `range`, with its unit.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, String> {
        let shown = self.shown();
        if let Data::Integer(number) = &self.data {
            return Err(format!("{number} has no unit; write \"{number}s\" or \"{number}ms\""));
        }
        let text = self.text().map_err(|_| format!("{shown} is not a duration such as \"10s\""))?;
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{shown} has no unit; write \"{text}s\" or \"{text}ms\""));
        }
        let duration = humantime::parse_duration(text)
            .map_err(|_| format!("{shown} is not a duration such as \"10s\", \"500ms\", \"5m\""))?;
        let bound = |duration: &Duration| humantime::format_duration(*duration).to_string();
        if duration < *range.start() {
            return Err(format!("{text} is below {}", bound(range.start())));
        }
        if duration > *range.end() {
            return Err(format!("{text} is above {}", bound(range.end())));
        }
        Ok(duration)
    }

    /// A size in `range`, with its unit.
    pub(super) fn size(&self, range: RangeInclusive<Size>) -> Result<u64, String> {
        if let Data::Integer(number) = &self.data {
            return Err(format!("{number} has no unit; write \"{number}KiB\" or \"{number}B\""));
        }
        let not_a_size = |_| format!("{} is not a size such as \"64KiB\"", self.shown());
        let size = Size::parse(self.text().map_err(not_a_size)?)?;
        if size < *range.start() {
            return Err(format!("{size} is below {}", range.start()));
        }
        if size > *range.end() {
            return Err(format!("{size} is above {}", range.end()));
        }
        Ok(size.0)
    }

    /// A duration of whole seconds in `range`.
    pub(super) fn seconds(&self, range: RangeInclusive<Duration>) -> Result<Duration, String> {
        let duration = self.duration(range)?;
        if duration.subsec_nanos() != 0 {
            return Err(format!("{} is not whole seconds", self.shown()));
        }
        Ok(duration)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.as_text();
        if let Some((_, value)) = choices.iter().find(|(word, _)| text == Some(word)) {
            return Ok(*value);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        let (last, others) = words.split_last().expect("every choice has words");
        Err(format!("{} is not {} or {last}", self.shown(), others.join(", ")))
    }

    /// A list as it is; anything else as a list of one. Bare text that begins with `[` is read
    /// as a TOML list.
    pub(super) fn list(&self) -> Result<Vec<Value>, String> {
        match &self.data {
            Data::List(items) => Ok(items.clone()),
            Data::Bare(text) if text.trim_start().starts_with('[') => {
                let parsed = DeValue::parse(text)
                    .map_err(|error| format!("{text:?} is not a TOML list: {}", error.message()))?;
                let origin = self.origin.clone();
                match Self::from_toml(&parsed, &|_| origin.clone()).data {
                    Data::List(items) => Ok(items),
                    _ => Err(format!("{text:?} is not a TOML list")),
                }
            }
            _ => Ok(vec![self.clone()]),
        }
    }
}

/// The fields of a table in the order of their names.
pub(super) fn fields(table: &DeTable<'_>, place: &dyn Fn(Range<usize>) -> Origin) -> Vec<Field> {
    let field = |(name, value): (&toml::Spanned<_>, &toml::Spanned<_>)| Field {
        name: AsRef::<str>::as_ref(name.get_ref()).to_owned(),
        at: place(name.span()),
        value: Value::from_toml(value, place),
    };
    table.iter().map(field).collect()
}
