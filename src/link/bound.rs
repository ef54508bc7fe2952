//! Holds a socket that listens and is not served yet, on its way to the reactor.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A socket that listens and is not served yet.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: OwnedFd,
    /// As people write it: `0.0.0.0:3000`, `unix:/run/app.sock`.
    pub(crate) address: String,
    pub(crate) url: String,
    pub(crate) sockname: Option<SocketAddr>,
    /// What was asked for: `:3000`, `systemd:web`, or the app's own words.
    pub(crate) key: String,
    /// None where there is no path, or it is not ours to remove.
    pub(crate) path: Option<OwnPath>,
}

/// Whose a listening socket is, if two masters have it. Its path is for that one to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Us,
    Another,
}

/// The path of a Unix socket; removed with this.
#[derive(Debug)]
pub(crate) struct OwnPath {
    path: Box<Path>,
    holder: Holder,
}

impl OwnPath {
    pub(crate) fn new(path: &Path, holder: Holder) -> Self {
        Self { path: path.into(), holder }
    }

    /// Says whose it is from now on.
    pub(crate) fn hold(&mut self, holder: Holder) {
        self.holder = holder;
    }
}

impl Drop for OwnPath {
    fn drop(&mut self) {
        if self.holder == Holder::Us {
            // It may be gone already, or the directory be read-only: nothing to do about either.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Bound {
    /// Says whose it is from now on.
    pub(crate) fn hold(&mut self, holder: Holder) {
        if let Some(path) = &mut self.path {
            path.hold(holder);
        }
    }
}
