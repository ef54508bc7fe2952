//! Arguments, environment and configuration file → what to do, without touching the process.
//!
//! Everything that can be wrong before anything starts is found here and ends with exit code 78.

mod args;
mod check;
mod unit;
mod usage;

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use nix::sys::signal::Signal;

use crate::admin::client::HeapWanted;
use crate::admin::{EventStyle, LogsWanted, Probe, StopWish, Wait, Whom};
use crate::config::{
    Config, ConfigErrors, Context, Environment, Layers, Setting, Work, describe, resolve,
};
use crate::supervisor::inspect::Recipient;
use crate::supervisor::request::Slots;
use args::{Arguments, Place, RunFlags, Subcommand, Tail};

/// The file used where neither `-c` nor `TENFOLD_CONFIG` names one.
const DEFAULT_FILE: &str = "tenfold.toml";

/// The exit code of everything that ends in `CliError` (sysexits: EX_CONFIG).
pub const EXIT_CONFIG: u8 = 78;

/// What to do.
#[derive(Debug)]
pub enum Invocation {
    /// Run the configured command.
    Run(Box<Config>),
    /// Run the workers built into tenfold; `Config::command` starts them.
    Demo(Box<Config>),
    /// Show the configuration and the host, and end.
    Check(Box<Check>),
    /// Show a running instance.
    Status {
        /// Which; none: the only one.
        name: Option<String>,
        /// Text for people or JSON.
        format: StatusFormat,
    },
    /// Change the number of workers of a running instance.
    Scale {
        /// Which; none: the only one.
        name: Option<String>,
        /// 1 to 256.
        count: NonZeroU16,
    },
    /// Show what a running instance is doing.
    Requests {
        /// Which; none: the only one.
        name: Option<String>,
        /// Only of this slot.
        slot: Option<u16>,
        /// Text for people or JSON.
        format: StatusFormat,
    },
    /// Follow what becomes of a running instance.
    Events {
        /// Which; none: the only one.
        name: Option<String>,
        /// Text for people or JSON.
        style: EventStyle,
    },
    /// Show what workers of a running instance write.
    Logs {
        /// Which; none: the only one.
        name: Option<String>,
        /// What of it.
        wanted: LogsWanted,
    },
    /// Say by the exit code whether a running instance is well.
    Health {
        /// Which.
        whom: Whom,
        /// What to ask.
        probe: Probe,
    },
    /// Bring a new generation into a running instance.
    Reload {
        /// Which; none: the only one.
        name: Option<String>,
        /// Whether to wait for the end.
        wait: Wait,
    },
    /// Replace workers of a running instance, one after another.
    Recycle {
        /// Which; none: the only one.
        name: Option<String>,
        /// Whose.
        slots: Slots,
        /// Whether to wait for the end.
        wait: Wait,
    },
    /// Signal one worker of a running instance.
    Signal {
        /// Which; none: the only one.
        name: Option<String>,
        /// Whose worker.
        slot: u16,
        /// The signal.
        signal: Signal,
        /// To whom of it.
        recipient: Recipient,
    },
    /// Show what one worker does.
    Stack {
        /// Which; none: the only one.
        name: Option<String>,
        /// Whose worker.
        slot: u16,
        /// Text for people or JSON.
        format: StatusFormat,
    },
    /// Have one worker write its heap.
    Heap {
        /// Which; none: the only one.
        name: Option<String>,
        /// Whose worker.
        slot: u16,
        /// How.
        wanted: HeapWanted,
    },
    /// Empty one slot of a running instance.
    Drain {
        /// Which; none: the only one.
        name: Option<String>,
        /// The slot.
        slot: u16,
    },
    /// Put a new master in the place of a running one.
    Upgrade {
        /// Which; none: the only one.
        name: Option<String>,
        /// Whether to wait for the end.
        wait: Wait,
    },
    /// End a running instance.
    Stop {
        /// Which; none: the only one.
        name: Option<String>,
        /// How.
        wish: StopWish,
    },
    /// Print `completions(shell)`.
    Completions(Shell),
    /// Print this on stdout and end with 0: help or version.
    Print(String),
}

/// How `status`, `requests` and `stack` answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// A flag of the command line: `--json`.
impl From<bool> for StatusFormat {
    fn from(is_set: bool) -> Self {
        if is_set { Self::Json } else { Self::Text }
    }
}

