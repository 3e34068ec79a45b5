//! Positions in listings. The kernel opens no directory: a position belongs to a name for as long as the kernel knows the
//! directory, so that whoever goes on from one misses nothing and meets nothing twice while names come and go (readdir(3),
//! telldir(3)), be it in a listing that the kernel has kept.
//!
//! Names that never changed are counted in their order, which gives the same positions whenever it is done. A directory that is
//! changed after it was read keeps its order from then on.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLockWriteGuard};

use super::listing::Entry;
use super::node::Node;
use super::{NodeId, Union};
use crate::error::Result;
use crate::sys::heap;
use crate::types::Kind;

/// The names of a directory in order of their positions, which start at 1.
#[derive(Debug, Default)]
struct Order {
    entries: Vec<Entry>,
    /// The position of each; `None` where they were counted, as in a directory that never changed.
    places: Option<Box<[u64]>>,
    /// The last position that was ever given.
    last: u64,
}

impl Order {
    fn new(entries: Vec<Entry>) -> Self {
        Self { last: entries.len() as u64, entries, places: None }
    }

    /// What stands there now: names that were there keep their positions, new ones come behind all others.
    fn renew(&self, entries: Vec<Entry>) -> Self {
        let mut known: HashMap<&OsString, u64> = self.placed(0).map(|(at, entry)| (&entry.name, at)).collect();
        let mut last = self.last;
        let mut place = |entry: Entry| {
            let at = known.remove(&entry.name).unwrap_or_else(|| {
                last += 1;
                last
            });
            (at, entry)
        };
        let mut placed: Vec<(u64, Entry)> = entries.into_iter().map(&mut place).collect();
        placed.sort_by_key(|(at, _)| *at);
        let (places, entries): (Vec<u64>, Vec<Entry>) = placed.into_iter().unzip();
        Self { entries, places: Some(places.into()), last }
    }

    /// The entries behind `position`, with theirs.
    fn placed(&self, position: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let from = match &self.places {
            None => usize::try_from(position).unwrap_or(usize::MAX),
            Some(places) => places.partition_point(|at| *at <= position),
        };
        let from = from.min(self.entries.len());
        (from..).zip(self.entries.get(from..).unwrap_or_default()).map(|(index, entry)| (self.place(index), entry))
    }

    fn place(&self, index: usize) -> u64 {
        let counted = index as u64 + 1;
        self.places.as_ref().map_or(counted, |places| places.get(index).copied().unwrap_or(counted))
    }

    /// The last position of those that are there.
    fn end(&self) -> u64 {
        self.entries.len().checked_sub(1).map_or(0, |index| self.place(index))
    }
}

/// Entries of a listing besides its names: `.` and `..`, which come first.
pub(super) const DOTS: usize = 2;
/// Listings of unchanged directories that are being read, kept between two requests.
const UNFINISHED: usize = 8;
/// Names of them all, some 130 MB; one alone may have more. An image may list one long directory under many names.
const NAMES: usize = 1 << 20;
/// The memory of fewer names is not worth giving back, some 2 MB.
const MANY: usize = 16_384;

/// What readers of a directory were told.
#[derive(Debug, Default)]
pub struct Listed {
    /// Somebody may have positions.
    read: bool,
    /// The directory was changed since.
    changed: bool,
    /// Of a directory that was changed, kept for as long as its node; else as long as it is being read.
    order: Option<Arc<Mutex<Arc<Order>>>>,
    /// The last position, where somebody has come to it and the order was dropped since; or 0.
    end: u64,
}

impl Listed {
    /// Nothing follows this position in an unchanged directory. The kernel asks once more when it has been given all.
    const fn ends_at(&self, position: u64) -> bool {
        position > 0 && self.end == position && self.order.is_none() && !self.changed
    }
}

/// What is being read at present.
#[derive(Debug, Default)]
pub struct Positions {
    /// Unchanged directories, with how many names they have, longest unused first.
    unfinished: Mutex<VecDeque<(Weak<Node>, usize)>>,
    /// Held by who lists a directory that nobody has listed yet. Of several who come together each would need memory for all its names.
    listing: Mutex<Vec<(NodeId, Arc<Mutex<()>>)>>,
}

impl Positions {
    /// The lock of who lists a directory. It is taken before all others, and its map knows it for as long as somebody has it.
    fn turn(&self, dir: NodeId) -> Arc<Mutex<()>> {
        let mut all = self.listing.lock();
        all.retain(|(_, lock)| Arc::strong_count(lock) > 1);
        if let Some((_, lock)) = all.iter().find(|(id, _)| *id == dir) {
            return Arc::clone(lock);
        }
        let lock = Arc::default();
        all.push((dir, Arc::clone(&lock)));
        lock
    }

