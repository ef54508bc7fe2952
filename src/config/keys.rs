//! Every key there is: what it means, its bounds, its default; the example file is made of this.
//!
//! `resolve` holds the bounds as code; tests hold the two together.

mod request;
mod workers;

use super::nearest::nearest;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted, as in the file and in `--set`.
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// Unit and range.
    pub range: &'static str,
    /// What the example shows.
    pub example: Example,
    /// Whether a running master can take a new value.
    pub change: Change,
}

/// What the example file shows for a key, in TOML.
#[derive(Clone, Copy, Debug)]
pub enum Example {
    /// The default.
    Default(&'static str),
    /// The default is to leave it out; this is what one could write.
    Unset(&'static str),
}

/// Whether a running master can take a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new generation has it.
    Reload,
    /// Only a new master has it.
    Restart,
}

use Change::{Reload, Restart};
use Example::{Default, Unset};

const fn key(
    name: &'static str,
    doc: &'static str,
    range: &'static str,
    example: Example,
    change: Change,
) -> Key {
    Key { name, doc, range, example, change }
}

/// All keys in the order of the example file; keys of one table stand together.
pub static KEYS: &[Key] = &ALL;

const PARTS: [&[Key]; 4] = [POOL, workers::KEYS, LIVES, &request::KEYS];

const COUNT: usize = {
    let (mut count, mut part) = (0, 0);
    while part < PARTS.len() {
        count += PARTS[part].len();
        part += 1;
    }
    count
};

const ALL: [Key; COUNT] = {
    let mut all = [POOL[0]; COUNT];
    let (mut index, mut part) = (0, 0);
    while part < PARTS.len() {
        let mut at = 0;
        while at < PARTS[part].len() {
            all[index] = PARTS[part][at];
            (index, at) = (index + 1, at + 1);
        }
        part += 1;
    }
    all
};

/// The keys that do not depend on what is dispatched.
const POOL: &[Key] = &[
    key(
        "name",
        "What this instance is called; unset: the name of the directory, then NAME-2.",
        "1 to 64 of A-Z a-z 0-9 . _ -",
        Unset("\"shop\""),
        Restart,
    ),
    key(
        "command",
        "What every worker runs; a command after `--` wins.",
        "a list of words",
        Unset("[\"node\", \"server.js\"]"),
        Reload,
    ),
    key(
        "directory",
        "Where workers run; unset: where tenfold was started.",
        "a path, relative to this file",
        Unset("\"/srv/shop\""),
        Reload,
    ),
    key(
        "mode",
        "What is dispatched: single requests or whole connections; auto: requests to servers of\n\
         plain HTTP, connections to others.",
        "\"auto\", \"request\" or \"connection\"",
        Default("\"auto\""),
        Restart,
    ),
    key(
        "dialect",
        "How workers get what they serve. node, native: sockets over a control channel; fd: a\n\
         listening socket as descriptor 3; port: they listen at PORT, {port} or {socket}. auto:\n\
         node and deno by name, port where {port} or {socket} is, else what comes first: a\n\
         message on the channel or an answer at PORT.",
        "\"auto\", \"node\", \"native\", \"fd\" or \"port\"",
        Default("\"auto\""),
        Restart,
    ),
    key(
        "logs",
        "The workers' output; auto: a slot prefix on a terminal, byte for byte otherwise.",
        "\"auto\", \"tag\" or \"inherit\"",
        Default("\"auto\""),
        Restart,
    ),
    key(
        "log",
        "The form of tenfold's own lines; auto: text on a terminal and in the journal, else JSON.",
        "\"auto\", \"text\" or \"json\"",
        Default("\"auto\""),
        Restart,
    ),
    key(
        "log_level",
        "The least urgent of tenfold's own lines that is written.",
        "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
        Default("\"info\""),
        Restart,
    ),
    key(
        "admin",
        "Where health, metrics and status are read; auto: 127.0.0.1:9900, or [::]:9900 as PID 1,\n\
         where other hosts get health and metrics only.",
        "HOST:PORT, :PORT, [V6]:PORT, \"auto\" or \"off\"",
        Default("\"auto\""),
        Restart,
    ),
    key(
        "trusted_proxies",
        "Peers whose X-Forwarded-*, X-Request-Id and PROXY headers count; private: loopback,\n\
         RFC 1918, 100.64/10, link-local and unique local addresses.",
        "a list of \"private\", addresses and networks such as \"192.0.2.0/24\"",
        Default("[\"private\"]"),
        Reload,
    ),
    key(
        "sticky",
        "Which clients keep their worker, by a cookie; auto: those of Socket.IO.",
        "\"auto\", \"on\" or \"off\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "unlimited",
        "Routes that wait instead of working (long polls) and do not count for workers.limit.",
        "a list of paths; a * at the end is every path that begins so",
        Unset("[\"/socket.io/*\"]"),
        Reload,
    ),
    key(
        "retries",
        "Whether a request that a worker lost is sent to another, where that cannot do harm.",
        "true or false",
        Default("true"),
        Reload,
    ),
    key(
        "poison",
        "A request (method, path and query) that is in flight whenever a worker dies, and below\n\
         1 % of the traffic: report names it in the log, block also answers it with 503 for ten\n\
         minutes.",
        "\"report\", \"block\" or \"off\"",
        Default("\"report\""),
        Reload,
    ),
    key(
        "env",
        "Variables for every worker, over the inherited ones.",
        "names and strings, whole numbers, true or false",
        Unset("{ NODE_ENV = \"production\" }"),
        Reload,
    ),
    key(
        "listen.on",
        "Where to listen; unset: where the app asks. `listen = \":80\"` is short for it, and\n\
         `listen = [{ app = 3000, on = \":80\" }, { app = 50051, backlog = 64 }]` tells the app's\n\
         listeners apart; such a table may hold `mode` and the options below.",
        "HOST:PORT, :PORT, [V6]:PORT, unix:PATH, systemd[:NAME] or a list",
        Unset("\":80\""),
        Reload,
    ),
    key(
        "listen.backlog",
        "Connections the kernel holds until accepted; auto: net.core.somaxconn, at most 4096.",
        "1 to 65535 or \"auto\"",
        Default("\"auto\""),
        Restart,
    ),
    key(
        "listen.defer_accept",
        "Accept only once the client sent a byte, or after this long (TCP_DEFER_ACCEPT).",
        "whole seconds, 1s to 1m, or \"off\"",
        Default("\"off\""),
        Restart,
    ),
    key(
        "listen.protocol",
        "How a connection nobody can serve is turned away: tcp by a reset, http by a 503.",
        "\"tcp\" or \"http\"",
        Default("\"tcp\""),
        Reload,
    ),
    key(
        "listen.max_connections",
        "Client connections that one listener holds in request mode, idle ones included; auto:\n\
         (open files - 256) / 2 for all such listeners together. In connection mode it has no\n\
         effect: workers.max_connections bounds those.",
        "1 to 1000000 or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "listen.proxy_protocol",
        "Whether connections of trusted proxies begin with a PROXY header (request mode).",
        "\"on\" or \"off\"",
        Default("\"off\""),
        Reload,
    ),
];

/// The keys of what waits, comes back and ends.
const LIVES: &[Key] = &[
    key(
        "queue.max",
        "What may wait per listener. Auto, requests: the sum of all workers' limits, at most\n\
         1000; connections: (open files - 256) / 2, at most 16384.",
        "0 to 1000000 or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "queue.timeout",
        "How long it may wait. Auto, requests: 1s, so that its client is still there;\n\
         connections: 10s, which outlasts the restart of a crashed worker.",
        "duration, 1ms to 10m, or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "restart.base",
        "A crashed worker comes back at once, then after up to this long, doubled per crash.",
        "duration, 1ms to 1m",
        Default("\"100ms\""),
        Reload,
    ),
    key(
        "restart.cap",
        "The longest such time.",
        "duration, 1ms to 1h, not below restart.base",
        Default("\"30s\""),
        Reload,
    ),
    key(
        "restart.healthy",
        "After this long ready, earlier crashes are forgotten.",
        "duration, 100ms to 1h",
        Default("\"1m\""),
        Reload,
    ),
    key(
        "restart.burst",
        "Restarts in a row before only one worker starts at a time (2 s give one back); auto: one\n\
         per worker, at least 4.",
        "1 to 1000000 or \"auto\"",
        Default("\"auto\""),
        Reload,
    ),
    key(
        "reload.soak",
        "How long the first worker of a new generation must stay ready before others follow.",
        "duration, 0s to 1h",
        Default("\"5s\""),
        Reload,
    ),
    key(
        "reload.probe",
        "A path that this worker must answer with 2xx or 3xx besides.",
        "path",
        Unset("\"/\""),
        Reload,
    ),
    key(
        "reload.surge",
        "Workers beyond workers.count while generations change, draining ones included; 0: each\n\
         leaves before its successor starts.",
        "0 to 256, or 1% to 100% of the workers, rounded up",
        Default("\"25%\""),
        Reload,
    ),
    key(
        "shutdown.total",
        "From the signal to the end: delay, drain, and TERM and KILL in the last 3s.",
        "duration, 100ms to 1h",
        Default("\"25s\""),
        Reload,
    ),
    key(
        "shutdown.delay",
        "How long to go on accepting after the signal; unset: 5s in Kubernetes, else 0s.",
        "duration, 0s to 1h, below shutdown.total",
        Unset("\"5s\""),
        Reload,
    ),
    key(
        "shutdown.idle",
        "How long a kept connection may stay silent while we, or its worker, drain. A request on\n\
         it meanwhile is answered, with Connection: close; one that met its end would be lost.",
        "duration, 0s to 1h",
        Default("\"2s\""),
        Reload,
    ),
    key(
        "shutdown.interactive_grace",
        "What a drain may take after Ctrl-C on a terminal.",
        "duration, 0s to 1h",
        Default("\"2s\""),
        Reload,
    ),
];

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Key {
    /// The variable that sets it: `workers.count` → `TENFOLD_WORKERS_COUNT`. `env` has none:
    /// workers inherit the environment anyway.
    pub fn variable(&self) -> Option<String> {
        let short = if self.name == "listen.on" { "listen" } else { self.name };
        (self.name != "env").then(|| format!("TENFOLD_{}", short.to_uppercase().replace('.', "_")))
    }
}

/// The key a wrong name was probably meant to be: a typo, or a forgotten table.
pub(super) fn meant(wrong: &str) -> Option<&'static str> {
    let last = wrong.rsplit('.').next().unwrap_or(wrong);
    let same_end = || KEYS.iter().find(|key| key.name.rsplit('.').next() == Some(last));
    let close = nearest(wrong, KEYS.iter().map(|key| key.name));
    close.or_else(|| same_end().map(|key| key.name))
}

