//! Carries bytes both ways after an upgrade, until both sides have ended or their worker leaves.
//!
//! When a worker leaves, its tunnels are closed one after the other over the time it has, or all
//! their clients would come back at once: a WebSocket by a close frame between two others, anything
//! else, of which we do not know where it may end, late and by the end of the stream.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::frames::{Frames, GOING_AWAY};
use super::pace::Pace;
use super::stream::Stream;
use crate::clock;

/// Bytes held for each direction of a tunnel: a WebSocket frame of usual size fits, and 10,000
/// tunnels cost 160 MiB at worst.
const BUFFER: usize = 8 * 1024;

/// How long both sides may take to close once they were asked to.
const CLOSING: Duration = Duration::from_secs(5);

/// What is spoken in a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    WebSocket,
    Other,
}

/// When a tunnel ends whose worker leaves, or whose listener was removed.
pub(super) struct Leaving {
    pub(super) worker: watch::Receiver<Option<Instant>>,
    pub(super) listener: watch::Receiver<Option<Instant>>,
    /// Which of all tunnels this is: evenly drawn, in thousandths.
    pub(super) turn: u32,
}

/// What was read ahead: of the client, of the worker.
pub(super) type Early<'a> = (&'a [u8], &'a [u8]);

/// Carries until both directions have ended; returns how many bytes the client got.
///
/// # Errors
/// Those of either connection; the other one is to be closed then.
pub(super) async fn carry(
    client: &Stream,
    worker: &Stream,
    how: (Protocol, Leaving),
    early: Early<'_>,
) -> io::Result<u64> {
    let (protocol, leaving) = how;
    let (from_client, from_worker) = early;
    let tunnel = Tunnel { client, worker, carried: Cell::new(0), told: Notify::new() };
    let up = async {
        worker.write_all(from_client).await?;
        copy(client, worker, &Cell::new(0)).await
    };
    let down = async {
        client.write_all(from_worker).await?;
        tunnel.carried.set(from_worker.len() as u64);
        match protocol {
            Protocol::WebSocket => tunnel.down_frames(from_worker, leaving).await,
            Protocol::Other => tunnel.down_bytes(leaving).await,
        }
    };
    let overtime = async {
        tunnel.told.notified().await;
        tokio::time::sleep(CLOSING).await;
    };
    tokio::select! {
        biased;
        both = async { tokio::try_join!(up, down) } => both.map(|_| tunnel.carried.get()),
        () = overtime => Err(io::ErrorKind::TimedOut.into()),
    }
}

impl Leaving {
    /// Waits for this tunnel's turn: WebSockets have the first part of the time, so that all of
    /// them can end in order; others have the last.
    async fn turn(mut self, protocol: Protocol) {
        let until = tokio::select! {
            biased;
            Ok(until) = self.worker.wait_for(Option::is_some) => *until,
            Ok(until) = self.listener.wait_for(Option::is_some) => *until,
            // The worker is gone, and the connection to it.
            else => return std::future::pending().await,
        };
        let until = until.unwrap_or_else(clock::now);
        let (begin, length) = match protocol {
            Protocol::WebSocket => (0, 800),
            Protocol::Other => (800, 150),
        };
        let now = clock::now();
        let thousandths = begin + self.turn.min(1000) * length / 1000;
        let share = until.saturating_duration_since(now) / 1000 * thousandths;
        if !share.is_zero() {
            tokio::time::sleep_until((now + share).into()).await;
        }
    }
}

struct Tunnel<'a> {
    client: &'a Stream,
    worker: &'a Stream,
    /// Bytes that the client got.
    carried: Cell<u64>,
    /// Both sides were asked to close.
    told: Notify,
}

