//! Counts what request mode does, and names what is under way, for the admin listener to show.
//!
//! One thread writes and never waits; any other reads at any time. The cells are single-writer
//! atomics: a plain add for the writer, no lock on either side, and what is read is never stale, as
//! a snapshot published every second would be. Absent on purpose: labels that grow with traffic.

mod cell;
mod codes;
mod histogram;
mod in_flight;
mod requests;

pub use codes::Code;
pub use histogram::Distribution;
pub use in_flight::{InFlight, InFlightState};
pub use requests::{Held, Holding, Outcome, Reader, Recorder, requests};
