//! The master's end of one worker: its control channel and what is under way on it.
//!
//! A link decides nothing. It turns lines into [`Said`], sends what it is told, and keeps its copy
//! of every connection it handed over until the worker's answer: none is lost with a worker.

pub(crate) mod bound;
mod inbox;
mod native;
mod node;
pub(crate) mod orders;
mod outbox;
pub(crate) mod said;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use serde_json::Value;

use crate::policy::{Balance, ListenerId, Ticket, WorkerId};
use crate::sys::channel;
use crate::sys::load::LoadPage;
use inbox::Inbox;
pub(crate) use node::Told;
use node::{NodeSession, Whose};
use orders::{Attachment, Expects, HeapOrder};
use outbox::Outbox;
pub(crate) use outbox::Stuck;
use said::{Said, ServerKey};

/// One connection on its way to a worker, held by us until the worker answers for it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) ticket: Ticket,
    pub(crate) listener: ListenerId,
    pub(crate) socket: Rc<OwnedFd>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) accepted_at: Instant,
}

/// Which language a worker turned out to speak.
#[derive(Debug)]
pub(crate) enum Dialect {
    Unheard,
    Node(NodeSession),
    Native,
}

/// How the channel stands after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Nothing more for now.
    Empty,
    /// There may be more; the reader's turn is over.
    More,
    /// The worker closed it, or broke it.
    Ended,
}

/// A connection handed over and not yet answered for.
#[derive(Debug)]
struct Handed {
    seq: u64,
    what: Owned,
}

/// Whose connection it is.
#[derive(Debug)]
pub(crate) enum Owned {
    /// A client's, which must reach some worker.
    Client(Connection),
    /// One end of a pair whose other end is ours (request mode): of no use to another worker.
    Private(Rc<OwnedFd>),
}

/// Where in a worker a connection belongs, in either dialect's terms.
struct Address<'a> {
    server: ServerKey,
    listener: &'a str,
    peer: Option<String>,
}

/// A message with a descriptor that Node has not confirmed yet: it confirms in order.
#[derive(Debug, PartialEq, Eq)]
enum Handle {
    Connection { seq: u64 },
    Datagram,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) worker: WorkerId,
    pub(crate) pid: i32,
    pub(crate) load: Arc<LoadPage>,
    pub(crate) dialect: Dialect,
    channel: Rc<OwnedFd>,
    token: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
    handed: VecDeque<Handed>,
    handles: VecDeque<Handle>,
    next_seq: u64,
}

/// How much one turn reads: four full buffers, so that one talkative worker cannot hold the
/// reactor while others wait.
const READS_PER_TURN: usize = 4;
const READ_SIZE: usize = 64 * 1024;

impl Link {
    pub(crate) fn new(attachment: Attachment) -> Self {
        let Attachment { worker, pid, channel, token, load, expects, .. } = attachment;
        let dialect = match expects {
            Expects::Either | Expects::Any | Expects::Upstream => Dialect::Unheard,
            Expects::PlainNode => Dialect::Node(NodeSession::default()),
            Expects::Native => Dialect::Native,
        };
        Self {
            worker,
            pid,
            load,
            dialect,
            channel: Rc::new(channel),
            token,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            handed: VecDeque::new(),
            handles: VecDeque::new(),
            next_seq: 1,
        }
    }

