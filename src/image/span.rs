//! Planning of reads: which pieces of the image a range of a file is made of. Nothing here touches an image.

use smallvec::SmallVec;

/// The bit of a block's size that says it is stored and not compressed (`SQUASHFS_COMPRESSED_BIT_BLOCK`).
pub const STORED: u32 = 1 << 24;

/// How a file is cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the file.
    pub size: u64,
    /// Bytes of a full block; not 0.
    pub block_size: u32,
    /// Entry of the fragment table for the rest behind the last full block, and the byte in that fragment where it begins.
    pub fragment: Option<(u32, u32)>,
}

/// Where the bytes of a span come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: they are zeros.
    Hole,
    /// From the image as they are, at this position.
    Stored(u64),
    /// From a compressed block, from byte `skip` of its content on.
    Compressed {
        /// Position of the block in the image.
        at: u64,
        /// Its bytes in the image.
        size: u32,
        /// Bytes of its content.
        holds: u32,
        /// First byte asked for.
        skip: u32,
    },
    /// From a fragment, from byte `skip` of its content on.
    Fragment {
        /// Entry of the fragment table.
        entry: u32,
        /// First byte asked for.
        skip: u32,
    },
}

/// A piece of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it comes from.
    pub source: Source,
    /// Bytes; not 0.
    pub len: u64,
}

/// The pieces of a read in order.
pub type Spans = SmallVec<[Span; 4]>;

impl Layout {
    /// Number of entries in the file's list of block sizes.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        let block = self.block_size as u64;
        if self.fragment.is_some() { self.size / block } else { self.size.div_ceil(block) }
    }

    /// Bytes of the file that block number `block` holds.
    #[must_use]
    pub fn holds(&self, block: u64) -> u32 {
        let rest = self.size.saturating_sub(block.saturating_mul(u64::from(self.block_size)));
        u32::try_from(rest).map_or(self.block_size, |rest| rest.min(self.block_size))
    }

    /// The part of `offset..offset + len` that the file has.
    #[must_use]
    pub fn clamp(&self, offset: u64, len: u64) -> std::ops::Range<u64> {
        offset.min(self.size)..offset.saturating_add(len).min(self.size)
    }

    /// The blocks with a part of `range`, a range of bytes of the file, without the fragment.
    #[must_use]
    pub fn blocks_of(&self, range: &std::ops::Range<u64>) -> std::ops::Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        let block = u64::from(self.block_size);
        let all = self.blocks();
        (range.start / block).min(all)..range.end.div_ceil(block).min(all)
    }

    /// Plans a read of `range`, which lies within the file. `sizes` are the sizes of [`Layout::blocks_of`] this range, and the
    /// first of them lies at `start`.
    ///
    /// # Errors
    /// What is impossible about a size, in words.
    pub fn plan(&self, range: std::ops::Range<u64>, start: u64, sizes: &[u32]) -> Result<Spans, String> {
        let mut spans = Spans::new();
        let mut at = start;
        let blocks = self.blocks_of(&range);
        for (block, &size) in blocks.zip(sizes) {
            let bytes = check_size(size, self.block_size)?;
            let first = block.saturating_mul(u64::from(self.block_size));
            let holds = self.holds(block);
            let skip = range.start.saturating_sub(first);
            let end = range.end.saturating_sub(first).min(u64::from(holds));
            let source = match size {
                0 => Source::Hole,
                _ if size & STORED != 0 && bytes != holds => {
                    return Err(format!("a stored block has {bytes} bytes instead of {holds}"));
                }
                _ if size & STORED != 0 => Source::Stored(at.saturating_add(skip)),
                // Less than the block size, as `range` begins in the first block or before the others.
                _ => Source::Compressed { at, size: bytes, holds, skip: skip as u32 },
            };
            push(&mut spans, Span { source, len: end.saturating_sub(skip) });
            at = at.saturating_add(u64::from(bytes));
        }
        if let Some(span) = self.tail(&range)? {
            spans.push(span);
        }
        Ok(spans)
    }

    fn tail(&self, range: &std::ops::Range<u64>) -> Result<Option<Span>, String> {
        let Some((entry, base)) = self.fragment else { return Ok(None) };
        let first = self.blocks().saturating_mul(u64::from(self.block_size));
        let from = range.start.max(first);
        if from >= range.end {
            return Ok(None);
        }
        let skip = u64::from(base).saturating_add(from - first);
        let skip = u32::try_from(skip).map_err(|_| format!("byte {skip} of a fragment is impossible"))?;
        Ok(Some(Span { source: Source::Fragment { entry, skip }, len: range.end - from }))
    }
}

