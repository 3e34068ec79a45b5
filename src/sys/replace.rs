//! Files and links that are replaced in one step: readers, and whoever comes after a crash, find the old one or the new one.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, CWD, Gid, Mode, OFlags, Uid};

use super::dir::{self, Rename};
use super::{data, fault};
use crate::error::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// Where the kernel shows an access ACL (acl(5)).
const ACL: &str = "system.posix_acl_access";
/// Bytes that an extended attribute may have (`XATTR_SIZE_MAX` of `<linux/limits.h>`).
const MOST_ACL: usize = 1 << 16;

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// `st_mode & 0o7777`, whatever the umask is.
    pub perm: u32,
    /// User and group; `None` is whoever writes it.
    pub owner: Option<(u32, u32)>,
}

/// Opens a directory so that it can be synchronised, for which `O_PATH` is not enough.
///
/// # Errors
/// The kernel's answer; `ENOTDIR` for anything but a directory.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    Ok(fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes or replaces the file `name` in `dir` (see [`open_dir`]), durably: a temporary beside it is written and synchronised,
/// and takes its place as by [`take_place`].
///
/// # Errors
/// The kernel's answer. The old file is then still there, but where only the last steps failed: the new one may not be durable.
pub fn file(dir: impl AsFd, name: &OsStr, bytes: &[u8], rights: Rights) -> Result<()> {
    file_with(dir, name, bytes, rights, None)
}

/// The same with an access ACL, as [`acl_of`] gives it. Without one the file has none, whatever its directory hands down.
///
/// # Errors
/// As for [`file()`].
pub fn file_with(dir: impl AsFd, name: &OsStr, bytes: &[u8], rights: Rights, acl: Option<&[u8]>) -> Result<()> {
    let temporary = temporary(name);
    clear(&dir, &temporary)?;
    let written = write(&dir, &temporary, bytes, rights).and_then(|file| set_acl(&file, acl).map(|()| file));
    let placed = written.and_then(|file| take_place(&dir, &temporary, file, name));
    if placed.is_err() {
        // What cannot be removed now is by the next write; where it has moved already, nothing is there.
        let _ = dir::unlink(dir, &temporary);
    }
    placed
}

