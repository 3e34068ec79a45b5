//! Bytes of open files: positioned reads and writes, holes, space, durability.

use std::io::IoSliceMut;
use std::os::fd::AsFd;

use rustix::fs::{self, FallocateFlags, SeekFrom};
use rustix::io::{Errno as OsErrno, ReadWriteFlags};

use super::fault;
use crate::error::Errno;

pub use rustix::fs::OFlags;

type Result<T> = std::result::Result<T, Errno>;

/// Sizes of a file system as statvfs(3) gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Preferred I/O size in bytes.
    pub bsize: u64,
    /// Unit of the block counts in bytes.
    pub frsize: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for ordinary users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Longest name in bytes.
    pub namemax: u64,
}

/// As [`read_at`]; calls `before_wait` before it waits for a disk, or may, where the file system cannot tell (preadv2(2), `RWF_NOWAIT`).
///
/// # Errors
/// The kernel's answer.
pub fn read_at_telling(fd: impl AsFd, buffer: &mut [u8], offset: u64, before_wait: impl FnOnce()) -> Result<usize> {
    // -1 would mean where the descriptor stands.
    if i64::try_from(offset).is_err() {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        match rustix::io::preadv2(&fd, &mut [IoSliceMut::new(rest)], at, ReadWriteFlags::NOWAIT) {
            // Linux 5.9 and 5.10 may say so before the end (preadv2(2), "BUGS").
            Ok(0) => return read_at(fd, rest, at).map(|n| done + n),
            Ok(n) => done += n,
            Err(OsErrno::INTR) => {}
            Err(_) => {
                before_wait();
                return read_at(fd, rest, at).map(|n| done + n);
            }
        }
    }
    Ok(done)
}

/// Reads until the buffer is full or the file ends; returns the bytes read.
///
/// # Errors
/// The kernel's answer.
pub fn read_at(fd: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(&fd, rest, offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(OsErrno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(done)
}

/// Has the kernel read what is asked for and nothing more (posix_fadvise(2), `POSIX_FADV_RANDOM`).
///
/// # Errors
/// The kernel's answer.
pub fn never_read_ahead(fd: impl AsFd) -> Result<()> {
    Ok(fs::fadvise(fd, 0, None, fs::Advice::Random)?)
}

/// Writes all of `bytes`; returns how many were written, short only when an error follows some progress.
///
/// # Errors
/// The kernel's answer where nothing was written.
pub fn write_at(fd: impl AsFd, bytes: &[u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.checked_add(done as u64).ok_or(Errno::EFBIG)?;
        match fault::point("pwrite").and_then(|()| Ok(rustix::io::pwrite(&fd, rest, at)?)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// True where a write at `offset` lands there: a descriptor that appends writes at the file's end alone (pwrite(2), "BUGS").
///
/// # Errors
/// The kernel's answer.
pub fn lands_at(fd: impl AsFd, offset: u64) -> Result<bool> {
    let appends = fs::fcntl_getfl(&fd)?.contains(OFlags::APPEND);
    Ok(!appends || u64::try_from(fs::fstat(&fd)?.st_size).is_ok_and(|size| size == offset))
}

/// Sets the size of a file open for writing.
///
/// # Errors
/// The kernel's answer.
pub fn truncate(fd: impl AsFd, size: u64) -> Result<()> {
    fault::point("truncate")?;
    Ok(fs::ftruncate(fd, size)?)
}

/// fallocate(2) with the mode bits as the caller gave them.
///
/// # Errors
/// The kernel's answer; `EOPNOTSUPP` where the file system lacks the mode.
pub fn allocate(fd: impl AsFd, mode: u32, offset: u64, len: u64) -> Result<()> {
    fault::point("fallocate")?;
    Ok(fs::fallocate(fd, FallocateFlags::from_bits_retain(mode), offset, len)?)
}

/// `SEEK_DATA` from an offset.
///
/// # Errors
/// `ENXIO` where no data follows.
pub fn seek_data(fd: impl AsFd, offset: u64) -> Result<u64> {
    Ok(fs::seek(fd, SeekFrom::Data(offset))?)
}

/// `SEEK_HOLE` from an offset.
///
/// # Errors
/// `ENXIO` at or past the end.
pub fn seek_hole(fd: impl AsFd, offset: u64) -> Result<u64> {
    Ok(fs::seek(fd, SeekFrom::Hole(offset))?)
}

/// copy_file_range(2); returns the bytes copied.
///
/// # Errors
/// The kernel's answer.
pub fn copy_range(from: impl AsFd, from_offset: u64, to: impl AsFd, to_offset: u64, len: usize) -> Result<usize> {
    fault::point("copy_file_range")?;
    let (mut from_offset, mut to_offset) = (from_offset, to_offset);
    Ok(fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), len)?)
}

/// Makes an empty file share all data of another on its file system (ioctl_ficlone(2)), holes included.
///
/// # Errors
/// `EOPNOTSUPP`, `EXDEV` and the like where that is not possible.
pub fn clone(from: impl AsFd, to: impl AsFd) -> Result<()> {
    fault::point("clone")?;
    Ok(fs::ioctl_ficlone(to, from)?)
}

/// Makes a file durable; with `data_only` without attributes that reading does not need (fdatasync(2)).
///
/// # Errors
/// `EIO`, `ENOSPC`, `EDQUOT`, or what else the disk's driver answers, where earlier writes could not reach the disk.
pub fn sync(fd: impl AsFd, data_only: bool) -> Result<()> {
    fault::point(if data_only { "fdatasync" } else { "fsync" })?;
    let synced = if data_only { fs::fdatasync(fd) } else { fs::fsync(fd) };
    Ok(synced?)
}

/// Makes everything on the descriptor's file system durable (syncfs(2)).
///
/// # Errors
/// The kernel's answer.
pub fn sync_all(fd: impl AsFd) -> Result<()> {
    fault::point("syncfs")?;
    Ok(fs::syncfs(fd)?)
}

/// Sizes of the file system of a descriptor.
///
/// # Errors
/// The kernel's answer.
pub fn space(fd: impl AsFd) -> Result<Space> {
    let s = fs::fstatvfs(fd)?;
    Ok(Space {
        bsize: s.f_bsize,
        frsize: s.f_frsize,
        blocks: s.f_blocks,
        bfree: s.f_bfree,
        bavail: s.f_bavail,
        files: s.f_files,
        ffree: s.f_ffree,
        namemax: s.f_namemax,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_in_memory_is_read_without_a_word() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        let told = Cell::new(0);
        let mut room = [0; 9000];
        let mut read = |offset| read_at_telling(&file, &mut room, offset, || told.set(told.get() + 1)).unwrap();
        assert_eq!((read(0), read(5000), read(10_000)), (9000, 5000, 0));
        // Where the file system cannot tell whether it would wait, that is said each time.
        let can_tell = rustix::io::preadv2(&file, &mut [IoSliceMut::new(&mut [0])], 0, ReadWriteFlags::NOWAIT).is_ok();
        assert_eq!(told.get(), if can_tell { 0 } else { 3 });
        assert_eq!(read_at_telling(&file, &mut [0; 8], u64::MAX, || {}), Err(Errno::EINVAL));
        // A directory cannot be read in either way.
        let dir = std::fs::File::open("/").unwrap();
        assert_eq!(read_at_telling(&dir, &mut [0; 8], 0, || told.set(told.get() + 10)), Err(Errno(libc::EISDIR)));
        assert!(told.get() >= 10);
    }
}
