//! A small HTTP/1.1 client over TCP or a Unix socket that shows exactly what came back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::PATIENCE;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A port on 127.0.0.1.
impl From<u16> for Address {
    fn from(port: u16) -> Self {
        Self::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

/// As `/status` names a private listener.
impl From<&str> for Address {
    #[track_caller]
    fn from(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Tcp(text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))),
        }
    }
}

/// One response with its whole body.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In the order and case in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The first value of the header `name`, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, or an error that shows the body.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| invalid(format!("{error} in {:?}", self.text())))
    }
}

/// One connection, kept alive for as long as it is held; every read and write is bounded.
pub(crate) struct Connection {
    stream: BufReader<Box<dyn Duplex>>,
}

impl Connection {
    pub(crate) fn open(address: impl Into<Address>) -> io::Result<Self> {
        let stream: Box<dyn Duplex> = match address.into() {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Speaks on a connection that the caller opened.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// Asks for `path` and waits for the whole answer.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Response> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        self.receive()
    }

    /// Writes bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one response. `UnexpectedEof` if the server closed before its end.
    pub(crate) fn receive(&mut self) -> io::Result<Response> {
        let (status, headers) = self.receive_head()?;
        let mut response = Response { status, headers, body: Vec::new() };
        let chunked = response
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = match response.header("content-length") {
            Some(text) => Some(text.parse().map_err(|_| invalid(format!("length {text:?}")))?),
            None => None,
        };
        response.body = match (chunked, length) {
            (true, _) => self.receive_chunks()?,
            (false, Some(length)) => self.receive_exactly(length)?,
            (false, None) if matches!(status, 100..=199 | 204 | 304) => Vec::new(),
            (false, None) => {
                let mut body = Vec::new();
                self.stream.read_to_end(&mut body)?;
                body
            }
        };
        Ok(response)
    }

    /// Reads the status line and the headers, and leaves the body unread.
    pub(crate) fn receive_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let first = self.receive_line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("status line {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.receive_line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| invalid(format!("header {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Waits until the server closes; the bytes that came before that.
    pub(crate) fn receive_rest(mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    fn receive_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.receive_line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                .map_err(|_| invalid(format!("chunk size {line:?}")))?;
            body.extend(self.receive_exactly(size)?);
            let end = self.receive_line()?;
            if !end.is_empty() {
                return Err(invalid(format!("chunk ends with {end:?}")));
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Reads so many bytes, as they are.
    pub(crate) fn receive_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn receive_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(text) => Ok(text.to_owned()),
            None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Err(invalid(format!("line without CRLF: {line:?}"))),
        }
    }
}

/// One request on a connection of its own, which the server is asked to close.
pub(crate) fn get(address: impl Into<Address>, path: &str) -> io::Result<Response> {
    let mut connection = Connection::open(address)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    connection.send(head.as_bytes())?;
    connection.receive()
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
