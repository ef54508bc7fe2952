//! What the host gives us, as far as it lets us see, and one warning for each thing it denies.
//!
//! Filled by whoever may look at the host; only judged and shown here.

use std::path::PathBuf;

use super::count::Capacity;
use super::runtime_dir::NoRuntimeDir;

/// Why a fact is not known: `permission denied (os error 13)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied(pub String);

/// What the host gives us.
#[derive(Clone, Debug, PartialEq)]
pub struct HostFacts {
    /// CPUs we may run on, at least 1.
    pub cpus: u32,
    /// CPUs' worth of time the cgroup may use; none: no quota.
    pub cpu_quota: Result<Option<f64>, Denied>,
    /// The cgroup's memory limit in bytes; none: no limit.
    pub memory: Result<Option<u64>, Denied>,
    /// Open files, as they were before we raised them.
    pub nofile: Result<Nofile, Denied>,
    /// Where control socket and preload go.
    pub runtime_dir: Result<PathBuf, NoRuntimeDir>,
    /// Whether pidfd_open(2) works.
    pub pidfd: Result<(), Denied>,
    /// Our effective user id.
    pub uid: u32,
}

/// A limit of open files; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nofile {
    /// What holds.
    pub soft: u64,
    /// How far we may raise it.
    pub hard: u64,
}

impl HostFacts {
    /// What `auto` counts workers by; what is denied does not bound it.
    pub fn capacity(&self) -> Capacity {
        Capacity {
            cpu_quota: self.cpu_quota.clone().unwrap_or(None),
            cpus: self.cpus,
            memory: self.memory.clone().unwrap_or(None),
        }
    }

    /// One line for each facility that is denied, with what follows from it.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Err(Denied(reason)) = &self.cpu_quota {
            warnings.push(format!("the CPU quota cannot be read, assuming none: {reason}"));
        }
        if let Err(Denied(reason)) = &self.memory {
            warnings.push(format!("the memory limit cannot be read, assuming none: {reason}"));
        }
        if let Err(Denied(reason)) = &self.nofile {
            warnings.push(format!("the limit of open files cannot be read: {reason}"));
        }
        if let Err(reason) = &self.runtime_dir {
            warnings.push(format!("{reason}; status, scale and stop will not find this instance"));
        }
        if let Err(Denied(reason)) = &self.pidfd {
            warnings.push(format!("pidfd_open is denied: {reason}"));
        }
        warnings
    }

    /// Name and value of each fact, for people.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let limit = |limit: u64| match limit {
            u64::MAX => "unlimited".to_owned(),
            _ => limit.to_string(),
        };
        let none = || "none".to_owned();
        vec![
            ("CPUs", self.cpus.to_string()),
            ("CPU quota", known(&self.cpu_quota, |q| q.map_or_else(none, |q| q.to_string()))),
            (
                "memory limit",
                known(&self.memory, |m| m.map_or_else(none, |m| format!("{} MiB", m >> 20))),
            ),
            (
                "open files",
                known(&self.nofile, |n| format!("{} soft, {} hard", limit(n.soft), limit(n.hard))),
            ),
            (
                "runtime dir",
                self.runtime_dir
                    .as_ref()
                    .map_or_else(|_| none(), |path| path.display().to_string()),
            ),
            ("pidfd", known(&self.pidfd, |()| "works".to_owned())),
            ("uid", self.uid.to_string()),
        ]
    }
}

fn known<T: Copy>(fact: &Result<T, Denied>, show: impl FnOnce(T) -> String) -> String {
    fact.as_ref().map_or_else(|_| "unknown".to_owned(), |fact| show(*fact))
}
