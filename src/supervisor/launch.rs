//! Starts one worker: its environment, its descriptors, and our ends of them.

mod private;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::guardian::{INSTANCE_VARIABLE, WORKER_VARIABLE};
use crate::config::placeholder::{self, Values};
use crate::config::{Config, WorkerOutput};
use crate::link::orders::{Expects, Upstream};
use crate::policy::{RecycleSettings, Slot, WorkerId};
use crate::sys::load::LoadPage;
use crate::sys::spawn::{
    Credentials, Leads, Leash, ListenPid, Nofile, Output, PassedFd, SpawnError, SpawnPlan, Spawned,
    spawn,
};
use crate::sys::{channel, notify};
pub(crate) use private::{Private, PrivateListener};

/// Descriptor numbers in a worker. High, with a gap below: Node marks descriptors close-on-exec
/// from 3 up to the first gap above 15, and a wrapper must pass these on to its children.
const CONTROL_FD: i32 = 100;
const TOKEN_FD: i32 = 101;
const LOAD_FD: i32 = 102;
const STACK_FD: i32 = 103;

/// Where LISTEN_FDS begins (SD_LISTEN_FDS_START), and what `uvicorn --fd 3` and the like name.
const LISTEN_FD: i32 = 3;

/// Everything about workers that is the same for all of one generation.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Ours, less what is for us alone, plus what the configuration adds.
    pub(crate) environment: BTreeMap<OsString, OsString>,
    /// The names of those that the configuration adds: words in braces are replaced in them.
    pub(crate) configured: Vec<OsString>,
    /// Where workers run: where the configured directory led when this generation began, so that
    /// a restart does not mix two releases.
    pub(crate) directory: PathBuf,
    pub(crate) output: WorkerOutput,
    pub(crate) expects: Expects,
    /// What a worker with a private listener must answer to be ready.
    pub(crate) ready_path: Option<String>,
    /// None for workers that can only receive sockets.
    pub(crate) private: Option<PrivateListener>,
    /// The preload's path, or a `data:` URL for `--import`; none where it is off.
    pub(crate) preload: Option<PreloadFlag>,
    /// Whether the preload tells where the JavaScript of its process is.
    pub(crate) inspect: Inspect,
    /// What the preload is told besides, by name.
    pub(crate) told: Vec<(&'static str, OsString)>,
    pub(crate) instance: String,
    pub(crate) nofile: Option<Nofile>,
    pub(crate) credentials: Option<Credentials>,
    /// How often a worker with a NOTIFY_SOCKET should say WATCHDOG=1, at least.
    pub(crate) watchdog: Option<Duration>,
    /// What bounds V8's old space, for Node workers whose user has set no bound.
    pub(crate) heap: Heap,
    pub(crate) nice: i32,
    pub(crate) oom_score_adj: Option<i32>,
}

/// What a worker's share of the memory is derived from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    pub(crate) recycling: RecycleSettings,
    /// Of the cgroup, in bytes.
    pub(crate) limit: Option<NonZeroU64>,
}

impl Heap {
    /// The bound of V8's old space in MiB, where memory is bounded: a fifth above `memory.soft`, so
    /// that a worker is replaced before V8 gives up, and V8 collects before the kernel kills.
    fn mib(self, pool: u16) -> Option<u64> {
        let soft = self.recycling.soft_of(pool, self.limit)?;
        Some((soft / 5 * 6) >> 20).filter(|mib| *mib > 0)
    }
}

/// Whether Node workers tell where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspect {
    Yes,
    No,
}

/// How Node is told to load the preload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PreloadFlag {
    Require(PathBuf),
    Import(String),
}

/// A worker that runs, and our ends of what it got.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) spawned: Spawned,
    pub(crate) channel: OwnedFd,
    pub(crate) token: OwnedFd,
    pub(crate) load: Arc<LoadPage>,
    /// Where it can be asked for its stack.
    pub(crate) stack: Option<UnixStream>,
    pub(crate) private: Option<Private>,
    /// Where it may say READY=1 and the like.
    pub(crate) notify: Option<UnixDatagram>,
    /// Read ends of its stdout and stderr; none where it has ours.
    pub(crate) output: Option<(OwnedFd, OwnedFd)>,
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("cannot prepare its descriptors: {0}")]
    Prepare(#[from] io::Error),
}

/// Which worker to start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Which {
    pub(crate) worker: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) pool: u16,
}

