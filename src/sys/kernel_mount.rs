//! File systems of the kernel's own, mounted by mount(2) in one step, as every kernel can.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};

use super::fuse_mount::Attributes;
use crate::error::Errno;

/// Bytes of options that mount(2) reads, the last of which is zero (`copy_mount_options`: one page).
pub const MOST_OPTIONS: usize = 4095;

/// Mounts `source` on a directory, with options in the file system's own words, and opens the root of that.
///
/// # Errors
/// `ENODEV` where the kernel has no such file system, and its other answers.
pub fn mount(fs_type: &str, source: &OsStr, place: &Path, attributes: Attributes, options: &OsStr) -> Result<OwnedFd, Errno> {
    let options = CString::new(options.as_bytes()).map_err(|_| Errno::EINVAL)?;
    if options.as_bytes().len() > MOST_OPTIONS {
        return Err(Errno::ENAMETOOLONG);
    }
    rustix::mount::mount(source, place, fs_type, attributes.mount_flags(), options.as_c_str())?;
    Ok(rustix::fs::openat(CWD, place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Mounts an empty file system on a directory, of which nothing spreads to other mount namespaces.
///
/// # Errors
/// The kernel's answer.
pub fn mount_private_tmpfs(place: &Path) -> Result<(), Errno> {
    rustix::mount::mount("haosfs", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0700")?;
    Ok(rustix::mount::mount_change(place, MountPropagationFlags::PRIVATE)?)
}

/// Moves a mount that one has open to a directory.
///
/// # Errors
/// `ENOSYS` before Linux 5.2, `EINVAL` where it cannot be moved.
pub fn place(mount: impl AsFd, place: &Path) -> Result<(), Errno> {
    Ok(rustix::mount::move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Detaches what is mounted on a directory with all below it; what is in use lives on unseen.
///
/// # Errors
/// `EINVAL` where nothing is mounted.
pub fn let_go(place: &Path) -> Result<(), Errno> {
    Ok(rustix::mount::unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}
