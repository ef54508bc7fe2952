//! The channel against a socket pair, on a clock of the test's own.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::*;
use crate::environment::Identity;
use crate::shared::{Active, Wake};

struct Setup {
    master: UnixStream,
    channel: Channel<OwnedFd>,
    shared: Arc<Shared>,
    start: Instant,
}

/// A channel that has said ready.
fn ready() -> Setup {
    let (master, socket) = UnixStream::pair().expect("a socket pair");
    master.set_nonblocking(true).expect("a flag");
    let wake = Wake::Thread(sys::eventfd().expect("an eventfd"));
    let shared = Shared::new(Identity::default(), wake);
    let start = sys::now();
    let channel = Channel::new(socket.into(), Arc::clone(&shared), start);
    let mut setup = Setup { master, channel, shared, start };
    setup.shared.make_ready();
    setup.wait_at(0);
    assert_eq!(setup.said(), format!("{{\"type\":\"ready\",\"sdk\":\"{SDK}\"}}\n"));
    setup
}

impl Setup {
    fn turn_at(&mut self, ms: u64) -> Turn {
        self.channel.turn(self.start + Duration::from_millis(ms), Intake::Take)
    }

    /// A turn that finds nothing for the app; returns when it wants the next one, and for what.
    fn wait_at(&mut self, ms: u64) -> (bool, u128) {
        match self.turn_at(ms) {
            Turn::Wait { write, until } => (write, (until - self.start).as_millis()),
            other => panic!("{other:?}"),
        }
    }

    fn connection_at(&mut self, ms: u64) -> Connection {
        match self.turn_at(ms) {
            Turn::Connection(connection) => connection,
            other => panic!("{other:?}"),
        }
    }

    /// What has come since the last look.
    fn said(&mut self) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.master.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(text).expect("text")
    }

    fn hand(&mut self, seq: u64, rest: &str, socket: impl AsFd) {
        let line = format!("{{\"type\":\"conn\",\"seq\":{seq}{rest}}}\n");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let given = [socket.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&given)), "one fits");
        let parts = [IoSlice::new(line.as_bytes())];
        let sent = rustix::net::sendmsg(&self.master, &parts, &mut control, SendFlags::empty());
        assert_eq!(sent, Ok(line.len()));
    }
}

fn unix() -> OwnedFd {
    UnixStream::pair().expect("a socket pair").0.into()
}

fn load(seen: u64, open: u32, active: u32, lag_ms: u64) -> String {
    let mut line = Vec::new();
    Outgoing::Load(Load { seen, open, active, lag_ms }).write_to(&mut line);
    String::from_utf8(line).expect("text")
}

fn ack(seq: u64, accepted: bool) -> String {
    format!("{{\"type\":\"ack\",\"seq\":{seq},\"accepted\":{accepted}}}\n")
}

#[test]
fn a_connection_comes_with_its_names_behind_its_ack() {
    let mut setup = ready();
    let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0"));
    let address = listener.as_ref().expect("a loopback port").local_addr().expect("bound");
    let tcp = TcpStream::connect(address).expect("loopback connects");
    setup.hand(1, ",\"listener\":\"admin\",\"peer\":\"[2001:db8::1]:9\"", &tcp);
    let connection = setup.connection_at(1);
    assert_eq!(setup.said(), ack(1, true) + &load(1, 1, 0, 0));
    assert_eq!(connection.listener(), "admin");
    assert_eq!(connection.peer().address(), "[2001:db8::1]:9".parse().ok());
    assert!(matches!(connection.stream(), Stream::Tcp(_)));

    setup.hand(2, ",\"listener\":\"main\"", unix());
    let connection = setup.connection_at(1);
    assert_eq!(connection.peer(), &Peer::Other(String::new()));
    assert!(matches!(connection.stream(), Stream::Unix(_)));
}