impl Launcher {
    /// Starts one worker; `taken` are the private listeners of all living ones.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing of the worker is left behind.
    pub(crate) fn launch(
        &self,
        which: Which,
        taken: &BTreeSet<Upstream>,
    ) -> Result<Launched, LaunchError> {
        let channel::Pair { master, worker } = channel::pair()?;
        set_nonblocking(&master)?;
        let (token_out, token_in) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        // One byte: the right to claim the channel (docs/PROTOCOL.md).
        nix::unistd::write(&token_in, b"t").map_err(io::Error::from)?;
        // The claim must not wait where another process has taken the byte.
        set_nonblocking(&token_out)?;
        let load = LoadPage::create()?;
        let mut plan = SpawnPlan::new(&self.program)?;
        plan.fds = match self.expects {
            // It would not know what they are.
            Expects::Upstream => Vec::new(),
            Expects::Either | Expects::Any | Expects::PlainNode | Expects::Native => vec![
                PassedFd { source: worker, target: CONTROL_FD },
                PassedFd { source: token_out, target: TOKEN_FD },
                PassedFd { source: load.fd().try_clone_to_owned()?, target: LOAD_FD },
            ],
        };
        let stack = match self.inspect {
            Inspect::Yes => Some(pass_stack(&mut plan)?),
            Inspect::No => None,
        };
        let make = |kind| Private::make(kind, &self.instance, which.worker, taken);
        let (private, inherited) = self.private.as_ref().map(make).transpose()?.unzip();
        // Ours goes with the plan: a copy kept here would listen on after the worker's death, and
        // every connect would wait for nobody.
        if let Some(source) = inherited.flatten() {
            plan.fds.push(PassedFd { source, target: LISTEN_FD });
            plan.listen_pid = ListenPid::OfChild;
        }
        let notify = match &private {
            Some(_) => Some(notify::bind(&self.notify_name(which.worker))?),
            None => None,
        };
        self.describe(&mut plan, which, private.as_ref())?;
        let output = self.direct_output(&mut plan)?;
        let spawned = spawn(&plan)?;
        let load = Arc::new(load);
        let (channel, token) = (master, token_in);
        Ok(Launched { spawned, channel, token, load, stack, private, notify, output })
    }

    /// What it runs, where and as whom.
    fn describe(
        &self,
        plan: &mut SpawnPlan,
        which: Which,
        private: Option<&Private>,
    ) -> io::Result<()> {
        let mut values = private.map(Private::values).unwrap_or_default();
        // In the words of a Node app braces are code.
        values.slot = private.map(|_| OsString::from(which.slot.to_string()));
        let arguments = self.arguments.iter().map(|word| placeholder::fill(word, &values));
        plan.arguments = c_strings(arguments)?;
        plan.environment = self.environment_of(which, private, &values)?;
        plan.directory = Some(CString::new(self.directory.as_os_str().as_bytes())?);
        plan.nofile = self.nofile;
        plan.credentials.clone_from(&self.credentials);
        plan.nice = self.nice;
        plan.oom_score_adj = self.oom_score_adj;
        plan.leads = Leads::Group;
        plan.leash = Leash::DieWithParent;
        Ok(())
    }

