//! All live nodes, by id and by what they are. A node leaves when nobody refers to it, so memory follows use.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;
use smallvec::SmallVec;

use super::node::{Key, Link, LowerAt, Node, NodeId, ROOT, State};
use crate::error::Errno;
use crate::sys::heap;
use crate::types::Kind;

/// Fewer nodes than this are not worth giving back, some 4 MB.
const MANY: usize = 16_384;
/// Bit of inode numbers that are made up.
const EPHEMERAL: u64 = 1 << 63;

/// The node table.
#[derive(Debug)]
pub struct Table {
    /// `st_ino` of the root.
    root: u64,
    nodes: DashMap<NodeId, Arc<Node>, RandomState>,
    /// All but most of those that [`Table::intern_lower`] was given.
    keys: DashMap<Key, Arc<Node>, RandomState>,
    next: AtomicU64,
    /// Nodes at present, and most nodes since memory was last given back.
    live: AtomicUsize,
    peak: AtomicUsize,
}

impl Table {
    /// A table that knows the root.
    #[must_use]
    pub fn new(root: u64, state: State) -> Self {
        let nodes = DashMap::with_hasher(RandomState::default());
        nodes.insert(ROOT, Arc::new(Node::new(ROOT, Kind::Dir, state)));
        Self {
            root,
            nodes,
            keys: DashMap::with_hasher(RandomState::default()),
            next: AtomicU64::new(1),
            live: AtomicUsize::new(1),
            peak: AtomicUsize::new(1),
        }
    }

    /// The node of an id.
    ///
    /// # Errors
    /// `ESTALE` where it was forgotten.
    pub fn get(&self, id: NodeId) -> Result<Arc<Node>, Errno> {
        self.nodes.get(&id).map(|node| Arc::clone(&node)).ok_or(Errno::ESTALE)
    }

    /// `st_ino` of a node; never changes, so copy-up is not seen.
    #[must_use]
    pub fn number(&self, node: &Node) -> u64 {
        if node.id == ROOT { self.root } else { node.id.0 }
    }

    /// The live node of a key that [`Table::intern`] or [`Table::add_key`] was given, without a new reference.
    #[must_use]
    pub fn find(&self, key: Key) -> Option<Arc<Node>> {
        self.keys.get(&key).map(|node| Arc::clone(&node))
    }

    /// The live node of a lower part and type, without a new reference; `number` is that by which it was made.
    #[must_use]
    pub fn find_lower(&self, at: LowerAt, number: u64, kind: Kind) -> Option<Arc<Node>> {
        let key = Key::lower(at);
        let is_it = |node: &Arc<Node>| node.kind == kind && !node.is_dead();
        self.find(key).filter(is_it).or_else(|| {
            let node = self.nodes.get(&NodeId(number)).filter(|node| is_it(node) && node.is_known_as(key));
            node.map(|node| Arc::clone(&node))
        })
    }

    /// The node of a key with one more reference; made where there is none.
    ///
    /// A node's id is its inode number, as FUSE replies carry one number for both; only where a live node already has it (two
    /// halves of a hard link that copy-up broke, two upper files of one origin) the newer gets a number of its own.
    pub fn intern(&self, key: Key, kind: Kind, ino: impl FnOnce() -> u64, state: impl FnOnce() -> State) -> Arc<Node> {
        let slot = self.keys.entry(key);
        if let Entry::Occupied(known) = &slot
            && known.get().hold_as(kind)
        {
            return Arc::clone(known.get());
        }
        let node = self.settle(ino(), kind, state(), key);
        slot.insert(Arc::clone(&node));
        node
    }

    /// As [`Table::intern`], for a lower part that has this number each time: mostly that is enough to find it, without its key.
    pub fn intern_lower(&self, at: LowerAt, kind: Kind, number: u64, state: impl FnOnce() -> State) -> Arc<Node> {
        let key = Key::lower(at);
        // Held meanwhile, so that it is made once.
        let slot = self.keys.entry(key);
        if let Entry::Occupied(known) = &slot
            && known.get().hold_as(kind)
        {
            return Arc::clone(known.get());
        }
        if let Some(known) = self.nodes.get(&NodeId(number))
            && known.is_known_as(key)
            && known.hold_as(kind)
        {
            return Arc::clone(&known);
        }
        let node = self.settle(number, kind, state(), key);
        // In place of an older one, too.
        if node.id != NodeId(number) || matches!(slot, Entry::Occupied(_)) {
            slot.insert(Arc::clone(&node));
        }
        node
    }

