//! A master of one worker: starts it as PROTOCOL.md says, hands it sockets, reads what it says.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::setup::{Setup, command};
use crate::target::{PATIENCE, Target};

/// The smallest send buffer that Linux gives: a few short lines.
const SMALL_BUFFER: usize = 4608;

/// A worker that leaves at a word, wrongly, has left by then.
const LEAVING: Duration = Duration::from_millis(400);

/// The master's side. Dropping it kills the worker.
pub(crate) struct Master {
    pub(crate) target: Target,
    child: Child,
    channel: UnixStream,
    /// A second read end of the token pipe, to see whether the token was taken.
    token: OwnedFd,
    unread: Vec<u8>,
    seq: u64,
    listener: TcpListener,
}

/// A client of the worker, and the master's copy of the socket that was handed over.
pub(crate) struct Handed {
    pub(crate) seq: u64,
    pub(crate) client: TcpStream,
    pub(crate) copy: TcpStream,
}

impl Master {
    /// Starts the worker and waits for its `ready`, which must be its first message.
    pub(crate) fn start(target: &Target, setup: Setup) -> Self {
        let mut master = Self::spawn(target, setup);
        let first = master.next().expect("a message before the channel ends");
        assert_eq!(first["type"], "ready", "the first message is {first}");
        master
    }

