//! File systems of the kernel, mounted step by step: fsopen(2), fsconfig(2), fsmount(2), with the kernel's own words on failure.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, fspick,
};

use super::fuse_mount::Attributes;
use crate::error::Errno;

/// A superblock in the making.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Begins one; the kernel loads the driver where it is a module.
    ///
    /// # Errors
    /// `ENODEV` where the kernel has no such file system, `ENOSYS` before Linux 5.2, `EPERM` without the right to mount.
    pub fn open(fs_type: &str) -> Result<Self, Errno> {
        Ok(Self(fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// Sets a parameter that has no value.
    ///
    /// # Errors
    /// `EINVAL` where the file system does not know it.
    pub fn flag(&self, name: &str) -> Result<(), Errno> {
        Ok(fsconfig_set_flag(self.0.as_fd(), name)?)
    }

    /// Sets a parameter to a string.
    ///
    /// # Errors
    /// `EINVAL` where the file system does not know it or its value.
    pub fn string(&self, name: &str, value: &OsStr) -> Result<(), Errno> {
        Ok(fsconfig_set_string(self.0.as_fd(), name, value)?)
    }

    /// Sets a parameter to an open file.
    ///
    /// # Errors
    /// `EINVAL` where the file system does not take descriptors for it.
    pub fn fd(&self, name: &str, value: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(fsconfig_set_fd(self.0.as_fd(), name, value)?)
    }

    /// Makes the superblock and a mount of it that stands nowhere yet.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn mount(&self, attributes: Attributes) -> Result<OwnedFd, Errno> {
        self.mount_of(attributes.read_only, attributes)
    }

    /// The same of a superblock that is read-only or not, whatever this mount of it is.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn mount_of(&self, read_only: bool, attributes: Attributes) -> Result<OwnedFd, Errno> {
        if read_only {
            self.flag("ro")?;
        }
        fsconfig_create(self.0.as_fd())?;
        Ok(fsmount(self.0.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes.mount_attr())?)
    }

    /// Makes the superblock of a mount writable.
    ///
    /// # Errors
    /// `EROFS` where its device can only be read, and what the file system answers.
    pub fn make_writable(mount: &OwnedFd) -> Result<(), Errno> {
        let context = Self(fspick(mount, "", FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC)?);
        context.flag("rw")?;
        Ok(fsconfig_reconfigure(context.0.as_fd())?)
    }

    /// What the kernel has said since, one message after the other, without the letter that tells how bad each is (fsopen(2)).
    #[must_use]
    pub fn messages(&self) -> String {
        let (mut said, mut room) = (Vec::new(), [0; 4096]);
        while let Ok(len @ 1..) = rustix::io::read(&self.0, &mut room) {
            let text = String::from_utf8_lossy(room.get(..len).unwrap_or_default()).trim().to_owned();
            said.push(text.split_once(' ').map_or(text.clone(), |(_, words)| words.to_owned()));
        }
        said.join("; ")
    }
}
