//! Opens everything that others reach us by, before anything is started: binds addresses, takes the
//! sockets that systemd passed, or takes all of it over from an old master.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use anyhow::{Context, bail};
use tokio::sync::watch;

use crate::admin::{self, AdminListener, ControlSocket, Process};
use crate::config::{Address, Config, Listeners};
use crate::dispatch::{self, Accepting};
use crate::host::Host;
use crate::link::bound::Bound;
use crate::supervisor::Charge;
use crate::sys::child;
use crate::sys::passed::{self, Passed};
use crate::upgrade::{Kind, Predecessor};

/// Sockets that listen, by the place of their entry in `Listeners::listed`.
pub(crate) type Sockets = HashMap<usize, Vec<Bound>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) bound: Sockets,
    pub(crate) admin: Option<AdminListener>,
    pub(crate) control: Option<ControlSocket>,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) accepting: Accepting,
    /// An old master's sockets that no entry of the configuration asks for: the app will.
    pub(crate) inherited: HashMap<String, OwnedFd>,
    /// Brings the old master's idle clients.
    pub(crate) clients: Option<OwnedFd>,
    pub(crate) charge: watch::Sender<Charge>,
}

/// Opens it all.
///
/// # Errors
/// The first thing that cannot be had.
pub(crate) fn all(config: &Config, host: &Host) -> anyhow::Result<Opened> {
    let mut passed = passed::take(|name| std::env::var(name).ok())
        .context("listen: cannot take the sockets that were passed")?;
    let mut predecessor = Predecessor::recognise(&mut passed)?;
    if let Some(old) = &predecessor {
        tracing::info!(from = old.version, "taking over from a running master");
    }
    let (whose, accepting) = match predecessor {
        Some(_) => (Charge::NotYet, Accepting::NotYet),
        None => (Charge::Ours, Accepting::Yes),
    };
    let (charge, charged) = watch::channel(whose);
    let bound = listeners(&config.listen, passed, predecessor.as_mut())?;
    let process = if child::is_pid_1() { Process::First } else { Process::Other };
    let mut take = |kind| predecessor.as_mut().and_then(|old| old.take(kind, ""));
    let admin = match take(Kind::Admin) {
        Some(socket) if config.admin != crate::config::Admin::Off => {
            Some(AdminListener::inherit(socket)?)
        }
        Some(_) | None => admin::bind(&config.admin, process)?,
    };
    let (lock, socket, clients) = (take(Kind::Lock), take(Kind::Control), take(Kind::Clients));
    let name = predecessor.as_ref().map(|old| old.name.clone());
    let control = match (name, lock.zip(socket)) {
        (Some(name), Some(held)) => host.inherit_name(&name, held, charged)?,
        (Some(_) | None, Some(_) | None) => host.take_name(config, charged)?,
    };
    let inherited = predecessor.as_mut().map(Predecessor::take_listeners).unwrap_or_default();
    let inherited = inherited.into_iter().collect();
    Ok(Opened { bound, admin, control, predecessor, accepting, inherited, clients, charge })
}

/// Opens every configured listener.
fn listeners(
    listeners: &Listeners,
    mut passed: Vec<Passed>,
    mut predecessor: Option<&mut Predecessor>,
) -> anyhow::Result<Sockets> {
    let mut sockets = Sockets::new();
    // Names first: an entry without one takes what is left.
    let is_rest = |address: &Address| *address == Address::Systemd(None);
    let entries = listeners.listed.iter().enumerate();
    let mut entries: Vec<_> = entries
        .filter_map(|(index, entry)| Some((index, entry.on.as_ref()?, entry.options)))
        .collect();
    entries.sort_by_key(|(_, address, _)| is_rest(address));
    for (index, address, options) in entries {
        let inherited = match &mut predecessor {
            Some(predecessor) => inherit(predecessor, &address.to_string())?,
            None => Vec::new(),
        };
        let open = match address {
            _ if !inherited.is_empty() => inherited,
            Address::Systemd(name) => adopt(take(&mut passed, name.as_deref())?, address)?,
            Address::Tcp { .. } | Address::Unix(_) => {
                let socket = dispatch::bind(address, options)
                    .with_context(|| format!("listen: cannot listen on {address}"))?;
                vec![socket]
            }
        };
        sockets.insert(index, open);
    }
    if !passed.is_empty() {
        let names = names(&passed);
        tracing::warn!(names, "systemd passed sockets that no listener takes; see listen.on");
    }
    Ok(sockets)
}

/// Opens those listeners of a new configuration that the one in force has not.
///
/// # Errors
/// The first address that cannot be had; then none is kept.
pub(crate) fn added(wanted: &Listeners, running: &Listeners) -> anyhow::Result<Sockets> {
    let mut sockets = Sockets::new();
    let new = wanted.matched(running).into_iter().zip(&wanted.listed).enumerate();
    for (index, (_, entry)) in new.filter(|(_, (before, _))| before.is_none()) {
        let bound = match &entry.on {
            None => continue,
            Some(address @ Address::Systemd(_)) => {
                bail!("listen: {address}: systemd passes sockets at a start only; restart the unit")
            }
            Some(address @ (Address::Tcp { .. } | Address::Unix(_))) => {
                dispatch::bind(address, entry.options)
                    .with_context(|| format!("listen: cannot listen on {address}"))?
            }
        };
        sockets.insert(index, vec![bound]);
    }
    Ok(sockets)
}

/// What the old master listens on for this address.
fn inherit(predecessor: &mut Predecessor, key: &str) -> anyhow::Result<Vec<Bound>> {
    let sockets = std::iter::from_fn(|| predecessor.take(Kind::Listener, key));
    let inherit = |socket| {
        dispatch::inherit(key.to_owned(), socket)
            .map_err(|why| anyhow::anyhow!("listen: what the old master has for {key} {why}"))
    };
    sockets.map(inherit).collect()
}

/// The passed sockets of this name, or all.
fn take(passed: &mut Vec<Passed>, name: Option<&str>) -> anyhow::Result<Vec<Passed>> {
    let Some(name) = name else {
        if passed.is_empty() {
            bail!("listen: systemd passed no socket; start this service's .socket unit");
        }
        return Ok(std::mem::take(passed));
    };
    let named: Vec<Passed> = passed.extract_if(.., |socket| socket.name == name).collect();
    if named.is_empty() {
        match names(passed).as_str() {
            "" => bail!("listen: systemd passed no socket named {name:?}, and none at all"),
            others => bail!("listen: systemd passed no socket named {name:?}; it passed {others}"),
        }
    }
    Ok(named)
}

fn adopt(passed: Vec<Passed>, address: &Address) -> anyhow::Result<Vec<Bound>> {
    let adopt = |socket: Passed| {
        let name = socket.name.clone();
        dispatch::adopt(address.to_string(), socket)
            .map_err(|why| anyhow::anyhow!("listen: the socket {name:?} that systemd passed {why}"))
    };
    passed.into_iter().map(adopt).collect()
}

fn names(passed: &[Passed]) -> String {
    let names: Vec<&str> = passed.iter().map(|socket| socket.name.as_str()).collect();
    names.join(", ")
}
