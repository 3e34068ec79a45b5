//! A plain directory as a lower.
//!
//! Nobody may change it while it is in use (as with the kernel's overlayfs); so an inode is remembered by the way to it from the
//! layer's root, and found again by walking that way without following links or crossing mounts.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dashmap::{DashMap, Entry};

use super::lower::{Bytes, Listing, Lower, LowerEntry, LowerId, LowerSpace, Seek};
use crate::error::{Errno, Error, Result};
use crate::sys::data::{self, OFlags};
use crate::sys::dir;
use crate::sys::spot::{Spot, open_beneath, open_layer};
use crate::types::Attr;

/// A directory tree below one path.
#[derive(Debug)]
pub struct DirLower {
    path: PathBuf,
    root: Arc<OwnedFd>,
    root_ino: u64,
    dev: u64,
    /// The way from the root to every inode that was looked up, by inode number.
    ways: DashMap<u64, Arc<Path>>,
}

impl DirLower {
    /// Opens a directory.
    ///
    /// # Errors
    /// [`Error::Sys`] where it is missing or no directory.
    pub fn open(path: &Path) -> Result<Self> {
        let root = open_layer(path).map_err(|e| Error::sys("open lower directory", path, e))?;
        let stat = Spot::Fd(Arc::clone(&root)).stat().map_err(|e| Error::sys("stat", path, e))?;
        Ok(Self { path: path.to_owned(), root, root_ino: stat.attr.ino, dev: stat.dev, ways: DashMap::new() })
    }

    fn way(&self, id: LowerId) -> Result<Arc<Path>> {
        if id.0 == self.root_ino {
            return Ok(Path::new("").into());
        }
        self.ways.get(&id.0).map(|way| Arc::clone(&way)).ok_or(Error::Expected(Errno::ESTALE))
    }

    fn spot(&self, id: LowerId) -> Result<Spot> {
        if id.0 == self.root_ino {
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
        spot.open(OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(|e| self.failed("open", &self.way(id).unwrap_or(Path::new("").into()), e))
    }

    fn remember(&self, ino: u64, way: impl FnOnce() -> PathBuf) {
        if let Entry::Vacant(slot) = self.ways.entry(ino) {
            slot.insert(way().into());
        }
    }
}

impl Lower for DirLower {
    fn root(&self) -> LowerId {
        LowerId(self.root_ino)
    }

    fn lookup(&self, dir: LowerId, name: &OsStr) -> Result<Option<LowerEntry>> {
        let way = self.way(dir)?;
        let fd = open_beneath(&self.root, &way).map_err(|e| self.failed("open", &way, e))?;
        let stat = match Spot::at(&fd, name).stat() {
            Ok(stat) => stat,
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => return Ok(None),
            Err(e) => return Err(self.failed("stat", &way.join(name), e)),
        };
        // What is mounted inside is not part of the layer (as the kernel's private clone of the mount).
        if stat.dev != self.dev {
            return Ok(None);
        }
        self.remember(stat.attr.ino, || way.join(name));
        Ok(Some(LowerEntry { id: LowerId(stat.attr.ino), ino: stat.attr.ino, kind: stat.attr.kind }))
    }

    fn entries(&self, dir: LowerId) -> Result<Listing> {
        let way = self.way(dir)?;
        let fd = open_beneath(&self.root, &way).map_err(|e| self.failed("open", &way, e))?;
        let mut all = Vec::new();
        for raw in dir::read(&fd).map_err(|e| self.failed("list", &way, e))? {
            let kind = match raw.kind {
                Some(kind) => kind,
                None => Spot::at(&fd, &raw.name).stat().map_err(|e| self.failed("stat", &way.join(&raw.name), e))?.attr.kind,
            };
            self.remember(raw.ino, || way.join(&raw.name));
            all.push((raw.name, LowerEntry { id: LowerId(raw.ino), ino: raw.ino, kind }));
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    }

    fn attr(&self, id: LowerId) -> Result<Attr> {
        Ok(self.spot(id)?.stat().map_err(|e| self.failed("stat", &self.path, e))?.attr)
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
        let got = data::read_at(fd, &mut bytes, offset).map_err(|e| Error::sys("read", &self.path, e))?;
        bytes.truncate(got);
        Ok(Bytes::Owned(bytes))
    }

    fn seek(&self, id: LowerId, offset: u64, whence: Seek) -> Result<u64> {
        let fd = self.open_data(id)?;
        Ok(match whence {
            Seek::Data => data::seek_data(fd, offset)?,
            Seek::Hole => data::seek_hole(fd, offset)?,
        })
    }

    fn space(&self) -> LowerSpace {
        let space = data::space(&self.root).unwrap_or_default();
        let block_size = u32::try_from(space.frsize).unwrap_or(4096);
        LowerSpace { bytes: space.blocks.saturating_mul(space.frsize), inodes: space.files, block_size }
    }
}
