//! The superblock: 96 bytes at the beginning of an image that say where everything else is (`struct squashfs_super_block`,
//! Linux fs/squashfs/squashfs_fs.h).

use super::compressor::Compressor;
use super::inode::InodeRef;
use super::map::Map;
use crate::error::{Error, Result};

/// Bytes of a superblock.
pub const SUPERBLOCK_SIZE: usize = 96;
/// Smallest and largest size of a data block, in bytes.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 4096..=1 << 20;
/// Marks a table that an image does not have.
const ABSENT: u64 = u64::MAX;
/// "hsqs", which is "sqsh" read as a little-endian number.
const MAGIC: [u8; 4] = *b"hsqs";
/// What images before version 4 in big-endian order begin with.
const MAGIC_BIG_ENDIAN: [u8; 4] = *b"sqsh";
const STRUCTURE: &str = "superblock";

/// Flags of an image (`SQUASHFS_NOI` and following).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// Compressor options follow the superblock.
    pub const COMPRESSOR_OPTIONS: Self = Self(1 << 10);

    /// True when all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names mksquashfs and unsquashfs give the set bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(u16, &str); 11] = [
            (0, "uncompressed-inodes"),
            (1, "uncompressed-data"),
            (3, "uncompressed-fragments"),
            (4, "no-fragments"),
            (5, "always-use-fragments"),
            (6, "duplicates-checked"),
            (7, "exportable"),
            (8, "uncompressed-xattrs"),
            (9, "no-xattrs"),
            (10, "compressor-options"),
            (11, "uncompressed-ids"),
        ];
        NAMES.into_iter().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }
}

/// A superblock whose numbers have been checked against each other and against the size of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Inodes in the image.
    pub inodes: u32,
    /// When the image was made, in seconds since the epoch.
    pub made: u32,
    /// Bytes of a data block: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
    /// Entries of the fragment table.
    pub fragments: u32,
    /// How blocks are compressed.
    pub compressor: Compressor,
    /// Properties of the image.
    pub flags: Flags,
    /// Entries of the id table.
    pub ids: u16,
    /// The root directory.
    pub root: InodeRef,
    /// Bytes from the beginning of the image to its end, without padding.
    pub bytes_used: u64,
    /// Where the index of the id table is; like all positions here in bytes from the beginning of the image.
    pub id_table: u64,
    /// Where the header of the xattr table is.
    pub xattr_table: Option<u64>,
    /// Where the inodes begin.
    pub inode_table: u64,
    /// Where the directories begin, and the inodes end.
    pub directory_table: u64,
    /// Where the index of the fragment table is.
    pub fragment_table: Option<u64>,
    /// Where the index of the export table is.
    pub export_table: Option<u64>,
}

/// Numbers taken one after the other from the front of a byte string.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((head, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *head
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

impl Superblock {
    /// Reads the superblock of `map`.
    ///
    /// # Errors
    /// `Damage` for what is not squashfs or is cut off; `Unsupported` for other versions, byte orders and for lzma.
    pub fn read(map: &Map) -> Result<Self> {
        check_magic(map)?;
        let bytes: [u8; SUPERBLOCK_SIZE] = map.array(STRUCTURE, 0)?;
        let superblock = Self::decode(map, &bytes)?;
        superblock.check(map)?;
        Ok(superblock)
    }

    fn decode(map: &Map, bytes: &[u8]) -> Result<Self> {
        let mut at = Fields(bytes);
        let _magic = at.u32();
        let (inodes, made, block_size, fragments) = (at.u32(), at.u32(), at.u32(), at.u32());
        let (compressor, block_log, flags, ids) = (at.u16(), at.u16(), at.u16(), at.u16());
        let (major, minor) = (at.u16(), at.u16());
        if (major, minor) != (4, 0) {
            let name = map.name().display();
            return Err(Error::Unsupported(format!("{name}: squashfs version {major}.{minor} is not supported, only 4.0 is")));
        }
        if !BLOCK_SIZES.contains(&block_size) || 1_u32.checked_shl(u32::from(block_log)) != Some(block_size) {
            return Err(map.damage(STRUCTURE, 0, format!("block size {block_size} (2^{block_log}) is impossible")));
        }
        let root = InodeRef(at.u64());
        let bytes_used = at.u64();
        let (id_table, xattr_table, inode_table, directory_table) = (at.u64(), at.u64(), at.u64(), at.u64());
        let (fragment_table, export_table) = (at.u64(), at.u64());
        let present = |table: u64| (table != ABSENT).then_some(table);
        Ok(Self {
            inodes,
            made,
            block_size,
            fragments,
            compressor: Compressor::from_id(compressor, map)?,
            flags: Flags(flags),
            ids,
            root,
            bytes_used,
            id_table,
            xattr_table: present(xattr_table),
            inode_table,
            directory_table,
            // Without fragments the position is not to be looked at, whatever it is.
            fragment_table: present(fragment_table).filter(|_| fragments > 0),
            export_table: present(export_table),
        })
    }

    fn check(&self, map: &Map) -> Result<()> {
        let damage = |why: String| Err(map.damage(STRUCTURE, 0, why));
        if self.bytes_used > map.len() {
            return damage(format!("the image is cut off: it has {} of {} bytes", map.len(), self.bytes_used));
        }
        if self.inodes == 0 || self.ids == 0 {
            return damage("it counts no inodes or no ids".into());
        }
        if self.fragments > 0 && self.fragment_table.is_none() {
            return damage(format!("there are {} fragments, but no fragment table", self.fragments));
        }
        let tables = [
            ("inode table", Some(self.inode_table)),
            ("directory table", Some(self.directory_table)),
            ("fragment table", self.fragment_table),
            ("export table", self.export_table),
            ("id table", Some(self.id_table)),
            ("xattr table", self.xattr_table),
        ];
        for (name, position) in tables {
            let inside = position.is_none_or(|at| at >= SUPERBLOCK_SIZE as u64 && at < self.bytes_used);
            if !inside {
                return damage(format!("the {name} at {} is not in the image", position.unwrap_or(ABSENT)));
            }
        }
        if self.inode_table >= self.directory_table {
            return damage("the directory table is not behind the inode table".into());
        }
        Ok(())
    }

    /// Where the directory table ends at the latest: where the next structure begins.
    #[must_use]
    pub fn directory_end(&self) -> u64 {
        let later = [self.fragment_table, self.export_table, Some(self.id_table), self.xattr_table, Some(self.bytes_used)];
        later.into_iter().flatten().filter(|&at| at > self.directory_table).min().unwrap_or(self.bytes_used)
    }
}

fn check_magic(map: &Map) -> Result<()> {
    let Ok(magic) = map.array::<4>(STRUCTURE, 0) else {
        return Err(map.damage(STRUCTURE, 0, format!("not a squashfs image: it has {} bytes", map.len())));
    };
    match magic {
        MAGIC if map.len() < SUPERBLOCK_SIZE as u64 => {
            Err(map.damage(STRUCTURE, 0, format!("the image is cut off: it has {} bytes", map.len())))
        }
        MAGIC => Ok(()),
        MAGIC_BIG_ENDIAN => {
            Err(Error::Unsupported(format!("{}: a big-endian squashfs image is not supported", map.name().display())))
        }
        _ => Err(map.damage(STRUCTURE, 0, "not a squashfs image")),
    }
}
