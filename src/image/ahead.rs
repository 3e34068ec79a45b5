//! What will be read next, for somebody who has nothing else to do to decompress it ahead: of a file that is read in order the blocks
//! that follow, and the first ones of the files behind it. mksquashfs writes inodes in the order in which a walk meets them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::block_list::BlockList;
use super::cache::giving_way;
use super::data::Prepared;
use super::image::Image;
use super::inode::{Body, Inode, InodeRef};
use super::metadata::{Cursor, Position};
use crate::error::Result;

/// Blocks that are ahead at a time, at most but for a long file.
const FEW: u64 = 4;
/// Inodes that are looked at behind that of the file.
const BEHIND: usize = 16;
/// Bytes of the inode table from one file to the next that is read, at most.
const NEAR: u64 = 16 << 10;
/// After so many reads in order that is taken for no chance.
const SURE: u32 = 3;
/// Bytes by which reads of a file may be off the order: the kernel asks for several ranges at a time, and several threads answer.
const SHUFFLED: u64 = 256 << 10;
/// From this block on the kernel asks for more blocks at a time than one thread answers.
const LONG: u64 = 8;
/// Then so many behind the last one are looked at.
const WINDOW: u64 = 6;
/// Behind so many blocks of a file it takes too long to find one.
const LONGEST: u64 = 1 << 13;

/// The last read.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// How many there were.
    number: u64,
    inode: InodeRef,
    /// The byte behind all that was read of it.
    end: u64,
    /// How many on end were in order.
    in_order: u32,
}

/// The reads of an image, as far as somebody wants to know.
#[derive(Debug)]
pub struct Reads {
    last: Mutex<Last>,
    number: AtomicU64,
    /// As many there were when they were looked at last.
    seen: AtomicU64,
    /// For this one so many blocks were decompressed.
    blocks_of: AtomicU64,
    blocks: AtomicU64,
    is_watched: AtomicBool,
}

impl Default for Reads {
    fn default() -> Self {
        let last = Mutex::new(Last { number: 0, inode: InodeRef(0), end: 0, in_order: 0 });
        let [number, seen, blocks_of, blocks] = [0; 4].map(AtomicU64::new);
        Self { last, number, seen, blocks_of, blocks, is_watched: AtomicBool::new(false) }
    }
}

impl Reads {
    /// `len` bytes of `inode` are read from `offset` on.
    pub fn note(&self, inode: InodeRef, offset: u64, len: u64) {
        if !self.is_watched.load(Ordering::Relaxed) {
            return;
        }
        // Where many read at once, one of them is enough.
        let Some(mut last) = self.last.try_lock() else { return };
        let end = offset.saturating_add(len);
        let is_same = inode == last.inode;
        let is_next = if is_same {
            offset.abs_diff(last.end) <= SHUFFLED
        } else {
            offset == 0 && inode > last.inode && (inode.0 >> 16) - (last.inode.0 >> 16) <= NEAR
        };
        *last = Last {
            number: last.number.wrapping_add(1),
            inode,
            end: if is_same && is_next { end.max(last.end) } else { end },
            in_order: if is_next { last.in_order.saturating_add(1) } else { 0 },
        };
        self.number.store(last.number, Ordering::Relaxed);
    }

    /// The last read, if it was in order and nobody has done with it.
    fn unseen(&self) -> Option<Last> {
        if !self.is_watched.load(Ordering::Relaxed) {
            self.is_watched.store(true, Ordering::Relaxed);
        }
        let number = self.number.load(Ordering::Relaxed);
        if number == self.seen.load(Ordering::Relaxed) {
            return None;
        }
        let last = *self.last.lock();
        if last.in_order < SURE {
            self.done_with(&last);
            return None;
        }
        Some(last)
    }

    /// A block was decompressed for this read. True once there were as many as are worth it: it may be that none of them stays.
    fn is_enough(&self, last: &Last) -> bool {
        let before = self.blocks.fetch_add(1, Ordering::Relaxed);
        if self.blocks_of.swap(last.number, Ordering::Relaxed) != last.number {
            self.blocks.store(1, Ordering::Relaxed);
            return false;
        }
        before.saturating_add(1) >= FEW
    }

