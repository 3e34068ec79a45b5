//! The list of a file's block sizes, with marks on the way so that the end of a long file is found as fast as its beginning.

use std::sync::Arc;

use parking_lot::Mutex;

use super::cache::Weight;
use super::inode::File;
use super::metadata::{Metadata, Position};
use super::scattered::Scattered;
use super::span::{Layout, STORED, Spans};
use crate::error::{Error, Result};

/// Blocks from one mark to the next.
const STRIDE: u64 = 256;
/// Of a longer list nobody waits for the end: 8 TiB in blocks of 128 KiB, 256 GiB in blocks of 4 KiB. Sizes of holes, which an image
/// can have for next to nothing, could keep a reader busy for hours.
const MOST: u64 = 1 << 26;
const STRUCTURE: &str = "block list";
const ENTRY: usize = 4;

/// One file's list. Only marks are kept, 24 bytes for every 256 blocks; sizes are read from (cached) metadata.
pub struct BlockList {
    layout: Layout,
    first: Mark,
    /// Where the inode table, which the list is in, ends.
    end: u64,
    /// Marks after `first`, made as far as reads have come.
    marks: Mutex<Vec<Mark>>,
    scattered: Scattered,
}

/// Where the sizes of block 256 * n begin, and where that block lies in the image.
#[derive(Clone, Copy)]
struct Mark {
    sizes: Position,
    at: u64,
}

impl Weight for Arc<BlockList> {
    fn weight(&self) -> u64 {
        let marks = (self.layout.blocks() / STRIDE).saturating_mul(size_of::<Mark>() as u64);
        marks.saturating_add(size_of::<BlockList>() as u64)
    }
}

impl BlockList {
    /// The list of `file`, which ends before `end`.
    #[must_use]
    pub fn new(file: &File, block_size: u32, end: u64) -> Self {
        Self {
            layout: Layout { size: file.size, block_size, fragment: file.fragment },
            first: Mark { sizes: file.blocks, at: file.start },
            end,
            marks: Mutex::new(Vec::new()),
            scattered: Scattered::default(),
        }
    }

    /// How much of the file scattered reads have asked for.
    #[must_use]
    pub const fn scattered(&self) -> &Scattered {
        &self.scattered
    }

    /// How the file is cut into blocks.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Plans the read of `len` bytes at `offset`, or of what there is of them.
    ///
    /// # Errors
    /// `Damage` where the list cannot be read or says something impossible, `Unsupported` behind block number 2^26.
    pub fn plan(&self, metadata: &Metadata, offset: u64, len: u64) -> Result<Spans> {
        let range = self.layout.clamp(offset, len);
        let blocks = self.layout.blocks_of(&range);
        let (start, sizes) = self.sizes(metadata, blocks)?;
        self.layout.plan(range, start, &sizes).map_err(|why| metadata.map().damage(STRUCTURE, self.first.sizes.block, why))
    }

    /// The sizes of `blocks`, as the image has them, and where the first of these blocks lies.
    ///
    /// # Errors
    /// `Damage` where the list cannot be read, `Unsupported` behind block number 2^26.
    pub fn sizes(&self, metadata: &Metadata, blocks: std::ops::Range<u64>) -> Result<(u64, Vec<u32>)> {
        if blocks.is_empty() {
            return Ok((self.first.at, Vec::new()));
        }
        if blocks.end > MOST {
            return Err(too_long(metadata, self.layout.blocks()));
        }
        let mark = self.mark(metadata, blocks.start / STRIDE)?;
        let (at, before) = sizes(metadata, mark, self.end, blocks.start % STRIDE)?;
        let start = Mark { sizes: at, at: advance(metadata, mark, &before)? };
        let (_, wanted) = sizes(metadata, start, self.end, blocks.end - blocks.start)?;
        Ok((start.at, wanted))
    }

    fn mark(&self, metadata: &Metadata, number: u64) -> Result<Mark> {
        let mut marks = self.marks.lock();
        let have = marks.len() as u64;
        let mut last = marks.last().copied().unwrap_or(self.first);
        for _ in have..number {
            let (position, passed) = sizes(metadata, last, self.end, STRIDE)?;
            last = Mark { sizes: position, at: advance(metadata, last, &passed)? };
            marks.push(last);
        }
        let mark =
            number.checked_sub(1).map_or(Some(self.first), |n| usize::try_from(n).ok().and_then(|n| marks.get(n).copied()));
        mark.ok_or_else(|| metadata.map().damage(STRUCTURE, self.first.sizes.block, "it is too long"))
    }
}

#[cold]
#[inline(never)]
fn too_long(metadata: &Metadata, blocks: u64) -> Error {
    let image = metadata.map().name().display();
    Error::Unsupported(format!(
        "{image}: a file of {blocks} blocks can be read to the end of block {MOST} alone: pack it in larger ones"
    ))
}

/// Reads `count` sizes at `mark`, and where they end.
fn sizes(metadata: &Metadata, mark: Mark, end: u64, count: u64) -> Result<(Position, Vec<u32>)> {
    let mut cursor = metadata.cursor(STRUCTURE, mark.sizes, end);
    let len = usize::try_from(count).ok().and_then(|n| n.checked_mul(ENTRY)).ok_or_else(|| cursor.damage("it is too long"))?;
    let bytes = cursor.bytes(len)?;
    Ok((cursor.position(), bytes.as_chunks::<ENTRY>().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect()))
}

/// The position behind blocks of these sizes that begin at `mark`.
fn advance(metadata: &Metadata, mark: Mark, sizes: &[u32]) -> Result<u64> {
    let bytes: u64 = sizes.iter().map(|size| u64::from(size & !STORED)).sum();
    let past = mark.at.checked_add(bytes).filter(|&at| at <= metadata.map().len());
    past.ok_or_else(|| metadata.map().damage(STRUCTURE, mark.sizes.block, "its blocks go on past the end of the image"))
}
