//! Takes from the host what the pool needs, once, before anything is started: limits, identity,
//! a directory, a name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::num::{NonZeroU16, NonZeroU64};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::watch;
use tracing::level_filters::LevelFilter;

use crate::admin::ControlSocket;
use crate::config::{
    self, Address, AppAddress, Capacity, CgroupOwner, Config, CountReason, Denied, Dialect,
    Environment, HostFacts, Kind, LogLevel, NoRuntimeDir, Placeholder, choose_runtime_dir,
    find_runtime_dir, runtime_dir_candidates,
};
use crate::link::orders::Expects;
use crate::preload;
use crate::supervisor::guardian::{self, Guardian};
use crate::supervisor::launch::{self, Heap, Inspect, Launcher, PreloadFlag, PrivateListener};
use crate::supervisor::{Charge, Terminal};
use crate::sys::spawn::{Credentials, Nofile};
use crate::sys::{child, limits, program};
use crate::upgrade::{self, Identity};

/// Workers find their descriptors at 100 to 102, and the master needs some twenty for itself.
const NOFILE_MIN: u64 = 128;

/// What the host gave. Whatever it denied is a warning; nothing here is fatal but the program.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) warnings: Vec<String>,
    pub(crate) count: NonZeroU16,
    reason: CountReason,
    /// Our own soft limit on open files, raised.
    pub(crate) nofile: u64,
    /// That of the workers: ours as it was.
    pub(crate) worker_nofile: u64,
    original_nofile: Option<Nofile>,
    /// Names this master's life; 32 hexadecimal digits.
    instance: String,
    pub(crate) seed: u64,
    directory: Option<PathBuf>,
}

impl Host {
    pub(crate) fn prepare(config: &Config) -> Self {
        let mut warnings = Vec::new();
        if let Err(error) = child::become_subreaper() {
            warnings.push(format!("orphans of workers cannot be adopted: {error}"));
        }
        let (nofile, original_nofile) = match limits::raise_nofile() {
            Ok(raised) => (raised.soft, Some(raised.original)),
            Err(error) => {
                warnings.push(format!("the limit on open files cannot be raised: {error}"));
                (1024, None)
            }
        };
        let (count, reason) = config.workers.count.resolve(config.command.kind, &capacity());
        let directory = match runtime_dir(&environment()) {
            Ok(directory) => Some(directory),
            Err(error) => {
                warnings.push(format!("no control socket: {error}"));
                None
            }
        };
        let random = random();
        Self {
            warnings,
            count,
            reason,
            nofile,
            worker_nofile: original_nofile.map_or(nofile, |limit| limit.soft),
            original_nofile,
            instance: format!("{random:032x}"),
            seed: random as u64,
            directory,
        }
    }

    /// How many workers a configuration means here, now.
    pub(crate) fn count_of(&self, config: &Config) -> NonZeroU16 {
        config.workers.count.resolve(config.command.kind, &capacity()).0
    }

    /// Names this master's life.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Takes the instance's name and control socket; none without a runtime directory.
    ///
    /// # Errors
    /// The name was asked for and is taken.
    pub(crate) fn take_name(
        &self,
        config: &Config,
        charge: watch::Receiver<Charge>,
    ) -> anyhow::Result<Option<ControlSocket>> {
        match &self.directory {
            Some(directory) => Ok(Some(ControlSocket::take(directory, &config.name, charge)?)),
            None => Ok(None),
        }
    }

    /// Takes over an old master's name, by its lock and its control socket.
    ///
    /// # Errors
    /// What was passed cannot be used.
    pub(crate) fn inherit_name(
        &self,
        name: &str,
        held: (OwnedFd, OwnedFd),
        charge: watch::Receiver<Charge>,
    ) -> anyhow::Result<Option<ControlSocket>> {
        match &self.directory {
            Some(directory) => Ok(Some(ControlSocket::inherit(directory, name, held, charge)?)),
            None => Ok(None),
        }
    }

    /// How we were started, and so how another master would be.
    ///
    /// # Errors
    /// Our own file or directory is not known.
    pub(crate) fn identity(&self) -> anyhow::Result<Identity> {
        Ok(Identity {
            program: upgrade::own_program().context("cannot find our own file")?,
            arguments: std::env::args_os().collect(),
            environment: std::env::vars_os().collect(),
            directory: crate::working_directory(&environment())?,
            nofile: self.original_nofile,
        })
    }

    /// Starts the guardian, where the kernel or systemd would not do its work.
    pub(crate) fn guardian(&self) -> anyhow::Result<Option<Guardian>> {
        if !guardian::is_needed(std::process::id(), |name| std::env::var_os(name)) {
            return Ok(None);
        }
        let guardian = Guardian::start(&self.instance).context("cannot start the guardian")?;
        Ok(Some(guardian))
    }