/// The bytes a block takes in the image, from its entry in a list of sizes.
///
/// # Errors
/// What is impossible about it, in words.
pub fn check_size(size: u32, block_size: u32) -> Result<u32, String> {
    let bytes = size & !STORED;
    if bytes > block_size || (bytes == 0 && size != 0) {
        return Err(format!("a block with the size {size:#x} is impossible where blocks have {block_size} bytes"));
    }
    Ok(bytes)
}

/// Adds a span, joined with the one before it where they lie behind each other.
fn push(spans: &mut Spans, span: Span) {
    if span.len == 0 {
        return;
    }
    if let Some(last) = spans.last_mut() {
        let joins = match (last.source, span.source) {
            (Source::Hole, Source::Hole) => true,
            (Source::Stored(a), Source::Stored(b)) => a.checked_add(last.len) == Some(b),
            _ => false,
        };
        if joins {
            last.len = last.len.saturating_add(span.len);
            return;
        }
    }
    spans.push(span);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 4096;

    const fn layout(size: u64, fragment: Option<(u32, u32)>) -> Layout {
        Layout { size, block_size: BLOCK, fragment }
    }

    fn compressed(at: u64, size: u32, holds: u32, skip: u32, len: u64) -> Span {
        Span { source: Source::Compressed { at, size, holds, skip }, len }
    }

    fn span(source: Source, len: u64) -> Span {
        Span { source, len }
    }

    #[test]
    fn plans() {
        let three = layout(3 * 4096, None);
        let tail = layout(2 * 4096 + 100, Some((7, 50)));
        let short = layout(4096 + 10, None);
        let full = STORED | 4096;
        type Case<'a> = (&'a str, Layout, (u64, u64), u64, &'a [u32], Vec<Span>);
        let cases: [Case<'_>; 12] = [
            ("nothing", three, (0, 0), 0, &[], vec![]),
            ("behind the end", three, (12288, 10), 0, &[], vec![]),
            ("one block", three, (0, 4096), 96, &[9], vec![compressed(96, 9, 4096, 0, 4096)]),
            ("middle of a block", three, (4100, 6), 200, &[9], vec![compressed(200, 9, 4096, 4, 6)]),
            ("across two", three, (4095, 2), 96, &[9, 8], vec![compressed(96, 9, 4096, 4095, 1), compressed(105, 8, 4096, 0, 1)]),
            ("stored blocks join", three, (10, 12000), 96, &[full; 3], vec![span(Source::Stored(106), 12000)]),
            ("holes join and take no room", three, (0, 12288), 96, &[0, 0, 5], {
                vec![span(Source::Hole, 8192), compressed(96, 5, 4096, 0, 4096)]
            }),
            ("short last block", short, (4096, 4096), 96, &[5], vec![compressed(96, 5, 10, 0, 10)]),
            ("short last block stored", short, (4098, 4096), 96, &[STORED | 10], vec![span(Source::Stored(98), 8)]),
            ("fragment only", tail, (8192, 100), 0, &[], vec![span(Source::Fragment { entry: 7, skip: 50 }, 100)]),
            ("end of the fragment", tail, (8291, 9), 0, &[], vec![span(Source::Fragment { entry: 7, skip: 149 }, 1)]),
            ("block and fragment", tail, (8191, 2), 96, &[full], {
                vec![span(Source::Stored(4191), 1), span(Source::Fragment { entry: 7, skip: 50 }, 1)]
            }),
        ];
        for (name, layout, (offset, len), start, sizes, expected) in cases {
            let range = layout.clamp(offset, len);
            let blocks = layout.blocks_of(&range);
            assert_eq!((blocks.end - blocks.start) as usize, sizes.len(), "{name}");
            assert_eq!(layout.plan(range, start, sizes).unwrap().to_vec(), expected, "{name}");
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (size, holds) in [(4097, 4096), (STORED, 4096), (1 << 25, 4096), (STORED | 9, 10), (u32::MAX, 4096)] {
            let layout = layout(holds, None);
            assert!(layout.plan(0..holds, 96, &[size]).is_err(), "{size:#x}");
        }
        assert!(layout(10, Some((0, u32::MAX))).plan(5..10, 96, &[]).is_err());
    }

    #[test]
    fn a_file_of_the_largest_size_is_planned() {
        let huge = layout(i64::MAX as u64, None);
        let range = huge.clamp(i64::MAX as u64 - 1, u64::MAX);
        assert_eq!(huge.blocks_of(&range).count(), 1);
        assert_eq!(huge.plan(range, u64::MAX, &[0]).unwrap().to_vec(), vec![span(Source::Hole, 1)]);
    }
}