    /// Keeps the order of an unchanged directory for the next request; the caller holds nothing of any node's.
    fn keep(&self, node: &Arc<Node>, names: usize) {
        let over: Vec<_> = {
            let mut unfinished = self.unfinished.lock();
            forget(&mut unfinished, node);
            unfinished.push_back((Arc::downgrade(node), names));
            // Of the last ones, those that go in beside the newest.
            let mut sum = 0_usize;
            let fitting = unfinished.iter().rev().take(UNFINISHED).take_while(|(_, names)| {
                let fits = sum == 0 || sum.saturating_add(*names) <= NAMES;
                sum = sum.saturating_add(*names);
                fits
            });
            let leaving = unfinished.len().saturating_sub(fitting.count());
            unfinished.drain(..leaving).collect()
        };
        over.iter().filter_map(|(node, _)| node.upgrade()).for_each(|node| drop_unchanged(&node));
    }

    /// Somebody has come to the last position, `end`.
    fn finish(&self, node: &Arc<Node>, end: u64) {
        forget(&mut self.unfinished.lock(), node);
        if let Some(mut listed) = node.listed() {
            listed.end = end;
        }
        drop_unchanged(node);
    }
}

fn forget(unfinished: &mut VecDeque<(Weak<Node>, usize)>, node: &Arc<Node>) {
    unfinished.retain(|(other, _)| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(node)));
}

fn drop_unchanged(node: &Node) {
    let order = node.listed().filter(|listed| !listed.changed).and_then(|mut listed| listed.order.take());
    if order.is_some_and(|order| order.lock().entries.len() > MANY) {
        heap::give_back();
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let many = self.order.take().is_some_and(|order| order.lock().entries.len() > MANY);
        if many {
            heap::give_back();
        }
    }
}

impl Union {
    /// Gives the entries of a directory from `position` on to `take`, with its node and the position that follows each, until it returns
    /// false. Position 0 starts anew (rewinddir(3)): then, and only then, names made or removed since show.
    ///
    /// # Errors
    /// `ENOTDIR`, and what the layers say.
    pub fn read_dir(&self, id: NodeId, position: u64, mut take: impl FnMut(&Arc<Node>, &Entry, u64) -> bool) -> Result<()> {
        let node = self.dir(id)?;
        if node.listed().is_some_and(|listed| listed.ends_at(position)) {
            return Ok(());
        }
        let order = self.order(&node, position == 0)?;
        for (at, entry) in order.placed(position) {
            if !take(&node, entry, at) {
                return Ok(());
            }
        }
        let end = order.end();
        // Before memory is given back.
        drop(order);
        self.positions.finish(&node, end);
        Ok(())
    }

    /// Has the lower of a directory decode what is asked for when that is listed, where one alone has a part of it.
    pub fn prepare_listing(&self, dir: &Node) {
        let only = match &dir.state.read().lowers[..] {
            [only] => *only,
            _ => return,
        };
        if let Ok(lower) = self.lower(only) {
            lower.prepare_listing(only.id);
        }
    }

    fn order(&self, node: &Arc<Node>, anew: bool) -> Result<Arc<Order>> {
        if let Some(order) = self.known_order(node, anew)? {
            return Ok(order);
        }
        let turn = self.positions.turn(node.id);
        let _turn = turn.lock();
        match self.known_order(node, anew)? {
            Some(order) => Ok(order),
            None => self.first_order(node),
        }
    }

    /// That of who has begun to read it, or has read it before it was changed.
    fn known_order(&self, node: &Arc<Node>, anew: bool) -> Result<Option<Arc<Order>>> {
        let known = node.listed().and_then(|listed| listed.order.clone().map(|order| (order, listed.changed)));
        let Some((order, changed)) = known else { return Ok(None) };
        let mut order = order.lock();
        if anew && changed {
            *order = Arc::new(order.renew(self.listing(node)?));
        }
        Ok(Some(Arc::clone(&order)))
    }

    fn first_order(&self, node: &Arc<Node>) -> Result<Arc<Order>> {
        let order = {
            let _tree = self.tree.read();
            let _names = node.children.read();
            let order = Arc::new(Order::new(self.sorted(node)?));
            // Under the lock: whoever changes the names after it finds that they were read. One who has changed them just before
            // has left an order only if somebody else had read them.
            match node.listed() {
                Some(listed) if listed.order.is_some() => {}
                Some(mut listed) => {
                    listed.read = true;
                    listed.order = Some(Arc::new(Mutex::new(Arc::clone(&order))));
                }
                None => {}
            }
            order
        };
        self.positions.keep(node, order.entries.len());
        Ok(order)
    }

