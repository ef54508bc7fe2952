//! The resolved configuration as text: each key, its value in TOML and where it came from.

mod health;
mod request;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use super::listen::{AppAddress, Backlog, Listen, ListenOptions, Listeners, Protocol};
use super::request::{MaxClients, ProxyProtocol};
use super::resolve::{self, shown};
use super::settings::{
    Config, Count, Limit, MaxConnections, Mode, Name, Nice, OomScore, QueueMax, QueueTimeout,
    Reload, Spare, Workers,
};
use crate::policy::Surge;

/// One key as `check` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its dotted name.
    pub key: &'static str,
    /// Its value in TOML; none: unset. For `env` the names alone.
    pub value: Option<String>,
    /// `default`, `tenfold.toml:3`, `TENFOLD_NAME` or `--name`.
    pub origin: String,
}

/// Every key of a configuration in the order of the example file.
pub(crate) fn describe(config: &Config, origins: &BTreeMap<&'static str, String>) -> Vec<Setting> {
    let value = |key| {
        let value = value(config, key);
        let origin = origins.get(key).map_or("default", String::as_str).to_owned();
        Setting { key, value, origin }
    };
    super::keys::KEYS.iter().map(|key| value(key.name)).collect()
}

fn value(config: &Config, key: &'static str) -> Option<String> {
    let Config { workers, queue, restart, shutdown, listen, .. } = config;
    let ListenOptions { mode, backlog, defer_accept, .. } = listen.options;
    let ListenOptions { protocol, max_connections, proxy_protocol, .. } = listen.options;
    let value = match key {
        "name" => match &config.name {
            Name::Given(name) | Name::Derived(name) => quoted(name),
        },
        "command" => list(config.command.words.iter().map(|word| quoted(word.to_string_lossy()))),
        "directory" => quoted(config.directory.display()),
        "mode" => mode_word(mode),
        "dialect" => word(&resolve::DIALECTS, config.dialect),
        "logs" => word(&resolve::OUTPUTS, config.logs),
        "log" => word(&resolve::FORMATS, config.log),
        "log_level" => word(&resolve::LEVELS, config.log_level),
        "env" if config.env.0.is_empty() => return None,
        "env" => list(config.env.0.keys().map(quoted)),
        "listen.on" if listen.listed.is_empty() => return None,
        "listen.on" => listed(listen),
        "listen.backlog" => backlog_word(backlog),
        "listen.defer_accept" => defer_word(defer_accept),
        "listen.protocol" => protocol_word(protocol),
        "listen.max_connections" => max_word(max_connections),
        "listen.proxy_protocol" => proxy_word(proxy_protocol),
        "workers.count" => match workers.count {
            Count::ByCommand => return None,
            Count::Auto => quoted("auto"),
            Count::Fixed(count) => count.to_string(),
        },
        "workers.spare" => spare_word(workers.spare),
        "workers.max_connections" => match workers.max_connections {
            MaxConnections::Auto => quoted("auto"),
            MaxConnections::Fixed(max) => max.to_string(),
        },
        "workers.limit" => match workers.limit {
            Limit::Auto => quoted("auto"),
            Limit::Fixed(limit) => limit.to_string(),
        },
        "workers.user" => quoted(&workers.credentials.as_ref()?.user),
        "workers.group" => workers.credentials.as_ref()?.gid.to_string(),
        "workers.preload" | "workers.inspect" | "workers.wait_ready" => switch(workers, key),
        "workers.ready_path" => quoted(workers.ready_path.as_ref()?),
        "workers.start_timeout" => quoted(shown(workers.start_timeout)),
        "workers.give_up" => quoted(shown(workers.give_up)),
        "workers.nice" => nice_word(workers.nice),
        "workers.oom_score_adj" => match workers.oom_score_adj {
            OomScore::Auto => quoted("auto"),
            OomScore::Fixed(score) => score.to_string(),
        },
        "queue.max" => match queue.max {
            QueueMax::Auto => quoted("auto"),
            QueueMax::Fixed(max) => max.to_string(),
        },
        "queue.timeout" => match queue.timeout {
            QueueTimeout::Auto => quoted("auto"),
            QueueTimeout::Fixed(timeout) => quoted(shown(timeout)),
        },
        "restart.base" => quoted(shown(restart.base)),
        "restart.cap" => quoted(shown(restart.cap)),
        "restart.healthy" => quoted(shown(restart.healthy)),
        "restart.burst" => restart.burst.map_or_else(|| quoted("auto"), |burst| burst.to_string()),
        "reload.soak" | "reload.probe" | "reload.surge" => return reload(&config.reload, key),
        "shutdown.total" => quoted(shown(shutdown.total)),
        "shutdown.delay" => quoted(shown(shutdown.delay)),
        "shutdown.idle" => quoted(shown(shutdown.idle)),
        "shutdown.interactive_grace" => quoted(shown(shutdown.interactive_grace)),
        _ => return health::value(&workers.health, key).or_else(|| request::value(config, key)),
    };
    Some(value)
}

