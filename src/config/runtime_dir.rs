//! The directory for the control socket and the preload: the first candidate that is ours alone.
//!
//! Anyone may have put anything at a guessable path in /tmp, so a candidate is refused if it is a
//! symlink, if another user owns it or can write to it, or if another user could replace it.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::environment::Environment;

/// Where a runtime directory may be, best first; an instance can be in any of them.
///
/// `RUNTIME_DIRECTORY` may be a list (systemd.exec(5)): its first entry counts. Relative paths
/// are no candidates.
pub fn runtime_dir_candidates(environment: &Environment, uid: u32) -> Vec<PathBuf> {
    let unit = environment.get("RUNTIME_DIRECTORY").and_then(|list| list.split(':').next());
    let session = environment.get("XDG_RUNTIME_DIR").map(|dir| Path::new(dir).join("tenfold"));
    let usual = [
        PathBuf::from("/run/tenfold"),
        PathBuf::from(format!("/dev/shm/tenfold-{uid}")),
        PathBuf::from(format!("/tmp/tenfold-{uid}")),
    ];
    let all = unit.map(PathBuf::from).into_iter().chain(session).chain(usual);
    all.filter(|path| path.is_absolute()).collect()
}

/// The runtime directories of units with `RuntimeDirectory=tenfold-NAME`, which the environment of
/// a command does not tell of; `run` is /run.
pub fn unit_directories(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = run.read_dir() else {
        return Vec::new();
    };
    let is_ours =
        |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b"tenfold-");
    entries.filter_map(Result::ok).filter(is_ours).map(|entry| entry.path()).collect()
}

/// The runtime directories of all users, which only root may enter; `places` are /dev/shm and /tmp,
/// `sessions` is /run/user.
///
/// Anyone may make a directory there, so these come after root's own, and no symlink counts.
pub fn directories_of_users(places: &[&Path], sessions: &Path) -> Vec<PathBuf> {
    let is_real = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let sessions = sessions.read_dir().into_iter().flatten().filter_map(Result::ok);
    let sessions = sessions.map(|entry| entry.path().join("tenfold"));
    let shared = places.iter().flat_map(|place| unit_directories(place));
    shared.chain(sessions).filter(is_real).collect()
}

/// Takes the first candidate that exists or can be made, belongs to `uid` alone and can be
/// written to; its mode is 0700 afterwards.
pub fn choose_runtime_dir(candidates: Vec<PathBuf>, uid: u32) -> Result<PathBuf, NoRuntimeDir> {
    first(candidates, uid, prepare)
}

/// The candidate that [`choose_runtime_dir`] would take; changes nothing.
pub fn find_runtime_dir(candidates: Vec<PathBuf>, uid: u32) -> Result<PathBuf, NoRuntimeDir> {
    first(candidates, uid, |path, uid| look(path, uid).map(drop))
}

fn first(
    candidates: Vec<PathBuf>,
    uid: u32,
    judge: impl Fn(&Path, u32) -> Result<(), String>,
) -> Result<PathBuf, NoRuntimeDir> {
    let mut refused = Vec::new();
    for path in candidates {
        match judge(&path, uid) {
            Ok(()) => return Ok(path),
            Err(reason) => refused.push((path, reason)),
        }
    }
    Err(NoRuntimeDir { refused })
}

/// No candidate is usable; `Display` is one line with the reason for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoRuntimeDir {
    refused: Vec<(PathBuf, String)>,
}

impl fmt::Display for NoRuntimeDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no runtime directory")?;
        for (index, (path, reason)) in self.refused.iter().enumerate() {
            let separator = if index == 0 { ':' } else { ';' };
            write!(f, "{separator} {} {reason}", path.display())?;
        }
        Ok(())
    }
}

fn prepare(path: &Path, uid: u32) -> Result<(), String> {
    check_parent(path, uid)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("cannot be made: {error}"));
        }
        Ok(()) | Err(_) => {}
    }
    let Some(directory) = look(path, uid)? else {
        return Err("was removed as soon as it was made".to_owned());
    };
    let closed = directory.set_permissions(Permissions::from_mode(0o700));
    closed.map_err(|error| format!("cannot be closed to others: {error}"))?;
    may_write(path).map_err(|error| format!("cannot be written to: {error}"))
}

