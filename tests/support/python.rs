//! Finds the Python servers and fixture apps that tests run, and installs them if missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The directory of the fixture apps.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(ROOT).join("tests/fixtures/python")
}

/// A `PATH` where `python3`, `uvicorn` and `gunicorn` are the pinned ones.
#[track_caller]
pub(crate) fn search_path() -> String {
    install();
    let commands = Path::new(ROOT).join("target/python/bin");
    format!("{}:/usr/local/bin:/usr/bin:/bin", commands.display())
}

/// Runs the fixtures' setup, once in the life of this process; what is installed at the pinned
/// versions is left alone. A missing tool fails the test: it never passes silently.
#[track_caller]
fn install() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let setup = fixtures().join("setup");
        let output = Command::new(&setup)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", setup.display()));
        assert!(
            output.status.success(),
            "this test needs Python's servers; run: tests/fixtures/python/setup\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}