/// What `check` has to show besides the host.
#[derive(Debug)]
pub struct Check {
    /// The configuration; where no command was given, the demo's stands in.
    pub config: Config,
    /// Whether one was given.
    pub command: CommandGiven,
    /// Each key with its value and where that came from; values of `env` are hidden.
    pub settings: Vec<Setting>,
}

/// Whether a command was given, in words or in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandGiven {
    /// It was.
    Yes,
    /// It was not.
    No,
}

/// What was asked for, and what is odd but no reason to stop.
#[derive(Debug)]
pub struct Parsed {
    /// What to do.
    pub invocation: Invocation,
    /// One line each, to be logged as warnings.
    pub warnings: Vec<String>,
}

/// Why nothing can be done; `Display` is what to print on stderr. Exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments make no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

/// Reads arguments (the first is the program's name) and environment; `cwd` is absolute and as
/// typed. Reads the configuration file and asks the file system and the user database whether
/// what it names exists; changes nothing.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    cwd: &Path,
) -> Result<Parsed, CliError> {
    let args: Vec<_> = args.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let text = usage::explain(&error, &args).map_err(CliError::Usage)?;
            return Ok(Parsed { invocation: Invocation::Print(text), warnings: Vec::new() });
        }
    };
    let reader = Reader { environment, cwd };
    let invocation = match arguments.subcommand {
        None => reader.run(arguments.flags, arguments.command)?,
        Some(subcommand) => reader.invocation(subcommand, args.get(2..).unwrap_or_default())?,
    };
    // Commands that talk to a running instance read no configuration, so nothing in it is odd.
    let reads =
        matches!(invocation, Invocation::Run(_) | Invocation::Demo(_) | Invocation::Check(_));
    let warnings = if reads { environment.warnings() } else { Vec::new() };
    Ok(Parsed { invocation, warnings })
}

/// The completion script of a shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "tenfold", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Which file to read where nobody names one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DefaultFile {
    /// `./tenfold.toml`, if there is one.
    Here,
    /// None: the file here is about an app, not about the demo.
    Unused,
}

struct Reader<'a> {
    environment: &'a Environment,
    cwd: &'a Path,
}

