//! What is decompressed already and will probably be read next: the rest of a block that was read in part, and, for who reads files
//! in order, those that lie in the same fragment. The order is that of the inode table, in which an image is packed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::block_list::BlockList;
use super::image::Image;
use super::inode::{Body, Inode, InodeRef};
use super::metadata::{Cursor, Position};
use super::span::{Source, Span};
use crate::error::Result;

/// Readers in order that are told apart.
const READERS: usize = 8;
/// Inodes from one file to the next, at most: directories, links and empty files are passed over.
const PASSED: usize = 16;
/// Files that are given at one time, at most.
const FILES: usize = 64;
/// Blocks of the longest file whose list of sizes is passed over: 8 GiB in blocks of 128 KiB.
const LONGEST: u64 = 1 << 16;
/// Bytes of a read that is one of many here and there, at most: the kernel reads at least 16 KiB for who reads in order.
const SMALL: usize = 8 << 10;
const STRUCTURE: &str = "inode";

/// What may be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Files behind one that is being read to its end. To be given before the reader has its answer, for then he comes for them.
    Followers,
    /// The rest of the block that a part was read of.
    Rest,
}

/// Takes bytes of an inode from an offset on; false where it is one that nobody knows yet.
pub type Give<'a> = &'a mut dyn FnMut(InodeRef, u64, &[u8]) -> bool;

/// What is expected to be read next. A file that comes as expected is the sign that somebody reads in order.
#[derive(Debug)]
pub struct Expected {
    next: [AtomicU64; READERS],
    turn: AtomicUsize,
}

impl Expected {
    /// Nobody has read anything.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: [const { AtomicU64::new(u64::MAX) }; READERS], turn: AtomicUsize::new(0) }
    }

    fn contains(&self, inode: InodeRef) -> bool {
        self.next.iter().any(|slot| slot.load(Ordering::Relaxed) == inode.0)
    }

    /// After `read` comes `next`.
    fn step(&self, read: InodeRef, next: InodeRef) {
        let follow = |slot: &AtomicU64| slot.compare_exchange(read.0, next.0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if self.contains(next) || self.next.iter().any(follow) {
            return;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % READERS;
        if let Some(slot) = self.next.get(turn) {
            slot.store(next.0, Ordering::Relaxed);
        }
    }
}

impl Image {
    /// Gives what is ready when `len` bytes of `inode` from `offset` on were read. Decompresses no data, and costs no more than some
    /// look-ups where there is nothing. Damage is left to be found by who reads it.
    pub fn ready(&self, what: Ready, inode: InodeRef, offset: u64, len: usize, give: Give<'_>) {
        let Ok(list) = self.block_list(inode) else { return };
        let end = offset.saturating_add(len as u64);
        let is_whole = end >= list.layout().size;
        let _found = match what {
            Ready::Followers if is_whole => self.followers(inode, &list, give),
            Ready::Rest if !is_whole => self.rest_of_block(inode, &list, offset..end, give),
            Ready::Followers | Ready::Rest => Ok(()),
        };
    }

    fn rest_of_block(&self, inode: InodeRef, list: &BlockList, read: std::ops::Range<u64>, give: Give<'_>) -> Result<()> {
        let layout = list.layout();
        let size = u64::from(layout.block_size);
        let start = read.start / size * size;
        if read.end - read.start > SMALL as u64 || read.end > start + size {
            return Ok(());
        }
        let spans = list.plan(&self.metadata, start, size)?;
        let [Span { source: Source::Compressed { at, size, .. }, .. }] = *spans.as_slice() else { return Ok(()) };
        let Some(block) = self.data.kept(at, size) else { return Ok(()) };
        let (before, after) = ((read.start - start) as usize, (read.end - start) as usize);
        for (from, bytes) in [(start, block.get(..before)), (read.end, block.get(after..))] {
            if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                let _known = give(inode, from, bytes);
            }
        }
        Ok(())
    }

    /// The files behind one that was read to its end, as far as they lie in its fragment and are known: whoever lists a directory only
    /// when he comes to it reads its first file himself.
    fn followers(&self, inode: InodeRef, list: &BlockList, give: Give<'_>) -> Result<()> {
        let Some((entry, _)) = list.layout().fragment else { return Ok(()) };
        let (table, end) = (self.superblock.inode_table, self.superblock.directory_table);
        let mut at = self.metadata.cursor(STRUCTURE, list.position(), end);
        let is_in_order = self.expected.contains(inode);
        let kept = if is_in_order { self.data.kept_fragment(&self.metadata, entry)? } else { None };
        let mut blocks = list.layout().blocks();
        for given in 0..=FILES {
            if !pass_sizes(&mut at, blocks)? {
                return Ok(());
            }
            let Some((next, file)) = next_file(&mut at, table, end)? else { return Ok(()) };
            let whole = file.fragment.filter(|(other, _)| *other == entry && file.size < u64::from(self.superblock.block_size));
            let bytes = kept.as_ref().filter(|_| given < FILES).zip(whole).and_then(|(kept, (_, skip))| {
                let skip = skip as usize;
                kept.get(skip..skip.checked_add(file.size as usize)?)
            });
            if !bytes.is_some_and(|bytes| give(next, 0, bytes)) {
                self.expected.step(inode, next);
                return Ok(());
            }
            blocks = 0;
        }
        Ok(())
    }
}

/// The first file with content at or behind a place, in front of its list of block sizes.
fn next_file(at: &mut Cursor<'_>, table: u64, end: u64) -> Result<Option<(InodeRef, super::inode::File)>> {
    for _ in 0..PASSED {
        let position: Position = at.position();
        if position.block >= end {
            return Ok(None);
        }
        match Inode::read(at)?.body {
            Body::File(file) if file.size > 0 => return Ok(position.reference(table).map(|inode| (InodeRef(inode), file))),
            // Behind its index, whose entries are of any length.
            Body::Directory(directory) if directory.index.0 > 0 => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

/// False where there are too many.
fn pass_sizes(at: &mut Cursor<'_>, blocks: u64) -> Result<bool> {
    let bytes = usize::try_from(blocks).ok().filter(|_| blocks <= LONGEST).and_then(|n| n.checked_mul(size_of::<u32>()));
    bytes.map_or(Ok(false), |bytes| at.skip(bytes).map(|()| true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_followed() {
        let expected = Expected::new();
        let (a, b, c) = (InodeRef(1), InodeRef(2), InodeRef(3));
        assert!(!expected.contains(a));
        expected.step(a, b);
        assert!(expected.contains(b) && !expected.contains(a));
        expected.step(b, c);
        assert!(expected.contains(c) && !expected.contains(b));
        // Read again: no second reader.
        expected.step(b, c);
        expected.step(a, c);
        assert_eq!(expected.turn.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn readers_in_order_do_not_disturb_each_other() {
        let expected = Expected::new();
        let inode = |reader: usize, step: usize| InodeRef((reader * 1000 + step) as u64);
        for step in 0..20 {
            for reader in 0..READERS {
                assert_eq!(expected.contains(inode(reader, step)), step > 0, "{reader} {step}");
                expected.step(inode(reader, step), inode(reader, step + 1));
            }
        }
    }
}
