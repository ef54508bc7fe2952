//! Every kind of app, direct and by `npm start`, on every Node major: each cell is a test.
//!
//! `cargo test --test matrix -- express` runs the cells with that word in their name, such as
//! `node22::npm_start::express`. A cell that cannot be is listed as ignored, with its reason.

mod support;

#[path = "matrix/apps.rs"]
mod apps;
#[path = "matrix/cell.rs"]
mod cell;

use libtest_mimic::{Arguments, Trial};

use cell::{Cell, Runtime, Start};
use support::node::MAJORS;

/// A cell is four Node processes and their wrappers: more at a time only make each other late.
const AT_ONCE: usize = 3;

fn main() -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    arguments.test_threads.get_or_insert(cores.min(AT_ONCE));
    let trials = cells().into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for major in MAJORS {
        for start in [Start::Direct, Start::NpmStart] {
            for app in apps::NODE {
                cells.push(Cell { app, start, runtime: Runtime::Node(major) });
            }
        }
    }
    let deno = |app| Cell { app, start: Start::Direct, runtime: Runtime::Deno };
    cells.extend(apps::DENO.iter().map(deno));
    cells
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
