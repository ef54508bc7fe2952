//! Wires the owners together; the only file that names them all.
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "only shipped code takes time as an argument")
)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod logs;
pub mod policy;
pub mod sys;
