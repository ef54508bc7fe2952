//! Changes masters: the old one starts the new one, waits for its workers, and leaves; the new one
//! waits until it is told that the pool is its own.
//!
//! Until then the old master serves and answers as ever, and a new one that fails costs nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinError;

use super::Supervisor;
use super::request::{Upgraded, When};
use crate::link::orders::Order;
use crate::policy::{Event, Phase, StopKind};
use crate::sys::child;
use crate::sys::spawn::Leash;
use crate::upgrade::{Called, Identity, Kind, Lent, Successor};

/// How much longer than `workers.start_timeout` the new master may take: it reads its configuration
/// first, and its last worker may be a second attempt.
const MARGIN: Duration = Duration::from_secs(10);

/// How long a new master may take to accept, which is a turn of its two loops, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose the pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// An old master's still.
    NotYet,
    Ours,
    /// A new master's.
    Passed,
}

/// What an upgrade needs.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) identity: Identity,
    /// The control socket, the lock of the name, the admin socket.
    pub(crate) own: Vec<Lent>,
    pub(crate) charge: watch::Sender<Charge>,
}

/// What comes next in a change of masters.
#[derive(Debug)]
pub(super) enum Step {
    /// The new master's workers are ready.
    Ready(Heir),
    /// The new master accepts.
    Accepts(Heir),
    /// There is no new master, and why.
    Failed(String, Reply),
    /// As the new one: the old master has said to accept, or nothing.
    Called(io::Result<Called>),
    /// As the new one: the old master has given everything away.
    Blessed,
}

/// A new master that has come up.
#[derive(Debug)]
pub(super) struct Heir {
    successor: Successor,
    /// The way for idle clients to it.
    clients: OwnedFd,
    reply: Reply,
}

/// Who asked, and when to answer; none for a signal.
pub(super) type Reply = Option<(When, oneshot::Sender<Upgraded>)>;

impl Supervisor {
    /// Starts a new master in our place.
    pub(super) fn upgrade(&mut self, reply: Reply) {
        if let Err(why) = self.may_upgrade() {
            tracing::warn!("no upgrade: {why}");
            answer(reply, Err(why.to_owned()));
            return;
        }
        let reply = match reply {
            Some((When::Begun, asked)) => {
                answer(Some((When::Begun, asked)), Ok(None));
                None
            }
            Some((When::Ended, _)) | None => reply,
        };
        let (lend, lent) = oneshot::channel();
        self.order(Order::Lend(lend));
        let own = self.parts.estate.own.iter().map(|own| {
            let fd = own.fd.try_clone()?;
            Ok(Lent { kind: own.kind, key: own.key.clone(), fd })
        });
        let own: io::Result<Vec<Lent>> = own.collect();
        let attempt = Attempt {
            identity: self.parts.estate.identity.clone(),
            name: self.parts.name.clone(),
            bound: self.parts.terms.config.workers.start_timeout + MARGIN,
            // systemd gives no time to stop to a main process that is not its own child.
            leash: match self.parts.systemd {
                Some(_) => Leash::Sibling,
                None => Leash::Survive,
            },
        };
        tracing::info!(program = %attempt.identity.program.display(), "starting a new master");
        self.successions.spawn(async move {
            let made = async {
                let mut sockets = lent.await.map_err(|_| "the reactor has ended".to_owned())?;
                sockets.extend(own.map_err(|error| error.to_string())?);
                attempt.run(sockets).await
            };
            match made.await {
                Ok((successor, clients)) => Step::Ready(Heir { successor, clients, reply }),
                Err(why) => Step::Failed(why, reply),
            }
        });
    }