    /// Pipes for what it writes; our ends of them.
    fn direct_output(&self, plan: &mut SpawnPlan) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        match self.output {
            WorkerOutput::Inherit => Ok(None),
            WorkerOutput::Auto | WorkerOutput::Tag => {
                let (stdout, stdout_in) = pipe()?;
                let (stderr, stderr_in) = pipe()?;
                plan.stdout = Output::To(stdout_in);
                plan.stderr = Output::To(stderr_in);
                Ok(Some((stdout, stderr)))
            }
        }
    }

    /// The abstract name of a worker's NOTIFY_SOCKET; nobody else's, as the instance is random.
    fn notify_name(&self, worker: WorkerId) -> String {
        format!("tenfold-{}-{worker}", self.instance)
    }

    fn environment_of(
        &self,
        which: Which,
        private: Option<&Private>,
        values: &Values,
    ) -> io::Result<Vec<CString>> {
        let mut environment = self.environment.clone();
        for name in &self.configured {
            if let Some(value) = environment.get_mut(name) {
                *value = placeholder::fill(value, values);
            }
        }
        let outer_port = environment.get(OsStr::new("PORT")).cloned().unwrap_or_default();
        let mut set = |name: &str, value: OsString| {
            environment.insert(OsString::from(name), value);
        };
        set("TENFOLD_SLOT", which.slot.to_string().into());
        set("TENFOLD_WORKERS", which.pool.to_string().into());
        set(WORKER_VARIABLE, which.worker.to_string().into());
        set(INSTANCE_VARIABLE, self.instance.clone().into());
        set("TENFOLD_MASTER", std::process::id().to_string().into());
        set("NODE_APP_INSTANCE", which.slot.to_string().into());
        match self.expects {
            Expects::PlainNode => {
                set("NODE_CHANNEL_FD", CONTROL_FD.to_string().into());
                set("NODE_CHANNEL_SERIALIZATION_MODE", "json".into());
                set("NODE_UNIQUE_ID", which.worker.to_string().into());
            }
            Expects::Either | Expects::Any | Expects::Native => {
                set("TENFOLD_PROTOCOL", "1".into());
                set("TENFOLD_CONTROL_FD", CONTROL_FD.to_string().into());
                set("TENFOLD_TOKEN_FD", TOKEN_FD.to_string().into());
                set("TENFOLD_LOAD_FD", LOAD_FD.to_string().into());
            }
            Expects::Upstream => {}
        }
        if let Some(private) = private {
            if let Some(watchdog) = self.watchdog {
                set("WATCHDOG_USEC", watchdog.as_micros().to_string().into());
            }
            set("NOTIFY_SOCKET", format!("@{}", self.notify_name(which.worker)).into());
            if let Some(port) = private.port() {
                set("PORT", port.to_string().into());
                if self.expects == Expects::Any {
                    // A Node process of the tree is served over the channel, so its app must see
                    // the PORT that it would see without us: the preload puts it back.
                    set("TENFOLD_PORT", port.to_string().into());
                    set("TENFOLD_OUTER_PORT", outer_port);
                }
            }
            if private.kind == PrivateListener::Inherited {
                set("LISTEN_FDS", "1".into());
                set("LISTEN_FDNAMES", "main".into());
            }
        }
        if let Some(preload) = &self.preload {
            self.tell_node(&mut environment, preload, which.pool);
        }
        c_strings(environment.iter().map(|(name, value)| {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            pair
        }))
    }
}

impl Launcher {
    /// What Node processes are told besides.
    fn tell_node(
        &self,
        environment: &mut BTreeMap<OsString, OsString>,
        preload: &PreloadFlag,
        pool: u16,
    ) {
        environment.extend(self.told.iter().map(|(name, value)| ((*name).into(), value.clone())));
        if self.inspect == Inspect::Yes {
            environment.insert("TENFOLD_STACK_FD".into(), STACK_FD.to_string().into());
        }
        let options = environment.entry("NODE_OPTIONS".into()).or_default();
        *options = with_preload(options, preload, &self.arguments);
        if let Some(mib) = self.heap.mib(pool).filter(|_| !sets_heap(options, &self.arguments)) {
            options.push(format!(" --max-old-space-size={mib}"));
        }
    }
}

/// The environment that workers inherit: ours, less what speaks to us alone (NOTIFY_SOCKET,
/// WATCHDOG_*, LISTEN_*, TENFOLD_*, a cluster primary's own), plus the configured names.
pub(crate) fn inherited(
    ours: impl Iterator<Item = (OsString, OsString)>,
    config: &Config,
) -> BTreeMap<OsString, OsString> {
    let mut environment: BTreeMap<OsString, OsString> =
        ours.filter(|(name, _)| !is_for_the_master(name)).collect();
    for (name, value) in &config.env.0 {
        environment.insert(name.into(), value.into());
    }
    environment
}