    /// All nodes of this moment; no lock of the table is held while they are looked at.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Node>> {
        self.nodes.iter().map(|node| Arc::clone(&node)).collect()
    }

    /// A number that no node has or will have.
    pub fn made_up_number(&self) -> u64 {
        EPHEMERAL | self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a node known by `number`, or by another one where that is taken.
    fn settle(&self, mut number: u64, kind: Kind, state: State, key: Key) -> Arc<Node> {
        loop {
            let id = NodeId(number);
            match self.nodes.entry(id) {
                Entry::Occupied(known) if id == ROOT || !known.get().is_dead() => {
                    number = self.made_up_number();
                }
                slot => {
                    let node = Arc::new(Node::new(id, kind, state));
                    node.keys.lock().push(key);
                    slot.insert(Arc::clone(&node));
                    let live = self.live.fetch_add(1, Ordering::Relaxed) + 1;
                    self.peak.fetch_max(live, Ordering::Relaxed);
                    return node;
                }
            }
        }
    }

    /// Makes a node known under one more key.
    pub fn add_key(&self, key: Key, node: &Arc<Node>) {
        node.keys.lock().push(key);
        self.keys.insert(key, Arc::clone(node));
    }

    /// Forgets what a node was known as: its inode numbers may now be another's.
    pub fn drop_keys(&self, node: &Node) {
        let keys = std::mem::take(&mut *node.keys.lock());
        self.remove(node, &keys);
    }

    /// Forgets a node's lower identity: other names of that lower inode are from now on a file of their own.
    pub fn drop_lower_keys(&self, node: &Node) {
        let mut lower = SmallVec::<[Key; 1]>::new();
        node.keys.lock().retain(|key| {
            lower.extend(key.is_lower().then_some(*key));
            !key.is_lower()
        });
        self.remove(node, &lower);
    }

    /// The node's own keys are not locked meanwhile: who makes a node locks them the other way round.
    fn remove(&self, node: &Node, keys: &[Key]) {
        for key in keys {
            self.keys.remove_if(key, |_, known| std::ptr::eq(&**known, node));
        }
    }

    /// Gives a node a name; the parent gains a reference. The caller holds the node's state.
    pub fn add_link(&self, state: &mut State, parent: &Arc<Node>, name: &OsStr) {
        // A parent in use by a request cannot be dead.
        let _held = parent.hold();
        state.links.push(Link { parent: Arc::clone(parent), name: name.into(), below: false });
    }

    /// As [`Table::add_link`], for a name that the lower alone has of a node that is in the upper.
    pub fn add_link_below(&self, state: &mut State, parent: &Arc<Node>, name: &OsStr) {
        self.add_link(state, parent, name);
        state.links.last_mut().into_iter().for_each(|link| link.below = true);
    }

    /// Takes a name from a node and hands back the link, whose parent the caller must [`Table::release`] after letting go of
    /// the node's state.
    #[must_use]
    pub fn take_link(&self, state: &mut State, parent: &Node, name: &OsStr) -> Option<Link> {
        let at = state.links.iter().position(|link| link.is(parent, name))?;
        Some(state.links.swap_remove(at))
    }

    /// Drops references to a node; with the last one it leaves, and so do parents that only it referred to.
    pub fn release(&self, node: &Arc<Node>, n: u64) {
        if !node.drop_refs(n) {
            return;
        }
        let mut dead = vec![Arc::clone(node)];
        while let Some(node) = dead.pop() {
            self.nodes.remove_if(&node.id, |_, known| Arc::ptr_eq(known, &node));
            self.live.fetch_sub(1, Ordering::Relaxed);
            self.drop_keys(&node);
            let links = std::mem::take(&mut node.state.write().links);
            dead.extend(links.into_iter().filter(|link| link.parent.drop_refs(1)).map(|link| link.parent));
        }
        self.shrink();
    }

    /// Returns memory to the system once most of many nodes have gone.
    fn shrink(&self) {
        let (live, peak) = (self.live.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed));
        let first = || self.peak.compare_exchange(peak, live, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if peak > MANY && live < peak / 4 && first() {
            self.nodes.shrink_to_fit();
            self.keys.shrink_to_fit();
            heap::give_back();
        }
    }

    /// Number of live nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never true: the root stays.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::lower::LowerId;
    use crate::union::node::Place;

    const NUMBER: u64 = 77;

    fn at(id: u64) -> LowerAt {
        LowerAt { layer: 0, id: LowerId(id) }
    }

    fn state() -> State {
        State::new(Place::Lower, SmallVec::new())
    }

    fn table() -> Table {
        Table::new(5, state())
    }

    fn below(table: &Table, id: u64) -> Arc<Node> {
        table.intern_lower(at(id), Kind::File, NUMBER, state)
    }

    fn is_found(table: &Table, id: u64, node: &Arc<Node>) -> bool {
        table.find_lower(at(id), NUMBER, node.kind).is_some_and(|found| Arc::ptr_eq(&found, node))
    }

    #[test]
    fn a_lower_part_is_known_by_its_number() {
        let table = table();
        let node = below(&table, 3);
        assert_eq!(node.id, NodeId(NUMBER));
        assert!(Arc::ptr_eq(&node, &below(&table, 3)), "it is made once");
        assert!(is_found(&table, 3, &node) && table.keys.is_empty());
        assert!(
            table.find_lower(at(4), NUMBER, Kind::File).is_none() && table.find_lower(at(3), NUMBER + 1, Kind::File).is_none()
        );
        assert!(table.find_lower(at(3), ROOT.0, Kind::Dir).is_none());
        table.release(&node, 2);
        assert!(table.find_lower(at(3), NUMBER, Kind::File).is_none());
        assert!(!Arc::ptr_eq(&node, &below(&table, 3)), "the dead do not come back");
    }

    #[test]
    fn of_two_with_one_number_the_newer_gets_its_own() {
        let table = table();
        let (older, newer) = (below(&table, 3), below(&table, 4));
        assert_eq!((older.id, newer.id), (NodeId(NUMBER), NodeId(EPHEMERAL | 1)));
        assert!(is_found(&table, 3, &older) && is_found(&table, 4, &newer));
        table.release(&older, 1);
        assert!(Arc::ptr_eq(&newer, &below(&table, 4)), "it keeps its number");
        assert_eq!(below(&table, 3).id, NodeId(NUMBER));
    }

    #[test]
    fn one_of_another_type_is_not_it() {
        let table = table();
        let node = below(&table, 3);
        let dir = table.intern_lower(at(3), Kind::Dir, NUMBER, state);
        assert!(!Arc::ptr_eq(&node, &dir) && dir.kind.is_dir());
        assert!(is_found(&table, 3, &dir) && is_found(&table, 3, &node));
        assert!(Arc::ptr_eq(&dir, &table.intern_lower(at(3), Kind::Dir, NUMBER, state)));
    }

    #[test]
    fn who_is_just_leaving_is_not_found() {
        let table = table();
        let (first, second) = (below(&table, 3), below(&table, 4));
        table.release(&first, 1);
        assert!(second.drop_refs(1), "it stands in the table, and is dead");
        let newer = below(&table, 4);
        assert_eq!(newer.id, NodeId(NUMBER));
        assert!(is_found(&table, 4, &newer));
        table.drop_keys(&second);
        assert!(is_found(&table, 4, &newer));
    }

    #[test]
    fn a_key_alone_finds_what_may_get_another_number() {
        let (table, key) = (table(), Key::lower(at(3)));
        let node = table.intern(key, Kind::Dir, || NUMBER, state);
        assert!(Arc::ptr_eq(&node, &table.intern(key, Kind::Dir, || NUMBER + 1, state)));
        assert!(table.find_lower(at(3), NUMBER + 1, Kind::Dir).is_some_and(|found| Arc::ptr_eq(&found, &node)));
    }

    #[test]
    fn who_is_copied_up_is_known_by_both_parts_until_they_are_dropped() {
        let (table, upper) = (table(), Key::upper(8, 9));
        let node = below(&table, 3);
        table.add_key(upper, &node);
        let by_upper = || table.find(upper).is_some_and(|found| Arc::ptr_eq(&found, &node));
        assert!(by_upper() && is_found(&table, 3, &node));
        table.drop_lower_keys(&node);
        assert!(by_upper() && table.find_lower(at(3), NUMBER, Kind::File).is_none());
        assert_eq!(below(&table, 3).id, NodeId(EPHEMERAL | 1), "from now on a file of its own");
        table.drop_keys(&node);
        assert!(!by_upper());
        assert!(table.get(NodeId(NUMBER)).is_ok(), "the kernel still knows it");
    }
}
