//! A lower made by the same operations on disk and in memory.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::on_path::OnPath;
use super::op::{Op, Place};
use super::target::Target;
use super::tree::Tree;

/// What all of a lower is stamped with: squashfs keeps whole seconds.
pub const STAMP: (i64, u32) = (1_234_567_890, 0);

/// Makes the lower's tree in a directory and in memory by the same operations.
pub fn make_lower(ops: &[Op<Place>], at: &Path, keep: impl Fn(&Op) -> bool) -> Tree {
    let (mut tree, mut disk) = (Tree::new(), OnPath::bare(at));
    for op in ops {
        let op = op.place(&tree);
        if !keep(&op) {
            continue;
        }
        assert_eq!(op.apply(&mut tree), op.apply(&mut disk), "making the lower: {op:?}");
    }
    for path in tree.view().unwrap().into_keys() {
        stamp(&at.join(path));
    }
    // The kernel's squashfs answers EOPNOTSUPP about attributes when the image has no table of them at all.
    disk.set_xattr(Path::new(""), "user.table", b"1").unwrap();
    tree
}

/// Gives a name the lower's time. Its last access lies ahead, so that reading does not change it: mksquashfs takes two names for
/// one file only as long as all that stat(2) says of them is the same, and it reads symbolic links in between.
fn stamp(path: &Path) {
    let last_access = Timespec { tv_sec: 8_000_000_000, tv_nsec: 0 };
    let last_modification = Timespec { tv_sec: STAMP.0, tv_nsec: i64::from(STAMP.1) };
    utimensat(CWD, path, &Timestamps { last_access, last_modification }, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
