//! Reads what the master gave this process (PROTOCOL.md §1) and claims the channel, once.

use std::env;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::AddressFamily;

use crate::sys;

/// The one protocol version that this crate speaks.
const PROTOCOL: &str = "1";

/// Set by the first claim: a descriptor number must not be adopted twice in one process.
static CLAIMED: AtomicBool = AtomicBool::new(false);

/// Who this worker is, as far as the master said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The stable number of this worker's place in the pool, from 0.
    pub slot: Option<u32>,
    /// The number of this process among all the master ever started; never reused.
    pub worker: Option<u64>,
    /// The size of the pool.
    pub workers: Option<u32>,
}

/// The control channel and who we are on it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) channel: OwnedFd,
    pub(crate) identity: Identity,
}

/// Claims the channel. None: there is no master, or another process or an earlier call has claimed
/// it.
pub(crate) fn claim() -> io::Result<Option<Claim>> {
    let Some(control) = descriptor("TENFOLD_CONTROL_FD")? else {
        return Ok(None);
    };
    if let Ok(version) = env::var("TENFOLD_PROTOCOL")
        && version != PROTOCOL
    {
        let text = format!("TENFOLD_PROTOCOL: {version} is not spoken here, only {PROTOCOL}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let token = descriptor("TENFOLD_TOKEN_FD")?;
    let load = descriptor("TENFOLD_LOAD_FD")?;
    if CLAIMED.swap(true, Ordering::AcqRel) || !won(token)? {
        return Ok(None);
    }
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("TENFOLD_CONTROL_FD: {control}: {error}"))
    };
    let channel = sys::inherit(control).map_err(named)?;
    if sys::stream_family(&channel) != Some(AddressFamily::UNIX) {
        return Err(named(io::Error::new(io::ErrorKind::InvalidInput, "no Unix stream socket")));
    }
    if let Some(load) = load {
        // This dialect reports on the channel; the page is for those that do not. Adopted to close
        // it.
        drop(sys::inherit(load));
    }
    let identity = Identity {
        slot: number("TENFOLD_SLOT"),
        worker: number("TENFOLD_WORKER"),
        workers: number("TENFOLD_WORKERS"),
    };
    Ok(Some(Claim { channel, identity }))
}

/// Whether the channel is ours. The environment is inherited further than it is meant: the token is
/// what tells the worker from its children, for whom the pipe is empty or not even open.
fn won(token: Option<RawFd>) -> io::Result<bool> {
    let Some(token) = token else { return Ok(true) };
    match sys::inherit(token) {
        Ok(token) => sys::take_token(&token),
        Err(_) => Ok(false),
    }
}

fn descriptor(key: &str) -> io::Result<Option<RawFd>> {
    let Ok(text) = env::var(key) else {
        return Ok(None);
    };
    match text.parse::<RawFd>() {
        Ok(number) if number >= 0 => Ok(Some(number)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{key}: {text:?} is no descriptor number"),
        )),
    }
}

fn number<T: FromStr>(key: &str) -> Option<T> {
    env::var(key).ok()?.parse().ok()
}
