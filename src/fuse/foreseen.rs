//! Attributes of the directory that was changed last, taken after the answer, while its asker goes on.
//!
//! The kernel forgets a directory's attributes with each change that it asks for, and asks for them before the next one (fs/fuse/dir.c,
//! `fuse_dir_changed`, `fuse_permission`). They hold until something is asked by which it would forget them again: what a copy-up leaves
//! in the directory of the upper it is not told of, either, once it has asked.

use parking_lot::Mutex;

use super::requests::Operation;
use crate::types::Attr;
use crate::union::NodeId;

/// The directory, if there is one.
#[derive(Debug, Default)]
pub(super) struct Foreseen(Mutex<Slot>);

#[derive(Debug, Default)]
struct Slot {
    cleared: u64,
    known: Option<(NodeId, Attr)>,
}

impl Slot {
    fn clear(&mut self) {
        *self = Self { cleared: self.cleared.wrapping_add(1), known: None };
    }
}

/// The state before one looked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before(u64);

impl Foreseen {
    /// To be told of each request that may change a directory before it is answered, so that no answer is given that precedes it.
    pub(super) fn notice(&self, operation: Operation) {
        if !operation.keeps_directories() {
            self.0.lock().clear();
        }
    }

    /// Attributes of this node are about to change, or another one may get its id.
    pub(super) fn notice_change(&self, of: NodeId) {
        let mut slot = self.0.lock();
        let others = slot.known.filter(|(dir, _)| *dir != of);
        slot.clear();
        slot.known = others;
    }

    /// To be asked before one makes sure that nothing else is being answered.
    pub(super) fn before(&self) -> Before {
        Before(self.0.lock().cleared)
    }

    /// What was found since; no news where something was asked meanwhile.
    pub(super) fn keep(&self, before: Before, dir: NodeId, attr: Attr) {
        let mut slot = self.0.lock();
        if slot.cleared == before.0 {
            slot.known = Some((dir, attr));
        }
    }

    /// What getattr would answer.
    pub(super) fn of(&self, dir: NodeId) -> Option<Attr> {
        self.0.lock().known.filter(|(known, _)| *known == dir).map(|(_, attr)| attr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Kind, Time};

    const DIR: NodeId = NodeId(7);

    fn attr(nlink: u32) -> Attr {
        let never = Time { secs: 0, nanos: 0 };
        let (ino, size, blocks, rdev) = (DIR.0, 0, 0, 0);
        let (perm, uid, gid, blksize) = (0o755, 0, 0, 4096);
        Attr {
            ino,
            kind: Kind::Dir,
            perm,
            nlink,
            uid,
            gid,
            rdev,
            size,
            blocks,
            blksize,
            atime: never,
            mtime: never,
            ctime: never,
        }
    }

    fn links(foreseen: &Foreseen) -> Option<u32> {
        foreseen.of(DIR).map(|attr| attr.nlink)
    }

    #[test]
    fn it_holds_until_something_changes() {
        let foreseen = Foreseen::default();
        foreseen.keep(foreseen.before(), DIR, attr(2));
        for quiet in [Operation::Lookup, Operation::Getattr, Operation::Getxattr, Operation::Write, Operation::Setattr] {
            foreseen.notice(quiet);
        }
        foreseen.notice_change(NodeId(8));
        assert_eq!((links(&foreseen), foreseen.of(NodeId(8)).is_some()), (Some(2), false));
        for change in [Operation::Mkdir, Operation::Rename, Operation::Setxattr, Operation::Readdirplus, Operation::Ioctl] {
            foreseen.keep(foreseen.before(), DIR, attr(3));
            foreseen.notice(change);
            assert_eq!(links(&foreseen), None, "{change:?}");
        }
        foreseen.keep(foreseen.before(), DIR, attr(4));
        foreseen.notice_change(DIR);
        assert_eq!(links(&foreseen), None);
    }

    #[test]
    fn a_request_while_one_looks_is_not_overlooked() {
        let foreseen = Foreseen::default();
        for change in [true, false] {
            let before = foreseen.before();
            if change {
                foreseen.notice(Operation::Mknod)
            } else {
                foreseen.notice_change(DIR)
            }
            foreseen.keep(before, DIR, attr(2));
            assert_eq!(links(&foreseen), None);
        }
    }
}
