//! Writes result files, with the path in every error.

use std::path::Path;

use anyhow::Context;

/// Writes `text` to `path`, making the directories it needs.
///
/// # Errors
/// Those of the file system, with the path.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let told = || format!("cannot write {}", path.display());
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(told)?;
    }
    std::fs::write(path, text).with_context(told)
}
