//! Puts the Node preload, which is embedded in this binary, where Node can load it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The preload of the Node package, as this binary was built with it.
const SOURCE: &str = include_str!("../workers/node/preload.cjs");

/// Writes the preload below `directory`, at a path that its content determines, unless it is there.
///
/// The path is stable: masters of one version share it, and nothing removes it, because a worker
/// may start a child that loads it at any time. It is readable by all, for workers of another user.
///
/// # Errors
/// Those of writing in the directory.
pub(crate) fn install(directory: &Path) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let path = directory.join(format!("preload-{:016x}.cjs", hasher.finish()));
    if std::fs::read(&path).is_ok_and(|present| present == SOURCE.as_bytes()) {
        return Ok(path);
    }
    // Renamed into place, so that no worker ever loads half a file.
    let fresh = directory.join(format!("preload-{}.tmp", std::process::id()));
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(SOURCE.as_bytes())?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}

/// The preload as a URL for `--import`, where no directory can be written (Node 20.6 and later).
#[must_use]
pub(crate) fn as_url() -> String {
    let wrapped = format!(
        "import{{createRequire}}from'node:module';\
         const require=createRequire('file:///'),module={{exports:{{}}}},exports=module.exports;\
         (function(){{{SOURCE}\n}}).call(exports);"
    );
    let mut url = String::from("data:text/javascript,");
    for byte in wrapped.bytes() {
        // RFC 3986 unreserved characters stand for themselves; NODE_OPTIONS splits at spaces.
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}
