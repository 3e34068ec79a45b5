//! Moves from one directory to another, on btrfs. It makes a directory durable by a log of that directory's names: after fsync(2) of
//! where something went and a power cut, it is there under both names (and a lower's file under the old one, as the whiteout is not
//! there). After fsync(2) of where it came from both sides are durable at once, for then btrfs logs the new name with it, or commits
//! its transaction (fstests, generic/335). So fsync(2) of a directory begins with those that something came from. Other file systems
//! have one journal, and need none of this.

use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::node::{Node, NodeId, Place};
use super::{Backing, Union, Upper};
use crate::error::{Error, Result};
use crate::sys::btrfs;
use crate::sys::data::{self, OFlags};

/// Moves that are remembered one by one.
const MOST: usize = 64;

/// Something went from one directory to another, as the `number`th.
#[derive(Clone, Copy, Debug)]
struct Move {
    from: NodeId,
    to: NodeId,
    number: u64,
}

/// Moves that may not be durable.
#[derive(Debug, Default)]
struct Pending {
    moves: Vec<Move>,
    /// Number of the next one.
    next: u64,
    /// Those with lower numbers may have been forgotten: there were more than [`MOST`].
    forgotten: u64,
}

/// What must be synchronised before a directory.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// These directories, in this order.
    Directories(SmallVec<[NodeId; 2]>),
    /// Nobody knows any more which ones.
    Everything,
}

impl Pending {
    fn note(&mut self, from: NodeId, to: NodeId) {
        self.moves.retain(|old| (old.from, old.to) != (from, to));
        if self.moves.len() == MOST {
            self.forgotten = self.moves.remove(0).number + 1;
        }
        self.moves.push(Move { from, to, number: self.next });
        self.next += 1;
    }

    /// What went on from where it had gone leads further back: the first directory comes first.
    fn due(&self, to: NodeId) -> Due {
        if self.forgotten > 0 {
            return Due::Everything;
        }
        let mut left: SmallVec<[NodeId; 2]> = smallvec::smallvec![to];
        let mut at = 0;
        while let Some(dir) = left.get(at).copied() {
            for source in self.moves.iter().filter(|one| one.to == dir).map(|one| one.from) {
                if !left.contains(&source) {
                    left.push(source);
                }
            }
            at += 1;
        }
        left.remove(0);
        left.reverse();
        Due::Directories(left)
    }

    /// A directory was synchronised when the next move was the `until`th: what had left it is durable.
    fn settle(&mut self, from: NodeId, until: u64) {
        self.moves.retain(|one| one.from != from || one.number >= until);
    }

    fn settle_all(&mut self, until: u64) {
        self.moves.retain(|one| one.number >= until);
        if self.forgotten <= until {
            self.forgotten = 0;
        }
    }
}

/// The moves within one upper.
#[derive(Debug)]
pub(super) struct Moves(Option<Mutex<Pending>>);

impl Moves {
    /// Remembers nothing where the upper is not on btrfs.
    pub(super) fn of(upper: Option<&Upper>) -> Self {
        Self(upper.filter(|upper| btrfs::is_btrfs(upper.root())).map(|_| Mutex::default()))
    }

    /// Notes that a name went from one directory to another.
    pub(super) fn note(&self, from: NodeId, to: NodeId) {
        if let Some(pending) = self.0.as_ref().filter(|_| from != to) {
            pending.lock().note(from, to);
        }
    }
}

impl Union {
    /// Makes a directory durable whose upper part is open, and that what came into it has left where it was.
    pub(super) fn sync_dir(&self, node: &Node, fd: &Arc<std::os::fd::OwnedFd>, data_only: bool) -> Result<()> {
        let synchronise =
            || data::sync(fd, data_only).map_err(|e| Error::sys("synchronise", self.name_of(&node.state.read()), e));
        let Some(pending) = &self.moves.0 else { return synchronise() };
        let (due, until) = {
            let pending = pending.lock();
            (pending.due(node.id), pending.next)
        };
        let left = match due {
            Due::Directories(left) if self.sync_live(&left)? => left,
            _ => {
                self.synchronise()?;
                pending.lock().settle_all(until);
                return Ok(());
            }
        };
        synchronise()?;
        left.iter().chain([&node.id]).for_each(|dir| pending.lock().settle(*dir, until));
        Ok(())
    }

    /// Synchronises directories in this order; false where one is not there any more.
    fn sync_live(&self, dirs: &[NodeId]) -> Result<bool> {
        for dir in dirs {
            let Ok(node) = self.table.get(*dir) else { return Ok(false) };
            let open = {
                let _tree = self.tree.read();
                let state = node.state.read();
                match (&state.place, self.backing(&node, &state)) {
                    (Place::Upper | Place::Merged, Ok(Backing::Upper(spot))) => spot.open(OFlags::RDONLY | OFlags::DIRECTORY),
                    _ => return Ok(false),
                }
            };
            let Ok(open) = open else { return Ok(false) };
            data::sync(open, false).map_err(|e| Error::sys("synchronise", self.name_of(&node.state.read()), e))?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories<const N: usize>(ids: [u64; N]) -> Due {
        Due::Directories(ids.into_iter().map(NodeId).collect())
    }

    fn pending(moves: &[(u64, u64)]) -> Pending {
        let mut pending = Pending::default();
        moves.iter().for_each(|(from, to)| pending.note(NodeId(*from), NodeId(*to)));
        pending
    }

    #[test]
    fn the_first_directory_comes_first() {
        let pending = pending(&[(1, 2), (2, 3), (8, 9), (3, 1), (7, 2)]);
        assert_eq!(pending.due(NodeId(9)), directories([8]));
        assert_eq!(pending.due(NodeId(8)), directories([]));
        assert_eq!(pending.due(NodeId(3)), directories([7, 1, 2]));
    }

    #[test]
    fn what_came_later_stays_due() {
        let mut pending = pending(&[(1, 2), (4, 2)]);
        let until = pending.next;
        pending.note(NodeId(4), NodeId(2));
        pending.settle(NodeId(1), until);
        pending.settle(NodeId(4), until);
        assert_eq!(pending.due(NodeId(2)), directories([4]));
    }

    #[test]
    fn too_many_moves_have_everything_synchronised_once() {
        let mut pending = Pending::default();
        (0..=MOST as u64).for_each(|n| pending.note(NodeId(n), NodeId(1000)));
        assert_eq!((pending.due(NodeId(5000)), pending.moves.len()), (Due::Everything, MOST));
        pending.settle_all(pending.next);
        assert_eq!((pending.due(NodeId(1000)), pending.moves.len()), (directories([]), 0));
    }
}
