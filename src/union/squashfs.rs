//! A squashfs image as a lower.

use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, Ordering};

use super::lower::{Blocks, Bytes, FileSystem, Listed, Listing, Lower, LowerEntry, LowerId, LowerSpace, Pages, Seek, Spare};
use super::positions::DOTS;
use crate::error::{Errno, Result};
use crate::image::{self, Image, InodeRef};
use crate::ovl::handle::{Handle, Uuid};
use crate::types::{Attr, BeforeWait};

/// An image; its inodes are named by their place in the inode table, which hard links share.
pub struct SquashfsLower {
    image: Image,
    /// A listing has told another number than the inode has: none can be believed.
    has_lied: AtomicBool,
}

impl SquashfsLower {
    /// The lower of an open image.
    #[must_use]
    pub const fn new(image: Image) -> Self {
        Self { image, has_lied: AtomicBool::new(false) }
    }

    /// The number of what a listing tells of. A damaged image may list an inode by another number than it has. One that cannot be read
    /// at all is no node's.
    fn number(&self, listed: &LowerEntry) -> u64 {
        let number = self.image.number(inode(listed.id)).unwrap_or(listed.ino);
        if number != listed.ino {
            self.has_lied.store(true, Ordering::Relaxed);
        }
        number
    }
}

const fn inode(id: LowerId) -> InodeRef {
    InodeRef(id.0)
}

const fn entry(found: image::Entry) -> LowerEntry {
    LowerEntry { id: LowerId(found.inode.0), ino: found.ino, kind: found.kind }
}

impl Lower for SquashfsLower {
    fn root(&self) -> LowerId {
        LowerId(self.image.root().0)
    }

    fn lookup(&self, dir: LowerId, name: &OsStr) -> Result<Option<LowerEntry>> {
        let found = self.image.lookup(inode(dir), name)?.map(entry);
        Ok(found.map(|found| LowerEntry { ino: self.number(&found), ..found }))
    }

    fn has_lasting_numbers(&self) -> bool {
        true
    }

    /// Of attributes there are `user.`, `trusted.` and `security.` ones (fs/squashfs/squashfs_fs.h, `SQUASHFS_XATTR_USER`).
    fn has_acls(&self) -> bool {
        false
    }

    fn entries(&self, dir: LowerId) -> Result<Listing> {
        let listing = self.image.entries(inode(dir))?;
        let listed = |found: image::Entry| Listed { id: Some(LowerId(found.inode.0)), ino: found.ino, kind: found.kind };
        // Whoever lists it adds two, without having to copy them all.
        let mut all = Vec::with_capacity(listing.len() + DOTS);
        all.extend(listing.iter().map(|(name, found)| (name.to_owned(), listed(found))));
        Ok(all)
    }

    fn attr(&self, id: LowerId) -> Result<Attr> {
        self.image.attr(inode(id))
    }

    fn look(&self, id: LowerId) -> Result<(Attr, bool)> {
        self.image.look(inode(id))
    }

    fn far(&self, id: LowerId) -> Option<u64> {
        self.image.far(inode(id)).filter(|_| !self.has_lied.load(Ordering::Relaxed))
    }

    fn readlink(&self, id: LowerId) -> Result<OsString> {
        self.image.readlink(inode(id))
    }

    fn xattr_names(&self, id: LowerId) -> Result<Vec<OsString>> {
        self.image.xattrs(inode(id))
    }

    fn xattr(&self, id: LowerId, name: &OsStr) -> Result<Option<Vec<u8>>> {
        self.image.xattr(inode(id), name)
    }

    fn read(&self, id: LowerId, offset: u64, len: usize) -> Result<Bytes<'_>> {
        self.image.read(inode(id), offset, len)
    }

    fn prepare_listing(&self, dir: LowerId) {
        self.image.prepare_listing(inode(dir));
    }

    fn decode_ahead(&self) -> bool {
        self.image.decode_ahead()
    }

    fn take_pages(&self, get: &mut dyn FnMut() -> Option<Box<dyn Pages>>) {
        if let Some(pages) = get() {
            self.image.take_pages(pages);
        }
    }

    fn announce(&self, listener: BeforeWait) {
        self.image.announce(listener);
    }

    fn keep(&self, id: LowerId, offset: u64, spare: &Spare) {
        self.image.keep(inode(id), offset, spare);
    }

    fn blocks(&self) -> Blocks {
        self.image.blocks()
    }

    fn is_intact(&self, bytes: &Bytes<'_>) -> bool {
        self.image.is_intact(bytes)
    }

    fn seek(&self, id: LowerId, offset: u64, whence: Seek) -> Result<u64> {
        self.image.seek(inode(id), offset, whence)
    }

    fn inodes(&self) -> Option<u64> {
        Some(u64::from(self.image.superblock().inodes))
    }

    fn space(&self) -> LowerSpace {
        let superblock = self.image.superblock();
        LowerSpace { bytes: superblock.bytes_used, inodes: u64::from(superblock.inodes), block_size: superblock.block_size }
    }

    fn file_system(&self) -> Option<FileSystem> {
        self.image.superblock().export_table.map(|_| FileSystem { uuid: Uuid::default(), dev: None })
    }

    fn handle(&self, id: LowerId) -> Result<Option<Handle>> {
        if self.file_system().is_none() {
            return Ok(None);
        }
        Ok(u32::try_from(self.attr(id)?.ino).ok().map(Handle::of_number))
    }

    fn by_handle(&self, handle: &Handle) -> Result<Option<Attr>> {
        let Some(number) = handle.number() else { return Ok(None) };
        match self.image.by_number(u64::from(number)) {
            Ok(Some(inode)) => self.image.attr(inode).map(Some),
            Ok(None) => Ok(None),
            Err(e) if e.errno() == Errno::ESTALE => Ok(None),
            Err(e) => Err(e),
        }
    }
}
