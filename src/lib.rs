//! Wires the owners together; the only file that names them all.
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "only shipped code takes time as an argument")
)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
mod dispatch;
mod host;
pub mod http;
mod link;
pub mod logs;
pub mod metrics;
mod open;
pub mod policy;
mod preload;
mod renewal;
pub mod supervisor;
pub mod sys;
mod upgrade;

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use admin::{AdminListener, ControlSocket, Entrances};
use config::{Config, MaxClients};
use dispatch::{Accepting, DispatchSettings, FrontSettings, ReadyWhen, Wires};
use link::orders::{ORDERS_MAX, Tuning};
use logs::{LogHandle, Logs};
use open::{Opened, Sockets};
use policy::{
    Balance, Fleet, FleetSettings, Generation, Health, Proof, ReloadSettings, StopTimes,
    StormSettings, WorkerBounds,
};
pub use renewal::Origin;
use supervisor::events::Events;
use supervisor::request::REQUESTS_MAX;
use supervisor::{Charge, Ending, Estate, Parts, Renew, Signals, Supervisor, Systemd, Terminal};

/// How the process ends; the one mapping to exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: as asked.
    Stopped,
    /// 1: it could not go on.
    Failed,
    /// 78: the configuration is wrong (sysexits: EX_CONFIG).
    BadConfig,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Stopped => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::BadConfig => Self::from(cli::EXIT_CONFIG),
        }
    }
}

/// How long the log thread may take for its last lines.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Runs the pool that `config` describes until it ends; returns how.
///
/// Takes over the process: its signals, its standard streams' writer, and all its children.
///
/// # Errors
/// Only before anything is started; the text says what could not be had.
pub fn run(config: &Config, warnings: &[String], origin: Origin) -> anyhow::Result<Exit> {
    let started = clock::now();
    let (logs, handle) = start_logs(config)?;
    let outcome = run_logged(config, warnings, &handle, (started, origin));
    let exit = match outcome {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!("{error:#}");
            Exit::Failed
        }
    };
    logs.shutdown(clock::now() + LOG_FLUSH);
    Ok(exit)
}

fn run_logged(
    config: &Config,
    warnings: &[String],
    logs: &LogHandle,
    (started, origin): (Instant, Origin),
) -> anyhow::Result<Exit> {
    let host = Rc::new(host::Host::prepare(config));
    for warning in warnings.iter().chain(&host.warnings) {
        tracing::warn!("{warning}");
    }
    // Before the first worker starts: what cannot be had ends the start, not the pool.
    let Opened { bound, admin, control, predecessor, accepting, inherited, clients, charge } =
        open::all(config, &host)?;
    let name = control.as_ref().map_or(config.name.as_str(), |control| control.name.as_str());
    host::announce(config, &host, name, terminal());
    if let Some(admin) = &admin {
        tracing::info!("admin on {}", admin.url());
    }
    let balance = Arc::new(Mutex::new(Balance::new()));
    let (orders, orders_out) = mpsc::channel(ORDERS_MAX);
    let (reports_in, reports) = mpsc::channel(ORDERS_MAX);
    let (health, seen) = watch::channel(Health::before(host.count.get().into()));
    let settings = dispatch_settings(config, &host, bound, seen);
    let settings = DispatchSettings { accepting, inherited, clients, ..settings };
    let charged = charge.subscribe();
    let (recorder, counts) = metrics::requests(&dispatch::reason_codes(), &dispatch::RETRY_CODES);
    let pulse = Arc::new(clock::Pulse::new(started));
    let wires = Wires {
        balance: Arc::clone(&balance),
        orders: orders_out,
        reports: reports_in,
        recorder,
        pulse: Arc::clone(&pulse),
    };
    let parts = Parts {
        name: name.to_owned(),
        fleet: Fleet::new(clock::now(), fleet_settings(config, &host)),
        launchers: BTreeMap::from([(Generation(1), host.launcher(config)?)]),
        instance: host.instance().to_owned(),
        terms: renewal::terms(config.clone(), &host),
        renew: renewal(origin, Rc::clone(&host)),
        guardian: host.guardian()?,
        logs: logs.clone(),
        events: Events::new(),
        balance,
        orders,
        started,
        pulse: Arc::clone(&pulse),
        counts: counts.clone(),
        hang_times: config.workers.health.hang_times(),
        recycling: config.workers.health.recycling(host.seed),
        terminal: terminal(),
        health,
        admin: admin.as_ref().map(AdminListener::url),
        systemd: systemd(started),
        estate: estate(&host, (control.as_ref(), admin.as_ref()), charge)?,
        blessing: predecessor,
    };
    let entrances = Entrances {
        control,
        listener: admin,
        pulse,
        counts,
        app_path: config.metrics_app.clone(),
        charge: charged,
    };
    let ending = run_control(parts, reports, &entrances, settings, wires)?;
    Ok(explain(config, &ending))
}

