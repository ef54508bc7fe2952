//! Both ends of what a service says to its manager (sd_notify(3)): we hear our workers, with the
//! sender's identity, and speak to whoever started us.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::ptr;

use nix::sys::socket::{setsockopt, sockopt::PassCred};

use super::channel::{
    Control, MAX_RECEIVED_FDS, cmsg_space, empty_header, retry_interrupted, take_rights,
};

/// The longest message that is looked at; systemd's own bound (PIPE_BUF).
pub const DATAGRAM_MAX: usize = 4096;

/// Room for the sender and a few descriptors: a barrier is one. The kernel installs only those
/// that have room, so a message full of them costs us a few.
const CONTROL_SPACE: usize =
    cmsg_space(size_of::<libc::ucred>()) + cmsg_space(MAX_RECEIVED_FDS * size_of::<RawFd>());

/// One message.
#[derive(Debug)]
pub struct Datagram {
    /// What it says; empty if it was longer than [`DATAGRAM_MAX`], or if descriptors that came
    /// with it were lost: because there were more than [`MAX_RECEIVED_FDS`], or no room for them
    /// in our table.
    pub bytes: Vec<u8>,
    /// Who sent it, as the kernel knows; none if it is in no pid namespace of ours.
    pub sender: Option<Sender>,
    /// What was passed along.
    pub fds: Vec<OwnedFd>,
}

/// The process behind a message. Only root can name another than itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its pid when it sent; it may have ended since, and the pid be another's.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// Binds an abstract address, written `@name` in NOTIFY_SOCKET; non-blocking.
///
/// Abstract, because a worker of another user cannot enter our directory, because there may be no
/// such directory, and because nothing is left of it. Anyone may send there: look at the sender.
///
/// # Errors
/// Those of bind(2), EADDRINUSE for a name that is taken.
pub fn bind(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, PassCred, &true)?;
    Ok(socket)
}

/// Takes the next message.
///
/// # Errors
/// `WouldBlock` if there is none, else those of recvmsg(2).
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Datagram> {
    // One byte more than counts, so that a message of just that length is told from a longer one.
    let mut buffer = [0u8; DATAGRAM_MAX + 1];
    let mut iov = libc::iovec { iov_base: (&raw mut buffer).cast(), iov_len: buffer.len() };
    let mut control = Control([0u8; CONTROL_SPACE]);
    let mut header = empty_header(&mut iov);
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_SPACE as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    let length = retry_interrupted(|| {
        // SAFETY: the header points at `iov`, `buffer` and `control`, which outlive the call and
        // are not used by anybody else meanwhile.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) }
    })?;
    // First of all: whatever is wrong with the message, these are in our table now.
    let mut fds = Vec::new();
    take_rights(&header, &mut fds);
    let is_whole = length <= DATAGRAM_MAX && header.msg_flags & libc::MSG_CTRUNC == 0;
    let bytes = if is_whole { buffer[..length].to_vec() } else { Vec::new() };
    Ok(Datagram { bytes, sender: sender(&header), fds })
}

/// Who sent the message that recvmsg described in `header`.
fn sender(header: &libc::msghdr) -> Option<Sender> {
    // SAFETY: recvmsg has set the header to describe the control messages it wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: `next` is null or points at a control message inside the buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_CREDENTIALS {
            // SAFETY: the payload of `next` begins inside the buffer.
            let payload = unsafe { libc::CMSG_DATA(next) }.cast::<libc::ucred>();
            // SAFETY: the buffer has room for the credentials, which the kernel writes before
            // anything else and therefore whole; the read needs no alignment.
            let credentials = unsafe { ptr::read_unaligned(payload) };
            let sender = Sender { pid: credentials.pid, uid: credentials.uid };
            return (sender.pid > 0).then_some(sender);
        }
        // SAFETY: `next` points at a control message of `header`.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    None
}

/// The service manager that started us.
#[derive(Debug)]
pub struct Manager(UnixDatagram);