impl Tunnel<'_> {
    /// Carries what a worker sends of a protocol that we do not know.
    async fn down_bytes(&self, leaving: Leaving) -> io::Result<()> {
        tokio::select! {
            biased;
            ended = copy(self.worker, self.client, &self.carried) => return ended,
            () = leaving.turn(Protocol::Other) => {}
        }
        self.worker.shutdown_write();
        self.client.shutdown_write();
        self.told.notify_one();
        drain(self.worker).await
    }

    /// Carries the frames that a worker sends.
    async fn down_frames(&self, early: &[u8], leaving: Leaving) -> io::Result<()> {
        let mut frames = Frames::default();
        frames.pass(early);
        let mut buffer = [0; BUFFER];
        let mut pace = Pace::default();
        let turn = leaving.turn(Protocol::WebSocket);
        tokio::pin!(turn);
        let mut is_last = false;
        while !is_last || !frames.is_between() {
            let count = tokio::select! {
                // Its turn first: a worker that never pauses must end too.
                biased;
                () = &mut turn, if !is_last => {
                    is_last = true;
                    continue;
                }
                count = read(self.worker, &mut buffer) => count?,
            };
            if count == 0 {
                self.client.shutdown_write();
                return Ok(());
            }
            let passing = if is_last {
                frames.finish(&buffer[..count])
            } else {
                frames.pass(&buffer[..count]);
                count
            };
            self.client.write_all(&buffer[..passing]).await?;
            self.carried.set(self.carried.get() + passing as u64);
            pace.carried(passing).await;
        }
        self.client.write_all(GOING_AWAY).await?;
        self.told.notify_one();
        // The client answers with a close frame of its own; it goes to the worker, which closes.
        drain(self.worker).await?;
        self.client.shutdown_write();
        Ok(())
    }
}

/// Carries one direction to its end, and ends the other side's with it.
async fn copy(from: &Stream, to: &Stream, carried: &Cell<u64>) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    let mut pace = Pace::default();
    loop {
        let count = read(from, &mut buffer).await?;
        if count == 0 {
            to.shutdown_write();
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
        carried.set(carried.get() + count as u64);
        pace.carried(count).await;
    }
}

/// Reads to the end.
async fn drain(from: &Stream) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    let mut pace = Pace::default();
    loop {
        match read(from, &mut buffer).await? {
            0 => return Ok(()),
            count => pace.carried(count).await,
        }
    }
}

/// Reads what comes next; 0 is the end. Cancel-safe.
async fn read(from: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => from.readable().await?,
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::stream::Kind;
    use super::*;

    /// Our end of a connection, and the other one.
    fn end() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("descriptors are left");
        ours.set_nonblocking(true).expect("it is a socket");
        (Stream::register(ours.into(), Kind::Unix).expect("a runtime is here"), theirs)
    }

    #[tokio::test]
    async fn web_socket_is_closed_between_two_frames() {
        let ((client, mut browser), (worker, mut app)) = (end(), end());
        let (leave, departure) = watch::channel(None);
        let (_stays, listener) = watch::channel(None);
        let leaving = Leaving { worker: departure, listener, turn: 0 };
        let (half_seen, is_half_seen) = std::sync::mpsc::channel();
        let app = std::thread::spawn(move || {
            app.write_all(&[0x82, 5, 1, 2]).expect("room");
            is_half_seen.recv().expect("the browser lives");
            app.write_all(&[3, 4, 5, 0x82, 1, 9]).expect("room");
            let mut seen = Vec::new();
            app.read_to_end(&mut seen).expect("an orderly end");
            seen
        });
        let browser = std::thread::spawn(move || {
            let mut seen = [0; 11];
            browser.read_exact(&mut seen[..4]).expect("half a frame");
            leave.send_replace(Some(Instant::now()));
            half_seen.send(()).expect("the app lives");
            browser.read_exact(&mut seen[4..]).expect("the rest of it, and a close frame");
            browser.write_all(b"bye").expect("room");
            seen
        });
        let how = (Protocol::WebSocket, leaving);
        let carried = carry(&client, &worker, how, (b"early ", b"")).await;
        drop((client, worker));
        let expected = [&[0x82, 5, 1, 2, 3, 4, 5][..], GOING_AWAY].concat();
        assert_eq!(browser.join().expect("no panic").as_slice(), expected);
        assert_eq!(app.join().expect("no panic"), b"early bye");
        assert_eq!(carried.expect("both ended"), 7);
    }
}
