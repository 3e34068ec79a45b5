//! Files that are read here and there, a page at a time: what was decompressed for one page goes in reserve for the others, and once
//! much of a file was asked for, so does what nobody has asked for yet.

use std::sync::atomic::{AtomicU32, Ordering};

use super::block_list::BlockList;
use super::data::Spare;
use super::image::Image;
use super::inode::InodeRef;
use super::reserve::Packed;
use super::span::{Source, Span};

/// Blocks of a file that such reads must have asked for before others are decompressed ahead of them.
const FEW: u32 = 16;
/// And one of so many of the file's.
const SHARE: u64 = 8;
/// Blocks behind the one that was asked for, the first after the last, among which one is chosen.
const NEAR: u64 = 16;

/// How much of a file scattered reads have asked for.
#[derive(Debug, Default)]
pub struct Scattered {
    asked: AtomicU32,
    ahead: AtomicU32,
}

impl Scattered {
    /// Notes that a block was asked for that had to be decompressed, and answers whether another one is worth being decompressed ahead.
    /// Over time that happens for no more blocks than the file has: more would mean that the kernel has no room for them.
    fn note(&self, blocks: u64) -> bool {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let many = asked >= FEW && u64::from(asked) >= blocks / SHARE;
        many && u64::from(self.ahead.fetch_add(1, Ordering::Relaxed)) < blocks
    }
}

impl Image {
    /// Puts the block of which a part was read from `offset` of `inode` on in reserve: that was one of many small reads here and there,
    /// and the next one will want another part of it. Damage is left to be found by who reads it.
    pub fn keep(&self, inode: InodeRef, offset: u64, spare: &Spare) {
        if !self.reserve.keep(spare.packed, &spare.block) {
            return;
        }
        let Ok(list) = self.block_list(inode) else { return };
        if list.scattered().note(list.layout().blocks()) {
            self.keep_near(&list, offset);
        }
    }

    /// The only block that a read is of, where that is a compressed one.
    fn packed(&self, list: &BlockList, offset: u64, len: u64) -> Option<Packed> {
        let spans = list.plan(&self.metadata, offset, len).ok()?;
        match *spans.as_slice() {
            [Span { source: Source::Compressed { at, size, .. }, .. }] => Some(Packed { at, size }),
            _ => None,
        }
    }

    /// Decompresses the next block of the file, or one of its first, that is not in reserve.
    fn keep_near(&self, list: &BlockList, offset: u64) {
        let layout = list.layout();
        let block_size = u64::from(layout.block_size);
        let number = offset / block_size;
        for near in (1..=NEAR).map(|n| (number + n) % layout.blocks().max(1)) {
            let Some(packed) = self.packed(list, near * block_size, 1) else { continue };
            if self.reserve.lacks(packed) {
                if let Ok(block) = self.data.block(packed, layout.holds(near)) {
                    self.reserve.keep(packed, &block);
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of so many requests for blocks are followed by one ahead.
    fn followed(blocks: u64, times: usize) -> Vec<usize> {
        let scattered = Scattered::default();
        (0..times).filter(|_| scattered.note(blocks)).collect()
    }

    #[test]
    fn few_requests_are_not_followed() {
        assert_eq!(followed(32, 16).len(), 0);
        assert_eq!(followed(32, 20), [16, 17, 18, 19]);
        assert_eq!(followed(8000, 1000).len(), 0);
        assert_eq!(followed(8000, 1002), [1000, 1001]);
    }

    #[test]
    fn each_block_is_followed_once_at_most() {
        assert_eq!(followed(20, 1000).len(), 20);
        assert_eq!(followed(0, 1000).len(), 0);
    }
}