impl Manager {
    /// Connects to the address in NOTIFY_SOCKET: a path, or an abstract name after `@`.
    ///
    /// # Errors
    /// `InvalidInput` for any other form of address, else those of connect(2).
    pub fn connect(address: &OsStr) -> io::Result<Self> {
        let bytes = address.as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None if bytes.starts_with(b"/") => SocketAddr::from_pathname(address)?,
            None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "no path and no @")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Says it, whole or not at all; never waits.
    ///
    /// # Errors
    /// `WouldBlock` while the manager is behind with its reading, else those of send(2).
    pub fn say(&self, message: &str) -> io::Result<()> {
        self.0.send(message.as_bytes()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::os::fd::AsFd;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;

    fn socket(test: &str) -> (UnixDatagram, UnixDatagram) {
        let name = format!("notify-test-{test}-{}", std::process::id());
        let receiver = bind(&name).expect("the name is ours");
        let sender = UnixDatagram::unbound().expect("a socket");
        let address = SocketAddr::from_abstract_name(name).expect("short");
        sender.connect_addr(&address).expect("it is bound");
        (receiver, sender)
    }

    #[test]
    fn a_message_names_the_process_that_sent_it() {
        let (receiver, sender) = socket("sender");
        let nothing = receive(receiver.as_fd()).expect_err("nothing was sent");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        sender.send(b"READY=1").expect("there is room");
        let datagram = receive(receiver.as_fd()).expect("it was sent");
        assert_eq!(datagram.bytes, b"READY=1");
        let uid = nix::unistd::getuid().as_raw();
        assert_eq!(datagram.sender, Some(Sender { pid: std::process::id() as i32, uid }));
    }

    #[test]
    fn a_manager_is_found_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("the directory is ours");
        let name = format!("manager-test-{}", std::process::id());
        let by_name = bind(&name).expect("the name is ours");
        let addresses = [path.into_os_string(), format!("@{name}").into()];
        for (address, receiver) in addresses.iter().zip([&by_path, &by_name]) {
            let manager = Manager::connect(address).expect("somebody listens");
            manager.say("READY=1").expect("there is room");
            let mut buffer = [0; 16];
            let length = receiver.recv(&mut buffer).expect("it was sent");
            assert_eq!(&buffer[..length], b"READY=1");
        }
        let error = Manager::connect(OsStr::new("vsock:2:1")).expect_err("not here");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let name = format!("manager-full-{}", std::process::id());
        let _receiver = bind(&name).expect("the name is ours");
        let manager = Manager::connect(OsStr::new(&format!("@{name}"))).expect("it is bound");
        let full = (0..100_000).find_map(|_| manager.say("STATUS=x").err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn a_message_beyond_the_bound_says_nothing() {
        let (receiver, sender) = socket("bound");
        sender.send(&[b'x'; DATAGRAM_MAX]).expect("there is room");
        sender.send(&[b'x'; DATAGRAM_MAX + 1]).expect("there is room");
        let lengths = [(); 2].map(|()| receive(receiver.as_fd()).expect("sent").bytes.len());
        assert_eq!(lengths, [DATAGRAM_MAX, 0]);
    }

    /// Sends a barrier with this many copies of a pipe's end, and returns the other end.
    fn send_with_copies(sender: &UnixDatagram, copies: usize) -> PipeReader {
        let (reader, writer) = io::pipe().expect("a pipe");
        let raw = vec![writer.as_raw_fd(); copies];
        let control = [ControlMessage::ScmRights(&raw)];
        let bytes = [io::IoSlice::new(b"BARRIER=1")];
        sendmsg::<()>(sender.as_raw_fd(), &bytes, &control, MsgFlags::empty(), None)
            .expect("there is room");
        reader
    }

    #[test]
    fn every_passed_descriptor_is_taken_and_closed() {
        let (receiver, sender) = socket("passed");
        let _only_copy = crate::sys::testing::without_forks();
        let mut reader = send_with_copies(&sender, MAX_RECEIVED_FDS);
        let datagram = receive(receiver.as_fd()).expect("it was sent");
        assert_eq!(datagram.bytes, b"BARRIER=1");
        assert_eq!(datagram.fds.len(), MAX_RECEIVED_FDS);
        drop(datagram);
        assert_eq!(reader.read(&mut [0; 1]).expect("our pipe"), 0, "no copy is left");
    }

    #[test]
    fn a_message_with_too_many_descriptors_says_nothing_and_leaves_none_behind() {
        let (receiver, sender) = socket("flood");
        let _only_copy = crate::sys::testing::without_forks();
        // The most that the kernel attaches to one message (SCM_MAX_FD).
        let mut reader = send_with_copies(&sender, 253);
        sender.send(b"WATCHDOG=1").expect("there is room");
        let datagram = receive(receiver.as_fd()).expect("it was sent");
        assert_eq!((datagram.bytes.len(), datagram.fds.len()), (0, MAX_RECEIVED_FDS));
        assert!(datagram.sender.is_some());
        drop(datagram);
        assert_eq!(reader.read(&mut [0; 1]).expect("our pipe"), 0, "no copy is left");
        let next = receive(receiver.as_fd()).expect("it was sent");
        assert_eq!(next.bytes, b"WATCHDOG=1", "the next one is heard");
    }
}
