//! What `tenfold check` prints: every setting with its source, the host, the resulting pool.

use std::fmt::Write;
use std::num::NonZeroU16;

use super::{Check, CommandGiven};
use crate::config::{Config, CountReason, HostFacts, MaxClients, Mode};
use crate::dispatch::{self, Crowd};
use crate::policy::QueueBounds;

impl Check {
    /// The whole report; it ends with a newline. Values of `env` are not in it.
    pub fn render(&self, facts: &HostFacts) -> String {
        let mut text = String::from("configuration\n");
        let lines = self.settings.iter().map(|setting| {
            let value = setting.value.as_deref().unwrap_or("unset");
            (format!("{} = {value}", setting.key), setting.origin.as_str())
        });
        for (line, origin) in lines {
            let comment = if origin == "default" { String::new() } else { format!("# {origin}") };
            writeln!(text, "  {}", format!("{line:<43} {comment}").trim_end())
                .expect("a String takes everything");
        }
        section(&mut text, "host", facts.lines());
        section(&mut text, "pool", self.pool(facts));
        for warning in self.warnings(facts) {
            writeln!(text, "warning: {warning}").expect("a String takes everything");
        }
        text
    }

    /// What is denied, and what of the configuration will not work here.
    pub fn warnings(&self, facts: &HostFacts) -> Vec<String> {
        let mut warnings = facts.warnings();
        let credentials = self.config.workers.credentials.as_ref();
        if facts.uid != 0 && credentials.is_some_and(|credentials| credentials.uid != facts.uid) {
            warnings.push(format!("workers.user: only root can change it, uid is {}", facts.uid));
        }
        warnings.extend(self.config.inspector_hint(self.count(facts).0));
        warnings
    }

    fn count(&self, facts: &HostFacts) -> (NonZeroU16, CountReason) {
        self.config.workers.count.resolve(self.config.command.kind, &facts.capacity())
    }

    fn pool(&self, facts: &HostFacts) -> Vec<(&'static str, String)> {
        let (count, reason) = self.count(facts);
        let count = match (self.command, reason) {
            (CommandGiven::Yes, _) | (CommandGiven::No, CountReason::Asked) => {
                format!("{count} ({reason})")
            }
            (CommandGiven::No, _) => format!("{count} for node or deno ({reason})"),
        };
        let mut lines = vec![("workers", count)];
        if let Ok(nofile) = facts.nofile {
            let max_connections = self.config.workers.max_connections.resolve(nofile.soft);
            lines.push(("connections", format!("{max_connections} per worker")));
        }
        lines.push(("queue", self.queue(facts)));
        lines.extend(self.memory(facts).map(|memory| ("memory", memory)));
        lines
    }

    /// What the master may hold for its clients in request mode, if that is what may be spoken.
    fn memory(&self, facts: &HostFacts) -> Option<String> {
        let Config { queue, workers, listen, request, .. } = &self.config;
        let max_clients = listen.options.max_connections;
        let clients = match (listen.options.mode, max_clients, facts.nofile.as_ref().ok()) {
            (Mode::Connection, ..) | (_, MaxClients::Auto, None) => return None,
            (_, MaxClients::Fixed(max), None) => max,
            (_, max, Some(nofile)) => max.resolve(nofile.hard),
        };
        let (count, limit) = (self.count(facts).0, workers.limit.resolve());
        let clients = u64::from(clients.get());
        let at_work = u64::from(count.get()) * u64::from(limit.get());
        let exchanges = at_work + queue.of_requests(count, limit).max as u64;
        let crowd = Crowd { clients, exchanges: exchanges.min(clients) };
        let mib = dispatch::most_memory(&request.limits, crowd).div_ceil(1 << 20);
        Some(format!("at most {mib} MiB for {clients} clients, {} requests", crowd.exchanges))
    }

    /// The bounds of a listener's queue in the mode that its configuration has, or in each.
    fn queue(&self, facts: &HostFacts) -> String {
        let Config { queue, workers, listen, .. } = &self.config;
        let shown = |bounds: QueueBounds| {
            let timeout = humantime::format_duration(bounds.timeout);
            format!("{} per listener, {timeout} at most", bounds.max)
        };
        let requests = shown(queue.of_requests(self.count(facts).0, workers.limit.resolve()));
        let hard = facts.nofile.as_ref().map_or(u64::MAX, |nofile| nofile.hard);
        let connections = shown(queue.of_connections(hard));
        match listen.options.mode {
            Mode::Request => requests,
            Mode::Connection => connections,
            Mode::Auto if requests == connections => requests,
            Mode::Auto => format!("{requests}; in connection mode {connections}"),
        }
    }
}

fn section(text: &mut String, title: &str, lines: Vec<(&'static str, String)>) {
    writeln!(text, "\n{title}").expect("a String takes everything");
    for (name, value) in lines {
        writeln!(text, "  {name:<14}{value}").expect("a String takes everything");
    }
}
