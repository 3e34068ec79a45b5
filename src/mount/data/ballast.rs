//! Room on a data partition that nobody but a boot may have: a root that is full must still be booted with its upper, or nobody could
//! make room there.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Errno, Error, Result};
use crate::sys::data::OFlags;
use crate::sys::replace::open_dir;
use crate::sys::spot::{Spot, open_dir_at};
use crate::sys::{data, dir};

/// Beside the uppers.
const DIRECTORY: &str = "haosfs";

/// The file that keeps the room.
const BALLAST: &str = "ballast";

/// The directory that keeps inodes, where a file system has only so many.
const INODES: &str = "ballast-inodes";

/// What is tried out whether there is room.
const PROBE: &str = ".probe";

/// Bytes that are kept.
const SIZE: u64 = 1 << 20;

/// A boot needs less, in bytes: a few directories and a small file.
const NEEDED: u64 = 128 << 10;

/// With so much room nothing is tried out, in bytes.
const PLENTY: u64 = 64 << 20;

/// Inodes that are kept, with that of their directory. A boot needs less.
const SPARE: u64 = 32;

/// Gives the room free where there is no other.
///
/// # Errors
/// What the kernel answers, but for what is not there.
pub fn release_if_full(root: &Path) -> Result<()> {
    let Some(at) = open(root)? else { return Ok(()) };
    let failed = |errno| Error::sys("make room on", root, errno);
    forget(&at, PROBE).map_err(failed)?;
    let Some(lacking) = lacking(&at).map_err(failed)? else { return Ok(()) };
    let room = forget(&at, BALLAST).map_err(failed)?;
    if forget_inodes(&at).map_err(failed)? || room {
        tracing::warn!("the data partition has no {lacking} left: what is kept for a boot is used");
    }
    // What was freed is there once that is durable.
    data::sync_all(&at).map_err(failed)
}

/// What a boot would not find.
fn lacking(at: &OwnedFd) -> Result<Option<&'static str>, Errno> {
    let space = data::space(at)?;
    if has_inodes(&space) && space.ffree < SPARE {
        return Ok(Some("inodes"));
    }
    if space.bavail.saturating_mul(space.frsize) >= PLENTY {
        return Ok(None);
    }
    match take(at, PROBE, NEEDED) {
        Err(Errno::ENOSPC | Errno::EDQUOT) => Ok(Some("room")),
        Err(errno) => Err(errno),
        Ok(()) => forget(at, PROBE).map(|_| None),
    }
}

/// btrfs tells of none: it makes them as it needs them.
const fn has_inodes(space: &data::Space) -> bool {
    space.files > 0
}

/// False where it was not there.
fn forget(at: &OwnedFd, name: &str) -> Result<bool, Errno> {
    match dir::unlink(at, OsStr::new(name)) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// False where there were none.
fn forget_inodes(at: &OwnedFd) -> Result<bool, Errno> {
    let name = OsStr::new(INODES);
    let inodes = match open_dir_at(at, name) {
        Ok(open) => open,
        Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    for number in 1..SPARE {
        match dir::unlink(&inodes, &spare(number)) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    dir::rmdir(at, name).map(|()| true)
}

fn spare(number: u64) -> OsString {
    number.to_string().into()
}

/// Keeps the room again, or what is left of it: the next boot may find nothing else. A file that is there stays.
///
/// # Errors
/// What the kernel answers, where not even what a boot needs is left.
pub fn keep(root: &Path) -> Result<()> {
    let Some(at) = open(root)? else { return Ok(()) };
    let failed = |errno| Error::sys("keep room for the next boot on", root, errno);
    keep_inodes(&at).map_err(failed)?;
    let mut size = SIZE;
    loop {
        match take(&at, BALLAST, size) {
            Ok(()) | Err(Errno::EEXIST) => return Ok(()),
            Err(Errno::ENOSPC | Errno::EDQUOT) if size > NEEDED => size /= 2,
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// As many as there are.
fn keep_inodes(at: &OwnedFd) -> Result<(), Errno> {
    if !has_inodes(&data::space(at)?) {
        return Ok(());
    }
    let name = OsStr::new(INODES);
    let mut made = match dir::mkdir(at, name, 0o700) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(errno),
    };
    let inodes = open_dir_at(at, name)?;
    for number in 1..SPARE {
        match dir::create(&inodes, &spare(number), 0o600) {
            Ok(_) => made = true,
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOSPC | Errno::EDQUOT) => break,
            Err(errno) => return Err(errno),
        }
    }
    if made { data::sync_all(at) } else { Ok(()) }
}

/// `None` as well where a link is in its place: whoever opens the uppers refuses that.
fn open(root: &Path) -> Result<Option<OwnedFd>> {
    let at_root = |errno| Error::sys("open", root, errno);
    let spot = Spot::at(&Arc::new(open_dir(root).map_err(at_root)?), OsStr::new(DIRECTORY));
    match spot.open(OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(open) => Ok(Some(open)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(Error::sys("open", root.join(DIRECTORY), errno)),
    }
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
