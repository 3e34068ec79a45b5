//! The temporary directory of the demo, and the mount in it; both go when it goes, whatever happens.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::mount::{haosfs_at, unmount};

/// Directories of the stage.
const DIRECTORIES: [&str; 3] = ["upper", "work", "union"];

/// A temporary directory with `upper`, `work` and the mountpoint `union`.
pub struct Stage {
    directory: Option<TempDir>,
    root: PathBuf,
}

impl Stage {
    /// Makes the directory and those in it.
    ///
    /// # Errors
    /// When the directory for temporary files (TMPDIR) cannot be written.
    pub fn build() -> Result<Self> {
        let temporary = std::env::temp_dir();
        let failed = |e| Error::sys("make a directory in", &temporary, e);
        let directory = tempfile::Builder::new().prefix("haosfs-demo-").tempdir().map_err(failed)?;
        // Canonical, as mountinfo will show it.
        let root = fs::canonicalize(directory.path()).map_err(failed)?;
        let stage = Self { directory: Some(directory), root };
        for name in DIRECTORIES {
            let path = stage.path(name);
            fs::create_dir(&path).map_err(|e| Error::sys("make directory", path, e))?;
        }
        Ok(stage)
    }

    /// A path on the stage.
    pub fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// Runs `haosfs` itself, on the stage.
    ///
    /// # Errors
    /// What it said on standard error.
    pub fn haosfs(&self, arguments: &[&str]) -> Result<()> {
        let program = "/proc/self/exe";
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| Error::sys("run", program, e))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim().trim_start_matches("haosfs: ");
        Err(Error::Refused(format!("demo: haosfs {}: {words} ({})", arguments.join(" "), output.status)))
    }

    /// Removes everything.
    ///
    /// # Errors
    /// When something cannot be unmounted or removed. What may still be mounted is left, and the error says where.
    pub fn strike(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        let Some(directory) = self.directory.take() else { return Ok(()) };
        if let Err(e) = clear(&self.path("union")) {
            // Removed through the union, its upper would be emptied.
            let kept = directory.keep();
            return Err(Error::Refused(format!("{e}; {} is left as it is", kept.display())));
        }
        make_removable(&self.path("work"));
        directory.close().map_err(|e| Error::sys("remove", &self.root, e))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(e) = self.remove() {
            tracing::warn!("{e}");
        }
    }
}

/// Unmounts what is mounted there; lazily, because a failed demo may have left something open.
fn clear(union: &Path) -> Result<()> {
    if haosfs_at(union)?.is_some() { unmount(union, true).map(drop) } else { Ok(()) }
}

/// Overlayfs' work directories may have mode 0, which keeps an ordinary user from looking whether they are empty.
fn make_removable(work: &Path) {
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir())
            && let Err(e) = fs::set_permissions(entry.path(), Permissions::from_mode(0o700))
        {
            tracing::debug!("{}: {e}", entry.path().display());
        }
    }
}
