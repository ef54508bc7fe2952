//! The four sources of a setting, one above the other: file, variables, `--set`, flags.
//!
//! Only the topmost value of a key is kept, with its place; its meaning is `resolve`'s business.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::environment::Environment;
use super::error::{ConfigError, ConfigErrors, FileText, Origin};
use super::keys;
use super::value::{self, Data, Field, Value};

/// More than any configuration, less than what hurts to read by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A value given by a dedicated flag.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    /// The key it stands for.
    pub(crate) key: &'static str,
    /// The flag as typed in help: `--workers`.
    pub(crate) flag: &'static str,
    /// Its values; more than one only for `--listen`.
    pub(crate) values: Vec<String>,
}

/// The topmost value of every key that was set anywhere.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    values: BTreeMap<&'static str, Value>,
    errors: Vec<ConfigError>,
}

impl Layers {
    /// Puts the keys of a TOML file on top.
    ///
    /// Fails if it cannot be read or is no TOML; unknown keys are reported by `resolve` together
    /// with everything else.
    pub(crate) fn add_file(&mut self, path: &Path, shown: PathBuf) -> Result<(), ConfigErrors> {
        let text = read(path, &shown)?;
        let file = Arc::new(FileText { path: shown, text });
        let place = |span: Range<usize>| Origin::File(file.clone(), span);
        let (table, errors) = DeTable::parse_recoverable(&file.text);
        let errors = errors
            .iter()
            .map(|error| ConfigError::new(error.message(), place(error.span().unwrap_or(0..0))));
        ConfigErrors::collect(errors.collect())?;
        for field in value::fields(table.get_ref(), &place) {
            self.add_field(field);
        }
        Ok(())
    }

    /// Puts `TENFOLD_*` variables on top, and under them `WEB_CONCURRENCY` as `workers.count`.
    pub(crate) fn add_environment(&mut self, environment: &Environment) {
        if let Some(count) = environment.get("WEB_CONCURRENCY") {
            let origin = Origin::Variable("WEB_CONCURRENCY".to_owned());
            self.values.insert("workers.count", Value::bare(count, origin));
        }
        for (key, variable, text) in environment.settings() {
            self.values.insert(key, Value::bare(text, Origin::Variable(variable)));
        }
    }

    /// Puts a `--set KEY=VALUE` on top.
    pub(crate) fn add_set(&mut self, assignment: &str) {
        let Some((name, text)) = assignment.split_once('=') else {
            self.fail(format!("{assignment:?} is not KEY=VALUE"), Origin::Flag("--set"));
            return;
        };
        let name = name.trim();
        let value = Value::bare(text, Origin::Flag("--set"));
        if let Some(variable) = name.strip_prefix("env.") {
            let at = value.origin.clone();
            self.add_env_field(Field { name: variable.to_owned(), at, value });
        } else if name == "env" {
            let message = "env: a table has no short form; write --set env.NAME=VALUE";
            self.fail(message.to_owned(), value.origin);
        } else {
            self.insert(name, Origin::Flag("--set"), value);
        }
    }

    /// Puts a dedicated flag on top.
    pub(crate) fn add_flag(&mut self, flag: &Flag) {
        let origin = Origin::Flag(flag.flag);
        let mut values: Vec<_> =
            flag.values.iter().map(|text| Value::bare(text, origin.clone())).collect();
        let value = match values.len() {
            1 => values.remove(0),
            _ => Value { data: Data::List(values), origin },
        };
        self.values.insert(flag.key, value);
    }

    /// Whether the key was set anywhere.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Whether nothing was wrong so far.
    pub(crate) fn has_no_errors(&self) -> bool {
        self.errors.is_empty()
    }

    /// Where each key that was set got its value, in few words.
    pub(crate) fn labels(&self) -> BTreeMap<&'static str, String> {
        self.values.iter().map(|(key, value)| (*key, value.origin.label())).collect()
    }

    pub(super) fn into_parts(self) -> (BTreeMap<&'static str, Value>, Vec<ConfigError>) {
        (self.values, self.errors)
    }

    fn fail(&mut self, message: String, origin: Origin) {
        self.errors.push(ConfigError::new(message, origin));
    }

    /// Takes a top-level field of the file.
    fn add_field(&mut self, field: Field) {
        let Field { name, at, value } = field;
        let is_table = keys::KEYS
            .iter()
            .any(|key| key.name.split_once('.').is_some_and(|(table, _)| table == name));
        match value.data {
            Data::Table(fields) if name == "env" => {
                fields.into_iter().for_each(|field| self.add_env_field(field));
            }
            Data::Table(fields) if is_table => {
                for field in fields {
                    self.insert(&format!("{name}.{}", field.name), field.at, field.value);
                }
            }
            _ if is_table && name != "listen" => {
                self.fail(format!("{name}: {} is not a table", value.shown()), value.origin);
            }
            _ => self.insert(&name, at, value),
        }
    }

    fn add_env_field(&mut self, field: Field) {
        let env = self
            .values
            .entry("env")
            .or_insert_with(|| Value { data: Data::Table(Vec::new()), origin: field.at.clone() });
        match &mut env.data {
            Data::Table(fields) => {
                fields.retain(|other| other.name != field.name);
                fields.push(field);
            }
            _ => env.data = Data::Table(vec![field]),
        }
    }

    fn insert(&mut self, name: &str, at: Origin, value: Value) {
        let name = if name == "listen" { "listen.on" } else { name };
        if let Some(key) = keys::find(name) {
            self.values.insert(key.name, value);
            return;
        }
        let message = if name == "listen.app" {
            "listen.app: belongs to one listener; write listen = [{ app = 3000, on = \":80\" }]"
                .to_owned()
        } else {
            unknown_key(name)
        };
        self.fail(message, at);
    }
}

/// `workers.cuont: unknown key; did you mean workers.count?`
fn unknown_key(name: &str) -> String {
    match keys::meant(name) {
        Some(nearest) => format!("{name}: unknown key; did you mean {nearest}?"),
        None => format!("{name}: unknown key"),
    }
}

fn read(path: &Path, shown: &Path) -> Result<String, ConfigErrors> {
    let fail = |reason: String| {
        ConfigErrors::from(ConfigError::new(
            format!("{}: {reason}", shown.display()),
            Origin::Nowhere,
        ))
    };
    let cannot = |error: std::io::Error| fail(format!("cannot be read: {error}"));
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(fail("is not a file".to_owned()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(fail(format!("{} bytes is above {FILE_BYTES_MAX}", metadata.len())));
    }
    let bytes = std::fs::read(path).map_err(cannot)?;
    String::from_utf8(bytes)
        .map_err(|error| fail(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to())))
}
