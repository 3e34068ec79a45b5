//! Changes and listings of directories, all relative to descriptors.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags};

use super::fault;
use crate::error::Errno;
use crate::types::Kind;

type Result<T> = std::result::Result<T, Errno>;

/// How a rename treats its target (rename(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// Replace it.
    Replace,
    /// `RENAME_NOREPLACE`: fail with `EEXIST` where it exists.
    NoReplace,
    /// `RENAME_EXCHANGE`: swap the two.
    Exchange,
    /// `RENAME_WHITEOUT`: replace it and leave a whiteout at the source.
    Whiteout,
}

/// One entry as getdents64(2) gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// The name.
    pub name: OsString,
    /// Inode number.
    pub ino: u64,
    /// Type, `None` where the file system does not tell.
    pub kind: Option<Kind>,
}

/// ext2 to ext4, XFS, btrfs, tmpfs, F2FS (`<linux/magic.h>`).
const OF_BYTES: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010];

/// True for a file system that is known to tell names apart by their bytes, or else to take upper and lower case for one, too: others may
/// take spellings of one letter for the same that differ in nothing else, as OpenZFS does with `normalization`.
pub fn compares_bytes(dir: impl AsFd) -> bool {
    fs::fstatfs(dir).is_ok_and(|found| OF_BYTES.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

/// `FS_CASEFOLD_FL` (`<linux/fs.h>`).
const CASEFOLD: u32 = 0x4000_0000;

/// True for a directory in which upper and lower case are one (`chattr +F`), as then are they in those made in it. False where the file
/// system has no such flags, and where they cannot be read.
pub fn folds_case(dir: impl AsFd) -> bool {
    let open = fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    open.and_then(fs::ioctl_getflags).is_ok_and(are_folding)
}

const fn are_folding(flags: fs::IFlags) -> bool {
    flags.bits() & CASEFOLD != 0
}

/// All entries of a directory but `.` and `..`, in the file system's order.
///
/// # Errors
/// The kernel's answer.
pub fn read(dir: impl AsFd) -> Result<Vec<RawEntry>> {
    read_open(fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// As [`read`], of a directory that is open for reading and at its start.
///
/// # Errors
/// The kernel's answer.
pub fn read_open(fd: OwnedFd) -> Result<Vec<RawEntry>> {
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut raw = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            entries.push(RawEntry { name: name.to_owned(), ino: entry.ino(), kind: kind_of(entry.file_type()) });
        }
    }
    Ok(entries)
}

const fn kind_of(kind: FileType) -> Option<Kind> {
    Some(match kind {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::Char,
        FileType::BlockDevice => Kind::Block,
        FileType::Unknown => return None,
    })
}

/// Creates a regular file that must not exist, open for reading and writing.
///
/// # Errors
/// `EEXIST` and the kernel's other answers.
pub fn create(dir: impl AsFd, name: &OsStr, perm: u32) -> Result<OwnedFd> {
    fault::point("creat")?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(dir, name, flags, Mode::from_raw_mode(perm & 0o7777))?)
}

/// Opens a file to read it and append to it, and makes it where it is not there.
///
/// # Errors
/// The kernel's answer.
pub fn append(dir: impl AsFd, name: &OsStr, perm: u32) -> Result<OwnedFd> {
    fault::point("creat")?;
    let flags = APPEND | OFlags::CREATE;
    Ok(fs::openat(dir, name, flags, Mode::from_raw_mode(perm & 0o7777))?)
}

/// Opens a file that is there to read it and append to it.
///
/// # Errors
/// `ENOENT` and the kernel's other answers.
pub fn append_to(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    Ok(fs::openat(dir, name, APPEND, Mode::empty())?)
}

/// Opens a regular file to read it; whatever else has the name is not waited for.
///
/// # Errors
/// `EINVAL` for anything but a regular file, `ELOOP` for a link, and the kernel's other answers.
pub fn look_into(dir: impl AsFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::openat(dir, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) == FileType::RegularFile { Ok(file) } else { Err(Errno::EINVAL) }
}

const APPEND: OFlags = OFlags::RDWR.union(OFlags::APPEND).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// mkdirat(2).
///
/// # Errors
/// The kernel's answer.
pub fn mkdir(dir: impl AsFd, name: &OsStr, perm: u32) -> Result<()> {
    fault::point("mkdir")?;
    Ok(fs::mkdirat(dir, name, Mode::from_raw_mode(perm & 0o7777))?)
}

/// mknodat(2).
///
/// # Errors
/// The kernel's answer; `EPERM` for devices without privilege (but not for character device 0:0, since 5.8).
pub fn mknod(dir: impl AsFd, name: &OsStr, kind: Kind, perm: u32, rdev: u64) -> Result<()> {
    fault::point("mknod")?;
    let file_type = FileType::from_raw_mode(kind.mode_bits());
    Ok(fs::mknodat(dir, name, file_type, Mode::from_raw_mode(perm & 0o7777), rdev)?)
}

/// symlinkat(2).
///
/// # Errors
/// The kernel's answer.
pub fn symlink(target: &OsStr, dir: impl AsFd, name: &OsStr) -> Result<()> {
    fault::point("symlink")?;
    Ok(fs::symlinkat(target, dir, name)?)
}

/// linkat(2) without following links.
///
/// # Errors
/// The kernel's answer.
pub fn link(old_dir: impl AsFd, old: &OsStr, new_dir: impl AsFd, new: &OsStr) -> Result<()> {
    fault::point("link")?;
    Ok(fs::linkat(old_dir, old, new_dir, new, AtFlags::empty())?)
}

/// unlinkat(2) of anything but a directory.
///
/// # Errors
/// The kernel's answer.
pub fn unlink(dir: impl AsFd, name: &OsStr) -> Result<()> {
    fault::point("unlink")?;
    Ok(fs::unlinkat(dir, name, AtFlags::empty())?)
}

/// unlinkat(2) of an empty directory.
///
/// # Errors
/// `ENOTEMPTY` and the kernel's other answers.
pub fn rmdir(dir: impl AsFd, name: &OsStr) -> Result<()> {
    fault::point("rmdir")?;
    Ok(fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// renameat2(2).
///
/// # Errors
/// The kernel's answer; `EINVAL` where the file system lacks the flag.
pub fn rename(old_dir: impl AsFd, old: &OsStr, new_dir: impl AsFd, new: &OsStr, how: Rename) -> Result<()> {
    fault::point("rename")?;
    let flags = match how {
        Rename::Replace => RenameFlags::empty(),
        Rename::NoReplace => RenameFlags::NOREPLACE,
        Rename::Exchange => RenameFlags::EXCHANGE,
        Rename::Whiteout => RenameFlags::WHITEOUT,
    };
    Ok(fs::renameat_with(old_dir, old, new_dir, new, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_folding_is_one_flag_of_many() {
        let flags = fs::IFlags::from_bits_retain;
        assert!(are_folding(flags(CASEFOLD)) && are_folding(flags(CASEFOLD | 0x8_0000)));
        // Extents, an index of names, immutable, and what is inherited by the project.
        assert!(!are_folding(flags(0x2008_1010)));
        let dir = tempfile::tempdir().unwrap();
        assert!(!folds_case(std::fs::File::open(dir.path()).unwrap()));
    }
}