fn is_for_the_master(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let prefixes: [&[u8]; 3] = [b"WATCHDOG_", b"LISTEN_", b"TENFOLD_"];
    name == b"NOTIFY_SOCKET"
        || name == b"NODE_UNIQUE_ID"
        || name.starts_with(b"NODE_CHANNEL_")
        || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// NODE_OPTIONS with the preload at the end, after whatever the user loads first.
fn with_preload(options: &OsStr, preload: &PreloadFlag, arguments: &[OsString]) -> OsString {
    let flag = match preload {
        PreloadFlag::Require(path) => {
            let mut flag = OsString::from("--require ");
            flag.push(quoted(path));
            // Node 20 reads its preloads under the permission model, and dies if it must not. The
            // flag is fatal without that model, so it goes only where a command asks for it.
            if arguments.iter().any(|word| word == "--experimental-permission") {
                flag.push(" --allow-fs-read=");
                flag.push(quoted(path));
            }
            flag
        }
        PreloadFlag::Import(url) => OsString::from(format!("--import={url}")),
    };
    let mut all = options.to_owned();
    if !all.is_empty() {
        all.push(" ");
    }
    all.push(flag);
    all
}

/// Whether the user bounds V8's heap already, in either spelling.
fn sets_heap(options: &OsStr, arguments: &[OsString]) -> bool {
    let names = |text: &OsStr| {
        let text = text.to_string_lossy().replace('_', "-");
        text.contains("--max-old-space-size") || text.contains("--max-heap-size")
    };
    names(options) || arguments.iter().any(|word| names(word))
}

/// A path as NODE_OPTIONS takes it: in double quotes, with `\` before `\` and `"`.
fn quoted(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.iter().any(|byte| b" \"\\".contains(byte)) {
        return path.into();
    }
    let mut quoted = vec![b'"'];
    for &byte in bytes {
        if byte == b'"' || byte == b'\\' {
            quoted.push(b'\\');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

fn c_strings(strings: impl Iterator<Item = impl AsRef<OsStr>>) -> io::Result<Vec<CString>> {
    strings
        .map(|string| CString::new(string.as_ref().as_bytes()).map_err(io::Error::from))
        .collect()
}

/// Has a worker inherit one end of a socket pair; returns the other.
fn pass_stack(plan: &mut SpawnPlan) -> io::Result<UnixStream> {
    let (ours, workers) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    plan.fds.push(PassedFd { source: workers.into(), target: STACK_FD });
    Ok(ours)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // Ours alone: the two ends of a pipe are separate open files.
    set_nonblocking(&reader)?;
    Ok((reader, writer))
}

fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_to_the_master_is_not_passed_on() {
        for name in
            ["NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "TENFOLD_NAME", "NODE_CHANNEL_FD"]
        {
            assert!(is_for_the_master(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "PORT", "NODE_ENV", "NODE_OPTIONS", "LISTENER", "NODE_APP_INSTANCE"] {
            assert!(!is_for_the_master(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_preload_comes_after_the_users_own_options() {
        let preload = PreloadFlag::Require("/run/x/p.cjs".into());
        assert_eq!(with_preload(OsStr::new(""), &preload, &[]), "--require /run/x/p.cjs");
        assert_eq!(
            with_preload(OsStr::new("--max-old-space-size=300"), &preload, &[]),
            "--max-old-space-size=300 --require /run/x/p.cjs"
        );
    }

    #[test]
    fn a_heap_is_bounded_by_the_share_of_one_among_as_many_as_there_are() {
        let (max_requests, max_age, seed) = (None, None, 0);
        let soft = crate::policy::MemorySoft::Auto;
        let recycling = RecycleSettings { max_requests, max_age, soft, seed };
        let heap = Heap { recycling, limit: NonZeroU64::new(1 << 30) };
        let bounds = [1, 2, 4].map(|pool| heap.mib(pool));
        // 85 % of the limit, and a fifth more.
        assert_eq!(bounds, [Some(1044), Some(522), Some(261)]);
        assert_eq!(Heap { limit: None, ..heap }.mib(1), None);
    }

    #[test]
    fn a_heap_that_the_user_bounds_is_left_alone() {
        for (options, words, set) in [
            ("", "node server.js", false),
            ("--max-old-space-size=300", "node server.js", true),
            ("--trace-warnings --max_old_space_size=300", "node server.js", true),
            ("", "node --max-old-space-size=300 server.js", true),
            ("", "sh -c 'node --max-heap-size=300 server.js'", true),
        ] {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            assert_eq!(sets_heap(OsStr::new(options), &words), set, "{options} {words:?}");
        }
    }

    #[test]
    fn the_permission_model_of_node_20_is_told_to_let_the_preload_be_read() {
        let preload = PreloadFlag::Require("/run/x/p.cjs".into());
        let words = ["node", "--experimental-permission", "server.js"].map(OsString::from);
        assert_eq!(
            with_preload(OsStr::new(""), &preload, &words),
            "--require /run/x/p.cjs --allow-fs-read=/run/x/p.cjs"
        );
    }

    #[test]
    fn a_preload_path_with_spaces_is_quoted_for_node() {
        let preload = PreloadFlag::Require("/run/a b/\"p\".cjs".into());
        assert_eq!(
            with_preload(OsStr::new(""), &preload, &[]),
            r#"--require "/run/a b/\"p\".cjs""#
        );
    }
}
