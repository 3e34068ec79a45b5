//! Directories: lookups and listings, through a cache of what was decoded.
//!
//! A directory is kept whole if that takes no more than a small share of the budget. Of a larger one, an index is kept that
//! says which part holds a name (parts are about as long as a metadata block), and the parts that were asked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::cache::{Budgeted, Weight};
use super::inode::{Directory, InodeRef};
use super::listing::{Entry, Header, Listing, pass_entry};
use super::metadata::{Cursor, METADATA_SIZE, Metadata, Position};
use crate::error::Result;

const STRUCTURE: &str = "directory";
/// A directory is kept whole if its listing in the image is no longer than this fraction of the budget; decoded it takes about
/// twice as much.
const WHOLE_SHARE: u64 = 24;
/// Longest listing that is decoded at once, in bytes: some two million names. A few compressed blocks of a hostile image may
/// repeat a name for gigabytes.
const MAX_LISTING: u32 = 64 << 20;
/// Longest name in an index, in bytes (`SQUASHFS_NAME_LEN`).
const MAX_NAME: u32 = 256;

/// What is kept of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Whole,
    Index,
    /// From this point of the index to the next.
    From(u32),
}

#[derive(Clone)]
enum Decoded {
    Listing(Arc<Listing>),
    Index(Arc<Index>),
}

impl Weight for Decoded {
    fn weight(&self) -> u64 {
        match self {
            Self::Listing(listing) => listing.weight(),
            Self::Index(index) => index.weight(),
        }
    }
}

/// Where parts of a long directory begin.
struct Index {
    /// The directory, so that its inode need not be read again.
    directory: Directory,
    points: Box<[Point]>,
    /// False where names do not rise from point to point, so that they lead nowhere.
    sorted: bool,
}

struct Point {
    /// First name.
    name: Box<[u8]>,
    /// Byte of the listing.
    at: u32,
    place: Position,
}

impl Index {
    fn new(directory: Directory, points: Vec<Point>) -> Self {
        let sorted = points.is_sorted_by(|a, b| a.name < b.name && a.at < b.at);
        Self { directory, points: points.into(), sorted }
    }

    fn weight(&self) -> u64 {
        self.points.iter().map(|point| (size_of::<Point>() + point.name.len().next_multiple_of(16) + 16) as u64).sum()
    }
}

/// The directories of an image.
pub struct Directories {
    table: u64,
    end: u64,
    whole_limit: u64,
    decoded: Budgeted<(InodeRef, Part), Decoded>,
}

impl Directories {
    /// The directories in the table that reaches from `table` to `end`; at most `budget` bytes of them are kept decoded.
    #[must_use]
    pub fn new(table: u64, end: u64, budget: u64) -> Self {
        // One shard, so that also a listing of some megabytes can be kept for as long as it is being read.
        Self { table, end, whole_limit: budget / WHOLE_SHARE, decoded: Budgeted::new(budget, budget / 8) }
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.decoded.weight()
    }

    /// Looks `name` up in what is kept of `inode`; `None` where that is not enough to tell.
    ///
    /// # Errors
    /// `Damage` where the directory cannot be read.
    pub fn find_kept(&self, metadata: &Metadata, inode: InodeRef, name: &OsStr) -> Result<Option<Option<Entry>>> {
        if let Some(Decoded::Listing(listing)) = self.decoded.get(&(inode, Part::Whole)) {
            return Ok(Some(listing.find(name)));
        }
        match self.decoded.get(&(inode, Part::Index)) {
            Some(Decoded::Index(index)) => self.find_by(&index, metadata, inode, name).map(Some),
            _ => Ok(None),
        }
    }

    /// Looks up `name` in `directory`, whose inode is `inode`.
    ///
    /// # Errors
    /// `Damage` where the directory cannot be read.
    pub fn find(&self, metadata: &Metadata, inode: InodeRef, directory: &Directory, name: &OsStr) -> Result<Option<Entry>> {
        if u64::from(directory.listing()) <= self.whole_limit {
            return Ok(self.listing(metadata, inode, directory)?.find(name));
        }
        self.find_by(&*self.index(metadata, inode, directory)?, metadata, inode, name)
    }

    fn find_by(&self, index: &Index, metadata: &Metadata, inode: InodeRef, name: &OsStr) -> Result<Option<Entry>> {
        let directory = &index.directory;
        if !index.sorted {
            return Ok(self.listing(metadata, inode, directory)?.find(name));
        }
        let part = index.points.partition_point(|point| *point.name <= *name.as_bytes());
        let (at, place) = match part.checked_sub(1).and_then(|last| index.points.get(last)) {
            Some(point) => (point.at, point.place),
            None => (0, self.start(directory)),
        };
        let end = index.points.get(part).map_or(directory.listing(), |point| point.at);
        Ok(self.part(metadata, inode, Part::From(at), place, end.saturating_sub(at))?.find(name))
    }

