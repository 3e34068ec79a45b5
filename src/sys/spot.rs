//! One file system object, named relative to a directory descriptor or held by a descriptor of its own.
//!
//! Path strings are never kept: renames and links break them. No call here follows a symbolic link in the last component.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    self, Access, AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};

use super::{fault, proc};
use crate::error::Errno;
use crate::types::{Attr, Kind, Time};

type Result<T> = std::result::Result<T, Errno>;

/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of `<linux/limits.h>`, in bytes.
pub const XATTR_MAX: usize = 65536;

/// Where an object is.
#[derive(Clone, Debug)]
pub enum Spot {
    /// A name in a directory.
    At {
        /// The directory; `O_PATH` is enough.
        dir: Arc<OwnedFd>,
        /// One path component.
        name: OsString,
    },
    /// The object that a descriptor (often `O_PATH`) holds.
    Fd(Arc<OwnedFd>),
}

/// What statx(2) tells, with the identity of the inode.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// The attributes.
    pub attr: Attr,
    /// Device of the file system (`st_dev`).
    pub dev: u64,
    /// Mount id, 0 where the kernel does not tell (before 5.8).
    pub mount: u64,
    /// Its data can only be appended (`chattr +a`), as far as the file system tells.
    pub append: bool,
    /// It cannot be changed (`chattr +i`), likewise.
    pub immutable: bool,
}

impl Stat {
    /// True for the character device 0:0 that hides a name (overlayfs.rst, "whiteouts and opaque directories").
    #[must_use]
    pub const fn is_whiteout(&self) -> bool {
        matches!(self.attr.kind, Kind::Char) && self.attr.rdev == 0
    }
}

/// A new time for one of an inode's stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// Leave it (`UTIME_OMIT`).
    Keep,
    /// The kernel's present time (`UTIME_NOW`).
    Now,
    /// This time.
    At(Time),
}

impl SetTime {
    const fn timespec(self) -> Timespec {
        match self {
            Self::Keep => Timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
            Self::Now => Timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
            Self::At(t) => Timespec { tv_sec: t.secs, tv_nsec: t.nanos as i64 },
        }
    }
}

