//! Turns the master's signals into wishes; none keeps its default action.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Terminal;
use crate::policy::StopKind;

/// What a signal means to control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    ChildEnded,
    Stop(StopKind),
    ScaleBy(i16),
    Reload,
    /// Give the pool to a new master.
    Upgrade,
    /// Open log files anew.
    Reopen,
}

/// The streams of all signals that we take.
pub(crate) struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
    more: Signal,
    fewer: Signal,
    terminal: Terminal,
}

impl Signals {
    /// Takes over all signals; from here on none has its default action.
    pub(crate) fn take(terminal: Terminal) -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            more: signal(SignalKind::from_raw(libc::SIGTTIN))?,
            fewer: signal(SignalKind::from_raw(libc::SIGTTOU))?,
            terminal,
        })
    }

    /// The next wish. Cancel-safe: a signal that was not returned is returned later.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            biased;
            _ = self.child.recv() => Told::ChildEnded,
            _ = self.terminate.recv() => Told::Stop(StopKind::Graceful),
            _ = self.interrupt.recv() => Told::Stop(match self.terminal {
                Terminal::Yes => StopKind::Interactive,
                Terminal::No => StopKind::Graceful,
            }),
            _ = self.hangup.recv() => match self.terminal {
                // The terminal is gone, and so is the person who would stop us.
                Terminal::Yes => Told::Stop(StopKind::Graceful),
                Terminal::No => Told::Reload,
            },
            _ = self.quit.recv() => Told::Stop(StopKind::Now),
            _ = self.user1.recv() => Told::Reopen,
            _ = self.user2.recv() => Told::Upgrade,
            _ = self.more.recv() => Told::ScaleBy(1),
            _ = self.fewer.recv() => Told::ScaleBy(-1),
        }
    }
}
