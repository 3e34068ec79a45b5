//! Owner, extended attributes, mode and times of an unpacked inode, as far as privilege allows.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::{Errno, Result as Answer};

use super::extract_target::failed;
use crate::error::Result;
use crate::types::{Attr, Kind, Time};
use crate::union::lower::{Lower, LowerId};

/// How to reach an inode.
#[derive(Clone, Copy)]
pub enum At<'a> {
    /// By its own descriptor.
    Open(&'a OwnedFd),
    /// By an `O_PATH` descriptor.
    Pinned(&'a OwnedFd),
}

/// What lack of privilege left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Omitted {
    /// Inodes that belong to whoever unpacks.
    pub owners: u64,
    /// Extended attributes.
    pub xattrs: u64,
    /// Device nodes.
    pub devices: u64,
}

impl Omitted {
    /// Gives an unpacked inode the attributes of `id`. Order matters: chown(2) clears set-id bits and capabilities.
    ///
    /// # Errors
    /// Damage of the image, and refusals that are not for lack of privilege.
    pub fn apply(&mut self, lower: &dyn Lower, id: LowerId, attr: &Attr, at: At<'_>, path: &Path) -> Result<()> {
        let mut perm = attr.perm;
        match at.chown(attr) {
            Ok(()) => {}
            // EINVAL: an id that this user namespace does not have.
            Err(Errno::PERM | Errno::INVAL) => {
                self.owners += 1;
                perm &= 0o1777;
            }
            Err(e) => return Err(failed("chown", path, e)),
        }
        for name in lower.xattr_names(id)? {
            let Some(value) = lower.xattr(id, &name)? else { continue };
            match at.set_xattr(&name, &value) {
                Ok(()) => {}
                Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => self.xattrs += 1,
                Err(e) => return Err(failed("set an extended attribute of", path, e)),
            }
        }
        if attr.kind != Kind::Symlink {
            at.chmod(Mode::from_raw_mode(perm)).map_err(|e| failed("chmod", path, e))?;
        }
        at.set_times(attr).map_err(|e| failed("set the times of", path, e))
    }

    /// Tells of it in one line, if there is anything.
    pub fn warn(&self) {
        let counts = [(self.owners, "owners"), (self.xattrs, "extended attributes"), (self.devices, "device nodes")];
        let parts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if !parts.is_empty() {
            tracing::warn!("left out for lack of privilege: {}", parts.join(", "));
        }
    }
}

impl At<'_> {
    fn chown(self, attr: &Attr) -> Answer<()> {
        let (uid, gid) = (Uid::from_raw_unchecked(attr.uid), Gid::from_raw_unchecked(attr.gid));
        match self {
            At::Open(fd) => rustix::fs::fchown(fd, Some(uid), Some(gid)),
            At::Pinned(fd) => rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH),
        }
    }

    fn set_xattr(self, xattr: &OsString, value: &[u8]) -> Answer<()> {
        match self {
            At::Open(fd) => rustix::fs::fsetxattr(fd, xattr.as_os_str(), value, XattrFlags::empty()),
            At::Pinned(fd) => rustix::fs::setxattr(in_proc(fd), xattr.as_os_str(), value, XattrFlags::empty()),
        }
    }

    /// Not for symbolic links, whose mode cannot be set.
    fn chmod(self, mode: Mode) -> Answer<()> {
        match self {
            At::Open(fd) => rustix::fs::fchmod(fd, mode),
            At::Pinned(fd) => rustix::fs::chmod(in_proc(fd), mode),
        }
    }

    fn set_times(self, attr: &Attr) -> Answer<()> {
        let times = Timestamps { last_access: timespec(attr.atime), last_modification: timespec(attr.mtime) };
        match self {
            At::Open(fd) => rustix::fs::futimens(fd, &times),
            At::Pinned(fd) => rustix::fs::utimensat(CWD, in_proc(fd), &times, AtFlags::empty()),
        }
    }
}

/// The descriptor's link in /proc, which leads to the inode itself, also where that is a symbolic link (proc_pid_fd(5)). It
/// takes the place of system calls that refuse `O_PATH` (fchmod(2), fsetxattr(2)).
fn in_proc(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() }
}
