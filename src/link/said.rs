//! What a worker says on its control channel, whichever dialect it speaks.

use std::path::PathBuf;

use serde_json::Value;

use crate::policy::Load;

/// One message of a worker, understood. Application messages carry nothing for us.
#[derive(Debug, PartialEq)]
pub(crate) enum Said {
    /// Node is up (without the preload; says nothing about listening).
    Online,
    /// A process of the worker's tree claimed the channel; its pid as it says.
    Attached { pid: Option<i32>, runtime: Option<String> },
    /// Wants to listen.
    Asks(ListenRequest),
    /// Listens now.
    Listening(Place),
    /// Closed one of its servers.
    Closed(ServerKey),
    /// Took (or refused) the connection with this sequence number.
    Answered { seq: u64, accepted: bool },
    /// Received a message with a descriptor.
    HandleTaken,
    /// Received a message that should have had a descriptor, without it.
    HandleLost,
    /// Native: ready to serve.
    Ready,
    /// The application says `ready` itself.
    AppReady,
    /// Native: absolute counts.
    Load(Load),
    /// Its open count fell, after we asked to be told.
    Room,
    /// Wants to leave by itself; wants an answer.
    Leaving { seq: u64 },
    /// Listens past us.
    Bypasses(Bypass),
    /// Its heap is written, so many bytes; or why not.
    WroteHeap(Result<u64, String>),
    /// The preload failed at something.
    Faulted(String),
    /// An application message, or nothing that we know.
    App,
}

/// Names one server of the app on the wire; never 0 (Node would skip `getsockname`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServerKey(pub(crate) u64);

/// Where an app wants to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Port 0 means: any free one, the same for all workers.
    Tcp {
        address: Option<String>,
        port: u16,
        family: Family,
    },
    Udp {
        address: Option<String>,
        port: u16,
        family: Family,
    },
    Path(PathBuf),
    /// `listen({fd})`: a descriptor of the master's.
    Descriptor(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    V4,
    V6,
    Path,
}

/// One `queryServer`.
#[derive(Debug, PartialEq)]
pub(crate) struct ListenRequest {
    pub(crate) seq: u64,
    pub(crate) place: Place,
    /// Counts a worker's repeated requests for one place.
    pub(crate) index: u64,
    pub(crate) backlog: Option<u32>,
    /// Opaque to us; TLS session ticket keys travel here.
    pub(crate) data: Value,
    /// Known only where the preload runs.
    pub(crate) kind: Option<ServerKind>,
}

/// What kind of server asks; decides the mode of its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Http,
    Other,
}

impl ServerKind {
    pub(crate) fn named(name: &str) -> Self {
        if name == "http" { Self::Http } else { Self::Other }
    }
}

/// An app that listens by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bypass {
    pub(crate) why: String,
    pub(crate) place: Option<Place>,
}