/// Whether a candidate is ours alone, or else could be made; it, if it is there. What is ours, we
/// may open to ourselves.
fn look(path: &Path, uid: u32) -> Result<Option<File>, String> {
    check_parent(path, uid)?;
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let parent = path.parent().unwrap_or(path);
        return may_write(parent)
            .map(|()| None)
            .map_err(|error| format!("cannot be made: {error}"));
    }
    let directory = open(path)?;
    let metadata = directory.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.uid() != uid {
        return Err(format!("belongs to uid {}, not {uid}", metadata.uid()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(format!("has mode {mode:04o}: others may have written to it"));
    }
    Ok(Some(directory))
}

fn may_write(path: &Path) -> io::Result<()> {
    access(path, AccessFlags::W_OK | AccessFlags::X_OK).map_err(io::Error::from)
}

/// Refuses a place where another user could swap the directory for a different one.
fn check_parent(path: &Path, uid: u32) -> Result<(), String> {
    let parent = path.parent().ok_or("is not a directory of its own")?;
    let shown = parent.display();
    let metadata = parent.metadata().map_err(|error| format!("has no parent: {error}"))?;
    if metadata.uid() != 0 && metadata.uid() != uid {
        return Err(format!("could be replaced: {shown} belongs to uid {}", metadata.uid()));
    }
    let sticky = metadata.mode() & 0o1000 != 0;
    if metadata.mode() & 0o022 != 0 && !sticky {
        return Err(format!("could be replaced: others may write to {shown}"));
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, String> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| match error.raw_os_error() {
        // A symlink gives ENOTDIR or ELOOP, by kernel version.
        Some(libc::ENOTDIR | libc::ELOOP) => "is not a directory (or a symlink to one)".to_owned(),
        _ => format!("cannot be opened: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::unistd::geteuid;
    use tempfile::TempDir;

    use super::*;

    fn temporary() -> (TempDir, u32) {
        (tempfile::tempdir().expect("a temporary directory"), geteuid().as_raw())
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().expect("it exists").mode() & 0o7777
    }

    fn make(path: &Path, mode: u32) {
        fs::create_dir(path).expect("it is new");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    fn refusal(path: PathBuf, uid: u32) -> String {
        let shown = path.display().to_string();
        let error = choose_runtime_dir(vec![path], uid).expect_err("it must be refused");
        let text = error.to_string();
        let reason = text.strip_prefix(&format!("no runtime directory: {shown} "));
        reason.expect("the path comes first").to_owned()
    }

    #[test]
    fn candidates_come_in_order_and_are_absolute() {
        let variables = |pairs: &[(&str, &str)]| {
            Environment::new(pairs.iter().map(|(name, value)| (name.into(), value.into())))
        };
        let list = |environment: &Environment| {
            let paths = runtime_dir_candidates(environment, 7);
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        let usual = ["/run/tenfold", "/dev/shm/tenfold-7", "/tmp/tenfold-7"];
        assert_eq!(list(&variables(&[])), usual);
        let relative = [("RUNTIME_DIRECTORY", "shop"), ("XDG_RUNTIME_DIR", ".")];
        assert_eq!(list(&variables(&relative)), usual);
        let all = [("RUNTIME_DIRECTORY", "/run/shop:/run/b"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(list(&variables(&all))[..3], ["/run/shop", "/run/user/7/tenfold", usual[0]]);
    }

    #[test]
    fn root_finds_the_directories_of_all_users() {
        let (temporary, _) = temporary();
        let (place, sessions) = (temporary.path().join("tmp"), temporary.path().join("user"));
        let real = [place.join("tenfold-7"), sessions.join("7/tenfold")];
        for path in [&place, &sessions, &real[0], &sessions.join("7"), &real[1]] {
            make(path, 0o755);
        }
        std::os::unix::fs::symlink(&real[0], place.join("tenfold-8")).expect("ours");
        let places = [place.as_path(), Path::new("/nowhere")];
        assert_eq!(directories_of_users(&places, &sessions), real);
    }

    #[test]
    fn units_have_directories_of_their_own() {
        let (temporary, _) = temporary();
        for name in ["tenfold", "tenfold-shop", "other"] {
            make(&temporary.path().join(name), 0o755);
        }
        assert_eq!(unit_directories(temporary.path()), [temporary.path().join("tenfold-shop")]);
        assert!(unit_directories(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn a_missing_directory_is_made_for_us_alone() {
        let (temporary, uid) = temporary();
        let path = temporary.path().join("tenfold");
        assert_eq!(choose_runtime_dir(vec![path.clone()], uid), Ok(path.clone()));
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn a_look_finds_the_same_and_changes_nothing() {
        let (dir, uid) = temporary();
        let [missing, open, file] = ["missing", "open", "file"].map(|name| dir.path().join(name));
        make(&open, 0o755);
        fs::write(&file, "").expect("the directory is ours");
        for path in [&missing, &open] {
            assert_eq!(find_runtime_dir(vec![file.clone(), path.clone()], uid), Ok(path.clone()));
        }
        assert!(!missing.exists());
        assert_eq!(mode(&open), 0o755);
        let alike = |path: &PathBuf| {
            let (looked, taken) =
                (find_runtime_dir(vec![path.clone()], uid), refusal(path.clone(), uid));
            assert!(looked.expect_err("refused, too").to_string().ends_with(&taken));
        };
        alike(&file);
        alike(&dir.path().join("no/parent"));
    }

    #[test]
    fn the_first_that_works_is_taken() {
        let (temporary, uid) = temporary();
        let missing = temporary.path().join("no/parent");
        let good = temporary.path().join("good");
        let last = temporary.path().join("last");
        assert_eq!(choose_runtime_dir(vec![missing, good.clone(), last.clone()], uid), Ok(good));
        assert!(!last.exists());
    }

    #[test]
    fn a_readable_directory_of_ours_is_closed() {
        let (temporary, uid) = temporary();
        let path = temporary.path().join("unit");
        make(&path, 0o755);
        assert_eq!(choose_runtime_dir(vec![path.clone()], uid), Ok(path.clone()));
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn what_others_could_have_written_to_is_refused() {
        let (temporary, uid) = temporary();
        let path = temporary.path().join("open");
        make(&path, 0o777);
        assert_eq!(refusal(path, uid), "has mode 0777: others may have written to it");
    }

    #[test]
    fn a_symlink_is_refused_and_its_target_untouched() {
        let (temporary, uid) = temporary();
        let target = temporary.path().join("target");
        make(&target, 0o755);
        let path = temporary.path().join("link");
        symlink(&target, &path).expect("the directory is ours");
        assert_eq!(refusal(path, uid), "is not a directory (or a symlink to one)");
        assert_eq!(mode(&target), 0o755);
    }

    #[test]
    fn a_file_and_a_dangling_symlink_are_refused() {
        let (temporary, uid) = temporary();
        let file = temporary.path().join("file");
        fs::write(&file, "").expect("the directory is ours");
        assert_eq!(refusal(file, uid), "is not a directory (or a symlink to one)");
        let path = temporary.path().join("link");
        symlink("nowhere", &path).expect("the directory is ours");
        assert_eq!(refusal(path, uid), "is not a directory (or a symlink to one)");
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        // The same directory seen by another user, so that the test needs no rights; its parent
        // is root's, as /tmp is.
        let uid = geteuid().as_raw();
        let path = tempfile::tempdir_in("/tmp").expect("a temporary directory");
        let expected = format!("belongs to uid {uid}, not {}", uid + 1);
        assert_eq!(refusal(path.path().to_owned(), uid + 1), expected);
    }

    #[test]
    fn a_parent_that_others_control_is_refused() {
        let (temporary, uid) = temporary();
        let shared = temporary.path().join("shared");
        make(&shared, 0o777);
        let expected = format!("could be replaced: others may write to {}", shared.display());
        assert_eq!(refusal(shared.join("tenfold"), uid), expected);
        assert!(!shared.join("tenfold").exists());
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).expect("it is ours");
        assert!(choose_runtime_dir(vec![shared.join("tenfold")], uid).is_ok());
    }

    #[test]
    fn a_parent_of_another_user_is_refused() {
        let uid = geteuid().as_raw();
        if uid == 0 {
            // Root's directories are trusted by everyone; a foreign one must be made.
            let (temporary, uid) = temporary();
            let foreign = temporary.path().join("foreign");
            make(&foreign, 0o700);
            std::os::unix::fs::chown(&foreign, Some(12345), None).expect("we are root");
            let expected = format!("could be replaced: {} belongs to uid 12345", foreign.display());
            assert_eq!(refusal(foreign.join("tenfold"), uid), expected);
        } else {
            let (temporary, uid) = temporary();
            let expected =
                format!("could be replaced: {} belongs to uid {uid}", temporary.path().display());
            assert_eq!(refusal(temporary.path().join("tenfold"), uid + 1), expected);
        }
    }
}
