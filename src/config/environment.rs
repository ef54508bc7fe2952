//! A snapshot of the environment, and which of its `TENFOLD_*` names are settings.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::keys::KEYS;
use super::nearest::nearest;

/// What the master itself sets for workers (docs/PROTOCOL.md); inherited by a nested master.
const CONTRACT: &[&str] = &[
    "TENFOLD_CONTROL_FD",
    "TENFOLD_TOKEN_FD",
    "TENFOLD_LOAD_FD",
    "TENFOLD_STACK_FD",
    "TENFOLD_PROTOCOL",
    "TENFOLD_SLOT",
    "TENFOLD_WORKER",
    "TENFOLD_INSTANCE",
    "TENFOLD_MASTER",
];

/// What it sets besides, that a person could take for a setting: silent in a nested master only.
const CONTRACT_OF_NESTED: &[&str] = &[
    "TENFOLD_WORKERS",
    "TENFOLD_PORT",
    "TENFOLD_OUTER_PORT",
    "TENFOLD_WAIT_READY",
    "TENFOLD_UNIX",
];

/// The variables of a process; empty ones count as unset, names and values that are not UTF-8
/// are left out (no setting could use them, and workers inherit the real environment).
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Takes names and values, as from `std::env::vars_os`.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let filled = |(_, value): &(String, String)| !value.is_empty();
        Self(variables.into_iter().filter_map(text).filter(filled).collect())
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The settings among the variables, as (key, variable's name, value), in the order of the
    /// keys.
    pub(super) fn settings(&self) -> Vec<(&'static str, String, &str)> {
        let setting = |key: &'static super::keys::Key| {
            let variable = key.variable()?;
            let value = self.get(&variable).filter(|value| !is_kubernetes(&variable, value))?;
            Some((key.name, variable, value))
        };
        KEYS.iter().filter_map(setting).collect()
    }

    /// One line for each `TENFOLD_*` variable that means nothing.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let known: Vec<_> = KEYS.iter().filter_map(|key| key.variable()).collect();
        let nested = self.get("TENFOLD_INSTANCE").is_some();
        let mut warnings = Vec::new();
        for (name, value) in self.0.iter().filter(|(name, _)| name.starts_with("TENFOLD_")) {
            if is_kubernetes(name, value) || name == "TENFOLD_CONFIG" || known.contains(name) {
                continue;
            }
            if nested && CONTRACT_OF_NESTED.contains(&name.as_str()) {
                continue;
            }
            if name == "TENFOLD_WORKERS" {
                warnings.push(
                    "TENFOLD_WORKERS is what tenfold tells its workers and sets nothing; \
                     write TENFOLD_WORKERS_COUNT"
                        .to_owned(),
                );
            } else if !CONTRACT.contains(&name.as_str()) {
                warnings.push(unknown(name, &known));
            }
        }
        warnings
    }
}

fn unknown<'a>(name: &'a str, known: &'a [String]) -> String {
    let setting = |name: &'a str| name.strip_prefix("TENFOLD_");
    let meant =
        nearest(setting(name).unwrap_or(name), known.iter().filter_map(|name| setting(name)));
    match meant {
        Some(other) => format!("{name} is unknown and ignored; did you mean TENFOLD_{other}?"),
        None => format!("{name} is unknown and ignored"),
    }
}

/// Whether Kubernetes injected it for a Service whose name begins with `tenfold`
/// (`NAME_SERVICE_HOST`, `NAME_SERVICE_PORT…`, `NAME_PORT=tcp://…`, `NAME_PORT_80_TCP…`).
fn is_kubernetes(name: &str, value: &str) -> bool {
    let link = || {
        let (_, rest) = name.split_once("_PORT_")?;
        let (port, rest) = rest.split_once('_')?;
        let protocol = ["TCP", "UDP", "SCTP"].iter().any(|word| rest.starts_with(word));
        (port.bytes().all(|b| b.is_ascii_digit()) && protocol).then_some(())
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && value.contains("://"))
        || link().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn settings_are_found_by_their_derived_names() {
        let environment = environment(&[
            ("TENFOLD_QUEUE_MAX", "7"),
            ("TENFOLD_LISTEN", ":80"),
            ("TENFOLD_NAME", ""),
        ]);
        assert_eq!(
            environment.settings(),
            [
                ("listen.on", "TENFOLD_LISTEN".to_owned(), ":80"),
                ("queue.max", "TENFOLD_QUEUE_MAX".to_owned(), "7"),
            ]
        );
        assert!(environment.warnings().is_empty());
    }

    #[test]
    fn variables_of_a_kubernetes_service_named_tenfold_are_silent() {
        let environment = environment(&[
            ("TENFOLD_SERVICE_HOST", "10.0.0.1"),
            ("TENFOLD_SERVICE_PORT", "80"),
            ("TENFOLD_SERVICE_PORT_HTTP", "80"),
            ("TENFOLD_PORT", "tcp://10.0.0.1:80"),
            ("TENFOLD_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("TENFOLD_PORT_80_TCP_PROTO", "tcp"),
            ("TENFOLD_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("TENFOLD_LISTEN_SERVICE_HOST", "10.0.0.1"),
            ("TENFOLD_LISTEN_PORT", "tcp://10.0.0.1:80"),
        ]);
        assert!(environment.warnings().is_empty(), "{:?}", environment.warnings());
        assert!(environment.settings().is_empty());
    }

    #[test]
    fn unknown_variables_warn_with_the_nearest_name() {
        let environment = environment(&[
            ("TENFOLD_PORT", "80"),
            ("TENFOLD_QUEUE_MAXX", "1"),
            ("TENFOLD_WORKERS", "4"),
        ]);
        assert_eq!(
            environment.warnings(),
            [
                "TENFOLD_PORT is unknown and ignored",
                "TENFOLD_QUEUE_MAXX is unknown and ignored; did you mean TENFOLD_QUEUE_MAX?",
                "TENFOLD_WORKERS is what tenfold tells its workers and sets nothing; \
                 write TENFOLD_WORKERS_COUNT",
            ]
        );
    }

    #[test]
    fn a_nested_master_ignores_what_its_own_master_told_it() {
        let environment = environment(&[
            ("TENFOLD_INSTANCE", "0123456789abcdef0123456789abcdef"),
            ("TENFOLD_WORKERS", "4"),
            ("TENFOLD_SLOT", "0"),
            ("TENFOLD_MASTER", "17"),
            ("TENFOLD_PORT", "40001"),
            ("TENFOLD_OUTER_PORT", "3000"),
        ]);
        assert!(environment.warnings().is_empty());
    }
}
