//! From layers of values to a `Config`: every bound is checked here, and every error is found
//! before the first is shown.

mod command_line;
mod credentials;
mod health;
mod listeners;
mod reload;
mod request;
mod worker_env;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use command_line::DEMO_WORDS;
pub(super) use listeners::{MODES, PROTOCOLS, PROXY_PROTOCOLS};
pub(super) use request::{POISON, STICKY};

use super::count::COUNT_MAX;
use super::environment::Environment;
use super::error::{ConfigError, ConfigErrors, Origin};
use super::layers::Layers;
use super::settings::{
    Config, Count, Dialect, Limit, LogFormat, LogLevel, MaxConnections, Name, Nice, OomScore,
    Queue, QueueMax, QueueTimeout, Restart, Shutdown, Spare, WorkerOutput, Workers,
};
use super::value::Value;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What the workers are.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The words after `--`, or the `command` of the layers.
    Command(Vec<OsString>),
    /// The workers built into tenfold.
    Demo,
    /// None was given, and none is needed; the demo's stand in.
    Unstated,
}

/// What values mean depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// Absolute.
    pub(crate) cwd: &'a Path,
    /// For `PATH`, `PORT`, `KUBERNETES_SERVICE_HOST` and `NODE_OPTIONS`.
    pub(crate) environment: &'a Environment,
}

/// Builds a configuration, or finds everything that is wrong.
pub(crate) fn resolve(
    layers: Layers,
    work: Work,
    context: Context<'_>,
) -> Result<Config, ConfigErrors> {
    let (values, errors) = layers.into_parts();
    let mut resolver = Resolver { values, errors, context };
    let config = resolver.config(work);
    ConfigErrors::collect(resolver.errors)?;
    Ok(config)
}

/// Hands out values by key; what is wrong is noted, and the default stands in for it.
struct Resolver<'a> {
    values: BTreeMap<&'static str, Value>,
    errors: Vec<ConfigError>,
    context: Context<'a>,
}

