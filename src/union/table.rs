//! All live nodes, by id and by what they are. A node leaves when nobody refers to it, so memory follows use.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;

use super::node::{Key, Link, Node, NodeId, ROOT, State};
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

    /// The live node of a key, without a new reference.
    #[must_use]
    pub fn find(&self, key: Key) -> Option<Arc<Node>> {
        self.keys.get(&key).map(|node| Arc::clone(&node))
    }

    /// The live node of a key and type, with one more reference.
    #[must_use]
    pub fn find_held(&self, key: Key, kind: Kind) -> Option<Arc<Node>> {
        self.keys.get(&key).filter(|node| node.kind == kind && node.hold()).map(|node| Arc::clone(&node))
    }

    /// The node of a key with one more reference; made where there is none.
    ///
    /// A node's id is its inode number, as FUSE replies carry one number for both; only where a live node already has it (two
    /// halves of a hard link that copy-up broke, two upper files of one origin) the newer gets a number of its own.
    pub fn intern(&self, key: Key, kind: Kind, ino: impl FnOnce() -> u64, state: impl FnOnce() -> State) -> Arc<Node> {
        let slot = self.keys.entry(key);
        if let Entry::Occupied(known) = &slot
            && known.get().kind == kind
            && known.get().hold()
        {
            return Arc::clone(known.get());
        }
        let node = self.settle(ino(), kind, state());
        node.keys.lock().push(key);
        slot.insert(Arc::clone(&node));
        node
    }

    /// A number that no node has or will have.
    pub fn made_up_number(&self) -> u64 {
        EPHEMERAL | self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn settle(&self, ino: u64, kind: Kind, state: State) -> Arc<Node> {
        let mut number = ino;
        loop {
            let id = NodeId(number);
            match self.nodes.entry(id) {
                Entry::Occupied(known) if id == ROOT || !known.get().is_dead() => {
                    number = self.made_up_number();
                }
                slot => {
                    let node = Arc::new(Node::new(id, kind, state));
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
        for key in std::mem::take(&mut *node.keys.lock()) {
            self.keys.remove_if(&key, |_, known| std::ptr::eq(&**known, node));
        }
    }

    /// Forgets a node's lower identity: other names of that lower inode are from now on a file of their own.
    pub fn drop_lower_keys(&self, node: &Node) {
        node.keys.lock().retain(|key| {
            let lower = key.is_lower();
            if lower {
                self.keys.remove_if(key, |_, known| std::ptr::eq(&**known, node));
            }
            !lower
        });
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
