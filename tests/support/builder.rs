//! What to start, in a directory and an environment of its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::output::Stream;
use super::tenfold::{MARK, Tenfold};
use super::{PATIENCE, node};

/// What to start, and how. The environment starts empty but for `PATH`, `HOME` and the like.
pub(crate) struct Builder {
    dir: TempDir,
    subcommand: Option<OsString>,
    name: Option<String>,
    args: Vec<OsString>,
    app: Vec<OsString>,
    cwd: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    through: Vec<OsString>,
    stdout: Reading,
}

/// Whether the harness reads what tenfold writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Yes,
    /// The pipe stays full, as with a terminal on hold.
    Stuck,
}

impl Builder {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tf").tempdir().expect("a temporary directory");
        for name in ["run", "work"] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).expect("the directory is new and ours");
            let owner_only = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&path, owner_only).expect("the directory is ours");
        }
        Self {
            dir,
            subcommand: None,
            name: Some("test".to_owned()),
            args: Vec::new(),
            app: Vec::new(),
            cwd: None,
            env: Vec::new(),
            through: Vec::new(),
            stdout: Reading::Yes,
        }
    }

    /// The subcommand, before every flag: `demo`, `check`, ….
    pub(crate) fn subcommand(mut self, word: impl AsRef<OsStr>) -> Self {
        self.subcommand = Some(word.as_ref().to_owned());
        self
    }

    /// The instance's name; `test` unless told.
    pub(crate) fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Passes no `--name`: tenfold chooses one, or the subcommand takes none.
    pub(crate) fn unnamed(mut self) -> Self {
        self.name = None;
        self
    }

    /// Adds flags of tenfold itself.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// The app's command, after `--`.
    pub(crate) fn app<S: AsRef<OsStr>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.app = command.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Lets a program that sets something and then becomes tenfold start it: `prlimit`, `nice`, ….
    pub(crate) fn through<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.through = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Never reads its standard output.
    pub(crate) fn stuck_stdout(mut self) -> Self {
        self.stdout = Reading::Stuck;
        self
    }

    /// The working directory; unless told, an empty one of this test's own.
    pub(crate) fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// Runs in the fixtures' directory with that major as `node`.
    #[track_caller]
    pub(crate) fn node(self, major: u32) -> Self {
        let path = node::search_path(major);
        self.cwd(node::fixtures()).env("PATH", path)
    }

    /// This test's own directory, removed with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and returns at once.
    #[track_caller]
    pub(crate) fn start(self) -> Tenfold {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let mut command = self.command();
        command.env(MARK, &mark);
        let child = command.spawn().expect("the binary under test starts");
        let tenfold = Tenfold::new(child, mark, self.name.unwrap_or_default(), self.dir);
        match self.stdout {
            Reading::Yes => tenfold.follow_both(),
            Reading::Stuck => tenfold.follow_stderr(),
        }
    }

    /// Runs it to its end, which must come within [`PATIENCE`].
    #[track_caller]
    pub(crate) fn run(self) -> Finished {
        let mut tenfold = self.start();
        let status = tenfold.wait_exit(PATIENCE);
        tenfold.wait_output_end(PATIENCE);
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: tenfold.written(Stream::Stdout),
            stderr: tenfold.written(Stream::Stderr),
        }
    }

    fn command(&self) -> Command {
        let binary = OsStr::new(env!("CARGO_BIN_EXE_tenfold"));
        let mut words = self.through.iter().map(OsString::as_os_str).chain([binary]);
        let mut command = Command::new(words.next().expect("there is the binary"));
        command.args(words).args(&self.subcommand);
        if let Some(name) = &self.name {
            command.arg("--name").arg(name);
        }
        command.args(&self.args);
        if !self.app.is_empty() {
            command.arg("--").args(&self.app);
        }
        let work = self.dir.path().join("work");
        command.current_dir(self.cwd.as_ref().unwrap_or(&work));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path().join("run"))
            // Many run at once, and only one could have the default port.
            .env("TENFOLD_ADMIN", "off")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own group: what a terminal sends to the test runner must not reach it.
        command.process_group(0);
        command
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}