    /// Everything that all workers have in common.
    ///
    /// # Errors
    /// The program is not there any more, its environment cannot be passed on, or there are too few
    /// descriptors for any worker.
    pub(crate) fn launcher(&self, config: &Config) -> anyhow::Result<Launcher> {
        let nofile = self.nofile;
        if nofile < NOFILE_MIN {
            anyhow::bail!(
                "the hard limit on open files is {nofile}; tenfold needs at least {NOFILE_MIN}"
            );
        }
        let mut environment = launch::inherited(std::env::vars_os(), config);
        if std::io::stderr().is_terminal() {
            color(&mut environment);
        }
        let path = environment.get(std::ffi::OsStr::new("PATH"));
        let words = &config.command.words;
        let first = words.first().context("the command is empty")?;
        let typed = &config.directory;
        let directory = typed.canonicalize();
        let directory = directory.with_context(|| format!("directory: {}", typed.display()))?;
        let program = program::resolve(first, path.map(OsString::as_os_str), &directory)?;
        // As typed it may lead elsewhere tomorrow, which is not where this generation is.
        environment.insert("PWD".into(), directory.clone().into());
        let expects = expects(config);
        let private = self.private_listener(config, expects)?;
        let preload = self.preload(config, expects);
        Ok(Launcher {
            program,
            arguments: words.clone(),
            environment,
            configured: config.env.0.keys().map(OsString::from).collect(),
            directory,
            ready_path: config.workers.ready_path.clone(),
            output: config.logs,
            expects,
            private,
            inspect: match preload {
                Some(_) if config.workers.inspect => Inspect::Yes,
                Some(_) | None => Inspect::No,
            },
            preload,
            told: told(config),
            instance: self.instance.clone(),
            nofile: self.original_nofile,
            credentials: config.workers.credentials.as_ref().map(|credentials| Credentials {
                uid: credentials.uid,
                gid: credentials.gid,
                groups: credentials.groups.clone(),
            }),
            watchdog: config.workers.health.watchdog(),
            heap: Heap {
                recycling: config.workers.health.recycling(self.seed),
                limit: limits::cgroup().memory_bytes.and_then(NonZeroU64::new),
            },
            nice: i32::from(config.workers.nice.resolve(cgroup_owner())),
            oom_score_adj: own_oom_score()
                .map(|own| i32::from(config.workers.oom_score_adj.resolve(own))),
        })
    }

    /// How Node loads the preload: from the runtime directory, or, where there is none or another
    /// user could not enter it, from a URL.
    fn preload(&self, config: &Config, expects: Expects) -> Option<PreloadFlag> {
        match expects {
            Expects::Either | Expects::Any if config.workers.preload => {}
            Expects::Either
            | Expects::Any
            | Expects::PlainNode
            | Expects::Native
            | Expects::Upstream => return None,
        }
        let installed = self.directory_of_workers(config).ok().map(preload::install);
        Some(match installed {
            Some(Ok(path)) => PreloadFlag::Require(path),
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot write the preload; passing it in NODE_OPTIONS");
                PreloadFlag::Import(preload::as_url())
            }
            None => PreloadFlag::Import(preload::as_url()),
        })
    }

    /// How workers get a private listener, where they need one.
    fn private_listener(
        &self,
        config: &Config,
        expects: Expects,
    ) -> anyhow::Result<Option<PrivateListener>> {
        match expects {
            Expects::Either | Expects::PlainNode | Expects::Native => return Ok(None),
            Expects::Any | Expects::Upstream => {}
        }
        Ok(Some(match (config.dialect, config.command.placeholder) {
            (Dialect::Fd, _) => PrivateListener::Inherited,
            (_, Placeholder::Socket) => {
                let directory = self.directory_of_workers(config);
                let directory = directory.context("{socket} cannot be given; use {port}")?;
                PrivateListener::Socket(directory.to_owned())
            }
            (_, Placeholder::None | Placeholder::Port) => PrivateListener::Port,
        }))
    }

    /// The runtime directory, if workers can enter it.
    fn directory_of_workers(&self, config: &Config) -> anyhow::Result<&Path> {
        let directory = self.directory.as_deref().context("there is no runtime directory")?;
        match &config.workers.credentials {
            Some(credentials) if credentials.uid != nix::unistd::geteuid().as_raw() => {
                anyhow::bail!("{} cannot enter {}", credentials.user, directory.display())
            }
            Some(_) | None => Ok(directory),
        }
    }
}

/// Lets workers write in color, whose output is a pipe although a person reads it; whoever said
/// how it is to be is obeyed.
fn color(environment: &mut BTreeMap<OsString, OsString>) {
    let is_set = |name: &str| environment.contains_key(OsStr::new(name));
    if !is_set("FORCE_COLOR") && !is_set("NO_COLOR") {
        environment.insert("FORCE_COLOR".into(), "1".into());
    }
}

/// What the preload is told: whether readiness is the app's to say, and which Unix paths are not
/// private to a process.
fn told(config: &Config) -> Vec<(&'static str, OsString)> {
    let mut told = Vec::new();
    if config.workers.wait_ready {
        told.push(("TENFOLD_WAIT_READY", OsString::from("1")));
    }
    let named = config.listen.listed.iter().flat_map(|entry| {
        let app = match &entry.app {
            Some(AppAddress::Path(path)) => Some(path),
            Some(AppAddress::Port(_)) | None => None,
        };
        let on = match &entry.on {
            Some(Address::Unix(path)) => Some(path),
            Some(Address::Tcp { .. } | Address::Systemd(_)) | None => None,
        };
        app.into_iter().chain(on)
    });
    let paths: Vec<&OsStr> = named.map(|path| path.as_os_str()).collect();
    if !paths.is_empty() {
        told.push(("TENFOLD_UNIX", paths.join(OsStr::new(":"))));
    }
    told
}

