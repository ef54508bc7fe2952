//! What a command line runs: sees through `env` and `exec`, refuses what cannot work and says
//! what would.
//!
//! Pure: whether a program exists is asked through `Lookup`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::nearest::nearest;
use super::settings::Inspector;

/// What the first real word of a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Node.
    Node,
    /// Deno.
    Deno,
    /// Python.
    Python,
    /// The workers built into tenfold.
    Demo,
    /// Anything else: a wrapper, a program with the SDK, any server; what it does first tells.
    Other,
}

/// What there is at a name, searched for as execvp(3) would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Executable,
    NotExecutable,
    Missing,
}

/// Process managers that fork by themselves.
const MANAGERS: &[&str] = &["pm2", "pm2-runtime", "pm2-docker", "forever"];

/// The subcommands, for a word that was meant to be one; tested equal to those of the grammar.
pub(crate) const SUBCOMMANDS: &[&str] = &[
    "run",
    "check",
    "unit",
    "status",
    "scale",
    "requests",
    "health",
    "reload",
    "recycle",
    "drain",
    "upgrade",
    "events",
    "logs",
    "signal",
    "stack",
    "heap",
    "stop",
    "demo",
    "completions",
    "help",
];

/// Classifies a command line; the error says what to run instead.
pub(super) fn classify(
    mut words: Vec<OsString>,
    lookup: &dyn Fn(&OsStr) -> Lookup,
) -> Result<(Vec<OsString>, Kind), String> {
    // A Dockerfile habit: `exec` is the shell's own word and no program.
    while words.first().is_some_and(|word| word == "exec") {
        words.remove(0);
    }
    let first = words.first().ok_or("nothing to run; write tenfold -- node server.js")?;
    if first.is_empty() {
        return Err("the first word is empty".to_owned());
    }
    let real = real_words(&words);
    if let Some(advice) = instead_of_manager(real) {
        return Err(advice);
    }
    let program = real.first().map(|word| base_name(word)).unwrap_or_default();
    check_found(&words, lookup(first))?;
    if let Some(word) = real.first().filter(|word| *word != first) {
        check_found(real, lookup(word))?;
    }
    Ok((words, kind(&program)))
}

/// What to run instead, where the words start another process manager.
pub(crate) fn instead_of_manager(words: &[OsString]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    let program = base_name(first);
    if !MANAGERS.contains(&program.as_str()) {
        return None;
    }
    let is_app =
        |word: &str| is_script(word) && !word.contains(".config.") && !word.contains("ecosystem");
    let script = rest.iter().map(|word| word.to_string_lossy()).find(|word| is_app(word));
    let script = script.as_deref().unwrap_or("server.js");
    Some(format!("{program} forks its own workers; run: tenfold -- node {script}"))
}

/// Whether the words, or `NODE_OPTIONS`, open an inspector.
pub(super) fn inspector(words: &[OsString], node_options: Option<&str>) -> Inspector {
    let is_inspect = |word: &str| word.starts_with("--inspect");
    let in_words = words.iter().any(|word| word.to_str().is_some_and(is_inspect));
    let options = node_options.unwrap_or_default();
    if in_words || options.split_whitespace().any(is_inspect) {
        Inspector::Asked
    } else {
        Inspector::Absent
    }
}

fn kind(program: &str) -> Kind {
    match program {
        "node" | "nodejs" => Kind::Node,
        "deno" => Kind::Deno,
        _ if program
            .strip_prefix("python")
            .is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.')) =>
        {
            Kind::Python
        }
        _ => Kind::Other,
    }
}

/// The words from the first real one on: behind `env`, its options and assignments.
fn real_words(words: &[OsString]) -> &[OsString] {
    let mut rest = words;
    while rest.first().is_some_and(|word| base_name(word) == "env") {
        rest = &rest[1..];
        while let Some(word) = rest.first().and_then(|word| word.to_str()) {
            let skip = match word {
                "-i" | "-" | "--ignore-environment" | "--" => 1,
                "-u" | "-C" | "--unset" | "--chdir" => 2,
                _ if word.starts_with("--unset=") || word.starts_with("--chdir=") => 1,
                _ if word.contains('=') && !word.starts_with('-') => 1,
                _ => break,
            };
            rest = &rest[skip.min(rest.len())..];
        }
    }
    rest
}

fn check_found(words: &[OsString], found: Lookup) -> Result<(), String> {
    let first = words[0].to_string_lossy();
    let line = || {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    };
    match found {
        Lookup::Executable => Ok(()),
        _ if is_script(&first) => {
            Err(format!("{first:?} is not a program; did you mean: tenfold -- node {}", line()))
        }
        Lookup::NotExecutable => Err(format!("{first:?} is not executable")),
        Lookup::Missing if is_assignment(&first) => {
            Err(format!("{first:?} is not a program; did you mean: tenfold -- env {}", line()))
        }
        Lookup::Missing => match nearest_subcommand(&first) {
            Some(name) => Err(format!("{first:?} was not found; did you mean: tenfold {name}")),
            None if first.contains('/') => Err(format!("{first:?} does not exist")),
            None => Err(format!("{first:?} was not found in PATH")),
        },
    }
}

