//! What the functions of the suite assert, in their words.

use std::fmt::Debug;
use std::fs::{Metadata, symlink_metadata};
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Anything that carries an errno.
pub trait HasErrno {
    /// The number.
    fn number(&self) -> i32;
}

impl HasErrno for io::Error {
    fn number(&self) -> i32 {
        self.raw_os_error().unwrap_or(0)
    }
}

impl HasErrno for Errno {
    fn number(&self) -> i32 {
        self.raw_os_error()
    }
}

/// Asserts that a call was refused with one errno.
#[track_caller]
pub fn refused<T: Debug, E: HasErrno>(answer: Result<T, E>, errno: Errno) {
    match answer {
        Ok(value) => panic!("succeeded with {value:?}; expected {errno:?}"),
        Err(e) => assert_eq!(Errno::from_raw_os_error(e.number()), errno),
    }
}

/// lstat(2), which must succeed.
#[track_caller]
pub fn lstat(path: impl AsRef<Path>) -> Metadata {
    let path = path.as_ref();
    symlink_metadata(path).unwrap_or_else(|e| panic!("lstat {}: {e}", path.display()))
}

/// True when the name is there.
pub fn exists(path: impl AsRef<Path>) -> bool {
    symlink_metadata(path).is_ok()
}

/// open(2) with mode 0644.
pub fn open(path: impl AsRef<Path>, flags: OFlags) -> rustix::io::Result<std::fs::File> {
    rustix::fs::open(path.as_ref(), flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)).map(std::fs::File::from)
}

/// The names in a directory, sorted.
#[track_caller]
pub fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(dir.as_ref()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Bytes that differ at every offset within a page and between pages.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31) ^ ((i >> 8) as u8).wrapping_add(seed)).collect()
}
