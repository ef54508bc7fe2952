//! One exchange under way, as the reactor shows it to whoever asks.

use std::net::SocketAddr;
use std::time::Duration;

use crate::policy::WorkerId;

/// One exchange under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// None: it waits in the queue.
    pub worker: Option<WorkerId>,
    /// Since its head was whole.
    pub age: Duration,
    /// As it came.
    pub method: String,
    /// As it came; whoever shows it cuts off the query, which may hold secrets.
    pub target: String,
    /// None: it came by a Unix socket.
    pub client: Option<SocketAddr>,
    /// How far it has come.
    pub state: InFlightState,
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlightState {
    /// It waits for a worker.
    Queued,
    /// Its worker has it and has not answered.
    Waiting,
    /// Its worker answers.
    Responding,
    /// A response without end: an event stream or an exempt route.
    Streaming,
    /// It has left HTTP: a WebSocket.
    Upgraded,
}

impl InFlightState {
    /// The word that people see.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Responding => "responding",
            Self::Streaming => "streaming",
            Self::Upgraded => "upgraded",
        }
    }
}