impl Resolver<'_> {
    fn config(&mut self, work: Work) -> Config {
        let directory = self.directory();
        let dialect = self.take("dialect", Dialect::Auto, |value| value.choice(&DIALECTS));
        let env = self.env();
        let name = self.name(&work, &directory);
        Config {
            name,
            command: self.command(work, dialect, &directory, &env),
            dialect,
            listen: self.listeners(),
            fallback_listen: self.fallback_listen(&env),
            logs: self.take("logs", WorkerOutput::Auto, |value| value.choice(&OUTPUTS)),
            log: self.take("log", LogFormat::Auto, |value| value.choice(&FORMATS)),
            log_level: self.take("log_level", LogLevel::Info, |value| value.choice(&LEVELS)),
            workers: self.workers(),
            queue: self.queue(),
            restart: self.restart(),
            reload: self.reload(),
            shutdown: self.shutdown(),
            admin: self.admin(),
            ready_min: self.ready_min(),
            metrics_app: self.take("metrics.app", None, |value| request::path(value).map(Some)),
            request: self.request(),
            directory,
            env,
        }
    }

    /// The value of `key`, converted; `default` where it is unset or wrong.
    fn take<T>(
        &mut self,
        key: &'static str,
        default: T,
        convert: impl FnOnce(&Value) -> Result<T, String>,
    ) -> T {
        debug_assert!(super::keys::find(key).is_some(), "{key} is in the table of keys");
        let Some(value) = self.values.get(key) else {
            return default;
        };
        convert(value).unwrap_or_else(|message| {
            let error = ConfigError::new(format!("{key}: {message}"), value.origin.clone());
            self.errors.push(error);
            default
        })
    }

    fn fail(&mut self, message: String, key: &str) {
        let origin = self.values.get(key).map_or(Origin::Nowhere, |value| value.origin.clone());
        self.errors.push(ConfigError::new(message, origin));
    }

    /// The directory that relative paths in a value start from: the file's, else ours.
    fn base(&self, value: &Value) -> PathBuf {
        let cwd = self.context.cwd;
        match &value.origin {
            Origin::File(file, _) => {
                cwd.join(&file.path).parent().map_or(cwd.to_owned(), Path::to_owned)
            }
            Origin::Variable(_) | Origin::Flag(_) | Origin::Nowhere => cwd.to_owned(),
        }
    }

    fn directory(&mut self) -> PathBuf {
        let cwd = self.context.cwd.to_owned();
        let base = self.values.get("directory").map(|value| self.base(value));
        let base = base.unwrap_or_else(|| cwd.clone());
        self.take("directory", cwd, |value| {
            let directory = base.join(value.text()?);
            if directory.is_dir() {
                Ok(directory)
            } else {
                Err(format!("{} is not a directory", value.shown()))
            }
        })
    }

    fn name(&mut self, work: &Work, directory: &Path) -> Name {
        let derived = match work {
            Work::Demo => "demo".to_owned(),
            Work::Command(_) | Work::Unstated => derived_name(directory),
        };
        self.take("name", Name::Derived(derived), |value| {
            let name = value.text()?;
            let valid = (1..=64).contains(&name.len())
                && !name.starts_with(['.', '-'])
                && name.chars().all(is_name_char);
            if valid {
                Ok(Name::Given(name.to_owned()))
            } else {
                Err(format!(
                    "{} is not 1 to 64 of A-Z a-z 0-9 . _ - with a letter, digit or _ first",
                    value.shown()
                ))
            }
        })
    }

    fn workers(&mut self) -> Workers {
        Workers {
            count: self.take("workers.count", Count::ByCommand, |value| {
                let count = value.integer_or(1..=i64::from(COUNT_MAX), Some("auto"))?;
                Ok(count.map_or(Count::Auto, |count| Count::Fixed(non_zero_u16(count))))
            }),
            spare: self.take("workers.spare", Spare::Fixed(0), |value| {
                let spare = value.integer_or(0..=i64::from(COUNT_MAX) - 1, Some("auto"))?;
                Ok(spare.map_or(Spare::Auto, |spare| Spare::Fixed(spare as u16)))
            }),
            max_connections: self.take("workers.max_connections", MaxConnections::Auto, |value| {
                let max = value.integer_or(1..=1_000_000, Some("auto"))?;
                Ok(max.map_or(MaxConnections::Auto, |max| MaxConnections::Fixed(non_zero(max))))
            }),
            limit: self.take("workers.limit", Limit::Auto, |value| {
                let limit = value.integer_or(1..=100_000, Some("auto"))?;
                Ok(limit.map_or(Limit::Auto, |limit| Limit::Fixed(non_zero(limit))))
            }),
            credentials: self.credentials(),
            preload: self.take("workers.preload", true, Value::boolean),
            inspect: self.take("workers.inspect", false, Value::boolean),
            wait_ready: self.take("workers.wait_ready", false, Value::boolean),
            ready_path: self.take("workers.ready_path", None, |value| ready_path(value).map(Some)),
            start_timeout: self.duration("workers.start_timeout", MINUTE, ms(100), HOUR),
            give_up: self.duration("workers.give_up", 5 * MINUTE, ms(100), DAY),
            nice: self.take("workers.nice", Nice::Auto, |value| {
                let nice = value.integer_or(-20..=19, Some("auto"))?;
                Ok(nice.map_or(Nice::Auto, |nice| Nice::Fixed(nice as i8)))
            }),
            oom_score_adj: self.take("workers.oom_score_adj", OomScore::Auto, |value| {
                let score = value.integer_or(-1000..=1000, Some("auto"))?;
                Ok(score.map_or(OomScore::Auto, |score| OomScore::Fixed(score as i16)))
            }),
            health: self.health(),
        }
    }

    fn queue(&mut self) -> Queue {
        Queue {
            max: self.take("queue.max", QueueMax::Auto, |value| {
                let max = value.integer_or(0..=1_000_000, Some("auto"))?;
                Ok(max.map_or(QueueMax::Auto, |max| QueueMax::Fixed(max as u32)))
            }),
            timeout: self.take("queue.timeout", QueueTimeout::Auto, |value| {
                if value.as_text() == Some("auto") {
                    return Ok(QueueTimeout::Auto);
                }
                value.duration(ms(1)..=10 * MINUTE).map(QueueTimeout::Fixed)
            }),
        }
    }

    fn restart(&mut self) -> Restart {
        let base = self.duration("restart.base", ms(100), ms(1), MINUTE);
        let cap = self.duration("restart.cap", 30 * SECOND, ms(1), HOUR);
        if cap < base {
            let (cap, base) = (shown(cap), shown(base));
            let key = if self.values.contains_key("restart.cap") {
                "restart.cap"
            } else {
                "restart.base"
            };
            self.fail(format!("restart.cap: {cap} is below restart.base, {base}"), key);
        }
        let healthy = self.duration("restart.healthy", MINUTE, ms(100), HOUR);
        let burst = self.take("restart.burst", None, |value| {
            Ok(value.integer_or(1..=1_000_000, Some("auto"))?.map(non_zero))
        });
        Restart { base, cap, healthy, burst }
    }

    fn shutdown(&mut self) -> Shutdown {
        let total = self.duration("shutdown.total", 25 * SECOND, ms(100), HOUR);
        // A Service goes on sending for some seconds after it was told that a pod is ending.
        let kubernetes = self.context.environment.get("KUBERNETES_SERVICE_HOST").is_some();
        // Unset, the delay gives way to a short total.
        let default = if kubernetes { (5 * SECOND).min(total / 2) } else { Duration::ZERO };
        let delay = self.duration("shutdown.delay", default, Duration::ZERO, HOUR);
        if delay >= total {
            let (delay, total) = (shown(delay), shown(total));
            let message = format!("shutdown.delay: {delay} is not below shutdown.total, {total}");
            self.fail(message, "shutdown.delay");
        }
        let idle = self.duration("shutdown.idle", 2 * SECOND, Duration::ZERO, HOUR);
        let interactive_grace =
            self.duration("shutdown.interactive_grace", 2 * SECOND, Duration::ZERO, HOUR);
        Shutdown { total, delay, idle, interactive_grace }
    }

    fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        min: Duration,
        max: Duration,
    ) -> Duration {
        self.take(key, default, |value| value.duration(min..=max))
    }
}