    fn may_upgrade(&self) -> Result<(), &'static str> {
        if child::is_pid_1() {
            return Err("this is PID 1 of a container; replace the container");
        }
        if self.changes_masters() {
            return Err("an upgrade is under way");
        }
        match self.parts.fleet.phase() {
            Phase::Running => Ok(()),
            Phase::Reloading => Err("a reload is under way; try again when it has ended"),
            Phase::Starting => Err("the pool is starting"),
            Phase::Stopping(_) | Phase::Finished => Err("the pool is stopping"),
        }
    }

    /// Whether the pool is about to be, or was just, given from one master to another.
    pub(super) fn changes_masters(&self) -> bool {
        *self.parts.estate.charge.borrow() != Charge::Ours || !self.successions.is_empty()
    }

    /// Goes on with a change of masters.
    pub(super) fn succession(&mut self, step: Result<Step, JoinError>) {
        match step {
            Ok(step) => self.take_step(step),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Ready(heir) => self.give_way(heir),
            Step::Accepts(heir) => self.leave(heir),
            Step::Failed(why, reply) => {
                tracing::error!("the upgrade failed, and this master goes on: {why}");
                answer(reply, Err(why));
            }
            Step::Called(Ok(called)) => {
                self.order(Order::Accept);
                self.successions.spawn(async {
                    called.accept().await;
                    Step::Blessed
                });
            }
            Step::Called(Err(error)) => {
                let why = format!("the old master did not give the pool away: {error}");
                tracing::error!("{why}");
                self.useless = Some(why);
                self.on(Event::Stop(StopKind::Now));
            }
            Step::Blessed => {
                tracing::info!("the pool is this master's now");
                self.parts.estate.charge.send_replace(Charge::Ours);
            }
        }
    }

    /// Lets a new master accept, unless the pool was asked to stop meanwhile.
    fn give_way(&mut self, heir: Heir) {
        let Heir { mut successor, clients, reply } = heir;
        let stops = self.stops();
        self.successions.spawn(async move {
            let outcome = match stops {
                true => Err("the pool is stopping".to_owned()),
                false => match tokio::time::timeout(PATIENCE, successor.go()).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(format!("the new master does not accept: {error}")),
                    Err(_) => Err("the new master does not accept".to_owned()),
                },
            };
            match outcome {
                Ok(()) => Step::Accepts(Heir { successor, clients, reply }),
                Err(why) => {
                    successor.give_up(PATIENCE).await;
                    Step::Failed(why, reply)
                }
            }
        });
    }

    /// Leaves the pool to a new master, and ends once the clients that are here have gone.
    fn leave(&mut self, heir: Heir) {
        let Heir { successor, clients, reply } = heir;
        let pid = successor.child.pid();
        let stops = self.stops();
        if stops {
            // Whoever asked us to stop meant the pool. It may have ended by itself.
            let _ = successor.child.signal(Signal::SIGTERM);
        }
        if let Some(systemd) = self.parts.systemd.take() {
            systemd.name_successor(pid);
        }
        self.order(Order::Bequeath { clients });
        self.parts.estate.charge.send_replace(Charge::Passed);
        if let Err(error) = successor.leave() {
            // It has just died; systemd or a person starts another.
            tracing::error!(%error, "the new master is gone");
        }
        tracing::info!(pid, "a new master has the pool; this one ends with its last client");
        answer(reply, Ok(Some(pid)));
        if !stops {
            self.on(Event::Stop(StopKind::Succeeded));
        }
    }

    fn stops(&self) -> bool {
        match self.parts.fleet.phase() {
            Phase::Starting | Phase::Running | Phase::Reloading => false,
            Phase::Stopping(_) | Phase::Finished => true,
        }
    }

    /// As a new master whose workers are all ready: tells the old one.
    pub(super) fn ask_for_blessing(&mut self) {
        if let Some(predecessor) = self.parts.blessing.take() {
            self.successions.spawn(async {
                Step::Called(match predecessor.into_blessing() {
                    Ok(blessing) => blessing.receive().await,
                    Err(error) => Err(error),
                })
            });
        }
    }
}

/// One attempt to start a new master.
struct Attempt {
    identity: Identity,
    name: String,
    bound: Duration,
    leash: Leash,
}

impl Attempt {
    /// The new master with all its workers ready, and our end of the way for idle clients.
    async fn run(self, mut lent: Vec<Lent>) -> Result<(Successor, OwnedFd), String> {
        let pair = crate::sys::channel::packets();
        let (clients, theirs) = pair.map_err(|error| error.to_string())?;
        lent.push(Lent { kind: Kind::Clients, key: String::new(), fd: theirs });
        let started = self.identity.succeed(&self.name, lent, self.leash);
        let mut successor = started.map_err(|error| format!("{error:#}"))?;
        let why = match tokio::time::timeout(self.bound, successor.ready()).await {
            Ok(Ok(())) => return Ok((successor, clients)),
            Ok(Err(_)) => "the new master ended before its workers were ready".to_owned(),
            Err(_) => {
                let seconds = self.bound.as_secs();
                format!("the new master's workers were not ready within {seconds} s")
            }
        };
        successor.give_up(PATIENCE).await;
        Err(why)
    }
}

fn answer(reply: Reply, with: Upgraded) {
    if let Some((_, asked)) = reply {
        // Who has gone away needs no answer.
        let _ = asked.send(with);
    }
}
