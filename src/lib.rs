//! Wires the owners together; the only file that names them all.

pub mod cli;
pub mod config;
pub mod logs;
pub mod policy;
pub mod sys;