    /// Starts the worker.
    pub(crate) fn spawn(target: &Target, setup: Setup) -> Self {
        let (channel, theirs) = UnixStream::pair().expect("a socket pair");
        channel.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        channel.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        if setup.small_buffer {
            rustix::net::sockopt::set_socket_send_buffer_size(&theirs, SMALL_BUFFER)
                .expect("a buffer size");
        }
        let (token, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        rustix::io::write(&writer, b"t").expect("one byte fits");
        let load = rustix::fs::memfd_create("load", MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::fs::ftruncate(&load, 4096).expect("a page");
        let given = token.try_clone().expect("a descriptor");
        let child = command(target, setup, [theirs.into(), given, load]).spawn();
        Self {
            target: target.clone(),
            child: child.unwrap_or_else(|error| panic!("{:?}: {error}", target.command)),
            channel,
            token,
            unread: Vec::new(),
            seq: 0,
            listener: TcpListener::bind("127.0.0.1:0").expect("a loopback port"),
        }
    }

    /// The next message, or None when the worker has closed the channel.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                return Some(serde_json::from_str(&text).unwrap_or_else(|error| {
                    panic!("not a JSON line: {text:?}: {error}");
                }));
            }
            let mut buffer = [0; 4096];
            match self.channel.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                // A worker that ends with unread input resets the channel: an end, too.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{:?} says nothing: {error}", self.target.command),
            }
        }
    }

    /// Every message that the worker had sent before this call; returns without waiting.
    pub(crate) fn sent_so_far(&mut self) -> Vec<Value> {
        self.channel.set_nonblocking(true).expect("a flag");
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.channel.read(&mut buffer) {
            self.unread.extend_from_slice(&buffer[..count]);
        }
        self.channel.set_nonblocking(false).expect("a flag");
        let mut messages = Vec::new();
        while self.unread.contains(&b'\n') {
            messages.extend(self.next());
        }
        messages
    }

    /// The next message of this type, past all others.
    pub(crate) fn next_of(&mut self, kind: &str) -> Value {
        self.until(kind, |message| message["type"] == kind)
    }

    /// Whether connection `seq` was accepted. Its ack is the next one: acks come in order.
    pub(crate) fn ack(&mut self, seq: u64) -> bool {
        let ack = self.next_of("ack");
        assert_eq!(ack["seq"], seq, "acks come in the order of the connections: {ack}");
        ack["accepted"].as_bool().unwrap_or_else(|| panic!("accepted is no boolean: {ack}"))
    }

    /// Waits for the report of exactly these counts.
    pub(crate) fn load(&mut self, seen: u64, open: u32, active: u32) -> Value {
        let wanted = json!({ "seen": seen, "open": open, "active": active });
        self.until(&format!("a load of {wanted}"), |message| {
            message["type"] == "load"
                && ["seen", "open", "active"].iter().all(|&key| message[key] == wanted[key])
        })
    }

    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        while Instant::now() < deadline {
            last = self.next().unwrap_or_else(|| panic!("the channel ended before {what}"));
            if wanted(&last) {
                return last;
            }
        }
        panic!("{:?}: {what} never came; the last message was {last}", self.target.command);
    }

    /// Connects a client.
    pub(crate) fn connect(&self) -> (TcpStream, TcpStream) {
        let address = self.listener.local_addr().expect("a bound address");
        let client = TcpStream::connect(address).expect("loopback connects");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (copy, _) = self.listener.accept().expect("the client is there");
        copy.set_nonblocking(true).expect("a flag");
        (client, copy)
    }

    /// Hands over one client's connection; does not wait for the ack.
    pub(crate) fn hand(&mut self) -> Handed {
        let (client, copy) = self.connect();
        let seq = self.hand_descriptors(&[copy.as_fd()]);
        Handed { seq, client, copy }
    }

    /// Hands over one client's connection, which must be accepted; no copy of it is kept.
    pub(crate) fn hand_accepted(&mut self) -> TcpStream {
        let handed = self.hand();
        assert!(self.ack(handed.seq), "{:?} refuses", self.target.command);
        handed.client
    }

    /// A `conn` message with whatever comes along; returns its number.
    pub(crate) fn hand_descriptors(&mut self, descriptors: &[BorrowedFd<'_>]) -> u64 {
        let line = self.conn_line();
        self.send_with(line.as_bytes(), descriptors);
        self.seq
    }

    /// The text of the next `conn` message.
    pub(crate) fn conn_line(&mut self) -> String {
        self.seq += 1;
        let listener = if self.seq.is_multiple_of(2) { "admin" } else { "main" };
        let peer = "203.0.113.9:51034";
        let conn =
            json!({ "type": "conn", "seq": self.seq, "listener": listener, "peer": peer, "x": {} });
        format!("{conn}\n")
    }

    /// One sendmsg of `bytes` with descriptors at its first byte.
    pub(crate) fn send_with(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "8 fit");
        }
        let parts = [IoSlice::new(bytes)];
        let sent = rustix::net::sendmsg(&self.channel, &parts, &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent.expect("the worker reads"), bytes.len(), "a short line goes in one piece");
    }

    /// Bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.channel.write_all(bytes).expect("the worker reads");
    }

    /// The master is gone, as far as the worker can see.
    pub(crate) fn hang_up(&mut self) {
        self.channel.shutdown(Shutdown::Both).expect("a connected channel");
    }

    /// Whether the token has been taken. The writer is gone, so this does not wait.
    pub(crate) fn token_is_taken(&self) -> bool {
        rustix::io::read(&self.token, &mut [0_u8; 1][..]) == Ok(0)
    }

    /// How many descriptors the worker has open.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(path).expect("the worker lives").count()
    }

    /// Gives a worker that is about to leave the time to do so, which it must not.
    pub(crate) fn assert_stays(&mut self) {
        let left = self.wait_for_exit(LEAVING);
        assert!(!left, "{:?} left an open connection", self.target.command);
    }

    /// Waits for the worker to end by itself; reads on, as a master does.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while !self.wait_for_exit(Duration::from_millis(50)) {
            self.sent_so_far();
            assert!(Instant::now() < deadline, "{:?} does not end", self.target.command);
        }
        self.child.wait().expect("our own child")
    }

    /// Whether the worker has ended within `timeout`.
    fn wait_for_exit(&self, timeout: Duration) -> bool {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a pid");
        let process = pidfd_open(pid, PidfdFlags::empty()).expect("an unreaped child");
        let mut polled = [PollFd::new(&process, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).expect("a short time");
        rustix::event::poll(&mut polled, Some(&timeout)).expect("poll") == 1
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // Either fails only if the worker has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds; for what announces itself nowhere, such as a closed descriptor.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Bytes that nobody has read from this socket.
pub(crate) fn unread(socket: &TcpStream) -> u64 {
    rustix::io::ioctl_fionread(socket).expect("an open socket")
}