/// The first two lines of the banner; `name` is the one that was free. The addresses follow when
/// they are open.
pub(crate) fn announce(config: &Config, host: &Host, name: &str, terminal: Terminal) {
    tracing::info!("tenfold {} ({name}, pid {})", env!("CARGO_PKG_VERSION"), std::process::id());
    let (count, reason) = (host.count, host.reason);
    let workers = if count.get() == 1 { "worker" } else { "workers" };
    tracing::info!("{count} {workers} ({reason})");
    if terminal == Terminal::Yes && count.get() > 1 {
        tracing::info!(
            "{count} copies run: in-memory state, cron and DB pools are x{count}; -n 1 for one"
        );
    }
    if let Some(hint) = config.inspector_hint(count) {
        tracing::warn!("{hint}");
    }
}

/// Which dialect the workers will speak, as far as the configuration tells.
fn expects(config: &Config) -> Expects {
    match (config.dialect, config.command.kind) {
        (Dialect::Fd | Dialect::Port, _) => Expects::Upstream,
        (Dialect::Native, _) | (Dialect::Auto, Kind::Demo) => Expects::Native,
        // Deno speaks the protocol itself and loads no preload.
        (Dialect::Auto | Dialect::Node, Kind::Deno) => Expects::PlainNode,
        (Dialect::Node, _) | (Dialect::Auto, Kind::Node) if !config.workers.preload => {
            Expects::PlainNode
        }
        (Dialect::Node, _) | (Dialect::Auto, Kind::Node) => Expects::Either,
        (Dialect::Auto, Kind::Python | Kind::Other) => match config.command.placeholder {
            Placeholder::None => Expects::Any,
            Placeholder::Port | Placeholder::Socket => Expects::Upstream,
        },
    }
}

/// Who else is in our cgroup; the guardian is needed where others are.
fn cgroup_owner() -> CgroupOwner {
    match guardian::is_needed(std::process::id(), |name| std::env::var_os(name)) {
        true => CgroupOwner::Others,
        false => CgroupOwner::Ourselves,
    }
}

/// The filter of our own log lines.
pub(crate) fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// What the host has for workers.
pub(crate) fn capacity() -> Capacity {
    let cgroup = limits::cgroup();
    Capacity {
        cpu_quota: cgroup.cpus,
        cpus: limits::affinity().map_or(1, std::num::NonZeroU32::get),
        memory: cgroup.memory_bytes,
    }
}

/// Where instances may have their control sockets.
pub(crate) fn runtime_candidates(environment: &Environment) -> Vec<PathBuf> {
    runtime_dir_candidates(environment, nix::unistd::geteuid().as_raw())
}

fn runtime_dir(environment: &Environment) -> Result<PathBuf, NoRuntimeDir> {
    choose_runtime_dir(runtime_candidates(environment), nix::unistd::geteuid().as_raw())
}

/// What `tenfold check` reports of the host.
pub(crate) fn facts(environment: &Environment) -> HostFacts {
    let Capacity { cpu_quota, cpus, memory } = capacity();
    HostFacts {
        cpus,
        cpu_quota: Ok(cpu_quota),
        memory: Ok(memory),
        nofile: nofile().map_err(|error| Denied(error.to_string())),
        runtime_dir: find_runtime_dir(
            runtime_candidates(environment),
            nix::unistd::geteuid().as_raw(),
        ),
        pidfd: child::open_pidfd(1)
            .or_else(|_| child::open_pidfd(std::process::id() as i32))
            .map(drop)
            .map_err(|error| Denied(error.to_string())),
        uid: nix::unistd::geteuid().as_raw(),
    }
}

fn nofile() -> nix::Result<config::Nofile> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(config::Nofile { soft, hard })
}

fn environment() -> Environment {
    Environment::new(std::env::vars_os())
}

fn own_oom_score() -> Option<i16> {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}

/// Enough for a name that nobody else has and for jitter; no secret hangs on it.
fn random() -> u128 {
    let mut bytes = [0; 16];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    match read {
        Ok(()) => u128::from_ne_bytes(bytes),
        // A chroot without /dev: the pid and the time differ from any other master's.
        Err(_) => {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
            since ^ (u128::from(std::process::id()) << 96)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_write_in_color_unless_somebody_has_said_otherwise() {
        for (set, force) in [
            (None, Some("1")),
            (Some(("FORCE_COLOR", "0")), Some("0")),
            (Some(("NO_COLOR", "1")), None),
        ] {
            let mut environment: BTreeMap<OsString, OsString> =
                set.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            color(&mut environment);
            let value = environment.get(OsStr::new("FORCE_COLOR"));
            assert_eq!(value.map(OsString::as_os_str), force.map(OsStr::new), "{set:?}");
        }
    }
}
