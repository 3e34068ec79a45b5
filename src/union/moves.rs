//! Moves from one directory to another, on btrfs. It makes a directory durable by a log of that directory's names: after fsync(2) of
//! where something went and a power cut, it is there under both names (and a lower's file under the old one, as the whiteout is not
//! there). After fsync(2) of where it came from both sides are durable at once, for then btrfs logs the new name with it, or commits
//! its transaction (fstests, generic/335). So fsync(2) of a directory begins with those that something came from. Other file systems
//! have one journal, and need none of this.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::node::{Node, Place};
use super::{Backing, Union, Upper};
use crate::error::{Error, Result};
use crate::sys::btrfs;
use crate::sys::data::{self, OFlags};

/// Moves that are remembered one by one.
const MOST: usize = 64;

/// Something went from one directory to another, as the `number`th. Another directory may get the id of one that was forgotten.
#[derive(Clone, Debug)]
struct Move {
    from: Weak<Node>,
    to: Weak<Node>,
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
#[derive(Debug)]
enum Due {
    /// These directories, in this order.
    Directories(SmallVec<[Weak<Node>; 2]>),
    /// Nobody knows any more which ones.
    Everything,
}

impl Pending {
    fn note(&mut self, from: &Arc<Node>, to: &Arc<Node>) {
        let (from, to) = (Arc::downgrade(from), Arc::downgrade(to));
        self.moves.retain(|old| !(old.from.ptr_eq(&from) && old.to.ptr_eq(&to)));
        if self.moves.len() == MOST {
            self.forgotten = self.moves.remove(0).number + 1;
        }
        self.moves.push(Move { from, to, number: self.next });
        self.next += 1;
    }

    /// What went on from where it had gone leads further back: the first directory comes first.
    fn due(&self, to: &Arc<Node>) -> Due {
        // The directory of one that was forgotten may be this one.
        if self.forgotten > 0 || self.moves.iter().any(|one| alive(&one.to).is_none()) {
            return Due::Everything;
        }
        let mut left: SmallVec<[Weak<Node>; 2]> = smallvec::smallvec![Arc::downgrade(to)];
        let mut at = 0;
        while let Some(dir) = left.get(at).cloned() {
            for source in self.moves.iter().filter(|one| one.to.ptr_eq(&dir)).map(|one| &one.from) {
                if !left.iter().any(|known| known.ptr_eq(source)) {
                    left.push(Weak::clone(source));
                }
            }
            at += 1;
        }
        left.remove(0);
        left.reverse();
        Due::Directories(left)
    }

    /// A directory was synchronised when the next move was the `until`th: what had left it is durable.
    fn settle(&mut self, from: &Weak<Node>, until: u64) {
        self.moves.retain(|one| !one.from.ptr_eq(from) || one.number >= until);
    }

    fn settle_all(&mut self, until: u64) {
        self.moves.retain(|one| one.number >= until);
        if self.forgotten <= until {
            self.forgotten = 0;
        }
    }
}

/// A node that was not forgotten.
fn alive(node: &Weak<Node>) -> Option<Arc<Node>> {
    node.upgrade().filter(|node| !node.is_dead())
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
    pub(super) fn note(&self, from: &Arc<Node>, to: &Arc<Node>) {
        if let Some(pending) = self.0.as_ref().filter(|_| !Arc::ptr_eq(from, to)) {
            pending.lock().note(from, to);
        }
    }
}

impl Union {
    /// Makes a directory durable whose upper part is open, and that what came into it has left where it was.
    pub(super) fn sync_dir(&self, node: &Arc<Node>, fd: &Arc<std::os::fd::OwnedFd>, data_only: bool) -> Result<()> {
        let synchronise =
            || data::sync(fd, data_only).map_err(|e| Error::sys("synchronise", self.name_of(&node.state.read()), e));
        let Some(pending) = &self.moves.0 else { return synchronise() };
        let (due, until) = {
            let pending = pending.lock();
            (pending.due(node), pending.next)
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
        left.iter().chain([&Arc::downgrade(node)]).for_each(|dir| pending.lock().settle(dir, until));
        Ok(())
    }

    /// Synchronises directories in this order; false where one is not there any more.
    fn sync_live(&self, dirs: &[Weak<Node>]) -> Result<bool> {
        for dir in dirs {
            let Some(node) = alive(dir) else { return Ok(false) };
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
    use crate::types::Kind;
    use crate::union::node::{NodeId, State};

    fn dirs<const N: usize>() -> [Arc<Node>; N] {
        let node = |n| Node::new(NodeId(n as u64), Kind::Dir, State::new(Place::Merged, SmallVec::new()));
        std::array::from_fn(|n| Arc::new(node(n)))
    }

    /// Ids of what is due; `None` for everything.
    fn due(pending: &Pending, to: &Arc<Node>) -> Option<Vec<u64>> {
        match pending.due(to) {
            Due::Directories(dirs) => Some(dirs.iter().map(|dir| alive(dir).unwrap().id.0).collect()),
            Due::Everything => None,
        }
    }

    #[test]
    fn the_first_directory_comes_first() {
        let dirs: [_; 10] = dirs();
        let mut pending = Pending::default();
        [(1, 2), (2, 3), (8, 9), (3, 1), (7, 2)].into_iter().for_each(|(from, to): (usize, usize)| {
            pending.note(&dirs[from], &dirs[to]);
        });
        assert_eq!(due(&pending, &dirs[9]), Some(vec![8]));
        assert_eq!(due(&pending, &dirs[8]), Some(vec![]));
        assert_eq!(due(&pending, &dirs[3]), Some(vec![7, 1, 2]));
    }

    #[test]
    fn what_came_later_stays_due() {
        let [one, two, three] = dirs();
        let mut pending = Pending::default();
        pending.note(&one, &two);
        pending.note(&three, &two);
        let until = pending.next;
        pending.note(&three, &two);
        [&one, &three].into_iter().for_each(|dir| pending.settle(&Arc::downgrade(dir), until));
        assert_eq!(due(&pending, &two), Some(vec![three.id.0]));
    }

    #[test]
    fn too_many_moves_have_everything_synchronised_once() {
        let dirs: [_; MOST + 3] = dirs();
        let (to, other) = (&dirs[MOST + 1], &dirs[MOST + 2]);
        let mut pending = Pending::default();
        dirs[..=MOST].iter().for_each(|from| pending.note(from, to));
        assert_eq!((due(&pending, other), pending.moves.len()), (None, MOST));
        pending.settle_all(pending.next);
        assert_eq!((due(&pending, to), pending.moves.len()), (Some(vec![]), 0));
    }

    /// What it had for an id may be another's by now.
    #[test]
    fn where_a_target_was_forgotten_everything_is_synchronised() {
        let [from, to, other] = dirs();
        let mut pending = Pending::default();
        pending.note(&from, &to);
        assert_eq!(due(&pending, &other), Some(vec![]));
        assert!(to.drop_refs(1));
        assert_eq!(due(&pending, &other), None);
        pending.settle_all(pending.next);
        assert_eq!(due(&pending, &other), Some(vec![]));
    }
}