fn statx(dir: impl AsFd, name: &OsStr, flags: AtFlags) -> Result<Stat> {
    let x = fs::statx(dir, name, flags | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    let time = |t: fs::StatxTimestamp| Time { secs: t.tv_sec, nanos: t.tv_nsec };
    let kind = Kind::from_mode(u32::from(x.stx_mode)).ok_or(Errno::EIO)?;
    let attr = Attr {
        ino: x.stx_ino,
        kind,
        perm: u32::from(x.stx_mode) & 0o7777,
        nlink: x.stx_nlink,
        uid: x.stx_uid,
        gid: x.stx_gid,
        rdev: libc::makedev(x.stx_rdev_major, x.stx_rdev_minor),
        size: x.stx_size,
        blocks: x.stx_blocks,
        blksize: x.stx_blksize,
        atime: time(x.stx_atime),
        mtime: time(x.stx_mtime),
        ctime: time(x.stx_ctime),
    };
    let has = |flag| x.stx_attributes.contains(flag);
    Ok(Stat {
        attr,
        dev: libc::makedev(x.stx_dev_major, x.stx_dev_minor),
        mount: x.stx_mnt_id,
        append: has(StatxAttributes::APPEND),
        immutable: has(StatxAttributes::IMMUTABLE),
    })
}

impl Spot {
    /// The spot of `name` in `dir`.
    pub fn at(dir: &Arc<OwnedFd>, name: &OsStr) -> Self {
        Self::At { dir: Arc::clone(dir), name: name.to_owned() }
    }

    /// A path through /proc that names exactly this object. The l-variants of the xattr calls take it as it is; for
    /// [`Spot::Fd`] the last component is a magic link that leads to the object itself (proc(5)).
    fn proc_path(&self) -> PathBuf {
        match self {
            Self::At { dir, name } => {
                let mut path = format!("{}self/fd/{}/", proc::prefix(), dir.as_raw_fd()).into_bytes();
                path.extend_from_slice(name.as_bytes());
                PathBuf::from(OsString::from_vec(path))
            }
            Self::Fd(fd) => PathBuf::from(format!("{}self/fd/{}", proc::prefix(), fd.as_raw_fd())),
        }
    }

    /// statx(2).
    ///
    /// # Errors
    /// `ENOENT` where the name does not exist, and the kernel's other answers.
    pub fn stat(&self) -> Result<Stat> {
        match self {
            Self::At { dir, name } => statx(dir, name, AtFlags::empty()),
            Self::Fd(fd) => statx(fd, OsStr::new(""), AtFlags::EMPTY_PATH),
        }
    }

    /// Opens the object; `O_NOFOLLOW | O_CLOEXEC | O_NOATIME`-free, with exactly `flags` more.
    ///
    /// # Errors
    /// The kernel's answer; `ELOOP` for a symbolic link without `O_PATH`.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd> {
        if flags.contains(OFlags::TRUNC) {
            fault::point("truncate")?;
        }
        let flags = flags | OFlags::CLOEXEC;
        Ok(match self {
            Self::At { dir, name } => fs::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty())?,
            Self::Fd(_) => fs::openat(CWD, self.proc_path(), flags, Mode::empty())?,
        })
    }

    /// As [`Spot::open`], leaving the access time alone where we may ask for that (`O_NOATIME`: only of one's own objects).
    ///
    /// # Errors
    /// As for [`Spot::open`].
    pub fn open_untouched(&self, flags: OFlags) -> Result<OwnedFd> {
        match self.open(flags | OFlags::NOATIME) {
            Err(Errno::EPERM) => self.open(flags),
            answer => answer,
        }
    }

    /// An `O_PATH` descriptor of the object.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn pin(&self) -> Result<Arc<OwnedFd>> {
        match self {
            Self::At { .. } => Ok(Arc::new(self.open(OFlags::PATH)?)),
            Self::Fd(fd) => Ok(Arc::clone(fd)),
        }
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for anything else.
    pub fn readlink(&self) -> Result<OsString> {
        let target = match self {
            Self::At { dir, name } => fs::readlinkat(dir, name, Vec::with_capacity(256))?,
            Self::Fd(fd) => fs::readlinkat(fd, "", Vec::with_capacity(256))?,
        };
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Changes owner and group; `None` leaves one as it is.
    ///
    /// # Errors
    /// The kernel's answer, `EPERM` without privilege.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        fault::point("chown")?;
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::At { dir, name } => fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?,
            Self::Fd(fd) => fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?,
        }
        Ok(())
    }

    /// Changes the permission bits. Not for symbolic links, which have none of their own.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn chmod(&self, perm: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(perm & 0o7777);
        // fchmodat(2) has no AT_SYMLINK_NOFOLLOW before 6.6; the magic link of an O_PATH descriptor works everywhere, and takes longer.
        match self {
            Self::At { .. } => Self::Fd(self.pin()?).chmod(perm),
            Self::Fd(fd) => {
                fault::point("chmod")?;
                match fs::fchmod(fd, mode) {
                    Err(rustix::io::Errno::BADF) => Ok(fs::chmodat(CWD, self.proc_path(), mode, AtFlags::empty())?),
                    answer => Ok(answer?),
                }
            }
        }
    }

    /// Sets access and modification time.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_times(&self, atime: SetTime, mtime: SetTime) -> Result<()> {
        fault::point("utimens")?;
        let times = Timestamps { last_access: atime.timespec(), last_modification: mtime.timespec() };
        match self {
            Self::At { dir, name } => fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?,
            // Not for O_PATH, either.
            Self::Fd(fd) => match fs::futimens(fd, &times) {
                Err(rustix::io::Errno::BADF) => fs::utimensat(CWD, self.proc_path(), &times, AtFlags::empty())?,
                answer => answer?,
            },
        }
        Ok(())
    }

    /// Value of an extended attribute, `None` where it is not set or the file system has none.
    ///
    /// # Errors
    /// The kernel's other answers.
    pub fn xattr(&self, xattr: &OsStr) -> Result<Option<Vec<u8>>> {
        let path = self.proc_path();
        let mut buffer = vec![0_u8; 256];
        loop {
            let got = match self {
                Self::At { .. } => fs::lgetxattr(&path, xattr, buffer.as_mut_slice()),
                Self::Fd(_) => fs::getxattr(&path, xattr, buffer.as_mut_slice()),
            };
            match got {
                Ok(len) => {
                    buffer.truncate(len);
                    return Ok(Some(buffer));
                }
                Err(rustix::io::Errno::RANGE) if buffer.len() < XATTR_MAX => buffer.resize(XATTR_MAX, 0),
                Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Names of all extended attributes.
    ///
    /// # Errors
    /// The kernel's answer; `E2BIG` above 64 KiB of names.
    pub fn xattr_names(&self) -> Result<Vec<OsString>> {
        let path = self.proc_path();
        let mut buffer = vec![0_u8; 1024];
        loop {
            let got = match self {
                Self::At { .. } => fs::llistxattr(&path, buffer.as_mut_slice()),
                Self::Fd(_) => fs::listxattr(&path, buffer.as_mut_slice()),
            };
            match got {
                Ok(len) => {
                    let names = buffer.get(..len).unwrap_or_default().split(|b| *b == 0);
                    return Ok(names.filter(|n| !n.is_empty()).map(|n| OsStr::from_bytes(n).to_owned()).collect());
                }
                Err(rustix::io::Errno::RANGE) if buffer.len() < XATTR_MAX => buffer.resize(XATTR_MAX, 0),
                Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sets an extended attribute; `flags` are setxattr(2)'s `XATTR_CREATE` and `XATTR_REPLACE`.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn set_xattr(&self, xattr: &OsStr, value: &[u8], flags: u32) -> Result<()> {
        fault::point("setxattr")?;
        let flags = XattrFlags::from_bits_retain(flags);
        let path = self.proc_path();
        match self {
            Self::At { .. } => fs::lsetxattr(&path, xattr, value, flags)?,
            Self::Fd(_) => fs::setxattr(&path, xattr, value, flags)?,
        }
        Ok(())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` where it is not set.
    pub fn remove_xattr(&self, xattr: &OsStr) -> Result<()> {
        fault::point("removexattr")?;
        let path = self.proc_path();
        match self {
            Self::At { .. } => fs::lremovexattr(&path, xattr)?,
            Self::Fd(_) => fs::removexattr(&path, xattr)?,
        }
        Ok(())
    }
}

/// Whether this process may make names in a directory (faccessat(2) with its effective ids).
///
/// # Errors
/// `EACCES` where it may not, `EROFS` on a read-only file system.
pub fn may_write(path: &Path) -> Result<()> {
    Ok(fs::accessat(CWD, path, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Opens a directory for use as the base of names.
///
/// # Errors
/// The kernel's answer; `ENOTDIR` for anything but a directory.
pub fn open_dir(path: &Path) -> Result<Arc<OwnedFd>> {
    Ok(Arc::new(fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
}

/// Opens a directory below another by one name, without following a link.
///
/// # Errors
/// The kernel's answer.
pub fn open_dir_at(dir: impl AsFd, name: &OsStr) -> Result<Arc<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Arc::new(fs::openat(dir, name, flags, Mode::empty())?))
}

/// Opens a directory by a relative way from another, following no link and staying on its mount. The empty way is the directory
/// itself.
///
/// # Errors
/// `ELOOP` for a link, `EXDEV` where the way leaves the mount, and the kernel's other answers.
pub fn open_beneath(root: &Arc<OwnedFd>, way: &Path) -> Result<Arc<OwnedFd>> {
    if way.as_os_str().is_empty() {
        return Ok(Arc::clone(root));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(Arc::new(fs::openat2(root, way, flags, Mode::empty(), resolve)?))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_descriptor_that_only_names_and_an_open_one_do_the_same() {
        let tmp = tempfile::tempdir().unwrap();
        let open: Arc<OwnedFd> = Arc::new(File::create(tmp.path().join("file")).unwrap().into());
        let at = Spot::at(&open_dir(tmp.path()).unwrap(), OsStr::new("file"));
        let named = Spot::Fd(at.pin().unwrap());
        for (n, spot) in (1_u32..).zip([at, named, Spot::Fd(open)]) {
            let time = Time { secs: i64::from(n), nanos: n };
            spot.chmod(0o600 + n).unwrap();
            spot.set_times(SetTime::At(time), SetTime::Keep).unwrap();
            let attr = spot.stat().unwrap().attr;
            assert_eq!((attr.perm, attr.atime), (0o600 + n, time));
            assert_ne!(attr.mtime, time);
        }
    }
}