/// What reads the configuration again.
fn renewal(origin: Origin, host: Rc<host::Host>) -> Renew {
    Box::new(move |running| renewal::renew(&origin, &host, running))
}

/// Runs control on this thread, which stays alive as long as the master: it is the one that forks,
/// and workers die with the thread that started them.
fn run_control(
    parts: Parts,
    reports: mpsc::Receiver<link::orders::Report>,
    entrances: &Entrances,
    settings: DispatchSettings,
    wires: Wires,
) -> anyhow::Result<Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control loop")?;
    let signals = {
        let _entered = runtime.enter();
        Signals::take(parts.terminal).context("cannot take over signals")?
    };
    let reactor = ReactorThread::start(settings, wires)?;
    let (requests_in, requests) = mpsc::channel(REQUESTS_MAX);
    let ending = runtime.block_on(async {
        let events = parts.events.clone();
        let supervise = Supervisor::new(parts).run(reports, requests, signals);
        let ending = tokio::select! {
            biased;
            ending = supervise => ending,
            never = entrances.serve(requests_in) => match never {},
        };
        events.flushed().await;
        ending
    });
    reactor.finish();
    Ok(ending)
}

/// The thread that dispatches.
struct ReactorThread {
    thread: JoinHandle<()>,
    /// Closed when the thread ends, in whatever way.
    running: std::sync::mpsc::Receiver<()>,
}

/// The most that a reactor may take to end once it was told to. All it waits for has bounds of its
/// own, and is over by then; one that is stuck must not keep the process.
const REACTOR_END_MAX: Duration = Duration::from_secs(5);

impl ReactorThread {
    fn start(settings: DispatchSettings, wires: Wires) -> anyhow::Result<Self> {
        let (runs, running) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("reactor".to_owned())
            .spawn(move || {
                let _runs: std::sync::mpsc::SyncSender<()> = runs;
                if let Err(error) = dispatch::run(settings, wires) {
                    tracing::error!(%error, "cannot start the reactor");
                }
            })
            .context("cannot start the reactor thread")?;
        Ok(Self { thread, running })
    }

    /// Waits until it has ended, within bounds.
    fn finish(self) {
        use std::sync::mpsc::RecvTimeoutError::Timeout;
        if self.running.recv_timeout(REACTOR_END_MAX) == Err(Timeout) {
            tracing::error!("the reactor does not end; leaving it");
        } else if self.thread.join().is_err() {
            tracing::error!("the reactor ended by a panic");
        }
    }
}

fn start_logs(config: &Config) -> anyhow::Result<(Logs, LogHandle)> {
    let format = match config.log {
        config::LogFormat::Auto => None,
        config::LogFormat::Text => Some(logs::LogFormat::Text),
        config::LogFormat::Json => Some(logs::LogFormat::Json),
    };
    let workers = match config.logs {
        config::WorkerOutput::Auto | config::WorkerOutput::Inherit => logs::WorkerOutput::Auto,
        config::WorkerOutput::Tag => logs::WorkerOutput::Tag,
    };
    let settings = logs::LogSettings::detect(format, workers, |name| std::env::var_os(name))
        .context("cannot use stdout and stderr")?;
    let (logs, handle) = Logs::start(settings).context("cannot start the log thread")?;
    tracing_subscriber::registry()
        .with(handle.layer())
        .with(host::level(config.log_level))
        .try_init()
        .context("logging is set up already")?;
    Ok((logs, handle))
}

fn dispatch_settings(
    config: &Config,
    host: &host::Host,
    bound: Sockets,
    health: watch::Receiver<Health>,
) -> DispatchSettings {
    let Tuning { bounds, requests, connections, idle, rules } = tuning(config, host);
    DispatchSettings {
        listeners: config.listen.clone(),
        bound,
        fallback: config.fallback_listen.clone(),
        queues: dispatch::Queues { requests, connections },
        front: FrontSettings {
            request: rules.as_ref().clone(),
            ejection: config.workers.health.ejection(),
            health,
            max_clients: MaxClients::Auto.resolve(host.nofile),
            seed: host.seed,
        },
        bounds,
        idle,
        ramp: config.workers.health.ramp,
        ready: if config.workers.wait_ready { ReadyWhen::Told } else { ReadyWhen::Listening },
        accepting: Accepting::Yes,
        inherited: HashMap::new(),
        clients: None,
    }
}

