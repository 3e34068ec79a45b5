//! Metadata: inodes, directories and tables, written one after the other in blocks of up to 8 KiB.
//!
//! Each block is a 16-bit length and that many bytes, compressed unless the length's highest bit is set. A structure goes on
//! in the next block where one ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cache::{Budgeted, Weight};
use super::compressor::Compressor;
use super::map::Map;
use super::reserve::{Packed, Reserve};
use crate::error::{Error, Result};

/// Bytes of a full metadata block, decompressed (`SQUASHFS_METADATA_SIZE`).
pub const METADATA_SIZE: usize = 8192;
/// The bit of a length that marks a stored block.
const STORED: u16 = 1 << 15;
const HEADER: u64 = 2;
const STRUCTURE: &str = "metadata block";

/// A place in metadata: a block, by its position in the image, and a byte in it when decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Position of the block's length, in bytes from the beginning of the image.
    pub block: u64,
    /// Byte in the decompressed block.
    pub offset: usize,
}

impl Position {
    /// Reads a reference as inodes and xattrs use it: the upper 48 bits say which block after `table`, the lower 16 which byte.
    #[must_use]
    pub const fn from_reference(table: u64, reference: u64) -> Self {
        Self { block: table.saturating_add(reference >> 16), offset: (reference & 0xffff) as usize }
    }
}

/// A decompressed metadata block.
pub struct Block {
    bytes: Box<[u8]>,
    /// Where the block behind it begins.
    next: u64,
}

impl Weight for Arc<Block> {
    fn weight(&self) -> u64 {
        (self.bytes.len() + size_of::<Block>()) as u64
    }
}

/// Reads metadata blocks and keeps them decompressed.
pub struct Metadata {
    map: Arc<Map>,
    compressor: Compressor,
    blocks: Budgeted<u64, Arc<Block>>,
    reserve: Arc<Reserve>,
    decompressed: AtomicU64,
}

impl Metadata {
    /// A reader that keeps at most `budget` bytes of blocks.
    #[must_use]
    pub fn new(map: Arc<Map>, compressor: Compressor, budget: u64, reserve: Arc<Reserve>) -> Self {
        Self { map, compressor, blocks: Budgeted::new(budget, METADATA_SIZE as u64), reserve, decompressed: AtomicU64::new(0) }
    }

    /// A reader of what lies from `at` on, in blocks that begin before `end`.
    #[must_use]
    pub const fn cursor(&self, structure: &'static str, at: Position, end: u64) -> Cursor<'_> {
        Cursor { metadata: self, structure, at, end, block: None }
    }

    /// The map behind it.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    fn block(&self, at: u64) -> Result<Arc<Block>> {
        self.blocks.get_or(at, || self.decode(at).map(Arc::new))
    }

    /// How many bytes the block at `at` has in the image, and whether they are compressed.
    fn header(&self, at: u64) -> Result<(usize, bool)> {
        let header = u16::from_le_bytes(self.map.array(STRUCTURE, at)?);
        let len = usize::from(header & !STORED);
        if len == 0 || len > METADATA_SIZE {
            return Err(self.map.damage(STRUCTURE, at, format!("a length of {len} bytes is impossible")));
        }
        Ok((len, header & STORED == 0))
    }

    fn decode(&self, at: u64) -> Result<Block> {
        let (len, is_compressed) = self.header(at)?;
        let start = at.saturating_add(HEADER);
        let bytes = if !is_compressed {
            self.map.with(STRUCTURE, start, len, |input| Ok(input.into()))?
        } else {
            self.decompress(at, Packed { at: start, size: len as u32 })?
        };
        Ok(Block { bytes, next: start.saturating_add(len as u64) })
    }

    /// The content of the block at `at`, whose compressed bytes are `packed`.
    fn decompress(&self, at: u64, packed: Packed) -> Result<Box<[u8]>> {
        let mut output = [0; METADATA_SIZE];
        if let Some(held) = self.reserve.len_of(packed).and_then(|len| output.get_mut(..len))
            && self.reserve.read(packed, 0, held)
        {
            return Ok((&*held).into());
        }
        self.decompressed.fetch_add(1, Ordering::Relaxed);
        let len = self.map.with(STRUCTURE, packed.at, packed.size as usize, |input| {
            let len = self.compressor.decompress(input, &mut output);
            len.map_err(|why| self.map.damage(STRUCTURE, at, format!("{}: {why}", self.compressor)))
        })?;
        match output.get(..len) {
            None | Some([]) => Err(self.map.damage(STRUCTURE, at, "it is empty")),
            Some(content) => {
                self.reserve.keep(packed, content);
                Ok(content.into())
            }
        }
    }

