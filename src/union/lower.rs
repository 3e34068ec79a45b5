//! The seam to read-only layers: what a union asks of a lower, whatever stands behind it.

use std::ffi::{OsStr, OsString};

pub use crate::image::{Blocks, Bytes, Pages, Seek, Spare};

use crate::error::Result;
use crate::ovl::handle::{Handle, Uuid};
use crate::ovl::protect::Protection;
use crate::types::{Attr, BeforeWait, Kind};

/// Names an inode within one lower; hard links share it. Only the lower that gave it can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LowerId(pub u64);

/// What a name in a lower directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowerEntry {
    /// The inode behind it.
    pub id: LowerId,
    /// Its `st_ino` within the lower.
    pub ino: u64,
    /// Its type.
    pub kind: Kind,
}

/// What a listing tells of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The inode behind it, where the layer knows that without looking; [`Lower::listed`] gives it in any case.
    pub id: Option<LowerId>,
    /// Its `st_ino` within the lower.
    pub ino: u64,
    /// Its type.
    pub kind: Kind,
}

/// All names of a lower directory, without `.` and `..`, sorted by bytes.
pub type Listing = Vec<(OsString, Listed)>;

/// Sizes for statfs(2), in bytes and inodes; nothing is free in a read-only layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LowerSpace {
    /// Size of the layer.
    pub bytes: u64,
    /// Number of inodes, 0 where unknown.
    pub inodes: u64,
    /// Block size in bytes.
    pub block_size: u32,
}

/// The file system that a layer is part of, as far as inodes can be found again on it by their handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its UUID, zeros where it has none.
    pub uuid: Uuid,
    /// Its device number (`st_dev`); `None` for an image, which shares its inodes with no other layer.
    pub dev: Option<u64>,
}

/// A read-only tree. Nothing in it changes while it is in use, so every answer may be cached.
pub trait Lower: Send + Sync {
    /// The root directory.
    fn root(&self) -> LowerId;

    /// One name of a directory; `None` where there is none.
    ///
    /// # Errors
    /// `ENOTDIR` when `dir` is no directory, `EIO` where the layer is damaged.
    fn lookup(&self, dir: LowerId, name: &OsStr) -> Result<Option<LowerEntry>>;

    /// All names of a directory.
    ///
    /// # Errors
    /// As for [`Lower::lookup`].
    fn entries(&self, dir: LowerId) -> Result<Listing>;

    /// False for a name of a file, given by [`Lower::entries`], whose inode certainly has no other one.
    ///
    /// # Errors
    /// As for [`Lower::lookup`].
    fn may_be_linked(&self, _dir: LowerId, _name: &OsStr) -> Result<bool> {
        Ok(true)
    }

    /// The inode of a name that [`Lower::entries`] gave; `None` where the name cannot be looked up.
    ///
    /// # Errors
    /// As for [`Lower::lookup`].
    fn listed(&self, dir: LowerId, name: &OsStr, listed: &Listed) -> Result<Option<LowerId>> {
        match listed.id {
            Some(id) => Ok(Some(id)),
            None => Ok(self.lookup(dir, name)?.map(|entry| entry.id)),
        }
    }

    /// Attributes of an inode.
    ///
    /// # Errors
    /// `EIO` where the layer is damaged.
    fn attr(&self, id: LowerId) -> Result<Attr>;

    /// Attributes of an inode, and whether it may have extended ones.
    ///
    /// # Errors
    /// As for [`Lower::attr`].
    fn look(&self, id: LowerId) -> Result<(Attr, bool)> {
        Ok((self.attr(id)?, true))
    }

