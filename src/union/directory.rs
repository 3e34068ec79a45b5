//! A plain directory as a lower.
//!
//! Nobody may change it while it is in use (as with the kernel's overlayfs); so an inode is remembered by the way to it from the
//! layer's root, and found again by walking that way without following links or crossing mounts. One mount may show inodes of
//! several devices (subvolumes, an overlayfs); what is mounted inside is told by its mount alone.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lower::{Bytes, FileSystem, Listed, Listing, Lower, LowerEntry, LowerId, LowerSpace, Seek};
use super::pair::check_spelling;
use super::ways::{Numbers, Ways};
use crate::error::{Errno, Error, Result};
use crate::ovl::handle::{Handle, Uuid};
use crate::ovl::protect::Protection;
use crate::sys::data::{self, OFlags};
use crate::sys::dir::{self, RawEntry};
use crate::sys::handle;
use crate::sys::layer::open_lower;
use crate::sys::spot::{Spot, Stat, open_beneath};
use crate::types::{Announced, Attr, BeforeWait, Kind};

/// A directory tree below one path.
#[derive(Debug)]
pub struct DirLower {
    path: PathBuf,
    root: Arc<OwnedFd>,
    root_id: LowerId,
    mount: u64,
    ways: Ways,
    numbers: Numbers,
    exports: Option<Exports>,
    before_wait: Announced,
}

/// What it takes to find inodes of a file system by their handles.
#[derive(Debug)]
struct Exports {
    /// The layer's root, open for reading.
    root: OwnedFd,
    uuid: Uuid,
    dev: u64,
}

impl Exports {
    /// `None` where the kernel tells no UUID (before 6.9, or because there is none) or the file system gives no handles.
    fn of(root: &Arc<OwnedFd>, dev: u64) -> Option<Self> {
        let spot = Spot::Fd(Arc::clone(root));
        let open = spot.open(OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        handle::of(&spot).ok()?;
        let uuid = handle::uuid(&open).ok()?;
        Some(Self { root: open, uuid, dev })
    }
}

impl DirLower {
    /// Opens a directory.
    ///
    /// # Errors
    /// [`Error::Sys`] where it is missing or no directory, [`Error::Refused`] where upper and lower case are one in it.
    pub fn open(path: &Path) -> Result<Self> {
        let root = open_lower(path).map_err(|e| Error::sys("open lower directory", path, e))?;
        check_spelling("lower", path, &root)?;
        let stat = Spot::Fd(Arc::clone(&root)).stat().map_err(|e| Error::sys("stat", path, e))?;
        let ways = Ways::default();
        let root_id = ways.intern(PathBuf::new(), &stat);
        let numbers = Numbers::of_home(stat.dev);
        let exports = Exports::of(&root, stat.dev);
        Ok(Self {
            path: path.to_owned(),
            root,
            root_id,
            mount: stat.mount,
            ways,
            numbers,
            exports,
            before_wait: Announced::default(),
        })
    }

    fn way(&self, id: LowerId) -> Result<Arc<Path>> {
        self.ways.get(id).ok_or(Error::Expected(Errno::ESTALE))
    }

    fn spot(&self, id: LowerId) -> Result<Spot> {
        if id == self.root_id {
            return Ok(Spot::Fd(Arc::clone(&self.root)));
        }
        let way = self.way(id)?;
        let (Some(parent), Some(name)) = (way.parent(), way.file_name()) else { return Err(Errno::ESTALE.into()) };
        let dir = open_beneath(&self.root, parent).map_err(|e| self.failed("open", parent, e))?;
        Ok(Spot::At { dir, name: name.to_owned() })
    }

    fn failed(&self, doing: &'static str, way: &Path, errno: Errno) -> Error {
        if errno == Errno::ENOENT { errno.into() } else { Error::sys(doing, self.path.join(way), errno) }
    }

