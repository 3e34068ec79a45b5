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
use crate::sys::{data, dir, removal};

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

/// Gives the room free where there is no other. What cannot be is told of, and no more: there may be enough all the same.
pub fn release_if_full(root: &Path) {
    if let Err(errno) = try_release(root) {
        tracing::warn!("whether there is room on {} is not known, and none was made: {errno}", root.display());
    }
}

fn try_release(root: &Path) -> Result<(), Errno> {
    let Some(at) = open(root)? else { return Ok(()) };
    let failed = [
        removal::remove_all(&at, OsStr::new(PROBE)).map(drop),
        // The probe of what follows needs an inode as well.
        lacks_inodes(&at).and_then(|lacks| if lacks { release(&at, INODES, "inodes") } else { Ok(()) }),
        lacks_room(&at).and_then(|lacks| if lacks { release(&at, BALLAST, "room") } else { Ok(()) }),
    ];
    failed.into_iter().collect()
}

fn release(at: &OwnedFd, name: &str, what: &str) -> Result<(), Errno> {
    if !removal::remove_all(at, OsStr::new(name))? {
        return Ok(());
    }
    tracing::warn!("the data partition has no {what} left: what is kept for a boot is used");
    // What was freed is there once that is durable.
    data::sync_all(at)
}

/// btrfs tells of none: it makes them as it needs them.
fn lacks_inodes(at: &OwnedFd) -> Result<bool, Errno> {
    data::space(at).map(|space| space.files > 0 && space.ffree < SPARE)
}

fn lacks_room(at: &OwnedFd) -> Result<bool, Errno> {
    let space = data::space(at)?;
    if space.bavail.saturating_mul(space.frsize) >= PLENTY {
        return Ok(false);
    }
    match take(at, PROBE, NEEDED) {
        Err(Errno::ENOSPC | Errno::EDQUOT) => Ok(true),
        taken => taken.and_then(|()| dir::unlink(at, OsStr::new(PROBE))).map(|()| false),
    }
}

/// Keeps the room again, or what is left of it: the next boot may find nothing else. What is there stays.
///
/// # Errors
/// What the kernel answers, where not even what a boot needs is left.
pub fn keep(root: &Path) -> Result<()> {
    let kept = open(root).and_then(|at| {
        let Some(at) = at else { return Ok(()) };
        // Without the file the inodes are of little use; it needs one itself.
        let room = keep_room(&at);
        keep_inodes(&at).and(room)
    });
    kept.map_err(|errno| Error::sys("keep room for the next boot on", root, errno))
}

fn keep_room(at: &OwnedFd) -> Result<(), Errno> {
    let mut size = SIZE;
    loop {
        match take(at, BALLAST, size) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => return complete(at),
            Err(Errno::ENOSPC | Errno::EDQUOT) if size > NEEDED => size /= 2,
            Err(errno) => return Err(errno),
        }
    }
}

/// Power may have failed before a file that is there had its blocks, or there was less room then.
fn complete(at: &OwnedFd) -> Result<(), Errno> {
    let file = Spot::at(&Arc::new(at.try_clone().map_err(Errno::from)?), OsStr::new(BALLAST)).open(OFlags::RDWR)?;
    let held = rustix::fs::fstat(&file)?.st_blocks.unsigned_abs().saturating_mul(512);
    if held >= SIZE {
        return Ok(());
    }
    match data::allocate(&file, 0, 0, SIZE).and_then(|()| data::sync(&file, false)) {
        Err(Errno::ENOSPC | Errno::EDQUOT) if held >= NEEDED => Ok(()),
        completed => completed,
    }
}

/// As many as there are.
fn keep_inodes(at: &OwnedFd) -> Result<(), Errno> {
    if data::space(at)?.files == 0 {
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
        match dir::create(&inodes, &OsString::from(number.to_string()), 0o600) {
            Ok(_) => made = true,
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOSPC | Errno::EDQUOT) => break,
            Err(errno) => return Err(errno),
        }
    }
    if made { data::sync_all(at) } else { Ok(()) }
}

/// `None` as well where a link is in its place: whoever opens the uppers refuses that.
fn open(root: &Path) -> Result<Option<OwnedFd>, Errno> {
    match Spot::at(&Arc::new(open_dir(root)?), OsStr::new(DIRECTORY)).open(OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(open) => Ok(Some(open)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(errno),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn both_are_kept_and_nobody_else_s() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, haosfs) = (scratch.path(), scratch.path().join(DIRECTORY));
        keep(root).unwrap();
        assert!(!haosfs.exists(), "nothing is made where there are no uppers");
        fs::create_dir(&haosfs).unwrap();
        keep(root).unwrap();
        keep(root).unwrap();
        let is_counted = data::space(open(root).unwrap().unwrap()).unwrap().files > 0;
        let has_all =
            || fs::metadata(haosfs.join(BALLAST)).is_ok_and(|found| found.len() == SIZE && found.blocks() * 512 >= SIZE);
        assert!(has_all());
        // As a power cut leaves it.
        fs::write(haosfs.join(BALLAST), "").unwrap();
        keep(root).unwrap();
        assert!(has_all());
        assert_eq!(haosfs.join(INODES).join("31").exists(), is_counted);
        // Whatever somebody has put there goes, but not where a link leads.
        let at = open(root).unwrap().unwrap();
        fs::create_dir_all(haosfs.join(INODES)).unwrap();
        fs::write(haosfs.join(INODES).join("foreign"), "x").unwrap();
        assert_eq!((release(&at, INODES, "inodes"), release(&at, INODES, "inodes")), (Ok(()), Ok(())));
        assert!(!haosfs.join(INODES).exists());
        fs::create_dir(root.join("elsewhere")).unwrap();
        fs::write(root.join("elsewhere/1"), "x").unwrap();
        symlink("../elsewhere", haosfs.join(INODES)).unwrap();
        assert_eq!(release(&at, INODES, "inodes"), Ok(()));
        assert!(root.join("elsewhere/1").exists() && !haosfs.join(INODES).exists());
        fs::rename(&haosfs, root.join("moved")).unwrap();
        symlink("moved", &haosfs).unwrap();
        assert!(open(root).unwrap().is_none());
    }
}
