//! Opens the configured listeners before anything is started: binds addresses, and takes the
//! sockets that systemd passed.

use std::collections::HashMap;

use anyhow::{Context, bail};

use crate::config::{Address, Listeners};
use crate::dispatch::{self, Bound};
use crate::sys::passed::{self, Passed};

/// Sockets that listen, by the place of their entry in `Listeners::listed`.
pub(crate) type Sockets = HashMap<usize, Vec<Bound>>;

/// Opens every configured listener.
///
/// # Errors
/// The first one that cannot be had.
pub(crate) fn listeners(listeners: &Listeners) -> anyhow::Result<Sockets> {
    let mut passed = passed::take(|name| std::env::var(name).ok())
        .context("listen: cannot take the sockets that systemd passed")?;
    let mut sockets = Sockets::new();
    let entries = || listeners.listed.iter().enumerate();
    // Names first: an entry without one takes what is left.
    for (index, entry) in entries() {
        if let Some(Address::Systemd(Some(name))) = &entry.on {
            let named = take_named(&mut passed, name)?;
            sockets.insert(index, adopt(named)?);
        }
    }
    for (index, entry) in entries() {
        match &entry.on {
            Some(Address::Systemd(None)) => {
                if passed.is_empty() {
                    bail!("listen: systemd passed no socket; start this service's .socket unit");
                }
                sockets.insert(index, adopt(std::mem::take(&mut passed))?);
            }
            Some(address @ (Address::Tcp { .. } | Address::Unix(_))) => {
                let socket = dispatch::bind(address, entry.options)
                    .with_context(|| format!("listen: cannot listen on {address}"))?;
                sockets.insert(index, vec![socket]);
            }
            Some(Address::Systemd(Some(_))) | None => {}
        }
    }
    if !passed.is_empty() {
        let names = names(&passed);
        tracing::warn!(names, "systemd passed sockets that no listener takes; see listen.on");
    }
    Ok(sockets)
}

fn take_named(passed: &mut Vec<Passed>, name: &str) -> anyhow::Result<Vec<Passed>> {
    let named: Vec<Passed> = passed.extract_if(.., |socket| socket.name == name).collect();
    if named.is_empty() {
        match names(passed).as_str() {
            "" => bail!("listen: systemd passed no socket named {name:?}, and none at all"),
            others => bail!("listen: systemd passed no socket named {name:?}; it passed {others}"),
        }
    }
    Ok(named)
}

fn adopt(passed: Vec<Passed>) -> anyhow::Result<Vec<Bound>> {
    let adopt = |socket: Passed| {
        let name = socket.name.clone();
        dispatch::adopt(socket)
            .map_err(|why| anyhow::anyhow!("listen: the socket {name:?} that systemd passed {why}"))
    };
    passed.into_iter().map(adopt).collect()
}

fn names(passed: &[Passed]) -> String {
    let names: Vec<&str> = passed.iter().map(|socket| socket.name.as_str()).collect();
    names.join(", ")
}
