//! The grammar of the command line, as clap reads it; bounds are checked by `config`.

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser};
use clap_complete::Shell;
use nix::sys::signal::Signal;

use crate::admin;
use crate::config::{COUNT_MAX, Flag};
use crate::supervisor::request::Slots;

/// Runs one app as N worker processes behind one socket, each request to the least loaded
#[derive(Debug, Parser)]
#[command(
    name = "tenfold",
    bin_name = "tenfold",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "tenfold [OPTIONS] -- COMMAND...\n       tenfold SUBCOMMAND [OPTIONS]",
    after_help = "Every other setting: --set KEY=VALUE; `tenfold check` lists them."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) subcommand: Option<Subcommand>,
    #[command(flatten)]
    pub(super) flags: RunFlags,
    /// What every worker runs
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Run a command (the default)
    #[command(override_usage = "tenfold run [OPTIONS] -- COMMAND...")]
    Run {
        #[command(flatten)]
        flags: RunFlags,
        /// What every worker runs
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Show the resulting configuration and what the host allows; start nothing
    #[command(override_usage = "tenfold check [OPTIONS] [-- COMMAND...]")]
    Check {
        #[command(flatten)]
        flags: RunFlags,
        /// What every worker would run
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Print a systemd unit that runs a command
    #[command(override_usage = "tenfold unit [OPTIONS] -- COMMAND...")]
    Unit {
        #[command(flatten)]
        flags: RunFlags,
        /// What every worker would run
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Show a running instance
    Status {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Change the number of workers of a running instance
    Scale {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// How many workers, 1 to 256
        #[arg(value_name = "N", value_parser = count, allow_negative_numbers = true)]
        count: NonZeroU16,
    },
    /// Show the requests of a running instance that are under way, the oldest first
    Requests {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// Only those of one slot
        #[arg(long, value_name = "N")]
        slot: Option<u16>,
        /// One JSON list
        #[arg(long, conflicts_with = "slot")]
        json: bool,
    },
    /// Follow what becomes of a running instance and its workers
    Events {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Exit with 0 if a running instance is well, with 1 if not: for exec probes
    Health {
        /// What to ask
        #[arg(value_enum, default_value = "ready")]
        probe: Probe,
        /// Which instance; not needed if only one runs
        #[arg(long, conflicts_with = "admin")]
        name: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Bring the configuration and the code as they are now into a running instance
    Reload {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// Wait for the end; exit with 1 if the old generation stays
        #[arg(long)]
        wait: bool,
    },
    /// Replace workers of a running instance, each by one that is ready
    Recycle {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// Whose worker, or all
        #[arg(value_name = "SLOT|all", value_parser = slots)]
        slots: Slots,
        /// Wait for the end; exit with 1 if a new worker did not become ready
        #[arg(long)]
        wait: bool,
    },
    /// Let one worker of a running instance finish, and leave its slot empty
    Drain {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// Whose worker
        #[arg(value_name = "SLOT")]
        slot: u16,
    },
    /// Send a signal to one worker of a running instance: to the process that serves
    Signal {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// To every process of the worker, wrappers and children too
        #[arg(long)]
        group: bool,
        /// Whose worker
        #[arg(value_name = "SLOT")]
        slot: u16,
        /// Its name with or without SIG, or its number
        #[arg(value_name = "SIGNAL", value_parser = signal)]
        signal: Signal,
    },
    /// Show what one worker does, also if it does not answer
    Stack {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// As one JSON object
        #[arg(long)]
        json: bool,
        /// Whose worker
        #[arg(value_name = "SLOT")]
        slot: u16,
    },
    /// Have one Node worker write its heap to a file, for the Memory panel of Chrome's tools
    Heap {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// Where to; not given: the runtime directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Try it although memory or disk may not suffice
        #[arg(long)]
        force: bool,
        /// Whose worker; it gets nothing new meanwhile
        #[arg(value_name = "SLOT")]
        slot: u16,
    },
    /// Show what workers wrote last
    Logs {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        /// Go on with what they write
        #[arg(short, long)]
        follow: bool,
        /// How many of the lines that are kept, the last: a number from 0 or all
        #[arg(
            short = 'n',
            long,
            visible_alias = "tail",
            value_name = "N",
            value_parser = tail,
            allow_hyphen_values = true,
            default_value = "all"
        )]
        lines: Tail,
        /// Whose workers only
        #[arg(value_name = "SLOT")]
        slot: Option<u16>,
    },
    /// End a running instance gracefully
    Stop {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// Do not wait for requests: TERM at once, KILL at most 2 s later
        #[arg(long)]
        now: bool,
    },
    /// Start the installed tenfold in place of the running one
    Upgrade {
        /// Which instance; not needed if only one runs
        #[arg(long)]
        name: Option<String>,
        /// Wait for the end; exit with 1 if the running one stays
        #[arg(long)]
        wait: bool,
    },
    /// Run built-in workers, to see tenfold work without an app
    Demo {
        #[command(flatten)]
        flags: RunFlags,
    },
    /// Print a completion script
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// What `health` asks.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Probe {
    /// Does it live
    Live,
    /// Should it get traffic
    Ready,
    /// Has it started
    Startup,
}

impl From<Probe> for admin::Probe {
    fn from(probe: Probe) -> Self {
        match probe {
            Probe::Live => Self::Live,
            Probe::Ready => Self::Ready,
            Probe::Startup => Self::Startup,
        }
    }
}

/// Where to ask instead of at a control socket, or if there is none.
#[derive(Args, Debug, Default)]
pub(super) struct Place {
    /// Ask at this admin address
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<String>,
    /// Its configuration file [default: $TENFOLD_CONFIG, then ./tenfold.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl From<Place> for RunFlags {
    fn from(Place { admin, config }: Place) -> Self {
        Self { admin, config, ..Self::default() }
    }
}

/// Flags of `run`, `check` and `demo`; values stay text until `config` reads them.
#[derive(Args, Debug, Default)]
pub(super) struct RunFlags {
    /// How many workers: 1 to 256 or auto
    #[arg(short = 'n', long, value_name = "N|auto", allow_hyphen_values = true)]
    workers: Option<String>,
    // No doc comment: rustdoc would take the brackets for a link.
    #[arg(
        short,
        long,
        value_name = "ADDR",
        help = "Where to listen: HOST:PORT, :PORT, unix:PATH or systemd[:NAME]; repeatable"
    )]
    listen: Vec<String>,
    /// What is dispatched: auto, request or connection
    #[arg(short, long)]
    mode: Option<String>,
    /// How workers get what they serve: auto, node, native, fd or port
    #[arg(long)]
    dialect: Option<String>,
    /// How many requests one worker may hold at once
    #[arg(long, value_name = "N|auto", allow_hyphen_values = true)]
    limit: Option<String>,
    /// How many requests or connections may wait
    #[arg(long, value_name = "N|auto", allow_hyphen_values = true)]
    queue: Option<String>,
    /// How long one may wait: 1s, 500ms
    #[arg(long, value_name = "TIME|auto")]
    queue_timeout: Option<String>,
    /// Where health, metrics and status are read: HOST:PORT, auto or off
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Configuration file [default: $TENFOLD_CONFIG, then ./tenfold.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// What this instance is called
    #[arg(long)]
    name: Option<String>,
    /// The form of tenfold's own log lines: auto, text or json
    #[arg(long)]
    log: Option<String>,
    /// Any setting of the configuration file; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

impl RunFlags {
    /// The settings that have a flag of their own, as given.
    pub(super) fn settings(&self) -> Vec<Flag> {
        let one = |key, flag, value: &Option<String>| {
            value.iter().map(|value| Flag { key, flag, values: vec![value.clone()] }).next()
        };
        let listen = (!self.listen.is_empty()).then(|| Flag {
            key: "listen.on",
            flag: "--listen",
            values: self.listen.clone(),
        });
        [
            one("workers.count", "--workers", &self.workers),
            listen,
            one("mode", "--mode", &self.mode),
            one("dialect", "--dialect", &self.dialect),
            one("workers.limit", "--limit", &self.limit),
            one("queue.max", "--queue", &self.queue),
            one("queue.timeout", "--queue-timeout", &self.queue_timeout),
            one("admin", "--admin", &self.admin),
            one("name", "--name", &self.name),
            one("log", "--log", &self.log),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The SIGNAL of `signal`.
fn signal(text: &str) -> Result<Signal, String> {
    let known = match text.parse::<i32>() {
        Ok(number) => Signal::try_from(number).ok(),
        Err(_) => {
            let name = text.to_ascii_uppercase();
            let bare = name.strip_prefix("SIG").unwrap_or(&name);
            format!("SIG{bare}").parse().ok()
        }
    };
    known.ok_or_else(|| format!("{text:?} is no signal: a name such as TERM or USR2, or 1 to 31"))
}

/// The SLOT of `recycle`.
fn slots(text: &str) -> Result<Slots, String> {
    match text {
        "all" => Ok(Slots::All),
        _ => text.parse().map(Slots::One).map_err(|_| format!("{text:?} is no slot; also: all")),
    }
}

/// How many lines; none: all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail(pub(super) Option<u32>);

/// The N of `logs`. No master keeps as many lines as the largest number.
fn tail(text: &str) -> Result<Tail, String> {
    if text == "all" {
        return Ok(Tail(None));
    }
    // Of `tail -n +5` people expect something else.
    let number = text.parse::<i64>().ok().filter(|_| !text.starts_with('+'));
    let number = number.ok_or_else(|| format!("{text:?} is not a whole number or \"all\""))?;
    if number < 0 {
        return Err(format!("{number} is below 0"));
    }
    Ok(Tail(Some(u32::try_from(number).unwrap_or(u32::MAX))))
}

/// The N of `scale`.
fn count(text: &str) -> Result<NonZeroU16, String> {
    let number: i64 = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
    if number < 1 {
        return Err(format!("{number} is below 1"));
    }
    if number > i64::from(COUNT_MAX) {
        return Err(format!("{number} is above {COUNT_MAX}"));
    }
    let count = u16::try_from(number).ok().and_then(NonZeroU16::new);
    Ok(count.expect("the number is between 1 and 256"))
}
