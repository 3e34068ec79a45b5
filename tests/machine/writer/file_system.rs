//! What the file system of the upper promises of a power cut, by itself and by haosfs.

use std::str::FromStr;

use super::model::{Contents, Entry, Model};
use super::step::Step;

/// Blocks of ext4, in bytes; those of small partitions are small.
const BLOCKS: [usize; 3] = [1024, 2048, 4096];

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4: one journal, so whatever changes names or attributes is done or not, and what was done before is done, too.
    Ext4,
    /// btrfs: a log of what was synchronised. haosfs has a move between directories be whole all the same (`union::moves`).
    Btrfs,
}

impl FromStr for FileSystem {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "ext4" => Ok(Self::Ext4),
            "btrfs" => Ok(Self::Btrfs),
            other => Err(format!("{other}: expected ext4 or btrfs")),
        }
    }
}

impl FileSystem {
    /// Whether what was synchronised lasts when its inode gets another name. btrfs of Linux 6.12.95 logs the inode anew then, and leaves
    /// out what was logged before, in a plain directory of its own, too (6.18.44 does not): after `ln -s to d/a; sync d; mv d/a d/b;
    /// sync d` and a power cut there is `d/a`, and after `chmod 600 d/a; sync d/a; mv d/a d/b; sync d` what was committed before has its
    /// old permissions. So there no symbolic link moves, and no permissions are changed.
    pub const fn keeps_what_is_renamed(self) -> bool {
        matches!(self, Self::Ext4)
    }

    /// What there may be, other than the tree before or after a step, when power fails in the middle of it.
    pub fn between(self, before: &Model, step: &Step) -> Vec<Model> {
        match (self, step) {
            (Self::Ext4, Step::Cut { path, len }) => {
                let half = |block: usize| cut_by_half(before, path, usize::try_from(*len).ok()?, block);
                BLOCKS.into_iter().filter_map(half).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// ext4 zeroes the block that a file is to end in from there on. Zeros are data, which may be written before the journal has the new size.
fn cut_by_half(before: &Model, path: &str, len: usize, block: usize) -> Option<Model> {
    let Entry::File(number) = before.names.get(path)? else { return None };
    let mut half = before.clone();
    let Contents { bytes, .. } = &mut half.files[*number];
    let end = len.next_multiple_of(block).min(bytes.len());
    bytes[len..end].fill(0);
    Some(half)
}
