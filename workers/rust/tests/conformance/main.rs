//! Plays the master of docs/PROTOCOL.md against real workers, each in its own process.
//!
//! Without more it runs the two examples of this crate and the Python fixture. To try another:
//!
//!     TENFOLD_CONFORMANCE_CMD="python3 $PWD/x.py" cargo test -p tenfold-worker --test conformance
//!
//! It must send back what it reads (`TENFOLD_CONFORMANCE_SPEAKS=echo`, the default) or answer `POST
//! /` with the request's body (`http`), and take at most `$MAX_CONNECTIONS` connections if that is
//! set.

#![allow(clippy::disallowed_methods, reason = "real processes: the clock only bounds the waits")]

mod alone;
mod checks;
mod endings;
mod master;
mod setup;
mod target;
