//! Finds out when a worker serves at its private listener, by trying.
//!
//! Runs on control's thread: a flood on the reactor must not delay a start. Nothing here decides;
//! the end of [`until_served`] is the sign.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

use crate::link::orders::Upstream;

/// The pace of tries: quick enough for a server that starts in milliseconds, slow enough (two a
/// second) for one that takes a minute.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a connect may take; on loopback only a full backlog takes any time.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How long the first request waits for its answer, doubled for each next one. A socket that
/// listens before its worker runs keeps every request we give up, and the worker will serve them
/// all: within a minute these are five, and would be sixty without the doubling.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// More than any status line needs.
const STATUS_LINE_MAX: usize = 32;

/// What shows that a worker serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// It accepts a connection.
    Connects,
    /// It answers this path over HTTP, with any status.
    Answers(String),
}

/// Tries until the worker serves. Its end must abort this.
pub(super) async fn until_served(upstream: &Upstream, shows: &Shows) {
    let (mut pause, mut patience) = (FIRST_PAUSE, FIRST_ANSWER);
    while let Err(error) = attempt(upstream, shows, patience).await {
        if error.kind() == io::ErrorKind::TimedOut {
            patience = (patience * 2).min(LONGEST_ANSWER);
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(upstream: &Upstream, shows: &Shows, patience: Duration) -> io::Result<()> {
    match upstream {
        Upstream::Tcp(address) => {
            let stream = timeout(CONNECT_MAX, TcpStream::connect(address)).await??;
            // The kernel gives a connecting socket any free port, even the very one it connects
            // to: then it meets itself, and nobody listens.
            if stream.local_addr()? == stream.peer_addr()? {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            see(stream, shows, patience).await
        }
        Upstream::Unix(path) => {
            let stream = timeout(CONNECT_MAX, UnixStream::connect(path)).await??;
            see(stream, shows, patience).await
        }
    }
}

async fn see(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shows: &Shows,
    patience: Duration,
) -> io::Result<()> {
    match shows {
        Shows::Connects => Ok(()),
        Shows::Answers(path) => timeout(patience, ask(stream, path)).await?,
    }
}

/// One request, and the first bytes of what comes back.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: tenfold-probe/{version}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(STATUS_LINE_MAX);
    while answer.len() < STATUS_LINE_MAX && !is_status_line(&answer) {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    if is_status_line(&answer) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether the bytes begin as an HTTP/1 response does: `HTTP/1.1 200`.
fn is_status_line(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"HTTP/1.") else {
        return false;
    };
    rest.get(1) == Some(&b' ')
        && rest.get(2..5).is_some_and(|code| code.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    async fn listener() -> (TcpListener, Upstream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let upstream = Upstream::Tcp(listener.local_addr().expect("bound"));
        (listener, upstream)
    }

    /// Answers one connection with `bytes` and returns the request.
    async fn answer(listener: &TcpListener, bytes: &[u8]) -> String {
        let (mut stream, _) = listener.accept().await.expect("the probe connects");
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).await.expect("it asks");
        stream.write_all(bytes).await.expect("it reads");
        String::from_utf8_lossy(&request[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_listener_that_comes_late_is_found() {
        let (early, upstream) = listener().await;
        let Upstream::Tcp(address) = upstream.clone() else { unreachable!("it is TCP") };
        drop(early);
        let probe = until_served(&upstream, &Shows::Connects);
        tokio::pin!(probe);
        let soon = timeout(Duration::from_millis(50), &mut probe).await;
        assert!(soon.is_err(), "nobody listens yet");
        let _late = TcpListener::bind(address).await.expect("the port is free again");
        timeout(Duration::from_secs(5), probe).await.expect("it listens now");
    }

    #[tokio::test]
    async fn any_status_is_an_answer_and_anything_else_is_none() {
        let (listener, upstream) = listener().await;
        let shows = Shows::Answers("/ready?now".to_owned());
        let probe = until_served(&upstream, &shows);
        let serve = async {
            for bytes in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/2 200\r\n\r\n"] {
                answer(&listener, bytes).await;
            }
            answer(&listener, b"HTTP/1.0 503 Not yet\r\n\r\n").await
        };
        let ((), request) = tokio::join!(probe, serve);
        assert!(request.starts_with("GET /ready?now HTTP/1.1\r\nHost: localhost\r\n"), "{request}");
    }

    #[tokio::test(start_paused = true)]
    async fn unanswered_requests_become_rare() {
        let (listener, upstream) = listener().await;
        let shows = Shows::Answers("/".to_owned());
        let began = Instant::now();
        let probe = until_served(&upstream, &shows);
        tokio::pin!(probe);
        let mut silent = Vec::new();
        while began.elapsed() < Duration::from_secs(60) {
            tokio::select! {
                () = &mut probe => panic!("nobody answered"),
                accepted = listener.accept() => silent.push(accepted.expect("the probe connects")),
                () = sleep(Duration::from_secs(60)) => {}
            }
        }
        assert!((4..=7).contains(&silent.len()), "{} requests", silent.len());
    }

    #[test]
    fn only_a_whole_status_is_one() {
        for bytes in ["HTTP/1.1 200", "HTTP/1.0 404 Not Found", "HTTP/1.1 100 Continue"] {
            assert!(is_status_line(bytes.as_bytes()), "{bytes}");
        }
        for bytes in ["", "HTTP/1.1 20", "HTTP/2 200", "HTTP/1.1  200", "http/1.1 200"] {
            assert!(!is_status_line(bytes.as_bytes()), "{bytes}");
        }
    }
}