/// Gives the `file` of a name, whose data are durable, another name in the same directory, durably; what had that name is gone.
///
/// On FAT a moved file's entry is written with the file, not with the directory, and until then it says where the data of the old file
/// were. So those are kept until the new entry is durable, and before that the entry that the file had is gone: no two entries that
/// are on the disk ever have the same data.
///
/// # Errors
/// The kernel's answer.
pub fn take_place(dir: impl AsFd, from: &OsStr, file: impl AsFd, to: &OsStr) -> Result<()> {
    let old = fs::openat(&dir, to, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    dir::rename(&dir, from, &dir, to, Rename::Replace)?;
    data::sync(&dir, false)?;
    data::sync(file, false)?;
    drop(old);
    Ok(())
}

/// Makes or replaces the symbolic link `name` in `dir`, durably, as [`file()`] does.
///
/// # Errors
/// As for [`file()`].
pub fn symlink(dir: impl AsFd, name: &OsStr, target: &OsStr) -> Result<()> {
    let temporary = temporary(name);
    clear(&dir, &temporary)?;
    let made = dir::symlink(target, &dir, &temporary);
    let moved = made.and_then(|()| dir::rename(&dir, &temporary, &dir, name, Rename::Replace));
    if moved.is_err() {
        // What cannot be removed now is by the next write.
        let _ = dir::unlink(&dir, &temporary);
    }
    moved.and_then(|()| data::sync(dir, false))
}

/// Sets owner and mode of an open file where they are others.
///
/// # Errors
/// The kernel's answer, `EPERM` without privilege.
pub fn set_rights(fd: impl AsFd, rights: Rights) -> Result<()> {
    let found = fs::fstat(&fd)?;
    if let Some((uid, gid)) = rights.owner.filter(|owner| *owner != (found.st_uid, found.st_gid)) {
        fault::point("chown")?;
        fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    let mode = Mode::from_raw_mode(rights.perm & 0o7777);
    if Mode::from_raw_mode(found.st_mode & 0o7777) != mode {
        fault::point("chmod")?;
        fs::fchmod(fd, mode)?;
    }
    Ok(())
}

/// The access ACL of a file, where it has one: `st_mode` shows its mask as the group's permissions then (acl(5)).
///
/// # Errors
/// The kernel's answer.
pub fn acl_of(file: impl AsFd) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; MOST_ACL];
    match fs::fgetxattr(file, ACL, value.as_mut_slice()) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn set_acl(file: &OwnedFd, acl: Option<&[u8]>) -> Result<()> {
    let has = acl_of(file)?;
    if has.as_deref() == acl {
        return Ok(());
    }
    fault::point("setxattr")?;
    match acl {
        Some(acl) => fs::fsetxattr(file, ACL, acl, fs::XattrFlags::empty())?,
        None => fs::fremovexattr(file, ACL)?,
    }
    data::sync(file, false)
}

/// One name for all: a crash leaves one file at most, and the next write takes it away.
fn temporary(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    temporary
}

fn clear(dir: impl AsFd, temporary: &OsStr) -> Result<()> {
    match fs::statat(&dir, temporary, fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => dir::unlink(dir, temporary),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn write(dir: impl AsFd, temporary: &OsStr, bytes: &[u8], rights: Rights) -> Result<OwnedFd> {
    // Nobody reads it before its rights are what they shall be.
    let fd = dir::create(&dir, temporary, rights.perm & 0o700)?;
    if data::write_at(&fd, bytes, 0)? < bytes.len() {
        return Err(Errno::ENOSPC);
    }
    if is_fat(&dir) {
        // Whichever file or directory is synchronised, the allocation table is, too; and here before there is an entry that says which
        // of its clusters the new file has. Were they free in the table, Linux would make the whole file system read-only on seeing
        // that (fs/fat/fatent.c, `fat_free_clusters`).
        data::sync(&dir, false)?;
    }
    set_rights(&fd, rights)?;
    data::sync(&fd, false)?;
    Ok(fd)
}

/// FAT, by `MSDOS_SUPER_MAGIC` of `<linux/magic.h>`.
fn is_fat(dir: impl AsFd) -> bool {
    const MAGIC: u64 = 0x4d44;
    fs::fstatfs(dir).is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_file_is_replaced_with_its_rights() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = open_dir(scratch.path()).unwrap();
        let path = scratch.path().join("name");
        for (perm, text) in [(0o640, "one"), (0o604, "two")] {
            std::fs::write(scratch.path().join(".name.new"), "left by a crash").unwrap();
            file(&dir, OsStr::new("name"), text.as_bytes(), Rights { perm, owner: None }).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, perm);
        }
        let owner = std::fs::metadata(&path).map(|meta| (meta.uid(), meta.gid())).unwrap();
        file(&dir, OsStr::new("name"), b"three", Rights { perm: 0o600, owner: Some(owner) }).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = open_dir(scratch.path()).unwrap();
        for target in ["1", "2"] {
            symlink(&dir, OsStr::new("current"), OsStr::new(target)).unwrap();
            assert_eq!(std::fs::read_link(scratch.path().join("current")).unwrap(), Path::new(target));
        }
    }

    #[test]
    fn what_cannot_be_replaced_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("name")).unwrap();
        let dir = open_dir(scratch.path()).unwrap();
        assert_eq!(file(&dir, OsStr::new("name"), b"x", Rights { perm: 0o600, owner: None }), Err(Errno::EISDIR));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    /// Version 2; the owner and user 65534 may read and write, the group nothing; the mask shows as the group's (acl(5)).
    const OF_A_USER: [u8; 44] = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 254, 255, 0, 0, 4, 0, 0, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255,
        255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];

    #[test]
    fn an_acl_is_kept_and_none_is_inherited() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = open_dir(scratch.path()).unwrap();
        let (name, path) = (OsStr::new("f"), scratch.path().join("f"));
        if let Err(e) = fs::fsetxattr(&dir, "system.posix_acl_default", &OF_A_USER, fs::XattrFlags::empty()) {
            assert_eq!(e, rustix::io::Errno::OPNOTSUPP, "where there are no ACLs");
            return;
        }
        let rights = Rights { perm: 0o660, owner: None };
        let found = || {
            (acl_of(std::fs::File::open(&path).unwrap()).unwrap(), std::fs::metadata(&path).unwrap().permissions().mode() & 0o777)
        };
        file(&dir, name, b"one", rights).unwrap();
        assert_eq!(found(), (None, 0o660));
        file_with(&dir, name, b"two", rights, Some(&OF_A_USER)).unwrap();
        assert_eq!(found(), (Some(OF_A_USER.to_vec()), 0o660));
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }
}
