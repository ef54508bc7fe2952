//! Receive connections from a tenfold master.
//!
//! The master owns the listening sockets and hands each connection to the least-loaded worker. A
//! worker made with this crate serves it as if it had accepted it itself: no proxy and no copy in
//! between. Without a master the same program binds a port of its own, so one binary serves the
//! laptop and the pool:
//!
//! ```no_run
//! use std::io::{self, Read, Write};
//! use std::time::Duration;
//!
//! fn main() -> io::Result<()> {
//!     let mut server = tenfold_worker::Server::bind_or_receive("127.0.0.1:3000")?;
//!     while let Some(mut connection) = server.accept()? {
//!         std::thread::spawn(move || -> io::Result<()> {
//!             let _active = connection.begin();
//!             let mut buffer = [0; 1024];
//!             let count = connection.read(&mut buffer)?;
//!             connection.write_all(&buffer[..count])
//!         });
//!     }
//!     server.finish(Duration::from_secs(20))?;
//!     Ok(())
//! }
//! ```
//!
//! * [`Server`] and [`Worker`] are for threads; whoever calls `accept` also sends the reports.
//! * `tokio::Listener` (feature `tokio`) is for tasks, and with the feature `axum` for
//!   `axum::serve`.
//! * A connection counts as *open* until it is dropped, an exchange as *active* until its guard
//!   from `begin` is. The master gives the next connection to the worker with the fewest.
//! * *Draining* means: nothing new comes, finish the old and leave with exit code 0. The master
//!   asks for it; its death means the same.
//!
//! A master that does not read its end of the channel (stopped, or stuck) holds up new connections
//! only: they are not given to the app before their ack could be sent. Reports are never waited
//! for; they are absolute, so a newer one simply takes the place of one that could not be sent.
//!
//! The protocol is docs/PROTOCOL.md of the project. System calls go through `rustix`, because its
//! `recvmsg` owns every descriptor it returns.

mod channel;
mod connection;
mod environment;
mod server;
mod shared;
mod sys;
mod wire;
mod worker;

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use connection::{Connection, Peer, Stream};
pub use environment::Identity;
pub use server::Server;
pub use shared::{Active, Drain, Handle, Open};
pub use worker::Worker;
