//! What passes from a master to the one that takes its place: sockets, by inheritance, and lines of
//! JSON that name them.
//!
//! The first passed descriptor is a channel. On it the old master says, before the new one is
//! started, what the others are. The new one says `ready` when its workers are; the old one says
//! `go`; the new one accepts too, and says `accepting`; the old one says `yours`, and leaves. Until
//! `accepting` the old one can go on as if nothing had been. Kinds and fields that are not known
//! are ignored, so that versions may differ by one.

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::sys::channel;
use crate::sys::child::Child;
use crate::sys::passed::Passed;
use crate::sys::spawn::{Leads, Leash, ListenPid, Nofile, PassedFd, SpawnPlan, spawn};

/// The name of the channel among the passed descriptors.
const CHANNEL: &str = "tenfold-upgrade";

/// The version of what is said; raised when an old reader would misunderstand it.
const VERSION: u32 = 1;

/// Where passed descriptors begin (SD_LISTEN_FDS_START).
const FIRST_FD: i32 = 3;

/// The longest line: some thousand sockets with names of usual length.
const LINE_MAX: usize = 128 * 1024;

const READY: &[u8] = b"ready\n";
const GO: &[u8] = b"go\n";
const ACCEPTING: &[u8] = b"accepting\n";
const YOURS: &[u8] = b"yours\n";

/// What a passed descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A listening socket; its key is what was asked for: `:3000`, `systemd:web`.
    Listener,
    /// Brings idle connections of clients from the old master.
    Clients,
    /// The locked file that makes a name ours.
    Lock,
    /// The listening control socket.
    Control,
    /// The listening admin socket.
    Admin,
}

/// A descriptor to be passed.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) kind: Kind,
    pub(crate) key: String,
    pub(crate) fd: OwnedFd,
}

/// How this master was started, and so how the next one is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Our file by its name at the start: an upgrade puts another one there.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// As typed: a symlink is followed anew.
    pub(crate) directory: PathBuf,
    /// Our own bound before we raised it; none where it is unknown.
    pub(crate) nofile: Option<Nofile>,
}

/// The new master, as the old one knows it.
#[derive(Debug)]
pub(crate) struct Successor {
    pub(crate) child: Child,
    channel: UnixStream,
}

/// The old master, as the new one knows it.
#[derive(Debug)]
pub(crate) struct Predecessor {
    /// Its instance's name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    channel: OwnedFd,
    given: Vec<(Entry, OwnedFd)>,
}

/// The channel to the old master, once everything is taken from it.
#[derive(Debug)]
pub(crate) struct Blessing(UnixStream);

/// The same, once the old master has told us to accept.
#[derive(Debug)]
pub(crate) struct Called(UnixStream);

/// An idle connection on its way from one master to the next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// The key of its listener.
    pub(crate) listener: String,
    /// Who is at its other end, or was named by a PROXY header.
    pub(crate) peer: Option<SocketAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    upgrade: u32,
    version: String,
    name: String,
    sockets: VecDeque<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    kind: String,
    #[serde(default)]
    key: String,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Clients => "clients",
            Self::Lock => "lock",
            Self::Control => "control",
            Self::Admin => "admin",
        }
    }
}

impl Identity {
    /// Starts the next master with what it is lent. Its output is ours, and the leash must be one
    /// that lets it live on when we end: that is what it is for.
    ///
    /// # Errors
    /// Its program is not there, or no process can be made.
    pub(crate) fn succeed(
        &self,
        name: &str,
        lent: Vec<Lent>,
        leash: Leash,
    ) -> anyhow::Result<Successor> {
        let channel::Pair { master, worker } = channel::pair().context("no socket pair")?;
        let entry =
            |lent: &Lent| Entry { kind: lent.kind.word().to_owned(), key: lent.key.clone() };
        let hello = Hello {
            upgrade: VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: name.to_owned(),
            sockets: lent.iter().map(entry).collect(),
        };
        let line = serde_json::to_string(&hello)? + "\n";
        let sent = channel::send(master.as_fd(), line.as_bytes(), None)?;
        if sent < line.len() {
            bail!("{} sockets are too many to be told of", lent.len());
        }
        let mut plan = SpawnPlan::new(&self.program).context("its path cannot be used")?;
        plan.arguments = c_strings(self.arguments.iter().cloned())?;
        plan.environment = c_strings(self.environment_of_next(lent.len()).into_iter())?;
        plan.directory = Some(CString::new(self.directory.as_os_str().as_bytes())?);
        plan.nofile = self.nofile;
        plan.listen_pid = ListenPid::OfChild;
        plan.leads = Leads::Group;
        plan.leash = leash;
        let fds = [worker].into_iter().chain(lent.into_iter().map(|lent| lent.fd));
        let places = fds.zip(FIRST_FD..);
        plan.fds = places.map(|(source, target)| PassedFd { source, target }).collect();
        let spawned = spawn(&plan).with_context(|| format!("{}", self.program.display()))?;
        let channel = std::os::unix::net::UnixStream::from(master);
        Ok(Successor { child: spawned.child, channel: UnixStream::from_std(channel)? })
    }