impl Reader<'_> {
    /// What a subcommand asks for; `words` are those after it.
    fn invocation(
        &self,
        subcommand: Subcommand,
        words: &[OsString],
    ) -> Result<Invocation, CliError> {
        Ok(match subcommand {
            Subcommand::Run { flags, command } => self.run(flags, command)?,
            Subcommand::Demo { flags } => self.demo(&flags)?,
            Subcommand::Check { flags, command } => self.check(&flags, command)?,
            Subcommand::Unit { flags, command } => {
                Invocation::Print(self.unit(&flags, command, words)?)
            }
            Subcommand::Status { name, json } => Invocation::Status { name, format: json.into() },
            Subcommand::Scale { name, count } => Invocation::Scale { name, count },
            Subcommand::Requests { name, slot, json } => {
                Invocation::Requests { name, slot, format: json.into() }
            }
            Subcommand::Events { name, json } => Invocation::Events { name, style: json.into() },
            Subcommand::Logs { name, json, follow, lines: Tail(last), slot } => {
                let wanted = LogsWanted { slot, last, follow, style: json.into() };
                Invocation::Logs { name, wanted }
            }
            Subcommand::Reload { name, wait } => Invocation::Reload { name, wait: wait.into() },
            Subcommand::Recycle { name, slots, wait } => {
                Invocation::Recycle { name, slots, wait: wait.into() }
            }
            Subcommand::Drain { name, slot } => Invocation::Drain { name, slot },
            Subcommand::Health { probe, name, place } => {
                Invocation::Health { whom: self.whom(name, place)?, probe: probe.into() }
            }
            Subcommand::Upgrade { name, wait } => Invocation::Upgrade { name, wait: wait.into() },
            Subcommand::Signal { name, group, slot, signal } => {
                let recipient = if group { Recipient::Group } else { Recipient::Server };
                Invocation::Signal { name, slot, signal, recipient }
            }
            Subcommand::Stack { name, slot, json } => {
                Invocation::Stack { name, slot, format: json.into() }
            }
            Subcommand::Heap { name, dir, force, slot } => {
                let directory = dir.map(|dir| self.cwd.join(dir));
                let wanted = HeapWanted { directory, room: force.into() };
                Invocation::Heap { name, slot, wanted }
            }
            Subcommand::Stop { name, now } => {
                let wish = if now { StopWish::Now } else { StopWish::Graceful };
                Invocation::Stop { name, wish }
            }
            Subcommand::Completions { shell } => Invocation::Completions(shell),
        })
    }

    fn run(&self, flags: RunFlags, command: Vec<OsString>) -> Result<Invocation, CliError> {
        let layers = self.layers(&flags, DefaultFile::Here)?;
        let is_bare = command.is_empty() && !layers.has("command") && layers.has_no_errors();
        if is_bare && self.file(&flags, DefaultFile::Here).is_none() {
            return Err(CliError::Usage(usage::EXAMPLES.to_owned()));
        }
        let config = resolve(layers, Work::Command(command), self.context())?;
        Ok(Invocation::Run(Box::new(config)))
    }

    fn demo(&self, flags: &RunFlags) -> Result<Invocation, CliError> {
        let layers = self.layers(flags, DefaultFile::Unused)?;
        let config = resolve(layers, Work::Demo, self.context())?;
        Ok(Invocation::Demo(Box::new(config)))
    }

    fn check(&self, flags: &RunFlags, command: Vec<OsString>) -> Result<Invocation, CliError> {
        let layers = self.layers(flags, DefaultFile::Here)?;
        let (given, work) = if command.is_empty() && !layers.has("command") {
            (CommandGiven::No, Work::Unstated)
        } else {
            (CommandGiven::Yes, Work::Command(command))
        };
        let origins = layers.labels();
        let config = resolve(layers, work, self.context())?;
        let mut settings = describe(&config, &origins);
        for setting in settings.iter_mut().filter(|setting| setting.key == "command") {
            if given == CommandGiven::No {
                setting.value = None;
            }
        }
        Ok(Invocation::Check(Box::new(Check { config, command: given, settings })))
    }

    /// A systemd unit for this command line; `words` are those after `unit`.
    fn unit(
        &self,
        flags: &RunFlags,
        command: Vec<OsString>,
        words: &[OsString],
    ) -> Result<String, CliError> {
        let layers = self.layers(flags, DefaultFile::Here)?;
        if command.is_empty() && !layers.has("command") {
            return Err(CliError::Usage(usage::UNIT_WITHOUT_COMMAND.to_owned()));
        }
        let config = resolve(layers, Work::Command(command), self.context())?;
        let binary = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/tenfold".into());
        let unit = unit::Unit {
            config: &config,
            environment: self.environment,
            binary: &binary,
            directory: self.cwd,
            words,
        };
        Ok(unit.render())
    }

    /// Whom `health` asks. Only an instance without a name needs the configuration: where its
    /// admin address is.
    fn whom(&self, name: Option<String>, place: Place) -> Result<Whom, CliError> {
        if let Some(name) = name {
            return Ok(Whom::Named(name));
        }
        let is_given = place.admin.is_some();
        let layers = self.layers(&place.into(), DefaultFile::Here)?;
        let admin = resolve(layers, Work::Unstated, self.context())?.admin;
        Ok(if is_given { Whom::At(admin) } else { Whom::Only(admin) })
    }

    fn context(&self) -> Context<'_> {
        Context { cwd: self.cwd, environment: self.environment }
    }

    fn layers(&self, flags: &RunFlags, default: DefaultFile) -> Result<Layers, CliError> {
        let mut layers = Layers::default();
        if let Some(file) = self.file(flags, default) {
            layers.add_file(&self.cwd.join(&file), file)?;
        }
        layers.add_environment(self.environment);
        for assignment in &flags.set {
            layers.add_set(assignment);
        }
        for flag in flags.settings() {
            layers.add_flag(&flag);
        }
        Ok(layers)
    }

    /// The configuration file as it was named.
    fn file(&self, flags: &RunFlags, default: DefaultFile) -> Option<PathBuf> {
        let named = flags.config.clone();
        let named = named.or_else(|| self.environment.get("TENFOLD_CONFIG").map(PathBuf::from));
        named.or_else(|| {
            let here = default == DefaultFile::Here && self.cwd.join(DEFAULT_FILE).exists();
            here.then(|| PathBuf::from(DEFAULT_FILE))
        })
    }
}
