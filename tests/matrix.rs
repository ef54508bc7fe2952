//! Every kind of app, direct and by `npm start`, on every Node major: each cell is a test.
//!
//! `cargo test --test matrix -- express` runs the cells with that word in their name, such as
//! `node22::npm_start::express`. A cell that cannot be is listed as ignored, with its reason. What
//! settings change (`connection_mode`, `no_preload`) is tried on one older major and the newest,
//! and so is what npm changes, but for the simplest app; `MATRIX=full` tries npm everywhere.

mod support;

#[path = "matrix/apps.rs"]
mod apps;
#[path = "matrix/cell.rs"]
mod cell;

use libtest_mimic::{Arguments, Trial};

use apps::App;
use cell::{Cell, Column, Runtime};
use support::node::MAJORS;

/// The most cells at a time: each is several Node processes and their wrappers, and more of them
/// only make each other late.
const AT_ONCE: usize = 4;

fn main() -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    // One more than cores: a cell that waits leaves its core to another.
    arguments.test_threads.get_or_insert((cores + 1).min(AT_ONCE));
    let trials = cells().into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Where the columns that change settings, or the way an app is started, are tried.
const MAJORS_OF_SETTINGS: [u32; 2] = [20, 26];

/// A third of all cells is npm's, and npm is the same for all: time that other tests need.
fn npm_starts(app: &App, major: u32) -> bool {
    let is_full = || std::env::var_os("MATRIX").is_some_and(|value| value == "full");
    MAJORS_OF_SETTINGS.contains(&major) || app.name == "http" || is_full()
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for major in MAJORS {
        cells.extend(column_of(Column::Direct, major, |_| true));
        cells.extend(column_of(Column::NpmStart, major, |app| npm_starts(app, major)));
    }
    for major in MAJORS_OF_SETTINGS {
        cells.extend(column_of(Column::ConnectionMode, major, App::is_plain_http));
        cells.extend(column_of(Column::NoPreload, major, App::is_run_by_node_alone));
    }
    let deno = |app| Cell { app, column: Column::Direct, runtime: Runtime::Deno };
    cells.extend(apps::DENO.iter().map(deno));
    cells
}

fn column_of(column: Column, major: u32, of: impl Fn(&App) -> bool) -> impl Iterator<Item = Cell> {
    let apps = apps::NODE.iter().filter(move |app| of(app));
    apps.map(move |app| Cell { app, column, runtime: Runtime::Node(major) })
}

fn trial(cell: Cell) -> Trial {
    let skipped = cell.skip_reason();
    let kind = skipped.map_or_else(String::new, |reason| format!("skipped: {reason}"));
    let trial = Trial::test(cell.name(), move || {
        cell.run();
        Ok(())
    });
    trial.with_kind(kind).with_ignored_flag(skipped.is_some())
}
