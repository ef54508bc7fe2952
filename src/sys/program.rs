//! Finds the file that a command names, the way execvp(3) does, and says why if there is none.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};
use thiserror::Error;

/// Where execvp(3) looks when PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// Why a command names no program.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// No such file, neither at the path given nor in any directory of PATH.
    #[error("{}: no such program", .0.display())]
    Missing(PathBuf),
    /// The file exists and cannot be run: a directory, or without execute permission.
    #[error("{}: not executable", .0.display())]
    NotExecutable(PathBuf),
}

/// Finds the program `name` stands for in a process whose working directory is `directory`.
///
/// A name with a slash is a path, relative to `directory`; any other is looked up in `path` (the
/// value of PATH; `None` for the usual directories), whose empty entries mean `directory`.
///
/// # Errors
/// [`ResolveError`]: the first file of that name that cannot be run, if nothing better follows.
pub fn resolve(
    name: &OsStr,
    path: Option<&OsStr>,
    directory: &Path,
) -> Result<PathBuf, ResolveError> {
    if name.is_empty() {
        return Err(ResolveError::Missing(PathBuf::new()));
    }
    if name.as_bytes().contains(&b'/') {
        let file = directory.join(name);
        return match probe(&file) {
            Probe::Runnable => Ok(file),
            Probe::Absent => Err(ResolveError::Missing(file)),
            Probe::NotExecutable => Err(ResolveError::NotExecutable(file)),
        };
    }
    let mut refused = None;
    for entry in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        let file = directory.join(entry).join(name);
        match probe(&file) {
            Probe::Runnable => return Ok(file),
            Probe::Absent => {}
            Probe::NotExecutable => refused = refused.or(Some(file)),
        }
    }
    Err(refused.map_or_else(|| ResolveError::Missing(name.into()), ResolveError::NotExecutable))
}

enum Probe {
    Runnable,
    Absent,
    NotExecutable,
}

fn probe(file: &Path) -> Probe {
    match file.metadata() {
        // A part of the path that is missing, a file, or closed to us: not this one.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Probe::NotExecutable,
        Err(_) => Probe::Absent,
        Ok(found) if found.is_file() && may_execute(file) => Probe::Runnable,
        Ok(_) => Probe::NotExecutable,
    }
}

fn may_execute(file: &Path) -> bool {
    faccessat(nix::fcntl::AT_FDCWD, file, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// `first/tool` cannot be run, `second/tool` can, `first/folder` is a directory.
    fn files() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (folder, mode) in [("first", 0o644), ("second", 0o755)] {
            fs::create_dir(dir.path().join(folder)).expect("created");
            let tool = dir.path().join(folder).join("tool");
            fs::write(&tool, "#!/bin/sh\n").expect("written");
            fs::set_permissions(&tool, Permissions::from_mode(mode)).expect("changed");
        }
        fs::create_dir(dir.path().join("first/folder")).expect("created");
        dir
    }

    fn found(name: &str, path: &str, directory: &Path) -> Result<PathBuf, ResolveError> {
        resolve(OsStr::new(name), Some(OsStr::new(path)), directory)
    }

    #[test]
    fn path_is_searched_past_what_cannot_be_run() {
        let dir = files();
        let path = "first:second";
        let tool = found("tool", path, dir.path()).expect("the second one");
        assert_eq!(tool, dir.path().join("second/tool"));
    }

    #[test]
    fn missing_and_not_executable_are_told_apart() {
        let dir = files();
        let missing = found("absent", "first:second", dir.path()).expect_err("nowhere");
        assert_eq!(missing.to_string(), "absent: no such program");
        for name in ["tool", "folder"] {
            let refused = found(name, "first:nowhere", dir.path()).expect_err("no permission");
            assert!(matches!(refused, ResolveError::NotExecutable(_)), "{refused}");
        }
        let refused = found("first/tool", "", dir.path()).expect_err("no permission");
        assert!(matches!(refused, ResolveError::NotExecutable(_)), "{refused}");
        let missing = found("", "first", dir.path()).expect_err("no name");
        assert!(matches!(missing, ResolveError::Missing(_)), "{missing}");
    }

    #[test]
    fn a_name_with_a_slash_is_relative_to_the_working_directory() {
        let dir = files();
        let tool = found("./second/tool", "first", dir.path()).expect("a path");
        assert_eq!(tool, dir.path().join("./second/tool"));
    }

    #[test]
    fn an_empty_entry_of_path_is_the_working_directory() {
        let dir = files();
        let tool = found("tool", "first:", &dir.path().join("second")).expect("the directory");
        assert_eq!(fs::canonicalize(tool).expect("there"), dir.path().join("second/tool"));
    }

    #[test]
    fn without_path_the_usual_directories_are_searched() {
        let shell = resolve(OsStr::new("sh"), None, Path::new("/")).expect("every host has sh");
        assert!(shell.is_absolute());
    }
}
