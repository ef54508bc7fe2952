//! Parses, configures, runs, and maps the outcome to an exit code.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use tenfold::admin;
use tenfold::admin::client::{self, Found, HeapWanted, Recycled, Reloaded};
use tenfold::cli::{self, Invocation, StatusFormat};
use tenfold::config::Environment;
use tenfold::supervisor::guardian;
use tenfold::supervisor::inspect::Recipient;
use tenfold::{Exit, Origin, demo};

/// How long `tenfold stop` waits: the most that `shutdown.total` can be, and a minute.
const STOP_PATIENCE: Duration = Duration::from_secs(3660);

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    // Two parts of a pool are this same binary under a hidden first argument.
    match args.nth(1).as_deref().and_then(OsStr::to_str) {
        Some(guardian::ARGUMENT) => return guardian::guardian_main(args),
        Some(demo::ARGUMENT) => return finish(demo::demo_worker()),
        _ => {}
    }
    let environment = Environment::new(std::env::vars_os());
    finish(invoke(&environment))
}

fn invoke(environment: &Environment) -> anyhow::Result<ExitCode> {
    let cwd = tenfold::working_directory(environment)?;
    let parsed = match cli::parse(std::env::args_os(), environment, &cwd) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("{error}");
            return Ok(Exit::BadConfig.into());
        }
    };
    let directories = tenfold::control_directories(environment);
    let find = |name: Option<String>| client::find(&directories, name.as_deref());
    match parsed.invocation {
        Invocation::Run(config) | Invocation::Demo(config) => {
            let (arguments, environment) = (std::env::args_os().collect(), environment.clone());
            let origin = Origin { arguments, environment, directory: cwd };
            return Ok(tenfold::run(&config, &parsed.warnings, origin)?.into());
        }
        Invocation::Check(check) => print(&tenfold::check(&check, &parsed.warnings))?,
        Invocation::Status { name, format } => {
            let status = block_on(client::status(&find(name)?))?;
            show(format, &status, admin::table)?;
        }
        Invocation::Scale { name, count } => {
            let count = block_on(client::scale(&find(name)?, count.get()))?;
            print(&format!("{count} workers"))?;
        }
        Invocation::Requests { name, slot, format } => {
            show_requests(&find(name)?, slot, format)?;
        }
        Invocation::Events { name, style } => {
            block_on(admin::events(&find(name)?, style, print_line))?;
        }
        Invocation::Logs { name, wanted } => {
            block_on(admin::logs(&find(name)?, wanted, print_line))?
        }
        Invocation::Health { whom, probe } => {
            return found(&block_on(client::health(&directories, &whom, probe))?);
        }
        Invocation::Reload { name, wait } => {
            return told(&block_on(client::reload(&find(name)?, wait))?);
        }
        Invocation::Recycle { name, slots, wait } => {
            return recycled(&block_on(client::recycle(&find(name)?, slots, wait))?);
        }
        Invocation::Signal { name, slot, signal, recipient } => {
            print(&signalled(&find(name)?, slot, signal, recipient)?)?;
        }
        Invocation::Stack { name, slot, format } => {
            let stack = block_on(client::stack(&find(name)?, slot))?;
            show(format, &stack, admin::stack_text)?;
        }
        Invocation::Heap { name, slot, wanted } => print(&heap(&find(name)?, slot, wanted)?)?,
        Invocation::Drain { name, slot } => {
            block_on(client::drain(&find(name)?, slot))?;
            print(&format!("draining slot {slot}; `tenfold recycle {slot}` starts it again"))?;
        }
        Invocation::Stop { name, wish } => {
            block_on(client::stop(&find(name)?, wish, STOP_PATIENCE))?
        }
        Invocation::Upgrade { name, wait } => {
            let pid = block_on(client::upgrade(&find(name)?, wait))?;
            let done = |pid| format!("upgraded; the new master is pid {pid}");
            print(&pid.map_or("upgrading".to_owned(), done))?;
        }
        Invocation::Completions(shell) => print(&cli::completions(shell))?,
        Invocation::Print(text) => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what a master said, for people or for programs.
fn show<T: serde::Serialize>(
    format: StatusFormat,
    answer: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    Ok(print(&match format {
        StatusFormat::Text => table(answer),
        StatusFormat::Json => serde_json::to_string(answer)?,
    })?)
}

/// Says what a probe found.
fn found(found: &Found) -> anyhow::Result<ExitCode> {
    let (text, exit) = match found {
        Found::Healthy(text) => (text, Exit::Stopped),
        Found::Unhealthy(text) => (text, Exit::Failed),
    };
    print(text)?;
    Ok(exit.into())
}

/// Says what became of a reload; the old generation's staying is a failure.
fn told(reloaded: &Reloaded) -> anyhow::Result<ExitCode> {
    let exit = match reloaded {
        Reloaded::Asked => {
            print("reloading")?;
            Exit::Stopped
        }
        Reloaded::Ended(status) => {
            print(&admin::reload_text(status))?;
            if status.reason.is_none() { Exit::Stopped } else { Exit::Failed }
        }
    };
    Ok(exit.into())
}

/// Says what became of a wish for new workers; one that failed is a failure.
fn recycled(recycled: &Recycled) -> anyhow::Result<ExitCode> {
    let exit = match recycled {
        Recycled::Asked(count) => {
            print(&format!("recycling {count}, one after another"))?;
            Exit::Stopped
        }
        Recycled::Ended(status) => {
            print(&admin::recycle_text(status))?;
            if status.reason.is_none() { Exit::Stopped } else { Exit::Failed }
        }
    };
    Ok(exit.into())
}

/// Signals a worker, and says who got it.
fn signalled(
    socket: &Path,
    slot: u16,
    signal: Signal,
    recipient: Recipient,
) -> anyhow::Result<String> {
    let pid = block_on(client::signal(socket, slot, signal, recipient))?;
    let whom = if recipient == Recipient::Group { "group" } else { "process" };
    Ok(format!("{signal} sent to {whom} {pid} of slot {slot}"))
}

/// Has a worker write its heap, and says where; nothing else, for scripts.
fn heap(socket: &Path, slot: u16, wanted: HeapWanted) -> anyhow::Result<String> {
    let written = block_on(client::heap(socket, slot, wanted))?;
    Ok(written.path.display().to_string())
}

fn finish(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        eprintln!("tenfold: {error:#}");
        Exit::Failed.into()
    })
}

/// Prints to stdout; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Prints one line of many; a reader that has gone away is the end.
fn print_line(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}

fn show_requests(socket: &Path, slot: Option<u16>, format: StatusFormat) -> anyhow::Result<()> {
    let requests = block_on(client::requests(socket))?;
    if let Some(slot) = slot
        && requests.iter().all(|request| request.slot != Some(slot))
    {
        // Nothing to show, or a slip of the finger.
        let slots = block_on(client::status(socket))?.workers;
        anyhow::ensure!(slots.iter().any(|it| it.slot == slot), "there is no slot {slot}");
    }
    show(format, &requests, |requests| admin::requests_table(requests, slot))
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(future)
}
