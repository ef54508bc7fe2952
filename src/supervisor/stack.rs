//! Finds out where a worker is: what the kernel says of its threads, and where its JavaScript is.
//!
//! A thread of the preload answers for the JavaScript, over a socket of its own, also while the
//! main thread is busy. What it says is for people to read; nothing is decided by it.

use std::fmt;
use std::io;
use std::mem;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinError;

use super::inspect::{server, without_worker};
use super::{Process, Supervisor};
use crate::link::orders::{Forsaken, Order};
use crate::policy::WorkerId;
use crate::sys::thread;

/// The thread waits 2 s for the main thread; who asks waits 5 s.
const ANSWER_MAX: Duration = Duration::from_millis(3500);

/// The thread sends at most 64 frames of two names with at most 300 characters, each 4 bytes.
const FRAMES_MAX: usize = 64;
const LINE_MAX: usize = 256 * 1024;

/// What a worker does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackStatus {
    /// Whose.
    pub slot: u16,
    /// Its worker.
    pub worker: u64,
    /// The process that serves.
    pub pid: i32,
    /// What runs it, where it has said so.
    pub runtime: Option<String>,
    /// Where its JavaScript is.
    pub javascript: JavaScript,
    /// Its threads, the main one first; at most 256.
    pub threads: Vec<ThreadStatus>,
}

/// Where the JavaScript of a worker's main thread is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doing", rename_all = "snake_case")]
pub enum JavaScript {
    /// In the app's code.
    Script {
        /// `name (file:line:column)`, the innermost first; at most 64.
        frames: Vec<String>,
    },
    /// In none: it waits for events.
    Idle,
    /// In native code that it has called, or in the system, and has not come back for 2 s.
    Native,
    /// Nobody knows.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// Its id; the main thread's is the process's.
    pub tid: i32,
    /// As it calls itself.
    pub name: String,
    /// `busy in its own code`, `asleep in epoll_wait (ep_poll)`.
    pub doing: String,
    /// The kernel functions in which it is, the innermost first; only root may know them.
    pub kernel: Vec<String>,
}

/// Whether a worker can be asked where its JavaScript is.
#[derive(Debug)]
pub(super) enum StackSource {
    /// Its generation has no `workers.inspect`, or it is no Node worker.
    None,
    Free(StackSocket),
    /// The answer is under way.
    Asked,
}

/// Our end of the socket that the preload's thread reads.
#[derive(Debug)]
pub(super) struct StackSocket {
    stream: UnixStream,
    /// What was read of the next line.
    rest: Vec<u8>,
    /// How often it was asked: an answer that came too late for one is not for the next one.
    asked: u64,
    /// Why there will be no answer.
    refused: Option<String>,
}

/// A line from the thread.
#[derive(Debug, Deserialize)]
struct Answer {
    id: Option<u64>,
    error: Option<String>,
    #[serde(flatten)]
    javascript: Option<JavaScript>,
}

/// Who wants to know.
#[derive(Debug)]
enum Purpose {
    Person {
        status: StackStatus,
        reply: StackReply,
    },
    /// It hangs.
    Evidence(Forsaken),
}

pub(crate) type StackReply = oneshot::Sender<Result<StackStatus, String>>;

/// A worker has answered, or will not.
#[derive(Debug)]
pub(super) struct Looked {
    worker: WorkerId,
    socket: StackSocket,
    javascript: JavaScript,
    purpose: Purpose,
}

impl Supervisor {
    /// Answers with what a slot's worker does now.
    pub(super) fn stack_of(&mut self, slot: u16, reply: StackReply) {
        let found = self.worker_of(slot).and_then(|worker| {
            let process = self.processes.get(&worker).ok_or_else(|| without_worker(slot))?;
            let (pid, runtime) = (server(process), process.runtime.clone());
            let threads = thread::threads(pid).into_iter().map(ThreadStatus::from).collect();
            // Until it has been asked.
            let javascript = JavaScript::Unknown { why: String::new() };
            Ok((worker, StackStatus { slot, worker: worker.0, pid, runtime, javascript, threads }))
        });
        match found {
            Ok((worker, status)) => self.look(worker, Purpose::Person { status, reply }),
            // Whoever asked may have gone.
            Err(why) => drop(reply.send(Err(why))),
        }
    }

