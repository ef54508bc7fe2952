//! Request mode: speaks HTTP/1.1 with clients and workers, and gives every request to the worker
//! with the fewest in flight that has room.
//!
//! A client's connection is one task; a request lives inside it. Whatever is counted is held by a
//! guard (a lease, a share of the buffer budget, an entry among those in flight), so that nothing
//! is left behind when a task is dropped in the middle. Absent on purpose: a task per request, and
//! a task per worker connection.

mod account;
mod attempt;
mod body;
mod budget;
mod client;
pub(super) mod desk;
mod download;
mod ending;
mod exchange;
mod failing;
mod fetch;
mod frames;
mod front;
mod h2;
mod h2_head;
mod h2_stream;
mod memory;
mod naming;
mod outcome;
mod pace;
mod pipe;
mod poison;
mod pool;
mod probes;
mod proxy;
mod proxy_status;
mod reply;
mod retry;
mod rules;
mod sticky;
pub(super) mod stream;
mod trace;
mod tunnel;
mod unframe;
mod unix;
mod upload;

pub(crate) use account::RETRY_CODES;
pub(super) use client::{Arrival, serve};
pub(super) use fetch::{Question, fetch, visit};
pub(super) use front::Front;
pub(crate) use front::FrontSettings;
pub(crate) use memory::{Crowd, most_memory};
pub(super) use naming::{NAMED_MAX, name_of};
pub(crate) use outcome::reason_codes;
pub(super) use poison::{Death, SETTLED};
pub(super) use pool::Counted;
