//! Decoded directories: compact, sorted, searched without touching the image.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::cache::Weight;
use super::inode::InodeRef;
use super::metadata::{Cursor, METADATA_SIZE};
use crate::error::Result;
use crate::types::Kind;

/// Entries behind one header (`SQUASHFS_DIR_COUNT`).
const MAX_COUNT: u32 = 256;
/// Longest name in bytes (`NAME_MAX`, limits.h).
const MAX_NAME: u32 = 255;
const HEADER: u32 = 12;
const ENTRY: u32 = 8;

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The inode.
    pub inode: InodeRef,
    /// Its `st_ino`, as the directory tells it.
    pub ino: u64,
    /// Its type, as the directory tells it.
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    name_at: u32,
    block: u32,
    ino: u32,
    offset: u16,
    name_len: u8,
    kind: Kind,
}

/// The names of a directory, or of a part of it, without `.` and `..`, sorted by bytes, each once.
#[derive(Debug, Default)]
pub struct Listing {
    names: Box<[u8]>,
    records: Box<[Record]>,
}

impl Weight for Arc<Listing> {
    fn weight(&self) -> u64 {
        (self.names.len() + size_of_val(&*self.records) + size_of::<Listing>()) as u64
    }
}

impl Listing {
    /// Reads `len` bytes of directory.
    ///
    /// # Errors
    /// `Damage` for what no directory holds: impossible names, types and counts.
    pub fn read(at: &mut Cursor<'_>, len: u32) -> Result<Self> {
        let mut collected = COLLECTED.take();
        let listing = collected.read(at, len).map(|()| collected.sorted());
        COLLECTED.set(collected.emptied());
        listing
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True when there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All names in order.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, Entry)> {
        self.records.iter().map(|record| (OsStr::from_bytes(record.name(&self.names)), record.entry()))
    }

    /// The entry of `name`.
    #[must_use]
    pub fn find(&self, name: &OsStr) -> Option<Entry> {
        let found = self.records.binary_search_by(|record| record.name(&self.names).cmp(name.as_bytes())).ok()?;
        self.records.get(found).map(Record::entry)
    }
}

impl Record {
    fn name<'n>(&self, names: &'n [u8]) -> &'n [u8] {
        let from = self.name_at as usize;
        names.get(from..from + usize::from(self.name_len)).unwrap_or_default()
    }

    fn entry(&self) -> Entry {
        let inode = InodeRef(u64::from(self.block) << 16 | u64::from(self.offset));
        Entry { inode, ino: u64::from(self.ino), kind: self.kind }
    }
}

thread_local! {
    /// What the last listing was collected in. Listings come and go among nodes that stay: one that took more while it was read than it
    /// keeps would leave a place where the next one of its size is not read into. Four readers of 60,000 files were measured to make
    /// 9 MB of such places.
    static COLLECTED: Cell<Collected> = const { Cell::new(Collected { names: Vec::new(), records: Vec::new() }) };
}

/// A listing while it is read, in the order of the image.
#[derive(Default)]
struct Collected {
    names: Vec<u8>,
    records: Vec<Record>,
}

impl Collected {
    /// Room for so many bytes of names and so many records is kept: a part of a directory that mksquashfs has made takes no more.
    const KEPT: [usize; 2] = [METADATA_SIZE, METADATA_SIZE / (ENTRY as usize + 1)];

    fn read(&mut self, at: &mut Cursor<'_>, len: u32) -> Result<()> {
        let mut rest = len;
        while rest > 0 {
            rest = self.run(at, rest)?;
        }
        Ok(())
    }

    /// For the next listing.
    fn emptied(mut self) -> Self {
        self.names.clear();
        self.records.clear();
        self.names.shrink_to(Self::KEPT[0]);
        self.records.shrink_to(Self::KEPT[1]);
        self
    }