    /// Locks the names of a directory to change them. Those who have read it keep their positions.
    pub(super) fn change_names<'a>(&self, dir: &'a Arc<Node>) -> RwLockWriteGuard<'a, ()> {
        let names = dir.children.write();
        self.keep_order(dir);
        names
    }

    /// Before names of `dir` change. The caller holds `tree`, and the names exclusively.
    pub(super) fn keep_order(&self, dir: &Arc<Node>) {
        {
            let Some(mut listed) = dir.listed().filter(|listed| listed.read && !listed.changed) else { return };
            listed.changed = listed.order.is_some();
            if listed.changed {
                return;
            }
        }
        let order = self.sorted(dir).map(|sorted| Arc::new(Order::new(sorted))).inspect_err(|e| {
            tracing::warn!("positions in a directory that changes are lost, as it cannot be listed: {e}");
        });
        if let Some(mut listed) = dir.listed() {
            listed.changed = true;
            if let Ok(order) = order {
                listed.order.get_or_insert_with(|| Arc::new(Mutex::new(order)));
            }
        }
    }

    fn listing(&self, node: &Arc<Node>) -> Result<Vec<Entry>> {
        let _tree = self.tree.read();
        let _names = node.children.read();
        self.sorted(node)
    }

    /// `.`, `..`, and the visible names in their order. The caller holds `tree` and the names.
    fn sorted(&self, node: &Arc<Node>) -> Result<Vec<Entry>> {
        let [this, parent] = self.dots(node);
        let dot = |name: &str, ino| Entry { name: name.into(), ino, kind: Kind::Dir, lower: None };
        let mut all = self.entries_of(node)?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all.splice(..0, [dot(".", this), dot("..", parent)]);
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::union::node::{Place, State};

    fn entries(names: &[&str]) -> Vec<Entry> {
        [".", ".."].iter().chain(names).map(|name| Entry { name: name.into(), ino: 1, kind: Kind::File, lower: None }).collect()
    }

    fn places(order: &Order) -> Vec<(u64, &str)> {
        order.placed(0).map(|(at, entry)| (at, entry.name.to_str().unwrap())).skip(DOTS).collect()
    }

    #[test]
    fn names_keep_their_positions() {
        let order = Order::new(entries(&["a", "b", "c"]));
        assert_eq!(places(&order), [(3, "a"), (4, "b"), (5, "c")]);
        let order = order.renew(entries(&["aa", "b", "c"]));
        assert_eq!(places(&order), [(4, "b"), (5, "c"), (6, "aa")]);
        let order = order.renew(entries(&["a", "b"]));
        assert_eq!(places(&order), [(4, "b"), (7, "a")], "a position is not given twice");
        let behind = |position| order.placed(position).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!((behind(4), behind(6), behind(7), order.end()), (vec![7], vec![7], vec![], 7));
    }

    #[test]
    fn counted_positions_are_those_of_an_order_that_gives_them() {
        let counted = Order::new(entries(&["a", "b"]));
        let given = counted.renew(entries(&["a", "b"]));
        assert!(counted.places.is_none() && given.places.is_some());
        for position in [0, 1, 2, 3, 4, 5, u64::MAX] {
            let [a, b] =
                [&counted, &given].map(|order| order.placed(position).map(|(at, entry)| (at, entry.clone())).collect::<Vec<_>>());
            assert_eq!(a, b);
        }
        assert_eq!((counted.end(), given.end(), Order::default().end()), (4, 4, 0));
    }

    #[test]
    fn a_directory_is_listed_by_one_at_a_time() {
        let positions = Positions::default();
        let (first, second, other) = (positions.turn(NodeId(7)), positions.turn(NodeId(7)), positions.turn(NodeId(8)));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
        drop((first, second));
        drop(positions.turn(NodeId(9)));
        let known = |id| positions.listing.lock().iter().any(|(other, _)| *other == NodeId(id));
        assert!(!known(7) && known(8) && known(9));
        drop(other);
        let _ten = positions.turn(NodeId(10));
        assert!(!known(8) && !known(9) && known(10));
    }

    #[test]
    fn few_listings_are_kept_between_requests() {
        let (positions, order) = (Positions::default(), || Arc::new(Mutex::new(Arc::new(Order::new(entries(&["a"]))))));
        let nodes: Vec<Arc<Node>> = (0..=UNFINISHED as u64)
            .map(|n| Arc::new(Node::new(NodeId(n), Kind::Dir, State::new(Place::Lower, SmallVec::new()))))
            .collect();
        let is_kept = |n: usize| nodes[n].listed().unwrap().order.is_some();
        for node in &nodes {
            node.listed().unwrap().order = Some(order());
            positions.keep(node, 3);
        }
        assert!(!is_kept(0) && is_kept(1) && is_kept(UNFINISHED));
        let ends_at = |n: usize, position| nodes[n].listed().unwrap().ends_at(position);
        assert!(!ends_at(1, 3));
        positions.finish(&nodes[1], 3);
        assert!(!is_kept(1) && ends_at(1, 3) && !ends_at(1, 2) && !ends_at(1, 0));
        nodes[1].listed().unwrap().changed = true;
        assert!(!ends_at(1, 3), "others may follow in a changed directory");
        nodes[2].listed().unwrap().changed = true;
        positions.finish(&nodes[2], 3);
        assert!(is_kept(2) && !ends_at(2, 3), "positions in a changed directory are lost");
        nodes[3].listed().unwrap().order = Some(order());
        positions.keep(&nodes[3], NAMES - 3);
        assert!(is_kept(3) && is_kept(UNFINISHED) && !is_kept(UNFINISHED - 1), "long ones leave room for fewer");
        nodes[4].listed().unwrap().order = Some(order());
        positions.keep(&nodes[4], NAMES + 1);
        assert!(is_kept(4) && !is_kept(3), "one alone may be longer");
    }
}
