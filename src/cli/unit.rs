//! What `tenfold unit` prints: a systemd unit that runs what its command line says.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use crate::config::{Address, Config, Environment};

/// What systemd gives a service as PATH where the unit says nothing (systemd.exec(5)).
const SYSTEMD_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// From the end of our own bound on a stop to the end of systemd's patience.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// A unit to be printed.
pub(super) struct Unit<'a> {
    pub(super) config: &'a Config,
    pub(super) environment: &'a Environment,
    /// Our own file.
    pub(super) binary: &'a Path,
    /// The working directory, absolute.
    pub(super) directory: &'a Path,
    /// The words after `unit`, as they were given.
    pub(super) words: &'a [OsString],
}

impl Unit<'_> {
    /// The text of the unit; it ends with a newline.
    pub(super) fn render(&self) -> String {
        let name = self.config.name.as_str();
        let mut text = format!(
            "# /etc/systemd/system/{name}.service\n\n[Unit]\nDescription={name} (tenfold)\n\
             Wants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=notify\n"
        );
        let mut line = |key: &str, value: &str| {
            writeln!(text, "{key}={value}").expect("a String takes everything");
        };
        line("WorkingDirectory", &specifiers(&self.directory.to_string_lossy()));
        match self.user() {
            Some(user) => line("User", user),
            None => line("# The user of tenfold and of its workers; without it, root.\n#User", ""),
        }
        if let Some(path) = self.path() {
            line("Environment", &quoted(OsStr::new(&format!("PATH={path}"))));
        }
        line("ExecStart", &self.command_line());
        line("ExecReload", "/bin/kill -HUP $MAINPID");
        line("RuntimeDirectory", &format!("tenfold-{name}"));
        line("RuntimeDirectoryMode", "0700");
        line("KillMode", "mixed");
        let patience = self.config.shutdown.total + STOP_MARGIN;
        line("TimeoutStopSec", &patience.as_secs().to_string());
        line("Restart", "on-failure");
        line("RestartSec", "1");
        line("RestartPreventExitStatus", "78");
        line("OOMPolicy", "continue");
        line("WatchdogSec", "30");
        if self.has_privileged_port() {
            line("AmbientCapabilities", "CAP_NET_BIND_SERVICE");
        }
        line("NoNewPrivileges", "yes");
        line("\n[Install]\nWantedBy", "multi-user.target");
        text
    }

    /// Whoever asks, unless that is root: an app should not be.
    fn user(&self) -> Option<&str> {
        let asks = self.environment.get("SUDO_USER").or_else(|| self.environment.get("USER"));
        asks.filter(|user| *user != "root")
    }

    /// Our PATH, where the command would not be found in systemd's.
    fn path(&self) -> Option<&str> {
        let ours = self.environment.get("PATH")?;
        let word = self.config.command.words.first()?;
        let is_in = |directory: &str| Path::new(directory).join(word).is_file();
        let is_searched = !word.as_encoded_bytes().contains(&b'/');
        let is_lost = is_searched && !SYSTEMD_PATH.iter().any(|directory| is_in(directory));
        is_lost.then_some(ours)
    }

    fn command_line(&self) -> String {
        let name = self.config.name.as_str();
        let (flags, command) = match self.words.iter().position(|word| word == "--") {
            Some(at) => self.words.split_at(at),
            None => (self.words, [].as_slice()),
        };
        let is_named = flags.iter().any(|word| word.to_string_lossy().starts_with("--name"));
        // Its directory would name it, and another one with the same name would make it `NAME-2`.
        let named = [OsString::from("--name"), OsString::from(name)];
        let named = if is_named { [].as_slice() } else { &named };
        let binary = [OsString::from(self.binary)];
        let words = binary.iter().chain(flags).chain(named).chain(command);
        words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    fn has_privileged_port(&self) -> bool {
        let mut addresses = self.config.listen.listed.iter().filter_map(|entry| entry.on.as_ref());
        addresses.any(|address| match address {
            Address::Tcp { port, .. } => (1..1024).contains(port),
            Address::Unix(_) | Address::Systemd(_) => false,
        })
    }
}

/// One word of a command line, as systemd.service(5) reads it: `%` and `$` doubled, quoted where
/// it has anything else that is not plain.
fn quoted(word: &OsStr) -> String {
    let text = specifiers(&word.to_string_lossy()).replace('$', "$$");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+$[]{}*".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Text with its percent signs meant as such.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_systemd() {
        for (word, line) in [
            ("--listen", "--listen"),
            (":8080", ":8080"),
            ("{port}", "{port}"),
            ("50%", "50%%"),
            ("$HOME", "$$HOME"),
            ("two words", "\"two words\""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
            ("back\\slash", "\"back\\\\slash\""),
            (";", "\";\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(OsStr::new(word)), line, "{word}");
        }
    }
}
