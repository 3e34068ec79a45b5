//! Subvolumes, snapshots and devices of btrfs (uapi/linux/btrfs.h).
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{fstat, fstatfs};

use super::fault;
use crate::error::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// `BTRFS_SUPER_MAGIC`.
const MAGIC: u64 = 0x9123_683e;

/// The root of every subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
const ROOT: u64 = 256;

/// `_IOW(BTRFS_IOCTL_MAGIC, 4, struct btrfs_ioctl_vol_args)`, the same with 14, and `_IOW(BTRFS_IOCTL_MAGIC, 23,
/// struct btrfs_ioctl_vol_args_v2)`; both structures have 4096 bytes.
const SCAN_DEV: libc::c_ulong = 0x5000_9404;
const SUBVOL_CREATE: libc::c_ulong = 0x5000_940e;
const SNAP_CREATE_V2: libc::c_ulong = 0x5000_9417;

/// Longest name of a subvolume, in bytes.
const NAME_MAX: usize = 255;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// True for a directory on btrfs.
pub fn is_btrfs(directory: impl AsFd) -> bool {
    fstatfs(directory).is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == MAGIC)
}

/// True for the root of a subvolume.
pub fn is_subvolume(directory: impl AsFd) -> bool {
    is_btrfs(&directory) && fstat(directory).is_ok_and(|found| found.st_ino == ROOT)
}

/// Makes an empty subvolume in a directory; its mode is that of a directory under this umask.
///
/// # Errors
/// `EEXIST` and the kernel's other answers.
pub fn create_subvolume(directory: impl AsFd, name: &OsStr) -> Result<()> {
    fault::point("subvolume")?;
    let mut arguments = VolArgs { fd: 0, name: [0; 4088] };
    write_name(&mut arguments.name, name)?;
    order(directory.as_fd().as_raw_fd(), SUBVOL_CREATE, &arguments)
}

/// Tells the driver of a device, so that what spans several can be mounted by one of them.
///
/// # Errors
/// `EINVAL` where no btrfs is on it, and the kernel's other answers.
pub fn scan(device: &Path) -> Result<()> {
    let control = File::open("/dev/btrfs-control")?;
    let mut arguments = VolArgs { fd: 0, name: [0; 4088] };
    write_name(&mut arguments.name, device.as_os_str())?;
    order(control.as_raw_fd(), SCAN_DEV, &arguments)
}

/// Makes a writable snapshot of a subvolume in a directory of the same file system.
///
/// # Errors
/// `EINVAL` where `source` is no subvolume, `EXDEV` where it is elsewhere, `EEXIST`, and the kernel's other answers.
pub fn snapshot(source: impl AsFd, directory: impl AsFd, name: &OsStr) -> Result<()> {
    fault::point("snapshot")?;
    let fd = i64::from(source.as_fd().as_raw_fd());
    let mut arguments = VolArgsV2 { fd, transid: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
    write_name(&mut arguments.name, name)?;
    order(directory.as_fd().as_raw_fd(), SNAP_CREATE_V2, &arguments)
}

/// A string that ends.
fn write_name(to: &mut [u8], name: &OsStr) -> Result<()> {
    let bytes = name.as_bytes();
    if bytes.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    to.get_mut(..bytes.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
    Ok(())
}

fn order<T>(directory: RawFd, request: libc::c_ulong, arguments: &T) -> Result<()> {
    const { assert!(size_of::<T>() == 4096) };
    // SAFETY: the descriptor is open, and the kernel reads the 4096 bytes that the request's number tells, which the structure has.
    let answer = unsafe { libc::ioctl(directory, request as _, std::ptr::from_ref(arguments)) };
    if answer == 0 {
        Ok(())
    } else {
        Err(rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).map_or(Errno::EIO, Errno::from))
    }
}
