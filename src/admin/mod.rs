//! The control socket: how `tenfold status`, `scale` and `stop` reach a running master.
//!
//! HTTP and JSON over a Unix socket that only its owner and root may use: its mode is 0600, and the
//! peer's user is checked besides, because some systems ignore a socket's mode.

pub mod client;
mod server;
mod table;

pub(crate) use server::{ControlSocket, NameTaken, serve};
pub use table::table;