    fn open_data(&self, id: LowerId) -> Result<OwnedFd> {
        let spot = self.spot(id)?;
        spot.open_untouched(OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(|e| self.failed("open", &self.way(id).unwrap_or(Path::new("").into()), e))
    }

    /// What a name stands for; `None` where it does not exist, or in the layer does not: what is mounted inside is not part of it
    /// (as in the kernel's private clone of the mount).
    fn stat(&self, dir: &Arc<OwnedFd>, way: &Path, name: &OsStr) -> Result<Option<Stat>> {
        match Spot::at(dir, name).stat() {
            Ok(stat) => Ok((stat.mount == self.mount).then_some(stat)),
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => Ok(None),
            Err(e) => Err(self.failed("stat", &way.join(name), e)),
        }
    }

    fn listed(&self, listing: &Directory<'_>, raw: &RawEntry, mixed: &mut Option<bool>) -> Result<Listed> {
        let asked = match raw.kind {
            Some(Kind::Dir) => listing.may_lead_away,
            Some(_) => listing.may_lead_away && *mixed != Some(false),
            None => true,
        };
        let found = if asked { self.stat(&listing.fd, listing.way, &raw.name) } else { Ok(None) };
        let (stat, kind) = match (found, raw.kind) {
            (Ok(Some(stat)), _) => (stat, stat.attr.kind),
            // Without a look at it the listing's own word must do: for what is mounted over, or may not be looked at.
            (_, Some(kind)) => {
                return Ok(Listed { id: None, ino: self.numbers.of(listing.dev, raw.ino), kind });
            }
            (found, None) => return found.and(Err(Errno::EIO.into())),
        };
        if !kind.is_dir() {
            mixed.get_or_insert(stat.dev != listing.dev);
        }
        Ok(Listed { id: None, ino: self.numbers.of(stat.dev, stat.attr.ino), kind })
    }
}

/// A directory that is being listed.
struct Directory<'a> {
    fd: Arc<OwnedFd>,
    way: &'a Path,
    dev: u64,
    /// Its names may stand for inodes of other devices.
    may_lead_away: bool,
}

impl Lower for DirLower {
    fn root(&self) -> LowerId {
        self.root_id
    }

    fn lookup(&self, dir: LowerId, name: &OsStr) -> Result<Option<LowerEntry>> {
        let way = self.way(dir)?;
        let fd = open_beneath(&self.root, &way).map_err(|e| self.failed("open", &way, e))?;
        let Some(stat) = self.stat(&fd, &way, name)? else { return Ok(None) };
        let ino = self.numbers.of(stat.dev, stat.attr.ino);
        Ok(Some(LowerEntry { id: self.ways.intern(way.join(name), &stat), ino, kind: stat.attr.kind }))
    }