    /// What the last read made worth doing is done.
    fn done_with(&self, last: &Last) {
        self.seen.store(last.number, Ordering::Relaxed);
    }

    fn is_last(&self, last: &Last) -> bool {
        self.number.load(Ordering::Relaxed) == last.number
    }
}

/// Blocks of a file of `blocks` that are worth decompressing when `next` is the first that was not asked for, in this order. Of a long
/// file others decompress as well: it is every second one, so that they meet seldom.
fn worth(next: u64, blocks: u64) -> SmallVec<[u64; 8]> {
    if next < LONG {
        return (next..blocks.min(next + FEW)).collect();
    }
    let window = |from: u64| next.saturating_add(from)..blocks.min(next.saturating_add(WINDOW));
    window(0).filter(|block| block % 2 == 1).chain(window(FEW).filter(|block| block % 2 == 0)).collect()
}

impl Image {
    /// Decompresses one block of what will be read next, if it can be told. False where there is none, as long as nothing else is read.
    /// From the first call on reads are watched.
    pub fn decode_ahead(&self) -> bool {
        let Some(last) = self.reads.unseen() else { return false };
        // Damage is left to be found by who reads it.
        let is_done = giving_way(|| self.decode_behind(&last)).unwrap_or(false);
        if !is_done || self.reads.is_enough(&last) {
            self.reads.done_with(&last);
        }
        is_done
    }