pub(super) const DIALECTS: [(&str, Dialect); 5] = [
    ("auto", Dialect::Auto),
    ("node", Dialect::Node),
    ("native", Dialect::Native),
    ("fd", Dialect::Fd),
    ("port", Dialect::Port),
];
pub(super) const OUTPUTS: [(&str, WorkerOutput); 3] =
    [("auto", WorkerOutput::Auto), ("tag", WorkerOutput::Tag), ("inherit", WorkerOutput::Inherit)];
pub(super) const FORMATS: [(&str, LogFormat); 3] =
    [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// A request target as it goes into a request line, so nothing that could end that line.
fn ready_path(value: &Value) -> Result<String, String> {
    let path = value.text()?;
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(path.to_owned())
    } else {
        Err(format!("{} is not a path that begins with / and has no spaces", value.shown()))
    }
}

fn non_zero(number: i64) -> NonZeroU32 {
    let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
    number.expect("the range begins at 1 and ends within 32 bits")
}

fn non_zero_u16(number: i64) -> NonZeroU16 {
    let number = u16::try_from(number).ok().and_then(NonZeroU16::new);
    number.expect("the range begins at 1 and ends within 16 bits")
}

pub(super) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// The directory's own name with anything unusual as `-`; `app` where nothing is left.
fn derived_name(directory: &Path) -> String {
    let name = directory.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if is_name_char(c) { c } else { '-' }).take(64).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "app".to_owned() } else { name.to_owned() }
}
