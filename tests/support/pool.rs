//! Pools of fixture apps in either mode, each on a port of its own.

use std::ffi::OsStr;

use super::builder::Builder;
use super::{Tenfold, free_port, node};

/// The major that tests run on where the major does not matter; the matrix has them all.
const MAJOR: u32 = 22;

/// That many workers of `apps/APP` on Node, and the port where they are served.
#[track_caller]
pub(crate) fn node_pool(app: &str, workers: usize) -> (Builder, u16) {
    command_pool(["node", &format!("apps/{app}")], workers)
}

/// The same with any command, which may use that Node and the fixtures' packages.
#[track_caller]
pub(crate) fn command_pool<S: AsRef<OsStr>>(
    command: impl IntoIterator<Item = S>,
    workers: usize,
) -> (Builder, u16) {
    let port = free_port();
    let builder =
        in_connection_mode(workers).node(MAJOR).env("APP_PORT", port.to_string()).app(command);
    (builder, port)
}

/// The same app on Deno.
#[track_caller]
pub(crate) fn deno_pool(app: &str, workers: usize) -> (Builder, u16) {
    let deno = node::deno().display().to_string();
    command_pool([&deno, "run", "-A", "--no-lock", &format!("apps/{app}")], workers)
}

/// The built-in workers, which need nothing installed.
pub(crate) fn demo_pool(workers: usize) -> (Builder, u16) {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    (in_connection_mode(workers).subcommand("demo").args(["--listen", &listen]), port)
}

/// The same in request mode.
pub(crate) fn demo_request_pool(workers: usize) -> (Builder, u16) {
    let port = free_port();
    let (listen, workers) = (format!("127.0.0.1:{port}"), workers.to_string());
    let flags = ["--mode", "request", "--workers", &workers, "--listen", &listen];
    (Tenfold::builder().subcommand("demo").args(flags), port)
}

/// A builder for that many workers, without anything to run yet.
pub(crate) fn in_connection_mode(workers: usize) -> Builder {
    Tenfold::builder().args(["--mode", "connection", "--workers", &workers.to_string()])
}

/// That many workers of `apps/APP` on Node in request mode, and the port where they are served.
#[track_caller]
pub(crate) fn request_pool(app: &str, workers: usize) -> (Builder, u16) {
    let port = free_port();
    let builder = Tenfold::builder()
        .args(["--workers", &workers.to_string()])
        .node(MAJOR)
        .env("APP_PORT", port.to_string())
        .app(["node", &format!("apps/{app}")]);
    (builder, port)
}