    /// Gives the evidence on a silent worker to the reactor, with its stack where it can be had.
    pub(super) fn forsake(&mut self, forsaken: Forsaken) {
        self.look(forsaken.worker, Purpose::Evidence(forsaken));
    }

    fn look(&mut self, worker: WorkerId, purpose: Purpose) {
        let Some(process) = self.processes.get_mut(&worker) else {
            let why = "the worker has ended".to_owned();
            return self.deliver(purpose, JavaScript::Unknown { why });
        };
        if let Some(why) = cannot_answer(process) {
            return self.deliver(purpose, JavaScript::Unknown { why });
        }
        match mem::replace(&mut process.stack, StackSource::Asked) {
            StackSource::Free(mut socket) => {
                self.looks.spawn(async move {
                    let javascript = socket.ask().await;
                    Looked { worker, socket, javascript, purpose }
                });
            }
            StackSource::Asked => {
                let why = "somebody else is asking it".to_owned();
                self.deliver(purpose, JavaScript::Unknown { why });
            }
            StackSource::None => {
                process.stack = StackSource::None;
                let why = if process.load.read().is_some_and(|page| page.pid > 0) {
                    "set workers.inspect = true and reload, and workers can tell"
                } else {
                    "the worker is not Node with tenfold's preload"
                };
                self.deliver(purpose, JavaScript::Unknown { why: why.to_owned() });
            }
        }
    }

    /// An answer is here, or nobody waits for it any longer.
    pub(super) fn looked(&mut self, looked: Result<Looked, JoinError>) {
        let Looked { worker, socket, javascript, purpose } = match looked {
            Ok(looked) => looked,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return,
        };
        if let Some(process) = self.processes.get_mut(&worker) {
            process.stack = StackSource::Free(socket);
        }
        self.deliver(purpose, javascript);
    }

    fn deliver(&mut self, purpose: Purpose, javascript: JavaScript) {
        match purpose {
            Purpose::Person { status, reply } => {
                drop(reply.send(Ok(StackStatus { javascript, ..status })));
            }
            Purpose::Evidence(forsaken) => {
                let stack = match javascript {
                    JavaScript::Unknown { .. } => None,
                    JavaScript::Script { .. } | JavaScript::Idle | JavaScript::Native => {
                        Some(javascript.to_string())
                    }
                };
                self.order(Order::Forsake(Forsaken { stack, ..forsaken }));
            }
        }
    }
}

/// Why a worker cannot say where it is although it has a thread for that.
fn cannot_answer(process: &Process) -> Option<String> {
    // Whoever debugs it may have stopped it, and our going on would take that away.
    if process.load.read().is_some_and(|page| page.inspected) {
        return Some("an inspector is open, which knows".to_owned());
    }
    let doing = thread::main_thread(server(process))?;
    matches!(doing.state, 'T' | 't' | 'Z' | 'X').then(|| format!("the process is {doing}"))
}

impl StackSource {
    /// Must be called within the runtime.
    pub(super) fn new(stream: Option<std::os::unix::net::UnixStream>) -> Self {
        match stream.map(UnixStream::from_std) {
            Some(Ok(stream)) => {
                Self::Free(StackSocket { stream, rest: Vec::new(), asked: 0, refused: None })
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a worker cannot be asked for its stack");
                Self::None
            }
            None => Self::None,
        }
    }
}