    /// What has to be decompressed for a [`Lower::look`] at an inode: those with the same answer have it in common. `None` where that takes
    /// no more than a system call, and where the number by which it is listed may not be the inode's.
    fn far(&self, _id: LowerId) -> Option<u64> {
        None
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for anything but a symbolic link.
    fn readlink(&self, id: LowerId) -> Result<OsString>;

    /// Names of all extended attributes, raw as stored in the layer.
    ///
    /// # Errors
    /// `EIO` where the layer is damaged.
    fn xattr_names(&self, id: LowerId) -> Result<Vec<OsString>>;

    /// Value of one extended attribute, `None` where it is not set.
    ///
    /// # Errors
    /// `EIO` where the layer is damaged.
    fn xattr(&self, id: LowerId, name: &OsStr) -> Result<Option<Vec<u8>>>;

    /// Up to `len` bytes of a regular file from `offset`; fewer only at its end.
    ///
    /// # Errors
    /// `EIO` where the layer is damaged or cannot be read.
    fn read(&self, id: LowerId, offset: u64, len: usize) -> Result<Bytes<'_>>;

    /// True where an inode has the same number each time it is looked up. Where a file system makes numbers up, it may have another one
    /// after its kernel has forgotten it.
    fn has_lasting_numbers(&self) -> bool {
        false
    }

    /// Decodes what is needed to list a directory, where it keeps that and it does not take long.
    fn prepare_listing(&self, _dir: LowerId) {}

    /// Decodes a piece of what will be read next. False where it knows of none; a later read may change that.
    fn decode_ahead(&self) -> bool {
        false
    }

    /// Takes pages to keep what it decompresses in, where it has a use for them; `get` gives some, once, or fails.
    fn take_pages(&self, _get: &mut dyn FnMut() -> Option<Box<dyn Pages>>) {}

    /// Tells `listener` before what may take longer than a system call, where it knows.
    fn announce(&self, _listener: BeforeWait) {}

    /// Keeps, beyond its caches, what it has decompressed to answer a read of `id` from `offset` on, as another part of that will
    /// probably be read.
    fn keep(&self, _id: LowerId, _offset: u64, _spare: &Spare) {}

    /// How many blocks it has decompressed, and found decompressed in its pages.
    fn blocks(&self) -> Blocks {
        Blocks::default()
    }

    /// Whether bytes that [`Lower::read`] gave are still what the layer holds: a mapped image may have been cut off since, and
    /// then they may read as zeros.
    fn is_intact(&self, _bytes: &Bytes<'_>) -> bool {
        true
    }

    /// The next data or hole at or after `offset`; the end of the file counts as a hole.
    ///
    /// # Errors
    /// `ENXIO` at or past the end, or where no data follows.
    fn seek(&self, id: LowerId, offset: u64, whence: Seek) -> Result<u64>;

    /// Flags of chattr(1) of a file or directory; none where the layer knows no such thing.
    ///
    /// # Errors
    /// As for [`Lower::attr`].
    fn protection(&self, _id: LowerId) -> Result<Protection> {
        Ok(Protection::default())
    }

    /// Whether its inodes can have such flags.
    fn has_flags(&self) -> bool {
        false
    }

    /// Whether its inodes can have POSIX ACLs (acl(5)).
    fn has_acls(&self) -> bool {
        true
    }

    /// How many inodes it has, where it knows that of itself; then each has as many names in it as its link count tells.
    fn inodes(&self) -> Option<u64> {
        None
    }

    /// Sizes for statfs(2).
    fn space(&self) -> LowerSpace;

    /// The file system, `None` where it does not find inodes by handles.
    fn file_system(&self) -> Option<FileSystem> {
        None
    }

    /// The handle of an inode as the kernel's overlayfs would store it; `None` where [`Lower::file_system`] is.
    ///
    /// # Errors
    /// As for [`Lower::attr`].
    fn handle(&self, _id: LowerId) -> Result<Option<Handle>> {
        Ok(None)
    }

    /// Attributes of the inode that a handle leads to, wherever on the file system it is; `None` where it leads nowhere.
    ///
    /// # Errors
    /// `EIO` where the layer is damaged.
    fn by_handle(&self, _handle: &Handle) -> Result<Option<Attr>> {
        Ok(None)
    }
}
