//! What the model drives: a file system by paths, whether mounted or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use haosfs::error::Errno;

/// Result of one operation.
pub type Answer<T> = Result<T, Errno>;

/// How rename(2) treats the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Replaces what is there.
    Yes,
    /// `RENAME_NOREPLACE`.
    No,
    /// `RENAME_EXCHANGE`.
    Exchange,
}

/// Number of files that the model holds open at a time.
pub const SLOTS: usize = 2;

/// Operations on paths relative to the root of the file system, by root. Symbolic links in them are never resolved to
/// anything: their targets do not exist, so that a path through one, or a followed one at the end, is `ENOENT`.
pub trait Target {
    /// open(2) with `O_CREAT | O_EXCL`, mode 0644.
    fn create(&mut self, path: &Path) -> Answer<()>;
    /// Opens for writing without creating, and writes all bytes at the offset.
    fn write(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> Answer<()>;
    /// truncate(2).
    fn truncate(&mut self, path: &Path, len: u64) -> Answer<()>;
    /// mkdir(2), mode 0755.
    fn mkdir(&mut self, path: &Path) -> Answer<()>;
    /// rmdir(2).
    fn rmdir(&mut self, path: &Path) -> Answer<()>;
    /// unlink(2).
    fn unlink(&mut self, path: &Path) -> Answer<()>;
    /// renameat2(2).
    fn rename(&mut self, from: &Path, to: &Path, replace: Replace) -> Answer<()>;
    /// link(2).
    fn link(&mut self, from: &Path, to: &Path) -> Answer<()>;
    /// symlink(2); the target leads nowhere.
    fn symlink(&mut self, target: &str, path: &Path) -> Answer<()>;
    /// chmod(2).
    fn chmod(&mut self, path: &Path, mode: u32) -> Answer<()>;
    /// utimensat(2) with `AT_SYMLINK_NOFOLLOW`: the modification time only.
    fn set_mtime(&mut self, path: &Path, time: (i64, u32)) -> Answer<()>;
    /// setxattr(2) without flags.
    fn set_xattr(&mut self, path: &Path, name: &str, value: &[u8]) -> Answer<()>;
    /// removexattr(2).
    fn remove_xattr(&mut self, path: &Path, name: &str) -> Answer<()>;
    /// Opens a file for reading and keeps it in a slot, instead of what the slot held.
    fn open(&mut self, slot: usize, path: &Path) -> Answer<()>;
    /// All content of the file in a slot; `EBADF` when the slot is empty.
    fn read_open(&mut self, slot: usize) -> Answer<Vec<u8>>;
    /// Closes every slot, unmounts and mounts again, where that means anything.
    fn remount(&mut self);
    /// Everything below the root.
    fn view(&mut self) -> Answer<View>;
}

/// A whole tree as it shows, by path; the root is not in it.
pub type View = BTreeMap<PathBuf, Item>;

/// What one name shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Inode number, or whatever names the inode for as long as the file system is mounted.
    pub ino: u64,
    /// The whole `st_mode`.
    pub mode: u32,
    /// Content of a file, target of a symbolic link, empty for directories.
    pub content: Vec<u8>,
    /// Link count; 0 for directories, which file systems count in their own ways.
    pub nlink: u64,
    /// `user.*` attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Modification time; `None` where it is not known (only in the model).
    pub mtime: Option<(i64, u32)>,
}
