//! Many visitors in one thread: those who read all that they can, and those who do not read.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};

use crate::support::PATIENCE;

type Stream = BufReader<TcpStream>;

/// Visitors who each ask for the page again and again, on a connection that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitors {
    pub(crate) port: u16,
    pub(crate) count: usize,
    /// How long they ask; who has asked then gets an answer.
    pub(crate) time: Duration,
    pub(crate) resets: Resets,
}

/// What a visitor does whose connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resets {
    TryAgain,
    Fail,
}

/// What the visitors met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    /// Whole pages per second.
    pub(crate) rate: f64,
    pub(crate) resets: usize,
}

impl Visitors {
    /// Panics if any visitor gets anything but whole pages, or resets where they are allowed.
    #[track_caller]
    pub(crate) fn visit(self) -> Visit {
        let local = LocalSet::new();
        let began = Instant::now();
        let (pages, resets) = (Rc::new(Cell::new(0usize)), Rc::new(Cell::new(0usize)));
        local.block_on(&runtime(), async {
            let mut visitors = JoinSet::new();
            for _ in 0..self.count {
                let (pages, resets) = (Rc::clone(&pages), Rc::clone(&resets));
                let until = began + self.time;
                visitors.spawn_local(async move {
                    let mut stream = None;
                    while Instant::now() < until {
                        match page(self.port, &mut stream).await {
                            Ok(()) => pages.set(pages.get() + 1),
                            Err(error) if self.resets.allow(&error) => {
                                resets.set(resets.get() + 1);
                                stream = None;
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    io::Result::Ok(())
                });
            }
            for end in visitors.join_all().await {
                end.expect("each visitor gets a whole page with status 200");
            }
        });
        let rate = pages.get() as f64 / began.elapsed().as_secs_f64();
        Visit { rate, resets: resets.get() }
    }
}

impl Resets {
    fn allow(self, error: &io::Error) -> bool {
        let is_reset =
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        self == Self::TryAgain && is_reset
    }
}

/// Asks for the page on this connection, or on a new one.
async fn page(port: u16, stream: &mut Option<Stream>) -> io::Result<()> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(buffered(TcpStream::connect(("127.0.0.1", port)).await?)),
    };
    write_request(stream, "/").await?;
    let length = read_head(stream).await?;
    read_body(stream, length).await
}

/// Clients who have the head of a response and leave the rest for later.
pub(crate) struct Readers {
    runtime: Runtime,
    streams: Vec<Stream>,
}

impl Readers {
    /// Opens that many connections with the smallest receive buffer, and asks on each.
    #[track_caller]
    pub(crate) fn begin(port: u16, path: &str, count: usize) -> Self {
        let runtime = runtime();
        let streams = runtime.block_on(async {
            let mut streams = Vec::with_capacity(count);
            for _ in 0..count {
                let socket = TcpSocket::new_v4().expect("a socket");
                socket.set_recv_buffer_size(1).expect("the kernel rounds it up");
                let address = ([127, 0, 0, 1], port).into();
                let stream = socket.connect(address).await.expect("the master accepts");
                let mut stream = buffered(stream);
                write_request(&mut stream, path).await.expect("room");
                streams.push(stream);
            }
            for stream in &mut streams {
                read_head(stream).await.expect("a head with status 200");
            }
            streams
        });
        Self { runtime, streams }
    }

    /// Reads on, of a few: nobody's response has come to a halt.
    #[track_caller]
    pub(crate) fn read_on(mut self, length: u64) {
        self.runtime.block_on(async {
            for stream in self.streams.iter_mut().step_by(300) {
                read_body(stream, length).await.expect("more of the page");
            }
        });
    }
}

/// So small a buffer that a body passes it by.
fn buffered(stream: TcpStream) -> Stream {
    BufReader::with_capacity(512, stream)
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime has all it needs")
}

async fn write_request(stream: &mut Stream, path: &str) -> io::Result<()> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}

/// Reads a head with status 200; the length of the body.
async fn read_head(stream: &mut Stream) -> io::Result<u64> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = tokio::time::timeout(PATIENCE, stream.read_line(&mut head)).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(invalid(&head));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    length.and_then(|length| length.parse().ok()).ok_or_else(|| invalid(&head))
}

/// `UnexpectedEof` if it ends before its length.
async fn read_body(stream: &mut Stream, length: u64) -> io::Result<()> {
    let mut body = stream.take(length);
    let mut sink = tokio::io::sink();
    let read = tokio::io::copy(&mut body, &mut sink);
    let read = tokio::time::timeout(PATIENCE, read).await??;
    if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
