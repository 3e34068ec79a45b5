//! Names of directories that were made here, with nothing below them. Nobody else changes an upper that is in use (overlayfs.rst,
//! "Changes to underlying filesystems"), so such a directory has no name but those that it was given here: who looks for another one need
//! not ask the upper. Whoever changes something asks it all the same, for what is taken for absent would be overwritten.

use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foldhash::fast::RandomState;

use super::node::{Node, NodeId};
use super::{Key, Union, Upper};
use crate::error::{Errno, Error};
use crate::sys::spot::Spot;

/// Bits by which names are known, a power of two: 128 KiB. Each name sets two; of 50,000 names that were never given one in a hundred is
/// taken for one of as many that were.
const BITS: usize = 1 << 20;

/// Which names may have been given. What was removed since stays, so in time nothing is known any more: of 300,000 names that were given,
/// every fifth absent one is asked for, of a million three in four.
#[derive(Debug, Default)]
pub struct Names {
    bits: OnceLock<Box<[AtomicU64]>>,
    /// The upper has failed: it is asked for everything.
    is_doubted: AtomicBool,
    hasher: RandomState,
}

impl Names {
    /// From now on the directory may have this name.
    fn note(&self, dir: NodeId, name: &OsStr) {
        let bits = self.bits.get_or_init(|| (0..BITS / 64).map(|_| AtomicU64::new(0)).collect());
        for bit in self.places(dir, name) {
            if let Some(word) = bits.get(bit / 64) {
                word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
            }
        }
    }

    /// False where it was never told so.
    fn may_have(&self, dir: NodeId, name: &OsStr) -> bool {
        if self.is_doubted.load(Ordering::Relaxed) {
            return true;
        }
        let Some(bits) = self.bits.get() else { return false };
        let is_set = |bit: usize| bits.get(bit / 64).is_none_or(|word| word.load(Ordering::Relaxed) & 1 << (bit % 64) != 0);
        self.places(dir, name).into_iter().all(is_set)
    }

    fn places(&self, dir: NodeId, name: &OsStr) -> [usize; 2] {
        let hash = self.hasher.hash_one((dir, name.as_bytes()));
        [hash, hash >> 32].map(|part| part as usize % BITS)
    }
}

impl Union {
    /// True where the directory has no such name, and the upper need not be asked. The caller holds its names, or takes it for a hint.
    pub(super) fn lacks(&self, dir: &Node, name: &OsStr) -> bool {
        dir.has_known_names() && !self.names.may_have(dir.id, name)
    }

    /// A change has failed. Where that was the upper's doing, as its file system was shut down, say, whoever looks for a name is told from
    /// now on.
    pub fn notice_failure(&self, failure: &Error) {
        if let Error::Sys { errno, .. } | Error::Expected(errno) = failure {
            self.notice_errno(*errno);
        }
    }

    /// As [`Union::notice_failure`], of what the upper has answered.
    pub(super) fn notice_errno(&self, errno: Errno) {
        if errno == Errno::EIO {
            self.names.is_doubted.store(true, Ordering::Relaxed);
        }
    }

    /// To be told of each name before it is given. The caller holds the directory's names exclusively.
    pub(super) fn note_name(&self, dir: &Node, name: &OsStr) {
        if dir.has_known_names() {
            self.names.note(dir.id, name);
        }
    }

    /// A directory was just made in the upper, and has no name yet; that it is `there` says its key.
    pub(super) fn begin_names(&self, dir: &Node, parent: &Node, at: &Spot, there: Key) {
        if parent.has_known_names() || self.upper.as_ref().is_some_and(Upper::compares_bytes) && tells_cases_apart(at, there) {
            dir.know_names();
        }
    }

    /// The directory, if it was made here.
    #[must_use]
    pub fn made_here(&self, id: NodeId) -> Option<Arc<Node>> {
        self.table.get(id).ok().filter(|node| node.has_known_names())
    }

    /// Has the upper find out that a name is absent for which it was not asked: who has looked for it may be about to give it.
    pub fn anticipate(&self, dir: &Arc<Node>, name: &OsStr) {
        if !self.lacks(dir, name) {
            return;
        }
        let fd = {
            let _tree = self.tree.read();
            self.dir_fd(dir)
        };
        // Nobody waits for this, should the disk hang.
        if let Ok(dir) = fd
            && let Err(e) = Spot::at(&dir, name).stat()
        {
            self.notice_errno(e);
        }
    }
}

/// False where the directory in which something is may have it by another spelling, too (`chattr +F`, by which upper and lower case are one),
/// as then do those made in it.
fn tells_cases_apart(at: &Spot, there: Key) -> bool {
    let Spot::At { dir, name } = at else { return false };
    let swap = |byte: u8| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    let swapped: Vec<u8> = name.as_bytes().iter().copied().map(swap).collect();
    if swapped == name.as_bytes() {
        return false;
    }
    match Spot::at(dir, &std::ffi::OsString::from_vec(swapped)).stat() {
        Ok(stat) => Key::upper(stat.dev, stat.attr.ino) != there,
        Err(e) => e == Errno::ENOENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_known() {
        let names = Names::default();
        let name = |n: u32| std::ffi::OsString::from(format!("name-{n}"));
        assert!(!names.may_have(NodeId(1), &name(0)), "none was given yet");
        (0..50_000).for_each(|n| names.note(NodeId(1), &name(n)));
        assert!((0..50_000).all(|n| names.may_have(NodeId(1), &name(n))));
        let mistaken = |dir, first: u32| (first..first + 50_000).filter(|n| names.may_have(NodeId(dir), &name(*n))).count();
        assert!(mistaken(1, 50_000) < 1000 && mistaken(2, 0) < 1000);
    }

    #[test]
    fn spelling_is_probed() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = crate::sys::spot::open_dir(tmp.path()).unwrap();
        let probe = |made: &str, asked: &str| {
            std::fs::create_dir_all(tmp.path().join(made)).unwrap();
            let stat = Spot::at(&dir, OsStr::new(made)).stat().unwrap();
            tells_cases_apart(&Spot::at(&dir, OsStr::new(asked)), Key::upper(stat.dev, stat.attr.ino))
        };
        assert!(probe("made", "made"));
        assert!(!probe("2026", "2026"), "nothing to go by");
        assert!(!probe("MADE", "made"), "as where both are one");
        std::fs::create_dir(tmp.path().join("mADE")).unwrap();
        assert!(probe("Made", "Made"), "another one");
    }
}
