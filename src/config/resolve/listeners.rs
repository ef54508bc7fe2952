//! The `listen` table, list or string → `Listeners`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Resolver, non_zero};
use crate::config::error::{ConfigError, Origin};
use crate::config::listen::{
    Address, AppAddress, Backlog, Listen, ListenOptions, Listeners, Protocol,
};
use crate::config::nearest::nearest;
use crate::config::request::{MaxClients, ProxyProtocol};
use crate::config::settings::Mode;
use crate::config::value::{Data, Field, Value};

pub(in crate::config) const PROTOCOLS: [(&str, Protocol); 2] =
    [("tcp", Protocol::Tcp), ("http", Protocol::Http)];

pub(in crate::config) const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 2] =
    [("on", ProxyProtocol::On), ("off", ProxyProtocol::Off)];

pub(in crate::config) const MODES: [(&str, Mode); 3] =
    [("auto", Mode::Auto), ("request", Mode::Request), ("connection", Mode::Connection)];

/// Where each field of a listener's own table goes.
const FIELDS: [&str; 8] = [
    "app",
    "on",
    "mode",
    "backlog",
    "defer_accept",
    "protocol",
    "max_connections",
    "proxy_protocol",
];

impl Resolver<'_> {
    pub(super) fn listeners(&mut self) -> Listeners {
        let options = ListenOptions {
            mode: self.take("mode", Mode::Auto, |value| value.choice(&MODES)),
            backlog: self.take("listen.backlog", Backlog::Auto, backlog),
            defer_accept: self.take("listen.defer_accept", None, defer_accept),
            protocol: self.take("listen.protocol", Protocol::Tcp, |value| value.choice(&PROTOCOLS)),
            max_connections: self.take("listen.max_connections", MaxClients::Auto, max_connections),
            proxy_protocol: self.take("listen.proxy_protocol", ProxyProtocol::Off, |value| {
                value.choice(&PROXY_PROTOCOLS)
            }),
        };
        let Some(value) = self.values.get("listen.on").cloned() else {
            return Listeners { listed: Vec::new(), options };
        };
        let base = self.base(&value);
        let items = match value.list() {
            Ok(items) => items,
            Err(message) => {
                self.fail(format!("listen: {message}"), "listen.on");
                Vec::new()
            }
        };
        let mut listed = Vec::new();
        let mut seen = BTreeSet::new();
        for item in &items {
            match listener(item, options, &base) {
                Ok(listen) => {
                    // Port 0 is another port each time.
                    let on = listen.on.as_ref().map(Address::to_string);
                    let on = on.filter(|on| !on.ends_with(":0"));
                    if let Some(on) = on.filter(|on| !seen.insert(on.clone())) {
                        let message = format!("listen: {on:?} is listed twice");
                        self.errors.push(ConfigError::new(message, item.origin.clone()));
                    }
                    listed.push(listen);
                }
                Err(mut errors) => self.errors.append(&mut errors),
            }
        }
        Listeners { listed, options }
    }
}

/// One item: an address, or a table with `app`, `on` and options.
fn listener(item: &Value, options: ListenOptions, base: &Path) -> Result<Listen, Vec<ConfigError>> {
    let mut listen = Listen { app: None, on: None, options };
    let mut errors = Vec::new();
    let mut note = |field: &str, origin: &Origin, outcome: Result<(), String>| {
        if let Err(message) = outcome {
            let error = ConfigError::new(format!("{field}: {message}"), origin.clone());
            errors.push(error);
        }
    };
    match &item.data {
        Data::Table(fields) => {
            for field in fields {
                let origin = if FIELDS.contains(&field.name.as_str()) {
                    &field.value.origin
                } else {
                    &field.at
                };
                let name = format!("listen.{}", field.name);
                note(&name, origin, set_field(&mut listen, field, base));
            }
            if fields.iter().all(|field| field.name != "app" && field.name != "on") {
                let message = "a table needs app, on or both".to_owned();
                note("listen", &item.origin, Err(message));
            }
        }
        _ => {
            let on = address(item, base).map(|on| listen.on = Some(on));
            note("listen", &item.origin, on);
        }
    }
    if errors.is_empty() { Ok(listen) } else { Err(errors) }
}

fn set_field(listen: &mut Listen, field: &Field, base: &Path) -> Result<(), String> {
    let Field { name, value, .. } = field;
    let options = &mut listen.options;
    match name.as_str() {
        "app" => listen.app = Some(app_address(value)?),
        "on" => listen.on = Some(address(value, base)?),
        "mode" => options.mode = value.choice(&MODES)?,
        "backlog" => options.backlog = backlog(value)?,
        "defer_accept" => options.defer_accept = defer_accept(value)?,
        "protocol" => options.protocol = value.choice(&PROTOCOLS)?,
        "max_connections" => options.max_connections = max_connections(value)?,
        "proxy_protocol" => options.proxy_protocol = value.choice(&PROXY_PROTOCOLS)?,
        _ => {
            return Err(match nearest(name, FIELDS) {
                Some(known) => format!("unknown key; did you mean listen.{known}?"),
                None => "unknown key".to_owned(),
            });
        }
    }
    Ok(())
}

fn address(value: &Value, base: &Path) -> Result<Address, String> {
    match &value.data {
        Data::Integer(port) => Err(format!("{port} is not an address; write \":{port}\"")),
        _ => Address::parse(value.text()?, base),
    }
}

fn app_address(value: &Value) -> Result<AppAddress, String> {
    if let Some(path) = value.as_text().filter(|text| text.starts_with('/')) {
        return Ok(AppAddress::Path(PathBuf::from(path)));
    }
    if !matches!(value.data, Data::Integer(_)) {
        return Err(format!("{} is not a port or an absolute path", value.shown()));
    }
    let port = value.integer(1..=65535)?;
    Ok(AppAddress::Port(u16::try_from(port).expect("the range ends at 65535")))
}

fn backlog(value: &Value) -> Result<Backlog, String> {
    let backlog = value.integer_or(1..=65535, Some("auto"))?;
    Ok(backlog.map_or(Backlog::Auto, |backlog| Backlog::Fixed(non_zero(backlog))))
}

fn defer_accept(value: &Value) -> Result<Option<Duration>, String> {
    if value.as_text() == Some("off") {
        return Ok(None);
    }
    value.seconds(Duration::from_secs(1)..=Duration::from_secs(60)).map(Some)
}

fn max_connections(value: &Value) -> Result<MaxClients, String> {
    let max = value.integer_or(1..=1_000_000, Some("auto"))?;
    Ok(max.map_or(MaxClients::Auto, |max| MaxClients::Fixed(non_zero(max))))
}
