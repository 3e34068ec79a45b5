//! An open image: what the rest of the crate asks of squashfs.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::ahead::Reads;
use super::block_list::BlockList;
use super::cache::Budgeted;
use super::compressor_options::CompressorOptions;
use super::data::{Bytes, Data};
use super::directory::Directories;
use super::inode::{Body, Directory, File, Inode, InodeRef};
use super::listing::{Entry, Listing};
use super::map::Map;
use super::metadata::{Cursor, Metadata, Position};
use super::reserve::{Pages, Reserve};
use super::superblock::Superblock;
use super::table::Table;
use super::xattr::Xattrs;
use crate::error::{Errno, Error, Result};
use crate::types::{Attr, BeforeWait, Time};

/// How an image is opened. The budgets together bound the anonymous memory an image takes, but for what is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the image begins in its file, in bytes.
    pub offset: u64,
    /// Bytes of decompressed data blocks to keep; at least eight blocks are kept.
    pub data_cache: u64,
    /// Bytes of decompressed metadata to keep.
    pub metadata_cache: u64,
    /// Bytes of decoded directories to keep.
    pub listing_cache: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { offset: 0, data_cache: 2 << 20, metadata_cache: 2 << 20, listing_cache: 1 << 20 }
    }
}

/// What to look for from an offset on (lseek(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// Bytes that the caches of an image hold at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Decompressed data blocks.
    pub data: u64,
    /// Decompressed metadata.
    pub metadata: u64,
    /// Decoded directories.
    pub listings: u64,
}

/// How often a block was not in the caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// It was decompressed.
    pub decompressed: u64,
    /// It, or the part that was wanted, was found in pages of the kernel.
    pub found: u64,
}

/// A squashfs image, readable from any number of threads.
pub struct Image {
    pub(super) map: Arc<Map>,
    pub(super) superblock: Superblock,
    compressor_options: Option<CompressorOptions>,
    pub(super) metadata: Metadata,
    pub(super) data: Data,
    pub(super) reserve: Arc<Reserve>,
    directories: Directories,
    files: Budgeted<InodeRef, Arc<BlockList>>,
    pub(super) ids: Table<4>,
    /// All of them, once one was asked for: at most 65,535.
    known_ids: OnceLock<Vec<u32>>,
    pub(super) exports: Option<Table<8>>,
    pub(super) xattrs: Option<Xattrs>,
    pub(super) reads: Reads,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("file", &self.map.name()).field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

/// The part of the metadata budget that goes to block lists.
const FILES_SHARE: u64 = 8;
const INODE: &str = "inode";

impl Image {
    /// Opens the image in the file or block device `path`. Reads its superblock, the indexes of its tables and its root inode.
    ///
    /// # Errors
    /// `Sys` where the file cannot be opened; `Unsupported` for other versions, byte orders and for lzma; `Damage` for what is
    /// not squashfs, is cut off or contradicts itself.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let map = Arc::new(Map::open(path, options.offset)?);
        let superblock = Superblock::read(&map)?;
        let compressor_options = CompressorOptions::read(&map, &superblock)?;
        let ids = Table::open(&map, "id table", superblock.id_table, u64::from(superblock.ids))?;
        let table = |at: u64| Table::open(&map, "fragment table", at, u64::from(superblock.fragments));
        let fragments = superblock.fragment_table.map(table).transpose()?;
        let table = |at: u64| Table::open(&map, "export table", at, u64::from(superblock.inodes));
        let exports = superblock.export_table.map(table).transpose()?;
        let xattrs = superblock.xattr_table.map(|at| Xattrs::open(&map, at)).transpose()?;
        let (compressor, block_size) = (superblock.compressor, superblock.block_size);
        let files = options.metadata_cache / FILES_SHARE;
        let reserve = Arc::new(Reserve::new(superblock.bytes_used, block_size));
        let (directory_table, directory_end) = (superblock.directory_table, superblock.directory_end());
        let image = Self {
            metadata: Metadata::new(Arc::clone(&map), compressor, options.metadata_cache - files, Arc::clone(&reserve)),
            data: Data::new(Arc::clone(&map), compressor, block_size, fragments, options.data_cache, Arc::clone(&reserve)),
            reserve,
            directories: Directories::new(directory_table, directory_end, options.listing_cache),
            // The marks of a long file are many, and are for the next read.
            files: Budgeted::in_one(files, 256),
            map,
            superblock,
            compressor_options,
            ids,
            known_ids: OnceLock::new(),
            exports,
            xattrs,
            reads: Reads::default(),
        };
        match image.inode(image.root())?.body {
            Body::Directory(_) => Ok(image),
            _ => Err(image.map.damage("superblock", 0, "its root is no directory")),
        }
    }