    fn environment_of_next(&self, lent: usize) -> Vec<OsString> {
        // The watchdog is moved along; its pid is the next one's.
        let is_kept = |name: &OsString| {
            let name = name.as_encoded_bytes();
            !name.starts_with(b"LISTEN_") && name != b"WATCHDOG_PID"
        };
        let kept = self.environment.iter().filter(|(name, _)| is_kept(name));
        let mut all: Vec<OsString> = kept
            .map(|(name, value)| {
                let mut pair = name.clone();
                pair.push("=");
                pair.push(value);
                pair
            })
            .collect();
        let names: Vec<String> = (0..lent).map(|number| format!("tenfold-{number}")).collect();
        let names = [&[CHANNEL.to_owned()], names.as_slice()].concat().join(":");
        all.push(format!("LISTEN_FDS={}", lent + 1).into());
        all.push(format!("LISTEN_FDNAMES={names}").into());
        all
    }
}

impl Successor {
    /// Waits until its workers are ready.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) async fn ready(&mut self) -> io::Result<()> {
        expect(&mut self.channel, READY).await
    }

    /// Tells it to accept, and waits until it does.
    ///
    /// # Errors
    /// It has ended meanwhile.
    pub(crate) async fn go(&mut self) -> io::Result<()> {
        self.channel.write_all(GO).await?;
        expect(&mut self.channel, ACCEPTING).await
    }

    /// Leaves name and admin address to it.
    ///
    /// # Errors
    /// It has ended meanwhile.
    pub(crate) fn leave(self) -> io::Result<()> {
        // A few bytes find room in a channel that was empty, and there is nothing to wait for.
        match self.channel.try_write(YOURS)? {
            count if count == YOURS.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Ends it: gracefully, and after `patience` at once.
    pub(crate) async fn give_up(mut self, patience: Duration) {
        // It may have ended before, and then nobody is signalled.
        let _ = self.child.signal(Signal::SIGTERM);
        let mut rest = Vec::new();
        // It holds its end of the channel for as long as it lives.
        let gone = self.channel.read_to_end(&mut rest);
        if tokio::time::timeout(patience, gone).await.is_err() {
            let _ = self.child.signal(Signal::SIGKILL);
        }
    }
}

impl Predecessor {
    /// Takes what a master has passed, if it was one that passed anything.
    ///
    /// # Errors
    /// It speaks another version.
    pub(crate) fn recognise(passed: &mut Vec<Passed>) -> anyhow::Result<Option<Self>> {
        if passed.first().is_none_or(|first| first.name != CHANNEL) {
            return Ok(None);
        }
        let mut passed = std::mem::take(passed).into_iter().map(|passed| passed.socket);
        let channel = passed.next().expect("the first was just seen");
        let hello: Hello = serde_json::from_slice(&read_line(&channel)?)
            .context("what the old master says is not understood")?;
        if hello.upgrade != VERSION {
            bail!("the old master ({}) speaks another version of upgrades", hello.version);
        }
        let given = hello.sockets.into_iter().zip(passed).collect();
        Ok(Some(Self { name: hello.name, version: hello.version, channel, given }))
    }

    /// Takes the next descriptor of this kind and key.
    pub(crate) fn take(&mut self, kind: Kind, key: &str) -> Option<OwnedFd> {
        let is_meant =
            |(entry, _): &(Entry, OwnedFd)| entry.kind == kind.word() && entry.key == key;
        let at = self.given.iter().position(is_meant)?;
        Some(self.given.remove(at).1)
    }

    /// Takes all listening sockets that are left, with their keys.
    pub(crate) fn take_listeners(&mut self) -> Vec<(String, OwnedFd)> {
        let is_listener = |(entry, _): &mut (Entry, OwnedFd)| entry.kind == Kind::Listener.word();
        let taken = self.given.extract_if(.., is_listener);
        taken.map(|(entry, fd)| (entry.key, fd)).collect()
    }

    /// What is left to say and to hear; whatever was not taken is closed. Call it in a runtime.
    ///
    /// # Errors
    /// The channel cannot be waited on.
    pub(crate) fn into_blessing(self) -> io::Result<Blessing> {
        let channel = std::os::unix::net::UnixStream::from(self.channel);
        Ok(Blessing(UnixStream::from_std(channel)?))
    }
}

impl Blessing {
    /// Says that our workers are ready, and waits until we are to accept.
    ///
    /// # Errors
    /// The old master has ended, or thought better of it.
    pub(crate) async fn receive(mut self) -> io::Result<Called> {
        self.0.write_all(READY).await?;
        expect(&mut self.0, GO).await?;
        Ok(Called(self.0))
    }
}

impl Called {
    /// Says that we accept, and waits until name and admin address are ours: the old master says
    /// so, or it has just died.
    pub(crate) async fn accept(mut self) {
        if let Err(error) = self.accepting().await {
            tracing::warn!(%error, "the old master has ended before it gave everything away");
        }
    }

    async fn accepting(&mut self) -> io::Result<()> {
        self.0.write_all(ACCEPTING).await?;
        expect(&mut self.0, YOURS).await
    }
}

/// Waits for this word.
async fn expect(channel: &mut UnixStream, word: &[u8]) -> io::Result<()> {
    let mut said = vec![0; word.len()];
    channel.read_exact(&mut said).await?;
    if said != word {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(())
}

/// Our own file, by its name.
///
/// # Errors
/// Those of reading /proc/self/exe.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe().map(|path| without_mark(&path))
}

/// The kernel marks the name of a file that was replaced.
fn without_mark(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let name = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

/// Reads one line that was sent before we were started, so nothing is waited for.
fn read_line(channel: &OwnedFd) -> anyhow::Result<Vec<u8>> {
    let (mut line, mut fds) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; LINE_MAX];
    while !line.ends_with(b"\n") {
        let count = channel::recv(channel.as_fd(), &mut buffer, &mut fds)
            .context("the old master says nothing")?;
        if count == 0 || line.len() + count > LINE_MAX {
            bail!("the old master says too much or too little");
        }
        line.extend_from_slice(&buffer[..count]);
    }
    Ok(line)
}

fn c_strings(words: impl Iterator<Item = OsString>) -> anyhow::Result<Vec<CString>> {
    words.map(|word| CString::new(word.as_bytes()).map_err(Into::into)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_replaced_file_is_no_part_of_its_name() {
        for (link, name) in [
            ("/usr/bin/tenfold", "/usr/bin/tenfold"),
            ("/usr/bin/tenfold (deleted)", "/usr/bin/tenfold"),
        ] {
            assert_eq!(without_mark(Path::new(link)), Path::new(name));
        }
    }

    #[test]
    fn the_next_master_is_told_of_its_own_descriptors_only() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let identity = Identity {
            program: "/usr/bin/tenfold".into(),
            arguments: Vec::new(),
            environment: vec![
                pair("LISTEN_PID", "7"),
                pair("LISTEN_FDS", "9"),
                pair("WATCHDOG_PID", "7"),
                pair("WATCHDOG_USEC", "1"),
                pair("HOME", "/root"),
            ],
            directory: "/".into(),
            nofile: None,
        };
        assert_eq!(
            identity.environment_of_next(2),
            [
                "WATCHDOG_USEC=1",
                "HOME=/root",
                "LISTEN_FDS=3",
                "LISTEN_FDNAMES=tenfold-upgrade:tenfold-0:tenfold-1",
            ]
        );
    }

    #[test]
    fn a_predecessor_is_known_by_its_channel_and_its_version() {
        let passed = |text: &str| {
            let channel::Pair { master, worker } = channel::pair().expect("a pair");
            channel::send(master.as_fd(), text.as_bytes(), None).expect("there is room");
            let extra = channel::pair().expect("a pair").worker;
            vec![
                Passed { name: CHANNEL.to_owned(), socket: worker },
                Passed { name: "tenfold-0".to_owned(), socket: extra },
            ]
        };
        let hello = |version| {
            format!(
                "{{\"upgrade\":{version},\"version\":\"9\",\"name\":\"shop\",\"new\":[],\
                 \"sockets\":[{{\"kind\":\"listener\",\"key\":\":80\"}}]}}\n"
            )
        };
        let known = Predecessor::recognise(&mut passed(&hello(1))).expect("it is understood");
        let mut known = known.expect("it is one");
        assert_eq!((known.name.as_str(), known.version.as_str()), ("shop", "9"));
        assert!(known.take(Kind::Listener, ":81").is_none());
        assert!(known.take(Kind::Listener, ":80").is_some());
        assert!(Predecessor::recognise(&mut passed(&hello(2))).is_err());
        assert!(Predecessor::recognise(&mut passed("{}\n")).is_err());
        let mut other = passed("{}\n");
        other.remove(0);
        assert!(Predecessor::recognise(&mut other).expect("nothing to say").is_none());
        assert_eq!(other.len(), 1, "what systemd passed is left");
    }
}
