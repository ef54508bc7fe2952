//! One client connection: sends a request, reads the whole answer, and says how it went.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// What came of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered(u16),
    /// Nothing whole came before the client's patience ended.
    TimedOut,
    /// No connection.
    Refused,
    /// The connection ended before a byte of the answer.
    Lost,
    /// It ended within the answer, or the answer was no HTTP.
    Cut,
}

/// A whole answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What the worker says it was busy with this request, in µs.
    pub(crate) service_us: u32,
    /// The worker's pid, or 0.
    pub(crate) worker: u32,
    /// Whether the connection may carry another request.
    pub(crate) reusable: bool,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Of a long body: few reads for a page of 1 MB, and little memory for thousands of connections.
const READ_AT_ONCE: usize = 64 * 1024;

/// Far above any head that our workers and peers send.
const HEAD_MAX: usize = 16 * 1024;

impl Connection {
    /// Connects from `source`.
    pub(crate) async fn open(source: Ipv4Addr, target: SocketAddr) -> Result<Self, Outcome> {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((source, 0)))?;
            let stream = socket.connect(target).await?;
            stream.set_nodelay(true)?;
            std::io::Result::Ok(stream)
        };
        let stream = connect.await.map_err(|_| Outcome::Refused)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1024) })
    }

    /// Whether the other end has neither closed nor said anything unasked.
    pub(crate) fn is_fresh(&self) -> bool {
        let mut byte = [0];
        let read = self.stream.try_read(&mut byte);
        matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Sends `request`, which holds the whole of it, and reads the answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Outcome> {
        self.stream.write_all(request).await.map_err(|_| Outcome::Lost)?;
        self.buffer.clear();
        let (mut answer, head, body) = loop {
            let started = !self.buffer.is_empty();
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(if started { Outcome::Cut } else { Outcome::Lost }),
                Ok(_) => {}
            }
            if let Some(parsed) = parse(&self.buffer)? {
                break parsed;
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(Outcome::Cut);
            }
        };
        match body {
            Body::Length(length) => {
                let mut rest = (head + length).saturating_sub(self.buffer.len());
                while rest > 0 {
                    self.buffer.clear();
                    self.buffer.reserve(rest.min(READ_AT_ONCE));
                    match self.stream.read_buf(&mut self.buffer).await {
                        Ok(0) | Err(_) => return Err(Outcome::Cut),
                        Ok(count) => rest = rest.saturating_sub(count),
                    }
                }
            }
            Body::UntilClose => {
                answer.reusable = false;
                loop {
                    self.buffer.clear();
                    match self.stream.read_buf(&mut self.buffer).await {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(_) => return Err(Outcome::Cut),
                    }
                }
            }
        }
        Ok(answer)
    }
}

enum Body {
    Length(usize),
    UntilClose,
}

/// The head, its length and how the body ends; `None` while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize, Body)>, Outcome> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|_| Outcome::Cut)? else {
        return Ok(None);
    };
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let number = |name: &str| field(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    let length = field("content-length").and_then(|value| value.parse().ok());
    // Our workers give every body a length; an error page that has none ends the connection.
    let body = length.map_or(Body::UntilClose, Body::Length);
    let answer = Answer {
        status: response.code.unwrap_or(0),
        service_us: number("x-service-us"),
        worker: number("x-worker"),
        reusable: !field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
    };
    Ok(Some((answer, head, body)))
}
