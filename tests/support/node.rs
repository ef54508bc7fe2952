//! Finds the JavaScript runtimes and fixture apps that tests run, and installs them if missing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The majors that tenfold claims to work with.
pub(crate) const MAJORS: [u32; 5] = [18, 20, 22, 24, 26];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The pinned `node` of a major.
#[track_caller]
pub(crate) fn node(major: u32) -> PathBuf {
    let name = major.to_string();
    install(&name);
    runtimes().join(name).join("bin/node")
}

/// The pinned `deno`.
#[track_caller]
pub(crate) fn deno() -> PathBuf {
    install("deno");
    runtimes().join("deno/bin/deno")
}

/// The directory of the fixture apps, with their packages installed.
#[track_caller]
pub(crate) fn fixtures() -> PathBuf {
    install("packages");
    Path::new(ROOT).join("tests/fixtures/node")
}

/// A `PATH` where `node` is that major and `npm`, `tsx` and the like are the pinned packages.
#[track_caller]
pub(crate) fn search_path(major: u32) -> String {
    let node = node(major);
    let runtime = node.parent().expect("the binary is in bin/");
    let commands = fixtures().join("node_modules/.bin");
    format!("{}:{}:/usr/local/bin:/usr/bin:/bin", runtime.display(), commands.display())
}

fn runtimes() -> PathBuf {
    Path::new(ROOT).join("target/node")
}

/// Runs the fixtures' setup for `name`, once in the life of this process; what is installed at the
/// pinned version is left alone. A missing tool fails the test: it never passes silently.
#[track_caller]
fn install(name: &str) {
    static DONE: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let done = done.get_or_insert_default();
    if done.contains(name) {
        return;
    }
    let setup = Path::new(ROOT).join("tests/fixtures/node/setup");
    let output = Command::new(&setup)
        .arg(name)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", setup.display()));
    assert!(
        output.status.success(),
        "this test needs {name}; run: tests/fixtures/node/setup {name}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    done.insert(name.to_owned());
}