    /// Whether the block at a place is kept decompressed.
    #[must_use]
    pub fn has(&self, at: Position) -> bool {
        self.blocks.has(&at.block)
    }

    /// How many blocks were decompressed so far.
    #[must_use]
    pub fn decompressed(&self) -> u64 {
        self.decompressed.load(Ordering::Relaxed)
    }

    /// Bytes of decompressed blocks that are kept.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.blocks.weight()
    }
}

/// Reads metadata from a place on, from block to block; never backwards, so that it comes to an end in any image.
pub struct Cursor<'a> {
    metadata: &'a Metadata,
    structure: &'static str,
    at: Position,
    end: u64,
    block: Option<Arc<Block>>,
}

impl Cursor<'_> {
    /// Where the next byte is read.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.at
    }

    /// Damage of what is being read.
    #[must_use]
    pub fn damage(&self, why: impl Into<String>) -> Error {
        self.metadata.map.damage(self.structure, self.at.block, why)
    }

    /// Hands the next `len` bytes to `take`, in as many pieces as they lie in.
    ///
    /// # Errors
    /// `Damage` where the metadata ends before.
    pub fn pieces(&mut self, mut len: usize, mut take: impl FnMut(&[u8])) -> Result<()> {
        while len > 0 {
            let Some(block) = &self.block else {
                self.load()?;
                continue;
            };
            let rest = block.bytes.get(self.at.offset..).unwrap_or_default();
            let piece = rest.get(..len).unwrap_or(rest);
            take(piece);
            len -= piece.len();
            self.at.offset += piece.len();
            if self.at.offset >= block.bytes.len() {
                self.at = Position { block: block.next, offset: 0 };
                self.block = None;
            }
        }
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        if self.at.block >= self.end {
            return Err(self.damage("it goes on past the end of its table"));
        }
        let block = self.metadata.block(self.at.block)?;
        if self.at.offset >= block.bytes.len() {
            let why = format!("byte {} is asked for in a block of {}", self.at.offset, block.bytes.len());
            return Err(self.damage(why));
        }
        self.block = Some(block);
        Ok(())
    }

    /// The next `len` bytes, a number the caller has checked.
    ///
    /// # Errors
    /// As for [`Cursor::pieces`].
    pub fn bytes(&mut self, len: usize) -> Result<Vec<u8>> {
        // Not with_capacity(len): what is not there shall not be allocated.
        let mut bytes = Vec::with_capacity(len.min(METADATA_SIZE));
        self.pieces(len, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Passes over `len` bytes. Blocks that lie in them as a whole are not decompressed: all but the last of a table are full, and what
    /// follows a long value must not cost what the value would.
    ///
    /// # Errors
    /// As for [`Cursor::pieces`].
    pub fn skip(&mut self, mut len: usize) -> Result<()> {
        while len > 0 {
            let is_at_block = self.block.is_none() && self.at.offset == 0 && self.at.block < self.end;
            if is_at_block && len >= METADATA_SIZE {
                let (size, _) = self.metadata.header(self.at.block)?;
                self.at.block = self.at.block.saturating_add(HEADER + size as u64);
                len -= METADATA_SIZE;
            } else {
                let step = len.min(METADATA_SIZE - self.at.offset % METADATA_SIZE);
                self.pieces(step, |_| {})?;
                len -= step;
            }
        }
        Ok(())
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// As for [`Cursor::pieces`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        if let Some(block) = &self.block
            && let Some(all) = block.bytes.get(self.at.offset..).and_then(|rest| rest.first_chunk())
            // The last byte of a block leads to the next one.
            && self.at.offset + N < block.bytes.len()
        {
            self.at.offset += N;
            return Ok(*all);
        }
        let mut array = [0; N];
        let mut rest = array.as_mut_slice();
        self.pieces(N, |piece| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(piece.len());
            head.copy_from_slice(piece);
            rest = tail;
        })?;
        Ok(array)
    }

    /// The next little-endian number.
    ///
    /// # Errors
    /// As for [`Cursor::pieces`].
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next little-endian number.
    ///
    /// # Errors
    /// As for [`Cursor::pieces`].
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next little-endian number.
    ///
    /// # Errors
    /// As for [`Cursor::pieces`].
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