/// What of dispatch a reload can change.
pub(crate) fn tuning(config: &Config, host: &host::Host) -> Tuning {
    let limit = config.workers.limit.resolve();
    Tuning {
        bounds: WorkerBounds {
            limit,
            max_connections: config.workers.max_connections.resolve(host.worker_nofile),
        },
        requests: config.queue.of_requests(host.count_of(config), limit),
        connections: config.queue.of_connections(host.nofile),
        idle: config.shutdown.idle,
        rules: Arc::new(config.request.clone()),
    }
}

pub(crate) fn fleet_settings(config: &Config, host: &host::Host) -> FleetSettings {
    FleetSettings {
        count: host.count,
        spares: config.workers.spare.resolve(host.count_of(config), &host::capacity()),
        start_timeout: config.workers.start_timeout,
        give_up: config.workers.give_up,
        backoff: policy::Backoff {
            base: config.restart.base,
            cap: config.restart.cap,
            healthy: config.restart.healthy,
        },
        storm: StormSettings { burst: config.restart.burst, ..StormSettings::default() },
        stop: StopTimes {
            delay: config.shutdown.delay,
            total: config.shutdown.total,
            interactive_grace: config.shutdown.interactive_grace,
            ..StopTimes::default()
        },
        reload: ReloadSettings {
            soak: config.reload.soak,
            proof: config.reload.probe.as_ref().map_or(Proof::Soak, |_| Proof::Answer),
            surge: config.reload.surge,
        },
        seed: host.seed,
        ..FleetSettings::default()
    }
}

fn terminal() -> Terminal {
    match std::io::stderr().is_terminal() && std::io::stdin().is_terminal() {
        true => Terminal::Yes,
        false => Terminal::No,
    }
}

/// What another master would take over from us.
fn estate(
    host: &host::Host,
    entrances: (Option<&ControlSocket>, Option<&AdminListener>),
    charge: watch::Sender<Charge>,
) -> anyhow::Result<Estate> {
    let (control, admin) = entrances;
    let mut own = control.map(ControlSocket::lend).transpose()?.unwrap_or_default();
    own.extend(admin.map(AdminListener::lend).transpose()?);
    Ok(Estate { identity: host.identity()?, own, charge })
}

/// The service manager that started us, if it wants to be told.
fn systemd(now: Instant) -> Option<Systemd> {
    Systemd::detect(now, |name| std::env::var_os(name)).unwrap_or_else(|error| {
        tracing::warn!(%error, "NOTIFY_SOCKET is set, and nobody listens there");
        None
    })
}

/// Says why the pool ended, if it was not asked to.
fn explain(config: &Config, ending: &Ending) -> Exit {
    let command = config.command.words.join(std::ffi::OsStr::new(" "));
    let command = command.to_string_lossy();
    let Some(reason) = supervisor::explain(ending.finish, &command) else {
        return ending.failure.as_ref().map_or(Exit::Stopped, |_| Exit::Failed);
    };
    match &ending.last_words {
        Some(words) => tracing::error!(last_output = words.as_str(), "{reason}"),
        None => tracing::error!("{reason}"),
    }
    match ending.finish {
        policy::Finish::AllRefused => Exit::BadConfig,
        policy::Finish::Stopped
        | policy::Finish::NeverReady { .. }
        | policy::Finish::NeverListened
        | policy::Finish::GaveUp { .. } => Exit::Failed,
    }
}

/// Where instances may have their control sockets, for the command line; for root those of all
/// users, its own first.
#[must_use]
pub fn control_directories(environment: &config::Environment) -> Vec<PathBuf> {
    let mut directories = host::runtime_candidates(environment);
    directories.extend(config::unit_directories(Path::new("/run")));
    if nix::unistd::geteuid().is_root() {
        let places = [Path::new("/dev/shm"), Path::new("/tmp")];
        directories.extend(config::directories_of_users(&places, Path::new("/run/user")));
    }
    directories
}

/// Renders the configuration and what the host has for it, with every warning once.
#[must_use]
pub fn check(check: &cli::Check, warnings: &[String]) -> String {
    let facts = host::facts(&config::Environment::new(std::env::vars_os()));
    let mut text = check.render(&facts);
    for warning in warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// The working directory as the user typed it, symlinks and all, where PWD tells.
///
/// # Errors
/// Those of getcwd(2).
pub fn working_directory(environment: &config::Environment) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let real = std::env::current_dir().context("cannot find the working directory")?;
    let Some(typed) = environment.get("PWD").map(PathBuf::from).filter(|path| path.is_absolute())
    else {
        return Ok(real);
    };
    let identity = |path: &PathBuf| path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    // A stale PWD (from a parent that changed directory) names another place.
    Ok(if identity(&typed) == identity(&real) { typed } else { real })
}