    /// The socket to wait on.
    pub(crate) fn socket(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.channel)
    }

    /// Reads one turn's worth of messages, oldest first.
    pub(crate) fn read(&mut self, said: &mut Vec<Said>) -> Channel {
        let mut buffer = [0_u8; READ_SIZE];
        for _ in 0..READS_PER_TURN {
            // Whatever descriptors a worker sends are none of ours: they are closed at once.
            match channel::recv(self.channel.as_fd(), &mut buffer, &mut Vec::new()) {
                Ok(0) => return Channel::Ended,
                Ok(count) => self.hear(&buffer[..count], said),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Channel::Empty,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Channel::Ended,
            }
        }
        Channel::More
    }

    fn hear(&mut self, bytes: &[u8], said: &mut Vec<Said>) {
        let Self { inbox, dialect, .. } = self;
        inbox.feed(bytes, |line| {
            if matches!(dialect, Dialect::Unheard) {
                *dialect = match line {
                    _ if line.starts_with(b"{\"cmd\":\"NODE_") => {
                        Dialect::Node(NodeSession::default())
                    }
                    _ if line.starts_with(b"{\"type\":") => Dialect::Native,
                    _ => return,
                };
            }
            match dialect {
                Dialect::Unheard => {}
                Dialect::Node(session) => said.push(session.read(line)),
                Dialect::Native => said.push(native::read(line)),
            }
        });
    }

    /// Sends one connection; the worker will answer for it.
    ///
    /// # Errors
    /// As [`Outbox::push`]; the connection is kept in every case (see [`Link::take_back`]).
    pub(crate) fn hand_over(
        &mut self,
        connection: Connection,
        server: ServerKey,
        listener: &str,
    ) -> Result<(), Stuck> {
        let peer = match self.dialect {
            Dialect::Native => connection.peer.map(|peer| peer.to_string()),
            Dialect::Node(_) | Dialect::Unheard => None,
        };
        let address = Address { server, listener, peer };
        self.send_handle(Owned::Client(connection), address)
    }

    /// Sends one end of a pair, over which we speak to the worker ourselves.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub(crate) fn hand_over_private(
        &mut self,
        socket: Rc<OwnedFd>,
        server: ServerKey,
        listener: &str,
    ) -> Result<(), Stuck> {
        self.send_handle(Owned::Private(socket), Address { server, listener, peer: None })
    }

    fn send_handle(&mut self, what: Owned, to: Address<'_>) -> Result<(), Stuck> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let bytes = match &self.dialect {
            Dialect::Node(_) | Dialect::Unheard => {
                self.handles.push_back(Handle::Connection { seq });
                let whose = match &what {
                    Owned::Client(_) => Whose::Client,
                    Owned::Private(_) => Whose::Ours,
                };
                NodeSession::connection(seq, to.server, whose)
            }
            Dialect::Native => native::connection(seq, to.listener, to.peer.as_deref()),
        };
        let socket = match &what {
            Owned::Client(connection) => Rc::clone(&connection.socket),
            Owned::Private(socket) => Rc::clone(socket),
        };
        self.handed.push_back(Handed { seq, what });
        self.outbox.push(self.channel.as_fd(), bytes, Some(socket))
    }

    /// Gives up our copy of the connection that the worker has answered for.
    pub(crate) fn answered(&mut self, seq: u64) -> Option<Owned> {
        // An answer confirms the descriptor, too: our preload says nothing else, plain Node has
        // said it before.
        if let Some(Handle::Connection { seq: first }) = self.handles.front()
            && *first == seq
        {
            self.handles.pop_front();
        }
        // Answers come in order but for refusals, so this is the first entry or close to it.
        let index = self.handed.iter().position(|handed| handed.seq == seq)?;
        self.handed.remove(index).map(|handed| handed.what)
    }

    /// Node confirms a descriptor.
    pub(crate) fn handle_taken(&mut self) {
        self.handles.pop_front();
    }

    /// Node received a message without its descriptor: the connection is ours again.
    pub(crate) fn handle_lost(&mut self) -> Option<Owned> {
        match self.handles.pop_front()? {
            Handle::Connection { seq } => self.answered(seq),
            Handle::Datagram => None,
        }
    }

    /// Every client's connection that the worker has not answered for, oldest first; none is sent
    /// any more.
    pub(crate) fn take_back(&mut self) -> Vec<Connection> {
        self.handles.clear();
        self.outbox.forget_unsent();
        let client = |handed: Handed| match handed.what {
            Owned::Client(connection) => Some(connection),
            Owned::Private(_) => None,
        };
        self.handed.drain(..).filter_map(client).collect()
    }

    /// Answers a listen request; see [`NodeSession::grant_listen`].
    pub(crate) fn grant_listen(
        &mut self,
        ask: u64,
        server: ServerKey,
        sockname: Option<SocketAddr>,
        data: &Value,
    ) -> Result<(), Stuck> {
        self.say(|session| session.grant_listen(ask, server, sockname, data))
    }

    /// Answers a UDP listen request with the bound socket.
    pub(crate) fn grant_datagram(
        &mut self,
        ask: u64,
        server: ServerKey,
        socket: Rc<OwnedFd>,
        data: &Value,
    ) -> Result<(), Stuck> {
        let Dialect::Node(session) = &mut self.dialect else {
            return Ok(());
        };
        let bytes = session.grant_datagram(ask, server, data);
        self.handles.push_back(Handle::Datagram);
        self.outbox.push(self.channel.as_fd(), bytes, Some(socket))
    }

    /// Refuses a listen request with an errno of errno.h.
    pub(crate) fn refuse_listen(
        &mut self,
        ask: u64,
        errno: i32,
        data: &Value,
    ) -> Result<(), Stuck> {
        self.say(|session| session.refuse_listen(ask, errno, data))
    }

    /// Lets a worker go that asked to leave.
    pub(crate) fn confirm_leaving(&mut self, ask: u64) -> Result<(), Stuck> {
        self.say(|session| session.confirm_leaving(ask))
    }

    /// Phase one of a drain: finish, take nothing new.
    pub(crate) fn drain(&mut self) -> Result<(), Stuck> {
        let bytes = match self.dialect {
            Dialect::Unheard => return Ok(()),
            Dialect::Node(_) => NodeSession::drain(),
            Dialect::Native => native::drain(),
        };
        self.outbox.push(self.channel.as_fd(), bytes, None)
    }

    /// Phase two, for Node only: close the servers, exit when idle.
    pub(crate) fn disconnect(&mut self) -> Result<(), Stuck> {
        self.say(NodeSession::disconnect)
    }

    /// Asks to be told when a connection has closed since the worker wrote `read`. Native workers
    /// report anyway.
    pub(crate) fn watch(&mut self, read: Told) -> Result<(), Stuck> {
        self.say(|_| NodeSession::watch(read))
    }

    /// Asks for a file with its heap, for Node only.
    pub(crate) fn write_heap(&mut self, order: &HeapOrder) -> Result<(), Stuck> {
        self.say(|_| NodeSession::write_heap(order))
    }

    /// Whether something waits for the socket to be writable.
    pub(crate) fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub(crate) fn flush(&mut self) -> Result<(), Stuck> {
        self.outbox.flush(self.channel.as_fd())
    }

    /// Offers the channel to the next process of the same worker, after the one that had claimed it
    /// ended: what was under way must have been taken back before.
    pub(crate) fn offer_again(&mut self) -> io::Result<()> {
        self.dialect = Dialect::Unheard;
        self.inbox = Inbox::default();
        nix::unistd::write(&self.token, b"t")?;
        Ok(())
    }

    /// Sends one message of the node dialect; nothing in the other.
    fn say(&mut self, message: impl FnOnce(&mut NodeSession) -> Vec<u8>) -> Result<(), Stuck> {
        let Dialect::Node(session) = &mut self.dialect else {
            return Ok(());
        };
        let bytes = message(session);
        self.outbox.push(self.channel.as_fd(), bytes, None)
    }
}

/// Locks the balance. A panic while it was held leaves it as consistent as its last full call.
pub(crate) fn lock(balance: &Mutex<Balance>) -> MutexGuard<'_, Balance> {
    balance.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
