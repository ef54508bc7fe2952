//! The files of the repository, as git lists them.

use std::path::Path;
use std::process::Command;

use crate::source::Source;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Whether `named` exists from the root, or from a directory above the file that names it.
pub(crate) fn exists_near(path: &str, named: &str) -> bool {
    let file = Path::new(ROOT).join(path);
    file.ancestors()
        .skip(1)
        .take_while(|dir| dir.starts_with(ROOT))
        .any(|dir| dir.join(named).exists())
}

/// The Rust files of `src/MODULE` and `src/MODULE.rs`.
pub(crate) fn of_module(module: &str) -> impl Iterator<Item = Source> {
    let (file, dir) = (format!("src/{module}.rs"), format!("src/{module}/"));
    rust().into_iter().filter(move |source| source.path == file || source.path.starts_with(&dir))
}

/// The Rust files that users run.
pub(crate) fn shipped() -> impl Iterator<Item = Source> {
    rust().into_iter().filter(|source| !source.is_test())
}

pub(crate) fn rust() -> Vec<Source> {
    let files = texts().into_iter().filter(|(path, _)| path.ends_with(".rs"));
    let sources: Vec<Source> = files.map(|(path, text)| Source::new(&path, &text)).collect();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "no src/lib.rs was found");
    sources
}

/// Every text file that is committed, or would be by `git add`, with its path from the root.
pub(crate) fn texts() -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(ROOT)
        .output()
        .expect("git is needed to tell our files from built ones; on Debian: apt-get install git");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("our file names are UTF-8");
    let files = names.split_terminator('\0').filter_map(|path| {
        let text = std::fs::read_to_string(Path::new(ROOT).join(path)).ok()?;
        Some((path.to_owned(), text))
    });
    files.collect()
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}