/// The subcommand a word was probably meant to be.
pub(crate) fn nearest_subcommand(word: &str) -> Option<&'static str> {
    nearest(word, SUBCOMMANDS.iter().copied())
}

/// Whether it is the name of a script that Node runs.
pub(crate) fn is_script(word: &str) -> bool {
    let extension = Path::new(word).extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| ["js", "mjs", "cjs", "ts", "mts", "cts"].contains(&extension))
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

fn base_name(word: &OsStr) -> String {
    Path::new(word).file_name().unwrap_or(word).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(word: &OsStr) -> Lookup {
        match word.to_str().expect("test words are UTF-8") {
            "./data.txt" | "./server.js" => Lookup::NotExecutable,
            "server.js" | "app.ts" | "statsu" | "nosuch" | "./nosuch" => Lookup::Missing,
            word if word.contains('=') => Lookup::Missing,
            _ => Lookup::Executable,
        }
    }

    fn check(line: &str) -> Result<Kind, String> {
        let words = line.split(' ').map(OsString::from).collect();
        classify(words, &lookup).map(|(_, kind)| kind)
    }

    #[test]
    fn programs_are_seen_through_env_exec_and_paths() {
        for (line, kind) in [
            ("node server.js", Kind::Node),
            ("/usr/local/bin/node server.js", Kind::Node),
            ("nodejs server.js", Kind::Node),
            ("exec node server.js", Kind::Node),
            ("env A=b NODE_ENV=production node server.js", Kind::Node),
            ("/usr/bin/env -i -u HOME --unset=PATH A=b -- node server.js", Kind::Node),
            ("exec env A=b env B=c deno serve x.ts", Kind::Deno),
            ("npm start", Kind::Other),
            ("sh -c node", Kind::Other),
            ("env -S node", Kind::Other),
            ("pythonista x", Kind::Other),
            ("python3.12 app.py", Kind::Python),
            ("/usr/bin/gunicorn app:app", Kind::Other),
            ("java -jar x.jar", Kind::Other),
            ("env", Kind::Other),
        ] {
            assert_eq!(check(line), Ok(kind), "{line}");
        }
    }

    #[test]
    fn leading_exec_is_dropped_because_it_is_no_program() {
        let words = ["exec", "node", "x.js"].map(OsString::from).to_vec();
        let (words, _) = classify(words, &lookup).expect("node is found");
        assert_eq!(words, ["node", "x.js"]);
    }

    #[test]
    fn refusals_say_what_to_run() {
        for (line, message) in [
            (
                "pm2 start server.js -i max",
                "pm2 forks its own workers; run: tenfold -- node server.js",
            ),
            (
                "pm2-runtime app.js",
                "pm2-runtime forks its own workers; run: tenfold -- node app.js",
            ),
            (
                "env A=b forever start ecosystem.config.js",
                "forever forks its own workers; run: tenfold -- node server.js",
            ),
            (
                "server.js",
                "\"server.js\" is not a program; did you mean: tenfold -- node server.js",
            ),
            (
                "./server.js -p 1",
                "\"./server.js\" is not a program; did you mean: tenfold -- node ./server.js -p 1",
            ),
            ("app.ts", "\"app.ts\" is not a program; did you mean: tenfold -- node app.ts"),
            ("A=b node x", "\"A=b\" is not a program; did you mean: tenfold -- env A=b node x"),
            ("statsu", "\"statsu\" was not found; did you mean: tenfold status"),
            ("nosuch", "\"nosuch\" was not found in PATH"),
            ("./nosuch", "\"./nosuch\" does not exist"),
            ("env A=b nosuch", "\"nosuch\" was not found in PATH"),
            ("./data.txt", "\"./data.txt\" is not executable"),
            ("", "the first word is empty"),
            ("exec", "nothing to run; write tenfold -- node server.js"),
        ] {
            assert_eq!(check(line), Err(message.to_owned()), "{line}");
        }
    }

    #[test]
    fn inspector_is_found_in_words_and_node_options() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let options = "--enable-source-maps --inspect=0";
        assert_eq!(inspector(&words("node --inspect-brk x.js"), None), Inspector::Asked);
        assert_eq!(inspector(&words("npm start"), Some(options)), Inspector::Asked);
        let options = "--enable-source-maps";
        assert_eq!(inspector(&words("node x.js"), Some(options)), Inspector::Absent);
    }
}
