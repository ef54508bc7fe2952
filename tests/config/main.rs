//! The command line and the configuration file, from the outside: literal messages, precedence,
//! and the shipped example.

mod arguments;
mod check;
mod example;
mod hostile;
mod messages;
mod sources;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tenfold::cli::{CliError, Invocation, Parsed, parse};
use tenfold::config::{Config, Environment, Setting};

/// A directory with programs to find and a configuration file to read.
struct Host {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

impl Host {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).expect("the directory is new");
        for program in ["node", "pm2", "python3", "npm", "native"] {
            let path = bin.join(program);
            fs::write(&path, "").expect("the directory is ours");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
        let path = bin.to_str().expect("temporary paths are UTF-8").to_owned();
        Self { directory, variables: vec![("PATH".to_owned(), path)] }
    }

    fn file(self, text: &str) -> Self {
        fs::write(self.path().join("tenfold.toml"), text).expect("the directory is ours");
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn parse(&self, line: &str) -> Result<Parsed, CliError> {
        self.parse_words(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
    }

    fn parse_words(&self, words: impl IntoIterator<Item = OsString>) -> Result<Parsed, CliError> {
        let variables = self.variables.iter().map(|(name, value)| (name.into(), value.into()));
        parse(words, &Environment::new(variables), self.path())
    }

    fn config(&self, line: &str) -> Config {
        match self.parse(line).expect("a valid configuration").invocation {
            Invocation::Run(config) | Invocation::Demo(config) => *config,
            other => panic!("{line} is {other:?}"),
        }
    }

    fn settings(&self, line: &str) -> Vec<Setting> {
        match self.parse(line).expect("a valid configuration").invocation {
            Invocation::Check(check) => check.settings,
            other => panic!("{line} is {other:?}"),
        }
    }

    fn error(&self, line: &str) -> String {
        self.parse(line).expect_err(line).to_string()
    }
}
