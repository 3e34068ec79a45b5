//! File handles of a mounted file system (name_to_handle_at(2), open_by_handle_at(2)) and its UUID.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use rustix::ioctl::{Getter, ioctl, opcode};
use rustix::thread::{CapabilitySet, capabilities};

use super::spot::Spot;
use crate::error::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// Longest `fid`, in bytes (`MAX_HANDLE_SZ` of `<linux/exportfs.h>`).
const FID_MAX: usize = 128;

/// Inode number of the host's user namespace in /proc (`USER_NS_INIT_INO` of `<linux/nsfs.h>`).
const HOST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// `struct file_handle` of `<linux/fcntl.h>`, with room for every `fid`.
#[repr(C)]
struct Raw {
    bytes: libc::c_uint,
    kind: libc::c_int,
    fid: [u8; FID_MAX],
}

/// `struct fsuuid2` of `<linux/fs.h>`.
#[repr(C)]
struct FsUuid {
    len: u8,
    uuid: [u8; 16],
}

/// `struct btrfs_ioctl_fs_info_args` of `<linux/btrfs.h>`.
#[repr(C)]
struct BtrfsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u64; 124],
}

/// The type and the bytes of the handle that the file system gives an object.
///
/// # Errors
/// `EOPNOTSUPP` where it could not find the object by it again.
pub fn of(spot: &Spot) -> Result<(i32, Vec<u8>)> {
    let (dir, name, flags) = match spot {
        Spot::At { dir, name } => (dir, name.as_os_str(), 0),
        Spot::Fd(fd) => (fd, OsStr::new(""), libc::AT_EMPTY_PATH),
    };
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut raw = Raw { bytes: FID_MAX as libc::c_uint, kind: 0, fid: [0; FID_MAX] };
    let mut mount = 0;
    // SAFETY: `name` is a C string, `raw` has the layout of a file_handle followed by as many bytes as it says, `mount` takes an
    // int; all outlive the call.
    let answer = unsafe { libc::name_to_handle_at(dir.as_raw_fd(), name.as_ptr(), (&raw mut raw).cast(), &raw mut mount, flags) };
    if answer != 0 {
        return Err(last());
    }
    let fid = usize::try_from(raw.bytes).ok().and_then(|len| raw.fid.get(..len)).ok_or(Errno::EOVERFLOW)?;
    Ok((raw.kind, fid.to_vec()))
}

/// An `O_PATH` descriptor of what a handle leads to, on the file system of `root`, which must be open for reading.
///
/// # Errors
/// `ESTALE` where it leads nowhere, `EPERM` without `CAP_DAC_READ_SEARCH`, `EINVAL` for what the file system does not know.
pub fn open(root: impl AsFd, kind: i32, fid: &[u8]) -> Result<OwnedFd> {
    let mut raw = Raw { bytes: 0, kind, fid: [0; FID_MAX] };
    raw.fid.get_mut(..fid.len()).ok_or(Errno::EINVAL)?.copy_from_slice(fid);
    raw.bytes = libc::c_uint::try_from(fid.len()).map_err(|_| Errno::EINVAL)?;
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: as above; the kernel checks the handle itself.
    let fd = unsafe { libc::open_by_handle_at(root.as_fd().as_raw_fd(), (&raw mut raw).cast(), flags) };
    if fd < 0 {
        return Err(last());
    }
    // SAFETY: a descriptor that the kernel has just given to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The UUID of the file system of an open object, as the kernel knows it.
///
/// # Errors
/// `ENOTTY` where the kernel cannot tell (before Linux 6.9), or there is none.
pub fn uuid(object: impl AsFd) -> Result<[u8; 16]> {
    let object = object.as_fd();
    if rustix::fs::fstatfs(object)?.f_type == libc::BTRFS_SUPER_MAGIC {
        return Ok(btrfs_uuid(object)?);
    }
    // SAFETY: the request is FS_IOC_GETFSUUID, _IOR(0x15, 0, struct fsuuid2): it fills in such a structure and nothing else; any
    // bytes are a valid value of it.
    let found = unsafe { ioctl(object, Getter::<{ opcode::read::<FsUuid>(0x15, 0) }, FsUuid>::new())? };
    if usize::from(found.len) == found.uuid.len() { Ok(found.uuid) } else { Err(Errno(libc::ENOTTY)) }
}

/// btrfs does not answer the general request, only its own.
fn btrfs_uuid(object: BorrowedFd<'_>) -> rustix::io::Result<[u8; 16]> {
    // SAFETY: the request is BTRFS_IOC_FS_INFO, _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args), and the file system is btrfs: it
    // fills in such a structure and nothing else; any bytes are a valid value of it.
    let found = unsafe { ioctl(object, Getter::<{ opcode::read::<BtrfsInfo>(0x94, 31) }, BtrfsInfo>::new())? };
    Ok(found.fsid)
}

/// Whether this process may open by handle whatever the host has: `CAP_DAC_READ_SEARCH`, and not merely in a user namespace of
/// its own.
#[must_use]
pub fn may_open() -> bool {
    let capable = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_READ_SEARCH));
    capable && std::fs::metadata("/proc/self/ns/user").is_ok_and(|ns| ns.ino() == HOST_USER_NAMESPACE)
}

fn last() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}
