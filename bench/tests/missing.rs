//! What is not installed is named with the command that installs it, before anything runs.

use std::process::Command;

#[test]
fn wrk_is_asked_for_before_anything_runs() {
    let results = tempfile::tempdir().expect("a directory");
    for arguments in [&["all", "--quick"][..], &["hello", "idle"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_tenfold-bench"))
            .args(arguments)
            .arg("--results")
            .arg(results.path())
            // Neither wrk nor cargo is anywhere.
            .env("PATH", results.path())
            .env_remove("CARGO")
            .output()
            .expect("the bench starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains("apt-get install wrk"), "{arguments:?}: {told}");
        assert!(!told.contains("=="), "a scenario has begun: {told}");
        let written = std::fs::read_dir(results.path()).expect("it is there").count();
        assert_eq!(written, 0, "{arguments:?} has written results");
    }
}