/// The text of config/example.toml: every key with its words; unset ones are commented out.
pub fn example() -> String {
    let mut text = String::from(
        "# Every key of tenfold with its default; one that is commented out is unset by default.\n\
         # Precedence: flags, --set, variables (workers.count is TENFOLD_WORKERS_COUNT; under\n\
         # it WEB_CONCURRENCY), this file, defaults. `tenfold check` shows what came out.\n",
    );
    let mut table = "";
    for key in KEYS {
        let (key_table, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if key_table != table {
            table = key_table;
            text.push_str(&format!("\n[{table}]\n"));
        } else {
            text.push('\n');
        }
        let restart = match key.change {
            Reload => "",
            Restart => "; fixed while tenfold runs",
        };
        for line in key.doc.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        text.push_str(&format!("# ({}{restart})\n", key.range));
        match key.example {
            Default(value) => text.push_str(&format!("{name} = {value}\n")),
            Unset(value) => text.push_str(&format!("#{name} = {value}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_variables_are_unique() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        let variables: BTreeSet<_> = KEYS.iter().filter_map(Key::variable).collect();
        assert_eq!(names.len(), KEYS.len());
        assert_eq!(variables.len(), KEYS.len() - 1);
        assert!(
            variables.contains("TENFOLD_WORKERS_COUNT") && variables.contains("TENFOLD_LISTEN")
        );
    }

    #[test]
    fn meant_forgives_typos_and_forgotten_tables() {
        for (wrong, right) in [
            ("workers.cuont", Some("workers.count")),
            ("worker.count", Some("workers.count")),
            ("count", Some("workers.count")),
            ("queue.time_out", Some("queue.timeout")),
            ("direktory", Some("directory")),
            ("zebra", None),
            ("workers.zebra", None),
        ] {
            assert_eq!(meant(wrong), right, "{wrong}");
        }
    }
}