    fn decode_behind(&self, last: &Last) -> Result<bool> {
        let block_size = u64::from(self.superblock.block_size);
        let (mut inode, mut behind) = self.inode_at(Position::from_reference(self.superblock.inode_table, last.inode.0))?;
        let Body::File(file) = &inode.body else { return Ok(false) };
        // A list of its own: marks are locked while they are made.
        let list = self.list_of(file);
        let next = last.end.div_ceil(block_size);
        if next > LONGEST {
            return Ok(false);
        }
        let blocks = worth(next, list.layout().size.div_ceil(block_size));
        let mut met = Met::default();
        if self.decode_one(&list, &blocks, &mut met)? {
            return Ok(true);
        }
        for _ in 0..BEHIND {
            if met.count >= FEW || !self.reads.is_last(last) {
                return Ok(false);
            }
            let Some(at) = self.pass(&inode, behind)? else { return Ok(false) };
            (inode, behind) = self.inode_at(at)?;
            if let Body::File(file) = &inode.body
                && self.decode_one(&self.list_of(file), &[0], &mut met)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the inode behind this one is, of which all but the rest at `rest` was read; `None` where that is not worth finding out.
    fn pass(&self, inode: &Inode, mut rest: Cursor<'_>) -> Result<Option<Position>> {
        const MOST: u64 = 4096;
        match &inode.body {
            Body::Directory(directory) if directory.index.0 > 0 => return Ok(None),
            Body::File(file) => {
                let sizes = self.list_of(file).layout().blocks().saturating_mul(size_of::<u32>() as u64);
                if sizes > MOST {
                    return Ok(None);
                }
                rest.bytes(sizes as usize)?;
            }
            _ => {}
        }
        Ok(Some(rest.position()))
    }

    /// Decompresses the first of these blocks that is not yet. False where all are.
    fn decode_one(&self, list: &BlockList, blocks: &[u64], met: &mut Met) -> Result<bool> {
        let block_size = u64::from(self.superblock.block_size);
        for block in blocks {
            for span in &list.plan(&self.metadata, block.saturating_mul(block_size), 1)? {
                match self.data.prepare(&self.metadata, span)? {
                    Prepared::Nothing => {}
                    Prepared::Before(at) => met.note(at),
                    Prepared::Now => return Ok(true),
                }
            }
        }
        Ok(false)
    }
}

/// Blocks that will be wanted and are decompressed: more would drive each other out of the cache before they are.
#[derive(Debug, Default)]
struct Met {
    count: u64,
    last: Option<u64>,
}

impl Met {
    /// Small files that lie in one fragment follow each other.
    fn note(&mut self, block: u64) {
        if self.last != Some(block) {
            self.count += 1;
            self.last = Some(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 128 << 10;

    fn watched() -> Reads {
        let reads = Reads::default();
        assert!(reads.unseen().is_none());
        reads
    }

    /// The inode with this number in block 7 of the table.
    fn inode(number: u64) -> InodeRef {
        InodeRef((7 << 16) + number * 40)
    }

    fn taken(reads: &Reads) -> Option<(InodeRef, u64)> {
        reads.unseen().map(|last| {
            reads.done_with(&last);
            (last.inode, last.end)
        })
    }

    #[test]
    fn what_nobody_watches_is_not_noted() {
        let reads = Reads::default();
        (0..10).for_each(|n| reads.note(inode(n), 0, 5));
        assert_eq!(reads.number.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn files_are_in_order_as_their_inodes_lie() {
        let reads = watched();
        for n in 1..=2 {
            reads.note(inode(n), 0, 5);
            assert!(taken(&reads).is_none(), "{n} may be chance");
        }
        reads.note(inode(3), 0, 5);
        assert_eq!(taken(&reads), Some((inode(3), 5)));
        assert!(taken(&reads).is_none(), "nothing else was read");
        for off in [inode(2), InodeRef(inode(900).0 + (NEAR << 17))] {
            (10..14).for_each(|n| reads.note(inode(n), 0, 5));
            assert!(taken(&reads).is_some());
            reads.note(off, 0, 5);
            assert!(taken(&reads).is_none(), "{off:?}");
        }
    }

    #[test]
    fn a_file_is_in_order_from_its_beginning_on() {
        let reads = watched();
        [0, 2, 1, 3].iter().for_each(|&n| reads.note(inode(1), n * BLOCK, BLOCK));
        assert_eq!(taken(&reads), Some((inode(1), 4 * BLOCK)));
        reads.note(inode(1), 90 * BLOCK, BLOCK);
        assert!(taken(&reads).is_none(), "here and there");
        reads.note(inode(1), u64::MAX, BLOCK);
        assert!(taken(&reads).is_none());
        (0..4).for_each(|n| reads.note(inode(2 + n), 0, 5));
        assert!(taken(&reads).is_some());
        reads.note(inode(9), BLOCK, BLOCK);
        assert!(taken(&reads).is_none(), "not from its beginning");
    }

    #[test]
    fn after_a_jump_a_file_can_be_read_from_its_beginning() {
        let reads = watched();
        reads.note(inode(1), 90 * BLOCK, BLOCK);
        (0..4).for_each(|n| reads.note(inode(1), n * BLOCK, BLOCK));
        assert_eq!(taken(&reads), Some((inode(1), 4 * BLOCK)));
    }

    #[test]
    fn for_one_read_few_blocks_are_decompressed() {
        let reads = watched();
        (1..=3).for_each(|n| reads.note(inode(n), 0, 5));
        let last = reads.unseen().unwrap();
        assert_eq!((0..FEW).filter(|_| reads.is_enough(&last)).count(), 1);
        reads.note(inode(4), 0, 5);
        let last = reads.unseen().unwrap();
        assert!(!reads.is_enough(&last));
    }

    #[test]
    fn blocks_are_met_once() {
        let mut met = Met::default();
        [3, 3, 3, 9, 3].into_iter().for_each(|block| met.note(block));
        assert_eq!(met.count, 3);
    }

    #[test]
    fn blocks_that_are_worth_it() {
        assert_eq!(*worth(0, 2), [0, 1]);
        assert_eq!(*worth(1, 100), [1, 2, 3, 4]);
        assert_eq!(*worth(2, 2), [] as [u64; 0]);
        assert_eq!(*worth(9, 2), [] as [u64; 0]);
        assert_eq!(*worth(8, 100), [9, 11, 13, 12]);
        assert_eq!(*worth(9, 100), [9, 11, 13, 14]);
        assert_eq!(*worth(96, 99), [97]);
        assert_eq!(*worth(u64::MAX, u64::MAX), [] as [u64; 0]);
    }
}
