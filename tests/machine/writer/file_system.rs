//! What the file system of the upper promises of a power cut, by itself and by haosfs.

use std::str::FromStr;

use super::model::{Contents, Entry, Model};
use super::step::Step;

/// ext4 zeroes what is behind the end of a file up to the end of a block.
const BLOCK: usize = 4096;

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
    /// Whether a symbolic link's new name is durable once its directory was synchronised. btrfs does not log it where its log has the
    /// link under the old name already: after `ln -s to d/a; sync d; mv d/a d/b; sync d` and a power cut there is `d/a`. Linux mended
    /// that by "btrfs: set inode flag BTRFS_INODE_COPY_EVERYTHING when logging new name", which 6.12.95 has not.
    pub const fn keeps_moved_symlinks(self) -> bool {
        matches!(self, Self::Ext4)
    }

    /// What there may be, other than the tree before or after a step, when power fails in the middle of it.
    pub fn between(self, before: &Model, step: &Step) -> Option<Model> {
        match (self, step) {
            (Self::Ext4, Step::Cut { path, len }) => cut_by_half(before, path, usize::try_from(*len).ok()?),
            _ => None,
        }
    }
}

/// Zeros behind the new end are data, which may be written before the journal has the new size.
fn cut_by_half(before: &Model, path: &str, len: usize) -> Option<Model> {
    let Entry::File(number) = before.names.get(path)? else { return None };
    let mut half = before.clone();
    let Contents { bytes, .. } = &mut half.files[*number];
    let end = len.next_multiple_of(BLOCK).min(bytes.len());
    bytes[len..end].fill(0);
    Some(half)
}
