//! Reads the configuration again as it was read at the start, and says what of it a pool that runs
//! can be moved to.

use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;

use crate::cli::{self, Invocation};
use crate::config::{self, Config, Environment};
use crate::host::Host;
use crate::supervisor::reload::{Renewed, Terms};

/// Where a configuration came from: what a reload reads again.
#[derive(Clone, Debug)]
pub struct Origin {
    /// All words, the program's name first.
    pub arguments: Vec<OsString>,
    /// As it was at the start.
    pub environment: Environment,
    /// The working directory as typed; where its symlinks lead now is for each generation to see.
    pub directory: PathBuf,
}

/// Builds everything that a new generation needs, or nothing.
///
/// # Errors
/// The configuration is wrong, or names what is not there; the text is for people.
pub(crate) fn renew(origin: &Origin, host: &Rc<Host>, running: &Config) -> anyhow::Result<Renewed> {
    let Origin { arguments, environment, directory } = origin;
    let parsed = cli::parse(arguments.clone(), environment, directory)?;
    let (Invocation::Run(wanted) | Invocation::Demo(wanted)) = parsed.invocation else {
        anyhow::bail!("the arguments do not name a pool");
    };
    let config = without_fixed(&wanted, running);
    let launcher = host.launcher(&config)?;
    Ok(Renewed {
        launcher,
        bound: crate::open::added(&config.listen, &running.listen)?,
        fleet: crate::fleet_settings(&config, host),
        kept: changed(&wanted, &config),
        terms: terms(config, host),
        warnings: parsed.warnings,
    })
}

/// What is in force for the whole pool under this configuration.
pub(crate) fn terms(config: Config, host: &Host) -> Terms {
    let count = host.count_of(&config).get();
    Terms { tuning: crate::tuning(&config, host), count, config }
}

/// The wanted configuration, with what only a new master can take as it is.
fn without_fixed(wanted: &Config, running: &Config) -> Config {
    let mut config = wanted.clone();
    let Config { name, dialect, fallback_listen, logs, log, .. } = running.clone();
    config.name = name;
    config.dialect = dialect;
    config.listen = wanted.listen.reachable_from(&running.listen);
    config.fallback_listen = fallback_listen;
    config.logs = logs;
    config.log = log;
    config.log_level = running.log_level;
    config.admin = running.admin.clone();
    config.metrics_app.clone_from(&running.metrics_app);
    config.workers.wait_ready = running.workers.wait_ready;
    config.workers.health = running.workers.health;
    config
}

/// The keys that differ, in the order of the example file.
fn changed(left: &Config, right: &Config) -> Vec<&'static str> {
    let (left, right) =
        (config::describe(left, &Default::default()), config::describe(right, &Default::default()));
    let differing = left.iter().zip(&right).filter(|(left, right)| left.value != right.value);
    differing.map(|(setting, _)| setting.key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Change, KEYS};

    fn config(words: &str) -> Config {
        let words = words.split(' ').map(OsString::from);
        let parsed = cli::parse(words, &Environment::default(), &PathBuf::from("/"));
        match parsed.expect("the words are right").invocation {
            Invocation::Run(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    /// A key that the table calls reloadable is taken, every other one is kept and named.
    #[test]
    fn the_table_of_keys_says_what_a_reload_takes() {
        let running = config("tenfold -- true");
        let sets = [
            ("workers.limit=7", Change::Reload),
            ("queue.max=3", Change::Reload),
            ("listen.on=:81", Change::Reload),
            ("listen.protocol=http", Change::Reload),
            ("listen.backlog=7", Change::Restart),
            ("mode=connection", Change::Restart),
            ("restart.cap=7s", Change::Reload),
            ("reload.soak=1s", Change::Reload),
            ("shutdown.total=9s", Change::Reload),
            ("workers.wait_ready=true", Change::Restart),
            ("workers.hang=9s", Change::Restart),
            ("memory.soft=1GiB", Change::Restart),
            ("admin=off", Change::Restart),
            ("log=json", Change::Restart),
            ("timeouts.connect=3s", Change::Reload),
            ("limits.head_fields=50", Change::Reload),
            ("headers.forwarded=true", Change::Reload),
            ("headers.via=true", Change::Reload),
            ("sticky=off", Change::Reload),
            ("poison=off", Change::Reload),
            ("retries=false", Change::Reload),
            ("unlimited=[\"/wait\"]", Change::Reload),
            ("trusted_proxies=[]", Change::Reload),
            ("shed.status=429", Change::Reload),
            ("workers.warmup=[\"/\"]", Change::Reload),
            ("health.public=[\"/up\"]", Change::Reload),
            ("metrics.app=/m", Change::Restart),
        ];
        for (set, change) in sets {
            let wanted = config(&format!("tenfold --set {set} -- true"));
            let kept = changed(&wanted, &without_fixed(&wanted, &running));
            let key = set.split('=').next().unwrap_or_default();
            let expected: &[&str] = match change {
                Change::Reload => &[],
                Change::Restart => &[key],
            };
            assert_eq!(kept, expected, "{set}");
            let listed = KEYS.iter().find(|listed| listed.name == key).expect("it is a key");
            assert_eq!(listed.change, change, "{set}");
        }
    }
}
