//! The calls for which no safe wrapper is kept: shared mappings of files, and record locks.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use memmap2::{Mmap, MmapMut, MmapOptions};

/// Maps a whole file shared for reading.
pub fn map_shared_ro(file: &File) -> Mmap {
    // SAFETY: the tests never truncate a file below a mapping that they still read.
    unsafe { Mmap::map(file).unwrap() }
}

/// Pages of a mapped file that are in the page cache (mincore(2)).
pub fn resident_pages(map: &Mmap) -> usize {
    let mut pages = vec![0_u8; map.len().div_ceil(rustix::param::page_size())];
    // SAFETY: the range is the mapping, and there is a byte for each of its pages.
    let answer = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), map.len(), pages.as_mut_ptr()) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    pages.iter().filter(|page| **page & 1 == 1).count()
}

/// Maps a whole file shared for reading and writing.
pub fn map_shared(file: &File) -> MmapMut {
    try_map_shared(file).unwrap()
}

/// The same, where the kernel may refuse it.
pub fn try_map_shared(file: &File) -> io::Result<MmapMut> {
    // SAFETY: the tests never truncate a file below a mapping that they still use.
    unsafe { MmapMut::map_mut(file) }
}

/// Maps a whole file privately: writes stay in the mapping.
pub fn map_private(file: &File) -> MmapMut {
    // SAFETY: the tests never truncate a file below a mapping that they still use.
    unsafe { MmapOptions::new().map_copy(file).unwrap() }
}

/// Who owns a record lock.
#[derive(Clone, Copy)]
pub enum Owner {
    /// The process: `F_SETLK`.
    Process,
    /// The open file description: `F_OFD_SETLK`. Conflicts with the process's own `F_SETLK` locks.
    Description,
}

/// Sets (`F_RDLCK`, `F_WRLCK`) or drops (`F_UNLCK`) a lock on `len` bytes from `start` without waiting (fcntl(2)).
pub fn record_lock(file: &File, owner: Owner, kind: i32, start: i64, len: i64) -> io::Result<()> {
    let command = match owner {
        Owner::Process => libc::F_SETLK,
        Owner::Description => libc::F_OFD_SETLK,
    };
    let lock = libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: len, l_pid: 0 };
    // SAFETY: the descriptor is open and `lock` is a whole, initialised struct flock that outlives the call.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