    /// The superblock.
    #[must_use]
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The options it was packed with, where they are not the defaults.
    #[must_use]
    pub const fn compressor_options(&self) -> Option<&CompressorOptions> {
        self.compressor_options.as_ref()
    }

    /// The root directory.
    #[must_use]
    pub const fn root(&self) -> InodeRef {
        self.superblock.root
    }

    /// What the caches hold at present.
    #[must_use]
    pub fn cached(&self) -> Cached {
        let metadata = self.metadata.weight() + self.files.weight();
        Cached { data: self.data.weight(), metadata, listings: self.directories.weight() }
    }

    /// How many data blocks were decompressed so far.
    #[must_use]
    pub fn decompressed(&self) -> u64 {
        self.data.decompressed()
    }

    /// How many blocks, of data and of metadata, were decompressed or found decompressed so far.
    #[must_use]
    pub fn blocks(&self) -> Blocks {
        Blocks { decompressed: self.data.decompressed() + self.metadata.decompressed(), found: self.reserve.found() }
    }

    /// Tells `listener` before each block that is used, from now on; the first stays.
    pub fn announce(&self, listener: BeforeWait) {
        self.map.announce(listener);
    }

    /// Keeps decompressed blocks in `pages`, too, from now on.
    pub fn take_pages(&self, pages: Box<dyn Pages>) {
        self.reserve.begin(pages);
    }

    /// Whether bytes that [`Image::read`] handed out are still what the image held, for those about to send them.
    #[must_use]
    pub fn is_intact(&self, bytes: &Bytes<'_>) -> bool {
        match bytes {
            Bytes::Mapped(bytes) => self.map.is_still_intact(bytes),
            Bytes::Block(..) | Bytes::Part(..) | Bytes::Owned(_) => true,
        }
    }

    pub(super) fn inode(&self, inode: InodeRef) -> Result<Inode> {
        Ok(self.inode_at(Position::from_reference(self.superblock.inode_table, inode.0))?.0)
    }

    /// The inode at `at`, and what stands behind its fixed part.
    pub(super) fn inode_at(&self, at: Position) -> Result<(Inode, Cursor<'_>)> {
        let mut cursor = self.metadata.cursor(INODE, at, self.superblock.directory_table);
        Ok((Inode::read(&mut cursor)?, cursor))
    }

    pub(super) fn list_of(&self, file: &File) -> BlockList {
        BlockList::new(file, self.superblock.block_size, self.superblock.directory_table)
    }