    /// Reads one header and its entries, which may take up `rest` bytes, and answers how many are left.
    fn run(&mut self, at: &mut Cursor<'_>, rest: u32) -> Result<u32> {
        let mut rest = take(at, rest, HEADER)?;
        let Header { count, block, base } = Header::read(at)?;
        for _ in 0..count {
            rest = take(at, rest, ENTRY)?;
            let (offset, delta) = (at.u16()?, i16::from_le_bytes(at.array()?));
            let kind = kind(at)?;
            let name_len = u32::from(at.u16()?) + 1;
            rest = take(at, rest, name_len)?;
            let name_at = self.names.len();
            let name_len = self.name(at, name_len)?;
            let name_at = u32::try_from(name_at).map_err(|_| at.damage("the names of a directory take more than 4 GiB"))?;
            let ino = base.wrapping_add_signed(i32::from(delta));
            self.records.push(Record { name_at, block, ino, offset, name_len, kind });
        }
        Ok(rest)
    }

    fn name(&mut self, at: &mut Cursor<'_>, len: u32) -> Result<u8> {
        let Some(short) = u8::try_from(len).ok().filter(|_| len <= MAX_NAME) else {
            return Err(at.damage(format!("a name of {len} bytes is impossible")));
        };
        let start = self.names.len();
        at.pieces(len as usize, |piece| self.names.extend_from_slice(piece))?;
        let name = self.names.get(start..).unwrap_or_default();
        if matches!(name, b"." | b"..") || name.iter().any(|&b| b == b'/' || b == 0) {
            return Err(at.damage(format!("the name {:?} is impossible", OsStr::from_bytes(name))));
        }
        Ok(short)
    }

    /// Names sorted by bytes and without repetitions; of equal names the first in the image stays.
    fn sorted(&mut self) -> Listing {
        let Self { names, records } = self;
        if !records.is_sorted_by(|a, b| a.name(names) < b.name(names)) {
            records.sort_by(|a, b| a.name(names).cmp(b.name(names)));
            records.dedup_by(|later, kept| later.name(names) == kept.name(names));
        }
        Listing { names: exactly(names), records: exactly(records) }
    }
}

/// What stands before a run of entries.
pub struct Header {
    /// Entries that follow: 1 to 256.
    pub count: u32,
    /// Metadata block of all their inodes.
    block: u32,
    /// Inode number that theirs are relative to.
    base: u32,
}

impl Header {
    /// Bytes of a header.
    pub const SIZE: u32 = HEADER;

    /// Reads a header.
    ///
    /// # Errors
    /// `Damage` for a count above 256.
    pub fn read(at: &mut Cursor<'_>) -> Result<Self> {
        let (count, block, base) = (at.u32()?.saturating_add(1), at.u32()?, at.u32()?);
        if count > MAX_COUNT {
            return Err(at.damage(format!("{count} entries behind one header are impossible")));
        }
        Ok(Self { count, block, base })
    }
}

/// Passes over one entry, hands its name to `see`, and answers its size in bytes.
///
/// # Errors
/// `Damage` where the directory ends before.
pub fn pass_entry(at: &mut Cursor<'_>, see: impl FnMut(&[u8])) -> Result<u32> {
    at.skip(6)?;
    let len = u32::from(at.u16()?) + 1;
    at.pieces(len as usize, see)?;
    Ok(ENTRY + len)
}

/// A copy, or of what takes much the thing itself.
fn exactly<T: Copy>(collected: &mut Vec<T>) -> Box<[T]> {
    const MUCH: usize = 1 << 20;
    if size_of_val(collected.as_slice()) < MUCH { collected.as_slice().into() } else { std::mem::take(collected).into() }
}

fn take(at: &Cursor<'_>, rest: u32, need: u32) -> Result<u32> {
    rest.checked_sub(need).ok_or_else(|| at.damage("an entry goes on past the end of its directory"))
}

fn kind(at: &mut Cursor<'_>) -> Result<Kind> {
    // Directories name the basic types only, whatever the inode is.
    Ok(match at.u16()? {
        1 => Kind::Dir,
        2 => Kind::File,
        3 => Kind::Symlink,
        4 => Kind::Block,
        5 => Kind::Char,
        6 => Kind::Fifo,
        7 => Kind::Socket,
        other => return Err(at.damage(format!("no entry has the type {other}"))),
    })
}