    /// All names of `directory`, whose inode is `inode`.
    ///
    /// # Errors
    /// `Damage` where the directory cannot be read.
    pub fn listing(&self, metadata: &Metadata, inode: InodeRef, directory: &Directory) -> Result<Arc<Listing>> {
        self.part(metadata, inode, Part::Whole, self.start(directory), directory.listing())
    }

    /// Decodes a directory that is about to be listed, where what is decoded will be kept. Whoever lists it learns what is wrong.
    pub fn prepare(&self, metadata: &Metadata, inode: InodeRef, directory: &Directory) {
        if u64::from(directory.listing()) <= self.whole_limit {
            let _prepared = self.listing(metadata, inode, directory);
        }
    }

    fn start(&self, directory: &Directory) -> Position {
        Position { block: self.table.saturating_add(u64::from(directory.block)), offset: usize::from(directory.offset) }
    }

    fn part(&self, metadata: &Metadata, inode: InodeRef, part: Part, at: Position, len: u32) -> Result<Arc<Listing>> {
        let decode = || {
            let mut cursor = metadata.cursor(STRUCTURE, at, self.end);
            check_len(&cursor, len)?;
            Listing::read(&mut cursor, len).map(|listing| Decoded::Listing(Arc::new(listing)))
        };
        match self.decoded.get_or((inode, part), decode)? {
            Decoded::Listing(listing) => Ok(listing),
            Decoded::Index(_) => Ok(Arc::default()),
        }
    }

    fn index(&self, metadata: &Metadata, inode: InodeRef, directory: &Directory) -> Result<Arc<Index>> {
        let decode = || {
            let points = match directory.index {
                (0, _) => self.scan(metadata, directory)?,
                (count, at) => self.read_index(metadata, directory, count, at)?,
            };
            Ok(Decoded::Index(Arc::new(Index::new(*directory, points))))
        };
        match self.decoded.get_or((inode, Part::Index), decode)? {
            Decoded::Index(index) => Ok(index),
            Decoded::Listing(_) => Ok(Arc::new(Index::new(*directory, Vec::new()))),
        }
    }

    /// Reads the index that follows a directory's inode (`struct squashfs_dir_index`).
    fn read_index(&self, metadata: &Metadata, directory: &Directory, count: u16, at: Position) -> Result<Vec<Point>> {
        // It belongs to the inode and so lies before the directories.
        let mut cursor = metadata.cursor("directory index", at, self.table);
        let mut points = Vec::new();
        for _ in 0..count {
            let (at, block, len) = (cursor.u32()?, cursor.u32()?, cursor.u32()?.saturating_add(1));
            if len > MAX_NAME || at > directory.listing() {
                return Err(cursor.damage(format!("it points to byte {at} with a name of {len} bytes")));
            }
            let name = cursor.bytes(len as usize)?.into();
            // The beginning is where a listing begins, whatever an index says: squashfs-tools-ng has a point for it, mksquashfs none.
            if at == 0 {
                continue;
            }
            let offset = (usize::from(directory.offset) + at as usize) % METADATA_SIZE;
            points.push(Point { name, at, place: Position { block: self.table.saturating_add(u64::from(block)), offset } });
        }
        Ok(points)
    }

    /// Makes an index for a directory that has none.
    fn scan(&self, metadata: &Metadata, directory: &Directory) -> Result<Vec<Point>> {
        let mut cursor = metadata.cursor(STRUCTURE, self.start(directory), self.end);
        check_len(&cursor, directory.listing())?;
        let (mut points, mut at, mut due) = (Vec::new(), 0_u32, METADATA_SIZE as u32);
        while at < directory.listing() {
            let place = cursor.position();
            let (name, len) = pass_run(&mut cursor)?;
            if at >= due {
                points.push(Point { name: name.into(), at, place });
                due = at.saturating_add(METADATA_SIZE as u32);
            }
            at = at.saturating_add(len);
        }
        Ok(points)
    }
}

fn check_len(at: &Cursor<'_>, len: u32) -> Result<()> {
    if len > MAX_LISTING {
        return Err(at.damage(format!("a listing of {len} bytes is too long")));
    }
    Ok(())
}

/// Passes over a header and its entries; answers the first name and how many bytes they take.
fn pass_run(at: &mut Cursor<'_>) -> Result<(Vec<u8>, u32)> {
    let header = Header::read(at)?;
    let (mut name, mut len) = (Vec::new(), Header::SIZE);
    for entry in 0..header.count {
        let size = pass_entry(at, |piece| {
            if entry == 0 {
                name.extend_from_slice(piece);
            }
        })?;
        len = len.saturating_add(size);
    }
    Ok((name, len))
}
