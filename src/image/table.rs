//! The id, fragment, export and xattr id tables: fixed-size entries in metadata blocks, found through an index of block
//! positions. Entries are read when they are asked for.

use super::map::Map;
use super::metadata::{METADATA_SIZE, Metadata, Position};
use super::superblock::SUPERBLOCK_SIZE;
use crate::error::Result;

const POINTER: u64 = 8;

/// A table with entries of `N` bytes, where `N` divides the metadata block size.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    structure: &'static str,
    index: u64,
    entries: u64,
}

impl<const N: usize> Table<N> {
    const PER_BLOCK: u64 = (METADATA_SIZE / N) as u64;

    /// The table `structure` of `entries` entries whose index begins at `index`. The index is checked, its blocks are not read.
    ///
    /// # Errors
    /// `Damage` where the index is not in the image or its positions do not rise.
    pub fn open(map: &Map, structure: &'static str, index: u64, entries: u64) -> Result<Self> {
        let blocks = entries.div_ceil(Self::PER_BLOCK);
        let len = usize::try_from(blocks.saturating_mul(POINTER)).unwrap_or(usize::MAX);
        map.with(structure, index, len, |bytes| {
            let mut floor = SUPERBLOCK_SIZE as u64;
            for pointer in bytes.as_chunks::<8>().0 {
                let block = u64::from_le_bytes(*pointer);
                if block < floor || block >= index {
                    return Err(map.damage(structure, index, format!("its index names the block {block}")));
                }
                floor = block + 1;
            }
            Ok(())
        })?;
        Ok(Self { structure, index, entries })
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.entries
    }

    /// Entry number `entry`.
    ///
    /// # Errors
    /// `Damage` where the table has no such entry or cannot be read.
    pub fn entry(&self, metadata: &Metadata, entry: u64) -> Result<[u8; N]> {
        if entry >= self.entries {
            let why = format!("entry {entry} is asked for, it has {}", self.entries);
            return Err(metadata.map().damage(self.structure, self.index, why));
        }
        let pointer = self.index + entry / Self::PER_BLOCK * POINTER;
        let block = u64::from_le_bytes(metadata.map().array(self.structure, pointer)?);
        // Less than METADATA_SIZE, so it fits any usize.
        let offset = (entry % Self::PER_BLOCK) as usize * N;
        metadata.cursor(self.structure, Position { block, offset }, self.index).array()
    }
}
