//! Writing out of what the kernel holds of a file, without waiting for its end.
#![allow(unsafe_code)]

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use crate::error::Errno;

/// Has the kernel begin to write a range of a file to the disk (sync_file_range(2), `SYNC_FILE_RANGE_WRITE`). Makes nothing durable,
/// and takes no error away from a later fsync(2). Waits where the disk has enough to do.
///
/// # Errors
/// The kernel's answer; `EOVERFLOW` for what no file can have.
pub fn begin(fd: impl AsFd, range: &Range<u64>) -> Result<(), Errno> {
    let (at, len) = signed(range)?;
    // SAFETY: the descriptor is open for as long as `fd` lives, and the call touches no memory of ours.
    match unsafe { libc::sync_file_range(fd.as_fd().as_raw_fd(), at, len, libc::SYNC_FILE_RANGE_WRITE) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// Has the kernel drop the pages of a range that are on the disk already, and begin to write those that were changed since; these and
/// others on their way stay (posix_fadvise(2), `POSIX_FADV_DONTNEED`). Takes no error away from a later fsync(2).
///
/// # Errors
/// The kernel's answer; `EOVERFLOW` for what no file can have.
pub fn forget(fd: impl AsFd, range: &Range<u64>) -> Result<(), Errno> {
    let (at, len) = signed(range)?;
    // SAFETY: the descriptor is open for as long as `fd` lives, and the call touches no memory of ours.
    match unsafe { libc::posix_fadvise(fd.as_fd().as_raw_fd(), at, len, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error).into()),
    }
}

fn signed(range: &Range<u64>) -> Result<(i64, i64), Errno> {
    let len = range.end.saturating_sub(range.start);
    let both = i64::try_from(range.start).and_then(|at| Ok((at, i64::try_from(len)?)));
    both.map_err(|_| Errno::EOVERFLOW)
}
