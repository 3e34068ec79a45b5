//! Data: blocks and fragments, stored or compressed.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use super::block::{Block, Buffers};
use super::cache::Budgeted;
use super::compressor::Compressor;
use super::map::Map;
use super::metadata::Metadata;
use super::reserve::{Packed, Reserve};
use super::span::{STORED, Source, Span, check_size};
use super::table::Table;
use crate::error::Result;

const BLOCK: &str = "data block";
const FRAGMENT: &str = "fragment";
/// Bytes of a read that is one of many here and there, at most: the kernel reads at least 16 KiB for who reads in order.
const SMALL: usize = 8 << 10;
/// A block that comes again after no more than so many others is taken for one of another file that has the same. Later than that it is
/// mostly a file whose pages the kernel had no room for, and it has none for these either. Fragments are of many files anyhow.
const COPY: u32 = 1024;
/// A read of a hole is answered from here, if it is no longer.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; 128 << 10]);

/// Bytes of a file.
#[derive(Debug)]
pub enum Bytes<'a> {
    /// A piece of the mapped image, or of a page of zeros. Pages below it were readable when it was handed out; should the
    /// image be cut off since, they read as zeros, and `Image::is_intact` tells.
    Mapped(&'a [u8]),
    /// A range of a decompressed block.
    Block(Arc<Block>, Range<usize>),
    /// The same, of one that is not in reserve, for a read that is one of many small ones here and there.
    Part(Spare, Range<usize>),
    /// Assembled from several places.
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Block(block, range) | Self::Part(Spare { block, .. }, range) => block.get(range.clone()).unwrap_or_default(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A decompressed block of which a part was read. Who holds it has all of it, whatever became of it in the cache.
#[derive(Clone, Debug)]
pub struct Spare {
    pub(super) packed: Packed,
    pub(super) block: Arc<Block>,
}

/// What [`Data::prepare`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Nothing is to be decompressed.
    Nothing,
    /// What lies at this position was decompressed before.
    Before(u64),
    /// It was decompressed.
    Now,
}

/// The data of an image, with the decompressed blocks that are kept.
pub struct Data {
    map: Arc<Map>,
    compressor: Compressor,
    block_size: u32,
    fragments: Option<Table<16>>,
    /// By position and size, as two inodes of a hostile image may disagree about the size.
    blocks: Budgeted<(u64, u32), Arc<Block>>,
    buffers: Arc<Buffers>,
    decompressed: AtomicU64,
    reserve: Arc<Reserve>,
}

impl Data {
    /// The data of `map`; at most `budget` bytes of blocks are kept.
    #[must_use]
    pub fn new(
        map: Arc<Map>,
        compressor: Compressor,
        block_size: u32,
        fragments: Option<Table<16>>,
        budget: u64,
        reserve: Arc<Reserve>,
    ) -> Self {
        // Fewer than some blocks would mean to decompress one again for each read of a part of it.
        let budget = budget.max(8 * u64::from(block_size));
        let blocks = Budgeted::new(budget, u64::from(block_size));
        let buffers = Arc::new(Buffers::new(block_size as usize));
        Self { map, compressor, block_size, fragments, blocks, buffers, decompressed: AtomicU64::new(0), reserve }
    }

    /// Bytes of decompressed blocks that are kept.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.blocks.weight()
    }

    /// How many blocks and fragments were decompressed so far.
    #[must_use]
    pub fn decompressed(&self) -> u64 {
        self.decompressed.load(Ordering::Relaxed)
    }

    /// Entries of the fragment table.
    #[must_use]
    pub fn fragments(&self) -> u64 {
        self.fragments.as_ref().map_or(0, Table::len)
    }

    /// Carries out a plan.
    ///
    /// # Errors
    /// `Damage` where a block cannot be read.
    pub fn read(&self, metadata: &Metadata, spans: &[Span]) -> Result<Bytes<'_>> {
        match spans {
            [] => Ok(Bytes::Mapped(&[])),
            [span] => self.span(metadata, span),
            spans => self.gather(metadata, spans).map(Bytes::Owned),
        }
    }

    fn gather(&self, metadata: &Metadata, spans: &[Span]) -> Result<Vec<u8>> {
        let total = spans.iter().fold(0_u64, |sum, span| sum.saturating_add(span.len));
        let mut bytes = Vec::with_capacity(self.room(total)?);
        for span in spans {
            match self.whole(span) {
                Some((packed, holds)) => {
                    let start = bytes.len();
                    bytes.resize(start + holds, 0);
                    self.fill(bytes.get_mut(start..).unwrap_or_default(), packed)?;
                }
                None => {
                    let part = self.span(metadata, span)?;
                    bytes.extend_from_slice(&part);
                    if let Bytes::Mapped(part) = part {
                        self.map.confirm(BLOCK, part)?;
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// A block that is asked for as a whole and not kept, and its content's size: the asker will keep it, and what is kept here is better
    /// used for blocks that are read in parts.
    fn whole(&self, span: &Span) -> Option<(Packed, usize)> {
        match span.source {
            Source::Compressed { at, size, holds, skip: 0 } if span.len == u64::from(holds) => {
                self.blocks.get(&(at, size)).is_none().then_some((Packed { at, size }, holds as usize))
            }
            _ => None,
        }
    }

    /// Fills `room` with the content of a block, which must be as long.
    fn fill(&self, room: &mut [u8], packed: Packed) -> Result<()> {
        if self.reserve.len_of(packed) == Some(room.len()) && self.reserve.read(packed, 0, room) {
            return Ok(());
        }
        let len = self.decompress_to(room, BLOCK, packed)?;
        self.check_holds(packed.at, len, room.len())?;
        self.reserve.keep_if_wanted(packed, room);
        Ok(())
    }

    fn check_holds(&self, at: u64, len: usize, holds: usize) -> Result<()> {
        if len == holds {
            return Ok(());
        }
        Err(self.map.damage(BLOCK, at, format!("it holds {len} bytes instead of {holds}")))
    }

    fn span(&self, metadata: &Metadata, span: &Span) -> Result<Bytes<'_>> {
        let len = self.room(span.len)?;
        match span.source {
            Source::Hole => Ok(ZEROS.get(..len).map_or_else(|| Bytes::Owned(vec![0; len]), Bytes::Mapped)),
            Source::Stored(at) => self.map.stored(BLOCK, at, len).map(Bytes::Mapped),
            Source::Compressed { at, size, holds, skip } => {
                let packed = Packed { at, size };
                if let Some(bytes) = self.reserved(packed, Some(holds as usize), skip as usize, len) {
                    return Ok(Bytes::Owned(bytes));
                }
                let block = match self.whole(span) {
                    Some(_) => {
                        let block = self.decompress(BLOCK, packed, holds as usize)?;
                        self.check_holds(at, block.len(), holds as usize)?;
                        block
                    }
                    None => self.block(packed, holds)?,
                };
                // The end of a file is read by who reads all of it.
                let is_end = holds < self.block_size && skip as usize + len == holds as usize;
                let is_part = len <= SMALL && !is_end && self.reserve.lacks(packed);
                if !is_part {
                    self.reserve.keep_if_wanted(packed, &block);
                }
                let range = skip as usize..skip as usize + len;
                Ok(if is_part { Bytes::Part(Spare { packed, block }, range) } else { Bytes::Block(block, range) })
            }
            Source::Fragment { entry, skip } => self.fragment(metadata, entry, skip as usize, len),
        }
    }

    /// Bytes of a block that is not kept here but in reserve; its content's size is compared where it is known.
    fn reserved(&self, block: Packed, holds: Option<usize>, skip: usize, len: usize) -> Option<Vec<u8>> {
        let held = self.reserve.len_of(block)?;
        if holds.is_some_and(|holds| holds != held) || self.kept(block.at, block.size).is_some() {
            return None;
        }
        let mut bytes = vec![0; len];
        self.reserve.read(block, skip, &mut bytes).then_some(bytes)
    }

    fn room(&self, len: u64) -> Result<usize> {
        usize::try_from(len).map_err(|_| self.map.damage(BLOCK, 0, format!("{len} bytes do not fit into memory")))
    }

    fn fragment(&self, metadata: &Metadata, entry: u32, skip: usize, len: usize) -> Result<Bytes<'_>> {
        let (at, size) = self.fragment_at(metadata, entry)?;
        let bytes = size & !STORED;
        let outside = |holds: usize| {
            let end = skip.saturating_add(len);
            Err(self.map.damage(FRAGMENT, at, format!("bytes {skip} to {end} are asked for, it has {holds}")))
        };
        if size & STORED != 0 {
            if skip.saturating_add(len) > bytes as usize {
                return outside(bytes as usize);
            }
            return self.map.stored(FRAGMENT, at.saturating_add(skip as u64), len).map(Bytes::Mapped);
        }
        let packed = Packed { at, size: bytes };
        if let Some(bytes) = self.reserved(packed, None, skip, len) {
            return Ok(Bytes::Owned(bytes));
        }
        let block = self.blocks.get_or((at, size), || self.decompress(FRAGMENT, packed, self.block_size as usize))?;
        self.reserve.keep_if_wanted(packed, &block);
        if skip.saturating_add(len) > block.len() {
            return outside(block.len());
        }
        Ok(Bytes::Block(block, skip..skip + len))
    }

    /// Position and size of a fragment, as its table has them.
    fn fragment_at(&self, metadata: &Metadata, entry: u32) -> Result<(u64, u32)> {
        let Some(table) = &self.fragments else {
            return Err(self.map.damage("fragment table", 0, format!("fragment {entry} is asked for, there are none")));
        };
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = table.entry(metadata, u64::from(entry))?;
        let (at, size) = (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l]));
        match check_size(size, self.block_size) {
            Ok(0) => Err(self.map.damage(FRAGMENT, at, format!("fragment {entry} has no bytes"))),
            Ok(_) => Ok((at, size)),
            Err(why) => Err(self.map.damage(FRAGMENT, at, why)),
        }
    }

    /// Decompresses a block, which holds at most `most` bytes.
    fn decompress(&self, structure: &'static str, packed: Packed, most: usize) -> Result<Arc<Block>> {
        self.buffers.block(most, |room| self.decompress_to(room, structure, packed))
    }

    /// Decompresses a block to the front of `room`, and answers how many bytes that gave.
    fn decompress_to(&self, room: &mut [u8], structure: &'static str, packed: Packed) -> Result<usize> {
        let Packed { at, size } = packed;
        let number = self.decompressed.fetch_add(1, Ordering::Relaxed);
        let within = if structure == FRAGMENT { u32::MAX } else { COPY };
        self.reserve.saw(packed, number as u32, within);
        self.map.with(structure, at, size as usize, |input| {
            let len = self.compressor.decompress(input, room);
            len.map_err(|why| self.map.damage(structure, at, format!("{}: {why}", self.compressor)))
        })
    }

    /// The content of a block that holds `holds` bytes, which is kept; whoever asks for it while it is being decompressed waits for it.
    ///
    /// # Errors
    /// `Damage` where it cannot be read.
    pub fn block(&self, packed: Packed, holds: u32) -> Result<Arc<Block>> {
        let block = self.blocks.get_or((packed.at, packed.size), || self.decompress(BLOCK, packed, holds as usize))?;
        self.check_holds(packed.at, block.len(), holds as usize)?;
        Ok(block)
    }

    /// Decompresses the block or fragment of a span and keeps it, for who will read it soon, unless that was done already.
    ///
    /// # Errors
    /// `Damage` where it cannot be read.
    pub fn prepare(&self, metadata: &Metadata, span: &Span) -> Result<Prepared> {
        let (at, size) = match span.source {
            Source::Hole | Source::Stored(_) => return Ok(Prepared::Nothing),
            Source::Compressed { at, size, .. } => (at, size),
            Source::Fragment { entry, .. } => self.fragment_at(metadata, entry)?,
        };
        if size & STORED != 0 {
            return Ok(Prepared::Nothing);
        }
        if self.kept(at, size).is_some() {
            return Ok(Prepared::Before(at));
        }
        if self.reserve.seems_to_have(Packed { at, size }) {
            return Ok(Prepared::Nothing);
        }
        match span.source {
            Source::Compressed { holds, .. } => drop(self.block(Packed { at, size }, holds)?),
            _ => drop(self.span(metadata, span)?),
        }
        Ok(Prepared::Now)
    }

    /// The content of the block of `size` bytes at `at`, where it is kept.
    #[must_use]
    pub fn kept(&self, at: u64, size: u32) -> Option<Arc<Block>> {
        self.blocks.get(&(at, size))
    }

    /// Reads a span to see whether it can be read, without keeping anything.
    ///
    /// # Errors
    /// As for [`Data::read`].
    pub fn verify(&self, metadata: &Metadata, span: &Span) -> Result<()> {
        match span.source {
            Source::Hole => Ok(()),
            Source::Compressed { at, size, holds, .. } => {
                let len = self.decompress(BLOCK, Packed { at, size }, holds as usize)?.len();
                self.check_holds(at, len, holds as usize)
            }
            // A fragment is shared by many files that lie near each other, so it is worth keeping.
            Source::Stored(_) | Source::Fragment { .. } => self.span(metadata, span).map(drop),
        }
    }

    /// Reads fragment number `entry` to see whether it can be read.
    ///
    /// # Errors
    /// As for [`Data::read`].
    pub fn verify_fragment(&self, metadata: &Metadata, entry: u32) -> Result<()> {
        let (at, size) = self.fragment_at(metadata, entry)?;
        if size & STORED != 0 {
            return self.map.stored(FRAGMENT, at, (size & !STORED) as usize).map(drop);
        }
        self.decompress(FRAGMENT, Packed { at, size }, self.block_size as usize).map(drop)
    }
}
