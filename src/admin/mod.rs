//! How people and machines look at a running master: the control socket and the admin listener.
//!
//! The control socket (HTTP and JSON on a Unix path, for its owner and root) also changes things;
//! the admin listener (HTTP on TCP) only shows them. Both live on the control thread, so no load on
//! the reactor delays a probe, and neither touches a worker, but for `/metrics/app`.

mod app_metrics;
pub mod client;
mod collect;
mod entrances;
mod exposition;
mod follow;
mod health;
mod lines;
mod listener;
mod metrics;
mod requests;
mod server;
mod sources;
mod table;

pub use client::{Probe, StopWish, Wait, Whom};
pub(crate) use entrances::Entrances;
pub use follow::{EventStyle, LogsWanted, events, logs};
pub(crate) use listener::{AdminListener, Process, bind};
pub use metrics::{METRICS, Metric};
pub use requests::requests_table;
pub(crate) use server::ControlSocket;
use sources::Sources;
pub use table::{recycle_text, reload_text, stack_text, table};
