//! Both ends of what a service says to its manager (sd_notify(3)): we hear our workers, with the
//! sender's identity, and speak to whoever started us.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt::PassCred,
};

/// The longest message that is looked at; systemd's own bound (PIPE_BUF).
pub const DATAGRAM_MAX: usize = 4096;

/// The most descriptors that the kernel attaches to one message (SCM_MAX_FD). With room for all of
/// them none can be lost, and so none can stay open unseen.
const DESCRIPTORS_MAX: usize = 253;

/// One message.
#[derive(Debug)]
pub struct Datagram {
    /// What it says; empty if it was longer than [`DATAGRAM_MAX`].
    pub bytes: Vec<u8>,
    /// The process that sent it, as the kernel knows it; none if it is in no pid namespace of ours.
    pub sender: Option<i32>,
    /// What was passed along.
    pub fds: Vec<OwnedFd>,
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
    let mut buffer = [0; DATAGRAM_MAX + 1];
    let mut space = nix::cmsg_space!(UnixCredentials, [MaybeUninit<RawFd>; DESCRIPTORS_MAX]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let (mut length, mut sender, mut fds) = (0, None, Vec::new());
    {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmRights(received) => {
                    // SAFETY: the kernel has just installed these descriptors for us alone.
                    fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
                ControlMessageOwned::ScmCredentials(credentials) => {
                    sender = Some(credentials.pid()).filter(|pid| *pid > 0);
                }
                _ => {}
            }
        }
        if message.bytes <= DATAGRAM_MAX {
            length = message.bytes;
        }
    }
    Ok(Datagram { bytes: buffer[..length].to_vec(), sender, fds })
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
        assert_eq!(datagram.sender, Some(std::process::id() as i32));
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

    #[test]
    fn every_passed_descriptor_is_taken_and_closed() {
        let (receiver, sender) = socket("passed");
        let (reader, writer) = io::pipe().expect("a pipe");
        let _only_copy = crate::sys::testing::without_forks();
        let raw = [writer.as_raw_fd(); DESCRIPTORS_MAX];
        let control = [nix::sys::socket::ControlMessage::ScmRights(&raw)];
        let bytes = [io::IoSlice::new(b"BARRIER=1")];
        let flags = MsgFlags::empty();
        nix::sys::socket::sendmsg::<()>(sender.as_raw_fd(), &bytes, &control, flags, None)
            .expect("there is room");
        drop(writer);
        let datagram = receive(receiver.as_fd()).expect("it was sent");
        assert_eq!(datagram.fds.len(), DESCRIPTORS_MAX);
        drop(datagram);
        let mut reader: PipeReader = reader;
        assert_eq!(reader.read(&mut [0; 1]).expect("our pipe"), 0, "no copy is left");
    }
}
