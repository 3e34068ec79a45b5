//! A place for mounts that must stand somewhere for a moment: where the kernel takes layers by path only, or has no mount API
//! that builds mounts standing nowhere. It is a small file system of its own, so that nothing spreads to other mount namespaces
//! and one unmount takes away everything below.

use std::cell::Cell;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::record::DIRECTORY;
use crate::error::{Errno, Error, Result};
use crate::sys::{kernel_mount, lock, private_lock};

/// What the names of stages begin with.
const PREFIX: &str = "stage.";

/// More than this many of one process are not needed; so many are in the way only where something is wrong.
const MOST: usize = 64;

/// A directory below which this process may mount. It goes with its owner; what is in use below it lives on, unseen.
#[derive(Debug)]
pub struct Stage {
    path: PathBuf,
    owner: u32,
    /// Locked by all that have a stage, with a shared lock. Nobody but root may open it: he who locks it is waited for.
    _ground: OwnedFd,
    places: Cell<usize>,
}

impl Stage {
    /// Makes one, and takes away those of processes that were killed.
    ///
    /// # Errors
    /// Where no directory for it can be made, or tmpfs not be mounted.
    pub fn build() -> Result<Self> {
        build().map_err(|errno| Error::sys("make a stage for mounts in", DIRECTORY, errno))
    }

    /// A new empty directory on it.
    ///
    /// # Errors
    /// What mkdir(2) answers.
    pub fn place(&self) -> Result<PathBuf> {
        let number = self.places.get();
        self.places.set(number.saturating_add(1));
        let place = self.path.join(number.to_string());
        fs::create_dir(&place).map_err(|e| Error::sys("make", &place, e))?;
        Ok(place)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A process that was forked off has none of its own.
        if self.owner == std::process::id() {
            strike(&self.path);
        }
    }
}

fn build() -> Result<Stage, Errno> {
    DirBuilder::new().mode(0o755).recursive(true).create(DIRECTORY)?;
    let ground = private_lock::directory()?;
    if lock::exclusive(&ground).is_ok() {
        sweep()?;
    }
    // Whoever sweeps is soon done.
    lock::shared(&ground)?;
    let path = fresh()?;
    kernel_mount::mount_private_tmpfs(&path).inspect_err(|_| strike(&path))?;
    Ok(Stage { path, owner: std::process::id(), _ground: ground, places: Cell::new(0) })
}

/// One process may have several, and another pid namespace the same numbers.
fn fresh() -> Result<PathBuf, Errno> {
    let own = std::process::id();
    for number in 0..MOST {
        let path = Path::new(DIRECTORY).join(format!("{PREFIX}{own}.{number}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            answer => return answer.map(|()| path).map_err(Errno::from),
        }
    }
    Err(Errno::EEXIST)
}

/// Takes all stages away; only while nobody has one.
fn sweep() -> Result<(), Errno> {
    for entry in fs::read_dir(DIRECTORY)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            strike(&entry.path());
        }
    }
    Ok(())
}

/// What cannot be taken away is left to the next sweep.
fn strike(path: &Path) {
    let _ = kernel_mount::let_go(path);
    let _ = fs::remove_dir(path);
}