    /// Only a file system without a block device of its own may show inodes of several devices, or list other numbers than
    /// stat(2) tells: there directories are looked at, and everything else once that was seen to be on another device.
    fn entries(&self, dir: LowerId) -> Result<Listing> {
        let way = self.way(dir)?;
        let fd = open_beneath(&self.root, &way).map_err(|e| self.failed("open", &way, e))?;
        let open = Spot::Fd(Arc::clone(&fd)).open_untouched(OFlags::RDONLY | OFlags::DIRECTORY);
        let raw = open.and_then(dir::read_open).map_err(|e| self.failed("list", &way, e))?;
        let dev = Spot::Fd(Arc::clone(&fd)).stat().map_err(|e| self.failed("stat", &way, e))?.dev;
        let listing = Directory { fd, way: &way, dev, may_lead_away: libc::major(dev) == 0 };
        let mut mixed = None;
        let mut all = Vec::with_capacity(raw.len());
        for entry in raw {
            let listed = self.listed(&listing, &entry, &mut mixed)?;
            all.push((entry.name, listed));
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    }

    /// Without remembering the way to each.
    fn may_be_linked(&self, dir: LowerId, name: &OsStr) -> Result<bool> {
        let way = self.way(dir)?;
        let fd = open_beneath(&self.root, &way).map_err(|e| self.failed("open", &way, e))?;
        Ok(self.stat(&fd, &way, name)?.is_some_and(|stat| stat.attr.nlink > 1))
    }

    fn attr(&self, id: LowerId) -> Result<Attr> {
        let stat = self.spot(id)?.stat().map_err(|e| self.failed("stat", &self.path, e))?;
        Ok(Attr { ino: self.numbers.of(stat.dev, stat.attr.ino), ..stat.attr })
    }

    fn readlink(&self, id: LowerId) -> Result<OsString> {
        self.spot(id)?.readlink().map_err(Error::from)
    }

    fn xattr_names(&self, id: LowerId) -> Result<Vec<OsString>> {
        let names = self.spot(id)?.xattr_names()?;
        // Only the host's root can read trusted ones; names without values would make copy-up fail.
        let readable = crate::sys::cred::privilege().uid == 0;
        Ok(names.into_iter().filter(|name| readable || !name.as_bytes().starts_with(b"trusted.")).collect())
    }

    fn xattr(&self, id: LowerId, name: &OsStr) -> Result<Option<Vec<u8>>> {
        match self.spot(id)?.xattr(name) {
            Err(Errno::EPERM | Errno::EACCES) => Ok(None),
            answer => Ok(answer?),
        }
    }

    fn read(&self, id: LowerId, offset: u64, len: usize) -> Result<Bytes<'_>> {
        let fd = self.open_data(id)?;
        let mut bytes = vec![0; len];
        let got = data::read_at_telling(fd, &mut bytes, offset, || self.before_wait.tell())
            .map_err(|e| Error::sys("read", &self.path, e))?;
        bytes.truncate(got);
        Ok(Bytes::Owned(bytes))
    }

    fn announce(&self, listener: BeforeWait) {
        self.before_wait.announce(listener);
    }

    fn seek(&self, id: LowerId, offset: u64, whence: Seek) -> Result<u64> {
        let fd = self.open_data(id)?;
        Ok(match whence {
            Seek::Data => data::seek_data(fd, offset)?,
            Seek::Hole => data::seek_hole(fd, offset)?,
        })
    }

    fn protection(&self, id: LowerId) -> Result<Protection> {
        let stat = self.spot(id)?.stat().map_err(|e| self.failed("stat", &self.path, e))?;
        Ok(Protection { append: stat.append, immutable: stat.immutable })
    }

    fn has_flags(&self) -> bool {
        true
    }

    fn space(&self) -> LowerSpace {
        let space = data::space(&self.root).unwrap_or_default();
        let block_size = u32::try_from(space.frsize).unwrap_or(4096);
        LowerSpace { bytes: space.blocks.saturating_mul(space.frsize), inodes: space.files, block_size }
    }

    fn file_system(&self) -> Option<FileSystem> {
        self.exports.as_ref().map(|exports| FileSystem { uuid: exports.uuid, dev: Some(exports.dev) })
    }

    fn handle(&self, id: LowerId) -> Result<Option<Handle>> {
        let Some(exports) = &self.exports else { return Ok(None) };
        let Ok((kind, fid)) = handle::of(&self.spot(id)?) else { return Ok(None) };
        Ok(u8::try_from(kind).ok().map(|kind| Handle { uuid: exports.uuid, kind, fid, upper: false }))
    }

    /// Only on the device of the layer's root: numbers on others are made up anew by every mount.
    fn by_handle(&self, handle: &Handle) -> Result<Option<Attr>> {
        let Some(exports) = &self.exports else { return Ok(None) };
        let fd = match handle::open(&exports.root, i32::from(handle.kind), &handle.fid) {
            Err(Errno::ESTALE | Errno::EINVAL) => return Ok(None),
            opened => opened.map_err(|e| Error::sys("open by a handle an inode of", &self.path, e))?,
        };
        let stat = Spot::Fd(Arc::new(fd)).stat()?;
        Ok((stat.dev == exports.dev).then_some(stat.attr))
    }
}
