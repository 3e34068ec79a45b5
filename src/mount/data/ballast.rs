//! Room on a data partition that nobody but a boot may have: a root that is full must still be booted with its upper, or nobody could
//! make room there.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::error::{Errno, Error, Result};
use crate::sys::replace::open_dir;
use crate::sys::{data, dir};

/// Beside the uppers.
const DIRECTORY: &str = "haosfs";

/// The file that keeps the room.
const BALLAST: &str = "ballast";

/// What is tried out whether there is room.
const PROBE: &str = ".probe";

/// Bytes that are kept.
const SIZE: u64 = 1 << 20;

/// A boot needs less, in bytes: a few directories and a small file.
const NEEDED: u64 = 128 << 10;

/// With so much room nothing is tried out, in bytes.
const PLENTY: u64 = 64 << 20;

/// Gives the room free where there is no other.
///
/// # Errors
/// What the kernel answers, but for what is not there.
pub fn release_if_full(root: &Path) -> Result<()> {
    let Some(at) = open(root)? else { return Ok(()) };
    let failed = |errno| Error::sys("make room on", root, errno);
    forget(&at, PROBE).map_err(failed)?;
    if has_plenty(&at) {
        return Ok(());
    }
    match take(&at, PROBE, NEEDED) {
        Err(Errno::ENOSPC | Errno::EDQUOT) => {}
        Err(errno) => return Err(failed(errno)),
        Ok(()) => return forget(&at, PROBE).map(drop).map_err(failed),
    }
    if forget(&at, BALLAST).map_err(failed)? {
        tracing::warn!("the data partition is full: the room that is kept for a boot is used");
    }
    // What was freed is there once that is durable.
    data::sync_all(&at).map_err(failed)
}

/// False where it was not there.
fn forget(at: &OwnedFd, name: &str) -> Result<bool, Errno> {
    match dir::unlink(at, OsStr::new(name)) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Keeps the room again, or what is left of it: the next boot may find nothing else. A file that is there stays.
///
/// # Errors
/// What the kernel answers, where not even what a boot needs is left.
pub fn keep(root: &Path) -> Result<()> {
    let Some(at) = open(root)? else { return Ok(()) };
    let mut size = SIZE;
    loop {
        match take(&at, BALLAST, size) {
            Ok(()) | Err(Errno::EEXIST) => return Ok(()),
            Err(Errno::ENOSPC | Errno::EDQUOT) if size > NEEDED => size /= 2,
            Err(errno) => return Err(Error::sys("keep room for the next boot on", root, errno)),
        }
    }
}

fn open(root: &Path) -> Result<Option<OwnedFd>> {
    let path = root.join(DIRECTORY);
    match open_dir(&path) {
        Ok(open) => Ok(Some(open)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::sys("open", path, errno)),
    }
}

fn has_plenty(at: &OwnedFd) -> bool {
    data::space(at).is_ok_and(|space| space.bavail.saturating_mul(space.frsize) >= PLENTY)
}

/// A file whose blocks are its own, though nothing is in it.
fn take(at: &OwnedFd, name: &str, size: u64) -> Result<(), Errno> {
    let file = dir::create(at, OsStr::new(name), 0o600)?;
    let taken = data::allocate(&file, 0, 0, size).and_then(|()| data::sync(&file, false));
    if taken.is_err() {
        // What cannot be removed is by the next boot.
        let _ = dir::unlink(at, OsStr::new(name));
    }
    taken
}
