//! The command of the workers: found as execvp(3) will find it, and classified.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Resolver, Work};
use crate::config::command::{self, Kind, Lookup};
use crate::config::placeholder::{self, Placeholder};
use crate::config::settings::{Command, Dialect, Inspector, WorkerEnv};
use crate::config::value::Value;

/// The words that start tenfold's own demo worker; `/proc/self/exe` is resolved in the child,
/// before its execve, and is therefore the running tenfold.
pub const DEMO_WORDS: [&str; 2] = ["/proc/self/exe", "--demo-worker"];

/// What execvp(3) searches when `PATH` is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

impl Resolver<'_> {
    /// The words after `--`, else the key, else the demo's; classified.
    pub(super) fn command(
        &mut self,
        work: Work,
        dialect: Dialect,
        directory: &Path,
        env: &WorkerEnv,
    ) -> Command {
        let words = match work {
            Work::Demo | Work::Unstated => {
                let words = DEMO_WORDS.map(OsString::from).into();
                return Command {
                    words,
                    kind: Kind::Demo,
                    placeholder: Placeholder::None,
                    inspector: Inspector::Absent,
                };
            }
            Work::Command(words) if !words.is_empty() => {
                self.values.remove("command");
                Some(words)
            }
            Work::Command(_) if self.values.contains_key("command") => {
                self.take("command", None, |value| command_words(value).map(Some))
            }
            Work::Command(_) => Some(Vec::new()),
        };
        let found = words.and_then(|words| {
            let setting = |name| env.0.get(name).map(String::as_str);
            let inherited = |name| self.context.environment.get(name);
            let path = setting("PATH").or(inherited("PATH")).unwrap_or(DEFAULT_PATH);
            let lookup = |word: &OsStr| look_up(word, path, directory);
            let options = setting("NODE_OPTIONS").or(inherited("NODE_OPTIONS"));
            let found = command::classify(words, &lookup).and_then(|(words, kind)| {
                let inspector = command::inspector(&words, options);
                let placeholder = placeholder_of(&words, env, dialect)?;
                Ok(Command { words, kind, placeholder, inspector })
            });
            found.map_err(|message| self.fail(format!("command: {message}"), "command")).ok()
        });
        // What stands in for a wrong command is never seen: its error was noted.
        found.unwrap_or(Command {
            words: Vec::new(),
            kind: Kind::Other,
            placeholder: Placeholder::None,
            inspector: Inspector::Absent,
        })
    }
}

/// Which listener the words and the variables ask for, if the dialect can have one.
fn placeholder_of(
    words: &[OsString],
    env: &WorkerEnv,
    dialect: Dialect,
) -> Result<Placeholder, String> {
    let values = env.0.values().map(OsStr::new);
    let found = placeholder::find(words.iter().map(OsString::as_os_str).chain(values))?;
    match (dialect, found) {
        (Dialect::Fd, Placeholder::Port | Placeholder::Socket) => {
            Err("{port} and {socket} need dialect = \"port\"; with \"fd\" a worker listens on \
                 descriptor 3"
                .to_owned())
        }
        (Dialect::Fd, Placeholder::None)
        | (Dialect::Auto | Dialect::Node | Dialect::Native | Dialect::Port, _) => Ok(found),
    }
}

fn command_words(value: &Value) -> Result<Vec<OsString>, String> {
    let items = value.list()?;
    if let (Some(text), [_]) = (value.as_text(), items.as_slice())
        && !text.trim_start().starts_with('[')
    {
        let words: Vec<_> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        return Err(format!("{} is one string; write [{}]", value.shown(), words.join(", ")));
    }
    if items.is_empty() {
        return Err("is empty; write [\"node\", \"server.js\"]".to_owned());
    }
    items.iter().map(|item| item.text().map(OsString::from)).collect()
}

/// Finds a program as execvp(3) does from `directory`; rights of the worker's user are the
/// kernel's to check.
fn look_up(word: &OsStr, path: &str, directory: &Path) -> Lookup {
    let at = |file: &Path| match directory.join(file).metadata() {
        Ok(metadata) if !metadata.is_file() => Lookup::NotExecutable,
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Lookup::NotExecutable,
        Ok(_) => Lookup::Executable,
        Err(_) => Lookup::Missing,
    };
    if word.as_encoded_bytes().contains(&b'/') {
        return at(Path::new(word));
    }
    let found: Vec<_> = path.split(':').map(|entry| at(&Path::new(entry).join(word))).collect();
    if found.contains(&Lookup::Executable) {
        Lookup::Executable
    } else if found.contains(&Lookup::NotExecutable) {
        Lookup::NotExecutable
    } else {
        Lookup::Missing
    }
}