fn spare_word(spare: Spare) -> String {
    match spare {
        Spare::Auto => quoted("auto"),
        Spare::Fixed(number) => number.to_string(),
    }
}

fn switch(workers: &Workers, key: &str) -> String {
    let is_on = match key {
        "workers.preload" => workers.preload,
        "workers.inspect" => workers.inspect,
        _ => workers.wait_ready,
    };
    is_on.to_string()
}

fn reload(reload: &Reload, key: &str) -> Option<String> {
    Some(match (key, reload.surge) {
        ("reload.soak", _) => quoted(shown(reload.soak)),
        ("reload.probe", _) => quoted(reload.probe.as_ref()?),
        (_, Surge::Workers(number)) => number.to_string(),
        (_, Surge::Percent(share)) => quoted(format_args!("{share}%")),
    })
}

/// Text as a TOML string.
fn quoted(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn word<T: PartialEq + Copy>(choices: &[(&str, T)], value: T) -> String {
    let word = choices.iter().find(|(_, choice)| *choice == value).map(|(word, _)| word);
    quoted(word.expect("every value has a word"))
}

fn nice_word(nice: Nice) -> String {
    match nice {
        Nice::Auto => quoted("auto"),
        Nice::Fixed(nice) => nice.to_string(),
    }
}

fn mode_word(mode: Mode) -> String {
    word(&resolve::MODES, mode)
}

fn backlog_word(backlog: Backlog) -> String {
    match backlog {
        Backlog::Auto => quoted("auto"),
        Backlog::Fixed(backlog) => backlog.to_string(),
    }
}

fn defer_word(defer_accept: Option<Duration>) -> String {
    quoted(defer_accept.map_or_else(|| "off".to_owned(), shown))
}

fn protocol_word(protocol: Protocol) -> String {
    word(&resolve::PROTOCOLS, protocol)
}

fn max_word(max: MaxClients) -> String {
    match max {
        MaxClients::Auto => quoted("auto"),
        MaxClients::Fixed(max) => max.to_string(),
    }
}

fn proxy_word(proxy_protocol: ProxyProtocol) -> String {
    word(&resolve::PROXY_PROTOCOLS, proxy_protocol)
}

/// The listeners as one list; a plain address where a listener has nothing of its own.
fn listed(listen: &Listeners) -> String {
    list(listen.listed.iter().map(|item| match (&item.app, &item.on) {
        (None, Some(on)) if item.options == listen.options => quoted(on),
        _ => table(item, &listen.options),
    }))
}

fn table(item: &Listen, usual: &ListenOptions) -> String {
    let Listen { app, on, options } = item;
    let mut fields = Vec::new();
    match app {
        Some(AppAddress::Port(port)) => fields.push(format!("app = {port}")),
        Some(AppAddress::Path(path)) => fields.push(format!("app = {}", quoted(path.display()))),
        None => {}
    }
    fields.extend(on.as_ref().map(|on| format!("on = {}", quoted(on))));
    let own = [
        ("mode", mode_word(options.mode), mode_word(usual.mode)),
        ("backlog", backlog_word(options.backlog), backlog_word(usual.backlog)),
        ("defer_accept", defer_word(options.defer_accept), defer_word(usual.defer_accept)),
        ("protocol", protocol_word(options.protocol), protocol_word(usual.protocol)),
        ("max_connections", max_word(options.max_connections), max_word(usual.max_connections)),
        ("proxy_protocol", proxy_word(options.proxy_protocol), proxy_word(usual.proxy_protocol)),
    ];
    let differing = own.into_iter().filter(|(_, value, usual)| value != usual);
    fields.extend(differing.map(|(field, value, _)| format!("{field} = {value}")));
    format!("{{ {} }}", fields.join(", "))
}