#[test]
fn the_changes_of_one_turn_are_one_report() {
    let mut setup = ready();
    let mut connections = Vec::new();
    for seq in 1..=3 {
        setup.hand(seq, ",\"listener\":\"main\"", unix());
        connections.push(setup.connection_at(1));
    }
    setup.wait_at(1);
    setup.said();
    connections.clear();
    setup.wait_at(2);
    assert_eq!(setup.said(), load(3, 0, 0, 0));
}

#[test]
fn active_alone_is_reported_every_ten_milliseconds_at_most() {
    let mut setup = ready();
    let first = Active::new(&setup.shared);
    setup.wait_at(500);
    assert_eq!(setup.said(), load(0, 0, 1, 0));
    drop(first);
    assert_eq!(setup.wait_at(503), (false, 510));
    assert_eq!(setup.said(), "");
    let second = Active::new(&setup.shared);
    let third = Active::new(&setup.shared);
    assert_eq!(setup.wait_at(510), (false, 1000));
    assert_eq!(setup.said(), load(0, 0, 2, 0));
    drop((second, third));
}

#[test]
fn an_unchanged_load_is_repeated_every_second_with_the_longest_lag() {
    let mut setup = ready();
    assert_eq!(setup.wait_at(999), (false, 1000));
    assert_eq!(setup.said(), "");
    setup.channel.note_lag(Duration::from_millis(40));
    setup.channel.note_lag(Duration::from_millis(4));
    assert_eq!(setup.wait_at(1000), (false, 2000));
    assert_eq!(setup.said(), load(0, 0, 0, 40));
    setup.wait_at(2000);
    assert_eq!(setup.said(), load(0, 0, 0, 0));
}

#[test]
fn a_master_that_does_not_read_costs_neither_time_nor_memory() {
    let mut setup = ready();
    let mut held = Vec::new();
    let mut full = false;
    for ms in 1..10_000 {
        held.push(Active::new(&setup.shared));
        full |= setup.wait_at(ms * 10).0;
        assert!(setup.channel.outbox.capacity() < 1024);
    }
    assert!(full, "the channel must have been full for this to show anything");
    setup.hand(1, ",\"listener\":\"main\"", unix());
    assert!(setup.wait_at(100_000).0, "a connection was given out before its ack was sent");

    setup.said();
    let connection = setup.connection_at(100_001);
    setup.wait_at(100_001);
    let said = setup.said();
    assert!(said.contains(&ack(1, true)), "{said}");
    assert!(said.ends_with(&load(1, 1, 9_999, 0)), "{said}");
    drop(connection);
}

#[test]
fn what_came_before_the_end_is_delivered_in_order() {
    let mut setup = ready();
    setup.hand(1, ",\"listener\":\"main\"", unix());
    setup
        .master
        .write_all(b"{\"type\":\"pressure\",\"level\":9}\n{\"type\":\"drain\"}\n")
        .expect("room");
    setup.master = UnixStream::pair().expect("a socket pair").0;
    let connection = setup.connection_at(1);
    assert!(matches!(setup.turn_at(1), Turn::Draining(Drain::Asked)));
    assert!(matches!(setup.turn_at(1), Turn::Draining(Drain::MasterLost)));
    assert!(matches!(setup.turn_at(1), Turn::Ended));
    drop(connection);
    assert!(matches!(setup.turn_at(2_000), Turn::Ended));
}

#[test]
fn nothing_is_taken_over_the_bound_or_while_draining() {
    let mut setup = ready();
    setup.shared.limit_connections(1);
    setup.hand(1, ",\"listener\":\"main\"", unix());
    let connection = setup.connection_at(1);
    setup.said();
    setup.hand(2, ",\"listener\":\"main\"", unix());
    setup.wait_at(1);
    assert_eq!(setup.said(), ack(2, false) + &load(2, 1, 0, 0));
    drop(connection);
    setup.shared.start_drain(Drain::Asked);
    setup.hand(3, ",\"listener\":\"main\"", unix());
    setup.wait_at(1);
    assert_eq!(setup.said(), ack(3, false) + &load(3, 0, 0, 0));
}