    fn directory(&self, inode: InodeRef) -> Result<Directory> {
        match self.inode(inode)?.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR.into()),
        }
    }

    /// Attributes of an inode.
    ///
    /// # Errors
    /// `Damage` where it cannot be read.
    pub fn attr(&self, inode: InodeRef) -> Result<Attr> {
        self.look(inode).map(|(attr, _)| attr)
    }

    /// The number of an inode, whatever else is wrong with it.
    ///
    /// # Errors
    /// `Damage` where its first bytes cannot be read.
    pub fn number(&self, inode: InodeRef) -> Result<u64> {
        let at = Position::from_reference(self.superblock.inode_table, inode.0);
        Inode::number(&mut self.metadata.cursor(INODE, at, self.superblock.directory_table)).map(u64::from)
    }

    /// Attributes of an inode, and whether it has extended ones.
    ///
    /// # Errors
    /// As for [`Image::attr`].
    pub fn look(&self, inode: InodeRef) -> Result<(Attr, bool)> {
        let found = self.inode(inode)?;
        let (size, allocated, rdev) = match &found.body {
            Body::Directory(directory) => (u64::from(directory.size), 0, 0),
            Body::File(file) => (file.size, file.size.saturating_sub(file.sparse), 0),
            Body::Symlink(target) => (target.len() as u64, 0, 0),
            Body::Device(_, device) => (0, 0, *device),
            Body::Ipc(_) => (0, 0, 0),
        };
        // The kernel counts the xattrs too.
        let xattrs = match (found.xattrs, &self.xattrs) {
            (Some(list), Some(xattrs)) => xattrs.size(&self.metadata, list)?,
            _ => 0,
        };
        let time = Time::from_secs(i64::from(found.mtime));
        let attr = Attr {
            ino: u64::from(found.ino),
            kind: found.kind(),
            perm: found.perm,
            nlink: found.nlink,
            uid: self.id(found.owner)?,
            gid: self.id(found.group)?,
            rdev,
            size,
            blocks: allocated.div_ceil(512) + u64::from(xattrs.div_ceil(512)),
            blksize: self.superblock.block_size,
            atime: time,
            mtime: time,
            ctime: time,
        };
        Ok((attr, found.xattrs.is_some()))
    }

    /// The block that has to be decompressed to look at an inode, as its position in the image; `None` where it is kept decompressed.
    #[must_use]
    pub fn far(&self, inode: InodeRef) -> Option<u64> {
        let at = Position::from_reference(self.superblock.inode_table, inode.0);
        (!self.metadata.has(at)).then_some(at.block)
    }

    fn id(&self, index: u16) -> Result<u32> {
        let entry = |at| self.ids.entry(&self.metadata, at).map(u32::from_le_bytes);
        let known = self.known_ids.get_or_init(|| {
            let all: Result<Vec<u32>> = (0..self.ids.len()).map(entry).collect();
            all.inspect_err(|e| tracing::debug!("{e}")).unwrap_or_default()
        });
        // A damaged table may have this one all the same; all are not asked for again.
        known.get(usize::from(index)).map_or_else(|| entry(u64::from(index)), |id| Ok(*id))
    }

    /// The inode with number `ino`, in images made for export by NFS; `None` in others.
    ///
    /// # Errors
    /// `Damage` where the export table cannot be read; `ESTALE` where there is no such number.
    pub fn by_number(&self, ino: u64) -> Result<Option<InodeRef>> {
        let Some(exports) = &self.exports else { return Ok(None) };
        let entry = ino.checked_sub(1).filter(|&entry| entry < exports.len()).ok_or(Errno::ESTALE)?;
        exports.entry(&self.metadata, entry).map(|inode| Some(InodeRef(u64::from_le_bytes(inode))))
    }

    /// One name of a directory.
    ///
    /// # Errors
    /// `ENOTDIR` when `inode` is no directory, `Damage` where it cannot be read.
    pub fn lookup(&self, inode: InodeRef, name: &OsStr) -> Result<Option<Entry>> {
        match self.directories.find_kept(&self.metadata, inode, name)? {
            Some(answer) => Ok(answer),
            None => self.directories.find(&self.metadata, inode, &self.directory(inode)?, name),
        }
    }

    /// All names of a directory, sorted by bytes.
    ///
    /// # Errors
    /// As for [`Image::lookup`].
    pub fn entries(&self, inode: InodeRef) -> Result<Arc<Listing>> {
        self.directories.listing(&self.metadata, inode, &self.directory(inode)?)
    }

    /// Decodes what [`Image::entries`] will be asked for, unless that takes long.
    pub fn prepare_listing(&self, inode: InodeRef) {
        if let Ok(directory) = self.directory(inode) {
            self.directories.prepare(&self.metadata, inode, &directory);
        }
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `EINVAL` for anything else, `Damage` where it cannot be read.
    pub fn readlink(&self, inode: InodeRef) -> Result<OsString> {
        match self.inode(inode)?.body {
            Body::Symlink(target) => Ok(target),
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// Names of all extended attributes, with their prefix.
    ///
    /// # Errors
    /// `Damage` where they cannot be read.
    pub fn xattrs(&self, inode: InodeRef) -> Result<Vec<OsString>> {
        match (self.inode(inode)?.xattrs, &self.xattrs) {
            (Some(list), Some(xattrs)) => xattrs.names(&self.metadata, list),
            _ => Ok(Vec::new()),
        }
    }

    /// Value of one extended attribute, `None` where it is not set.
    ///
    /// # Errors
    /// `Damage` where it cannot be read.
    pub fn xattr(&self, inode: InodeRef, name: &OsStr) -> Result<Option<Vec<u8>>> {
        let Some(xattrs) = &self.xattrs else { return Ok(None) };
        match self.inode(inode)?.xattrs {
            Some(list) => xattrs.value(&self.metadata, list, name),
            None => Ok(None),
        }
    }

    /// Up to `len` bytes of a regular file from `offset` on; fewer only at its end. What lies in several places is gathered in
    /// memory, so `len` should be no more than the caller wants there.
    ///
    /// # Errors
    /// `EISDIR` for directories, `EINVAL` for what has no content, `Damage` where it cannot be read.
    pub fn read(&self, inode: InodeRef, offset: u64, len: usize) -> Result<Bytes<'_>> {
        let spans = self.block_list(inode)?.plan(&self.metadata, offset, len as u64)?;
        self.reads.note(inode, offset, len as u64);
        self.data.read(&self.metadata, &spans)
    }

    /// The next data or hole at or after `offset`. Holes are whole blocks without content, and the end of the file.
    ///
    /// # Errors
    /// `ENXIO` at or past the end, or where no data follows; else as for [`Image::read`].
    pub fn seek(&self, inode: InodeRef, offset: u64, whence: Seek) -> Result<u64> {
        const AT_ONCE: u64 = 2048;
        let list = self.block_list(inode)?;
        let layout = list.layout();
        if offset >= layout.size {
            return Err(Errno::ENXIO.into());
        }
        let block_size = u64::from(layout.block_size);
        let mut block = offset / block_size;
        while block < layout.blocks() {
            let end = block.saturating_add(AT_ONCE).min(layout.blocks());
            let (_, sizes) = list.sizes(&self.metadata, block..end)?;
            let found = (block..).zip(&sizes).find(|&(_, &size)| (size == 0) == (whence == Seek::Hole));
            if let Some((found, _)) = found {
                return Ok(offset.max(found.saturating_mul(block_size)));
            }
            block = end;
        }
        match whence {
            Seek::Hole => Ok(layout.size),
            Seek::Data if layout.fragment.is_some() && layout.size % block_size != 0 => {
                Ok(offset.max(layout.blocks().saturating_mul(block_size)))
            }
            Seek::Data => Err(Errno::ENXIO.into()),
        }
    }

    pub(super) fn block_list(&self, inode: InodeRef) -> Result<Arc<BlockList>> {
        self.files.get_or(inode, || match self.inode(inode)?.body {
            Body::File(file) => Ok(Arc::new(self.list_of(&file))),
            Body::Directory(_) => Err(Errno::EISDIR.into()),
            Body::Symlink(_) | Body::Device(..) | Body::Ipc(_) => Err(Error::Expected(Errno::EINVAL)),
        })
    }
}