impl StackSocket {
    async fn ask(&mut self) -> JavaScript {
        let why = match tokio::time::timeout(ANSWER_MAX, self.exchange()).await {
            Ok(Ok(javascript)) => return javascript.tidied(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        JavaScript::Unknown { why: tidied(&format!("the thread that would tell: {why}")) }
    }

    async fn exchange(&mut self) -> io::Result<JavaScript> {
        if let Some(why) = &self.refused {
            return Err(io::Error::other(why.clone()));
        }
        self.asked += 1;
        let question = format!("{{\"id\":{}}}\n", self.asked);
        self.stream.write_all(question.as_bytes()).await?;
        loop {
            let line = self.line().await?;
            let answer: Answer = serde_json::from_slice(&line)?;
            if let Some(why) = answer.error {
                self.refused = Some(why.clone());
                return Err(io::Error::other(why));
            }
            if answer.id == Some(self.asked)
                && let Some(javascript) = answer.javascript
            {
                return Ok(javascript);
            }
        }
    }

    /// The next line; a wait that is given up loses nothing.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                return Ok(self.rest.drain(..=end).collect());
            }
            if self.rest.len() > LINE_MAX {
                self.rest.clear();
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.rest).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl JavaScript {
    /// Within bounds, and nothing in it acts on a terminal: functions are called as the app likes.
    fn tidied(self) -> Self {
        match self {
            Self::Script { frames } => {
                let frames = frames.iter().take(FRAMES_MAX).map(|frame| tidied(frame)).collect();
                Self::Script { frames }
            }
            Self::Unknown { why } => Self::Unknown { why: tidied(&why) },
            Self::Idle | Self::Native => self,
        }
    }
}

/// Nothing in it acts on a terminal.
pub(super) fn tidied(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

impl fmt::Display for JavaScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script { frames } => f.write_str(&frames.join("\n")),
            Self::Idle => f.write_str("none: it waits for events"),
            Self::Native => f.write_str("none: native code or the system has not come back"),
            Self::Unknown { why } => write!(f, "unknown: {why}"),
        }
    }
}

impl From<thread::Thread> for ThreadStatus {
    fn from(thread: thread::Thread) -> Self {
        let thread::Thread { tid, name, doing, kernel } = thread;
        Self { tid, name: tidied(&name), doing: doing.to_string(), kernel }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is understood of these lines, each an answer to the next question.
    async fn understood(lines: &[&str]) -> Vec<String> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair can be had");
        ours.set_nonblocking(true).expect("it is ours");
        let StackSource::Free(mut socket) = StackSource::new(Some(ours)) else {
            panic!("a socket can be registered");
        };
        let mut told = Vec::new();
        for line in lines {
            io::Write::write_all(&mut &theirs, line.as_bytes()).expect("it has room");
            told.push(socket.ask().await.to_string());
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_come_late_are_nobody_elses() {
        let lines = [
            "",
            "{\"id\":1,\"doing\":\"native\"}\n{\"id\":2,\"doing\":\"idle\"}\n",
            "{\"id\":3,\"doing\":\"script\",\"frames\":[\"f (a.js:1:2)\",\"\\u001b[2J (b:1)\"]}\n",
        ];
        assert_eq!(
            understood(&lines).await,
            [
                "unknown: the thread that would tell: no answer",
                "none: it waits for events",
                "f (a.js:1:2)\n\u{fffd}[2J (b:1)"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_without_the_thread_says_why_once_and_for_all() {
        let refusal = "{\"error\":\"Access to this API\\nhas been restricted\"}\n";
        let why =
            "unknown: the thread that would tell: Access to this API\u{fffd}has been restricted";
        assert_eq!(understood(&[refusal, "", ""]).await, [why; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_without_end_is_given_up() {
        let endless = "x".repeat(LINE_MAX + 4096);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair can be had");
        ours.set_nonblocking(true).expect("it is ours");
        let StackSource::Free(mut socket) = StackSource::new(Some(ours)) else {
            panic!("a socket can be registered");
        };
        let writer = std::thread::spawn(move || {
            // The other end may close before all is out.
            let _ = io::Write::write_all(&mut &theirs, endless.as_bytes());
            theirs
        });
        let error = socket.exchange().await.expect_err("there is no end");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(socket);
        drop(writer.join().expect("it does not panic"));
    }
}
