//! Decides which worker gets what and which process starts or stops; pure: no I/O, no clock, no log.

mod ids;

pub use ids::{Generation, ListenerId, Slot, Ticket, WorkerId};
