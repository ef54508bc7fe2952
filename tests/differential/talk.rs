//! Speaks HTTP/1 on raw sockets and writes down all that comes back, a line for each thing that
//! must not change.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;

/// The only host that is asked for.
pub(crate) const HOST: &str = "Host: shop.example\r\n";

/// Longer bodies are written down by their digest.
const SHOWN_MAX: usize = 4 << 10;

/// One or several connections to one server, and what was seen on them.
pub(crate) struct Talk {
    port: u16,
    /// Opened by the first bytes that are sent: a server of one thread waits for those who send
    /// nothing, and serves nobody else meanwhile.
    stream: Option<BufReader<TcpStream>>,
    /// Whether the server will close after the response: the next request needs a new connection.
    ends: bool,
    pub(crate) lines: Vec<String>,
}

/// How a response's body ends.
enum Framing {
    None,
    Length(usize),
    Chunks,
    Close,
}

impl Talk {
    pub(crate) fn with(port: u16) -> Self {
        Self { port, stream: None, ends: false, lines: Vec::new() }
    }

    /// Leaves, and goes on with a new connection.
    pub(crate) fn reconnect(&mut self) {
        self.stream = None;
        self.ends = false;
    }

    /// Another connection to the same server.
    pub(crate) fn another(&self) -> Self {
        Self::with(self.port)
    }

    /// A server that has closed already does not hear it, which the next read shows.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let port = self.port;
        let stream = self.stream.get_or_insert_with(|| connect(port));
        let _ = stream.get_mut().write_all(bytes.as_ref());
    }

    #[track_caller]
    fn stream(&mut self) -> &mut BufReader<TcpStream> {
        self.stream.as_mut().expect("something was sent")
    }

    /// On a new connection, if the server has ended the one before.
    pub(crate) fn get(&mut self, path: &str) {
        self.request("GET", path, "");
    }

    /// The same with any method and more fields.
    pub(crate) fn request(&mut self, method: &str, path: &str, fields: &str) {
        if self.ends {
            self.reconnect();
        }
        self.send(format!("{method} {path} HTTP/1.1\r\n{HOST}{fields}\r\n"));
        self.response(method);
    }

    /// Writes down a whole response to a request of that method, with those that precede it.
    pub(crate) fn response(&mut self, method: &str) {
        while let Some(100..=199) = self.next(method) {}
    }

    /// Writes down the next response, with its body unless it is informational; its status.
    pub(crate) fn next(&mut self, method: &str) -> Option<u16> {
        let (status, framing) = self.head(method)?;
        match self.body(&framing) {
            Ok(bytes) => self.note_body(&framing, &bytes),
            Err(error) => self.lines.push(format!("the body breaks off: {error:?}")),
        }
        Some(status)
    }

    /// Writes down a head and leaves the body unread.
    pub(crate) fn only_head(&mut self, method: &str) -> Option<u16> {
        self.head(method).map(|(status, _)| status)
    }

    fn head(&mut self, method: &str) -> Option<(u16, Framing)> {
        let Some(start) = self.line() else {
            self.lines.push("closed".to_owned());
            return None;
        };
        let status = start.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("{start:?} is no status line"));
        let (version, rest) = start.split_once(' ').expect("a status line has spaces");
        self.lines.extend([format!("version {version}"), format!("status {rest}")]);
        self.ends = version == "HTTP/1.0";
        let mut framing = match (status, method) {
            (100..=199 | 204 | 304, _) | (_, "HEAD") => Framing::None,
            _ => Framing::Close,
        };
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a field has a colon");
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            if name == "connection" {
                self.ends = !value.eq_ignore_ascii_case("keep-alive");
            }
            match (&framing, name.as_str()) {
                (Framing::Close | Framing::Length(_), "transfer-encoding") => {
                    framing = Framing::Chunks;
                }
                (Framing::Close, "content-length") => {
                    framing = Framing::Length(value.parse().expect("a length is a number"));
                }
                _ => {}
            }
            self.lines.push(masked(&line, &name));
        }
        Some((status, framing))
    }

    fn body(&mut self, framing: &Framing) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match framing {
            Framing::None => {}
            Framing::Length(length) => {
                bytes.resize(*length, 0);
                self.stream().read_exact(&mut bytes)?;
            }
            Framing::Close => {
                self.stream().read_to_end(&mut bytes)?;
            }
            Framing::Chunks => self.chunks(&mut bytes)?,
        }
        Ok(bytes)
    }

    /// Where one chunk ends and the next begins means nothing; trailers do.
    fn chunks(&mut self, bytes: &mut Vec<u8>) -> std::io::Result<()> {
        loop {
            let line = self.line().ok_or(ErrorKind::UnexpectedEof)?;
            let size = usize::from_str_radix(&line, 16).expect("a chunk begins with its size");
            if size == 0 {
                break;
            }
            let start = bytes.len();
            bytes.resize(start + size, 0);
            self.stream().read_exact(&mut bytes[start..])?;
            assert_eq!(self.line().as_deref(), Some(""), "a chunk ends with an empty line");
        }
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            self.lines.push(format!("trailer {line}"));
        }
        Ok(())
    }

    fn note_body(&mut self, framing: &Framing, bytes: &[u8]) {
        match framing {
            Framing::None => return,
            Framing::Length(_) => self.lines.push("body of a length".to_owned()),
            Framing::Chunks => self.lines.push("body in chunks".to_owned()),
            Framing::Close => self.lines.push("body until the end".to_owned()),
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= SHOWN_MAX => {
                self.lines.extend(text.lines().map(|line| format!("| {line}")));
            }
            Ok(_) | Err(_) => {
                let sum = bytes.iter().fold(0u64, |sum, byte| {
                    sum.wrapping_mul(1_000_003).wrapping_add(u64::from(*byte))
                });
                self.lines.push(format!("| {} bytes, sum {sum:x}", bytes.len()));
            }
        }
    }

    /// Writes down whether the connection serves another request.
    pub(crate) fn after(&mut self) {
        self.send(format!("HEAD /page HTTP/1.1\r\n{HOST}\r\n"));
        let kept = self.line().is_some();
        self.lines.push(if kept { "kept" } else { "closed" }.to_owned());
    }

    /// Reads so many bytes of another protocol.
    pub(crate) fn bytes(&mut self, count: usize) {
        let mut bytes = vec![0; count];
        let read = self.stream().read_exact(&mut bytes).map(|()| bytes);
        self.lines.push(format!("bytes {:?}", read.map_err(|error| error.kind())));
    }

    /// Writes down all that comes before the end.
    pub(crate) fn rest(&mut self) {
        let mut bytes = Vec::new();
        let read = self.stream().read_to_end(&mut bytes).map(|_| bytes);
        self.lines.push(format!("rest {:?}", read.map_err(|error| error.kind())));
    }

    /// The next line; none if the server has closed, in whichever way.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream().read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.strip_suffix("\r\n").expect("lines end so").to_owned()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error} after {:#?}", self.lines),
        }
    }
}

/// What differs from one run to the next, whoever answers.
fn masked(line: &str, name: &str) -> String {
    match name {
        "date" | "x-request-id" | "server-timing" => {
            let (name, _) = line.split_once(':').expect("a field has a colon");
            format!("{name}: *")
        }
        _ => line.to_owned(),
    }
}

#[track_caller]
fn connect(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_nodelay(true).expect("it is TCP");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
    BufReader::new(stream)
}
