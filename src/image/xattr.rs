//! Extended attributes: a table of lists, in which a value may stand for itself or for where the same value stands already
//! (`struct squashfs_xattr_entry`, Linux fs/squashfs/squashfs_fs.h).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::map::Map;
use super::metadata::{Cursor, Metadata, Position};
use super::superblock::SUPERBLOCK_SIZE;
use super::table::Table;
use crate::error::Result;

const STRUCTURE: &str = "xattr";
/// Size of the header before the index.
const HEADER: u64 = 16;
/// The bit of a type that says that the value is elsewhere (`SQUASHFS_XATTR_VALUE_OOL`).
const ELSEWHERE: u16 = 1 << 8;
/// Bytes of such a reference.
const REFERENCE: u32 = 8;
/// Largest value Linux knows, in bytes (`XATTR_SIZE_MAX`, limits.h).
const MAX_VALUE: u32 = 65536;
/// Longest name, without its prefix, in bytes (`XATTR_NAME_MAX`, limits.h).
const MAX_NAME: u16 = 255;
/// Most bytes of names, each with its prefix and a NUL, that listxattr(2) can give (`XATTR_LIST_MAX`, limits.h).
const MAX_NAMES: usize = 65536;
/// More attributes than that cannot be listed: the shortest names are `user.` with one byte, and the NUL. What reads all values
/// of a list by their names walks it once for each, so this bounds its time.
const MAX_COUNT: u32 = MAX_NAMES as u32 / 7;

/// The extended attributes of an image.
pub struct Xattrs {
    ids: Table<16>,
    /// Where lists and values begin, and where they end.
    lists: u64,
    end: u64,
}

impl Xattrs {
    /// Opens the table whose header is at `at`.
    ///
    /// # Errors
    /// `Damage` where it does not lie in the image.
    pub fn open(map: &Map, at: u64) -> Result<Self> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = map.array::<16>("xattr table", at)?;
        let lists = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let count = u32::from_le_bytes([i, j, k, l]);
        if lists < SUPERBLOCK_SIZE as u64 || lists > at {
            return Err(map.damage("xattr table", at, format!("its lists at {lists} are not before it")));
        }
        let ids = Table::open(map, "xattr id table", at.saturating_add(HEADER), u64::from(count))?;
        Ok(Self { ids, lists, end: at })
    }

    /// All names in list number `list`, in the order of the image. Attributes of kinds Linux does not know are left out.
    ///
    /// # Errors
    /// `Damage` where the list cannot be read.
    pub fn names(&self, metadata: &Metadata, list: u32) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.each(metadata, list, |_, name, _| {
            names.extend(name.map(OsString::from_vec));
            Ok(false)
        })?;
        Ok(names)
    }

    /// The value of `name` in list number `list`.
    ///
    /// # Errors
    /// `Damage` where the list or the value cannot be read.
    pub fn value(&self, metadata: &Metadata, list: u32, name: &OsStr) -> Result<Option<Vec<u8>>> {
        let mut value = None;
        self.each(metadata, list, |at, found, elsewhere| {
            if found.is_none_or(|found| found != name.as_bytes()) {
                return Ok(false);
            }
            value = Some(self.read_value(metadata, at, elsewhere)?);
            Ok(true)
        })?;
        Ok(value)
    }

    /// Bytes that list number `list` takes, as the image counts them.
    ///
    /// # Errors
    /// `Damage` where there is no such list.
    pub fn size(&self, metadata: &Metadata, list: u32) -> Result<u32> {
        let [.., a, b, c, d] = self.ids.entry(metadata, u64::from(list))?;
        Ok(u32::from_le_bytes([a, b, c, d]))
    }

    /// Calls `see` with a cursor before each value, the name, and whether the value is elsewhere, until it answers true.
    fn each(
        &self,
        metadata: &Metadata,
        list: u32,
        mut see: impl FnMut(&mut Cursor<'_>, Option<Vec<u8>>, bool) -> Result<bool>,
    ) -> Result<()> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = self.ids.entry(metadata, u64::from(list))?;
        let reference = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let count = u32::from_le_bytes([i, j, k, l]);
        let mut at = metadata.cursor(STRUCTURE, Position::from_reference(self.lists, reference), self.end);
        if count > MAX_COUNT {
            return Err(at.damage(format!("{count} attributes of one file are impossible")));
        }
        let mut listed = 0;
        for _ in 0..count {
            let (kind, len) = (at.u16()?, at.u16()?);
            if len == 0 || len > MAX_NAME {
                return Err(at.damage(format!("a name of {len} bytes is impossible")));
            }
            let name = at.bytes(usize::from(len))?;
            if name.contains(&0) {
                return Err(at.damage("a name has a NUL in it"));
            }
            let name = prefix(kind).map(|prefix| [prefix, &name].concat());
            listed += name.as_ref().map_or(0, |name| name.len() + 1);
            if listed > MAX_NAMES {
                return Err(at.damage(format!("more than {MAX_NAMES} bytes of names of one file are impossible")));
            }
            let mut value = metadata.cursor(STRUCTURE, at.position(), self.end);
            if see(&mut value, name, kind & ELSEWHERE != 0)? {
                return Ok(());
            }
            let len = value_len(&mut at)?;
            at.skip(len)?;
        }
        Ok(())
    }

    fn read_value(&self, metadata: &Metadata, at: &mut Cursor<'_>, elsewhere: bool) -> Result<Vec<u8>> {
        let len = value_len(at)?;
        if !elsewhere {
            return at.bytes(len);
        }
        if len != REFERENCE as usize {
            return Err(at.damage(format!("a reference of {len} bytes is impossible")));
        }
        // What a reference leads to is always a value, so this goes no further.
        let place = Position::from_reference(self.lists, at.u64()?);
        let mut at = metadata.cursor(STRUCTURE, place, self.end);
        let len = value_len(&mut at)?;
        at.bytes(len)
    }
}

fn value_len(at: &mut Cursor<'_>) -> Result<usize> {
    let len = at.u32()?;
    if len > MAX_VALUE {
        return Err(at.damage(format!("a value of {len} bytes is impossible")));
    }
    Ok(len as usize)
}

/// The namespace that a type stands for; `None` where the type is unknown.
const fn prefix(kind: u16) -> Option<&'static [u8]> {
    match kind & 0xff {
        0 => Some(b"user."),
        1 => Some(b"trusted."),
        2 => Some(b"security."),
        _ => None,
    }
}
