//! The process of a worker: its environment and its descriptors, as PROTOCOL.md §1 says.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};

use crate::target::Target;

/// How the worker's process is set up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) max_connections: Option<u32>,
    /// The worker can send only a few lines before the master has to read.
    pub(crate) small_buffer: bool,
}

/// The command that starts a worker with its channel, token and load page.
pub(crate) fn command(target: &Target, setup: Setup, descriptors: [OwnedFd; 3]) -> Command {
    let (program, arguments) = target.command.split_first().expect("a command has a word");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.env("TENFOLD_CONTROL_FD", "100").env("TENFOLD_TOKEN_FD", "101");
    command.env("TENFOLD_LOAD_FD", "102").env("TENFOLD_PROTOCOL", "1");
    command.env("TENFOLD_SLOT", "0").env("NODE_APP_INSTANCE", "0").env("TENFOLD_WORKERS", "1");
    command.env("TENFOLD_WORKER", "1").env("TENFOLD_INSTANCE", "0".repeat(32));
    if let Some(max) = setup.max_connections {
        command.env("MAX_CONNECTIONS", max.to_string());
    }
    let mappings = descriptors.into_iter().zip(100..);
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).expect("three different numbers");
    command
}
