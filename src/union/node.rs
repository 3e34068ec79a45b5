//! One inode of the union: where its parts are, and under which names it is known.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard, RwLock, RwLockWriteGuard};
use smallvec::SmallVec;

use super::absence::Absence;
use super::lower::LowerId;
use super::open::OpenFile;
use super::positions::Listed;
use crate::ovl::protect::Protection;
use crate::types::Kind;

const FLAGS_KNOWN: u8 = 1;
const FLAG_APPEND: u8 = 2;
const FLAG_IMMUTABLE: u8 = 4;
/// Beside them: see [`Node::has_known_names`]. With a byte of its own a node would take 16 more on the heap.
const KNOWS_NAMES: u8 = 8;

/// Names a node to the outside: its inode number ([`Table::number`](super::table::Table::number)), but for the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// The root of every union (`FUSE_ROOT_ID`).
pub const ROOT: NodeId = NodeId(1);

/// An inode of one of the lowers; layer 0 is the topmost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LowerAt {
    /// Index of the layer.
    pub layer: usize,
    /// The inode in it.
    pub id: LowerId,
}

/// What tells that two names lead to one node: the topmost lower part, or the upper one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64, u64);

impl Key {
    /// That of a lower part.
    #[must_use]
    pub const fn lower(at: LowerAt) -> Self {
        Self((at.layer as u64) << 1 | 1, at.id.0)
    }

    /// That of an upper part, by device and inode number; of the former Linux uses 32 bits.
    #[must_use]
    pub const fn upper(dev: u64, ino: u64) -> Self {
        Self(dev << 1, ino)
    }

    /// True for that of a lower part.
    #[must_use]
    pub const fn is_lower(self) -> bool {
        self.0 & 1 == 1
    }

    /// The lower part, if it is that of one.
    #[must_use]
    pub const fn as_lower(self) -> Option<LowerAt> {
        if self.is_lower() { Some(LowerAt { layer: (self.0 >> 1) as usize, id: LowerId(self.1) }) } else { None }
    }
}

/// Where a node's present content is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In lowers only.
    Lower,
    /// In the upper only, under each of the node's links.
    Upper,
    /// A directory in the upper and in lowers.
    Merged,
    /// In the upper without a known name; the descriptor holds it.
    Orphan(Arc<OwnedFd>),
    /// Removed; was in lowers only, which still have its data (none of them, where no descriptor was left to hold an upper one).
    Gone,
}

/// A name of a node.
#[derive(Clone, Debug)]
pub struct Link {
    /// The directory. It stays in the table as long as the link stands.
    pub parent: Arc<Node>,
    /// The name in it.
    pub name: Box<OsStr>,
    /// The node is in the upper, but not by this name: it stands in a lower alone.
    pub below: bool,
}

impl Link {
    /// True for this name in this directory.
    #[must_use]
    pub fn is(&self, parent: &Node, name: &OsStr) -> bool {
        self.parent.id == parent.id && *self.name == *name
    }
}

/// A file's entry in the index.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// Its name in the index directory.
    pub name: Box<OsStr>,
    /// Names that the lower inode has.
    pub names_below: u32,
}

/// What changes in the life of a node. Invariant: where `place` is `Upper` or `Merged` every link exists in the upper but those
/// that are `below`, and there is one or an index entry; where it is `Lower` none does.
#[derive(Debug)]
pub struct State {
    /// Where the content is.
    pub place: Place,
    /// Lower parts, topmost first. A file in the upper has them only while its data are not there yet: the last holds them.
    pub lowers: SmallVec<[LowerAt; 1]>,
    /// Known names. A directory has one (the root none); a file may have more that nobody asked for yet.
    pub links: SmallVec<[Link; 1]>,
    /// Names of a copied-up hard link that still stand in the lower alone.
    pub latent: u32,
    /// The entry of a copied-up hard link in the index, where there is one.
    pub index: Option<Box<Indexed>>,
    /// The node holds a reference to itself, so that its latent names find it.
    pub pinned: bool,
}

/// What the use of a node leaves with it.
#[derive(Debug)]
enum Traces {
    /// Of anything but a directory.
    File(OpenFile),
    /// Of a directory.
    Dir(Listed),
}

impl Traces {
    fn of(kind: Kind) -> Self {
        if kind.is_dir() { Self::Dir(Listed::default()) } else { Self::File(OpenFile::default()) }
    }

    const fn file(&mut self) -> Option<&mut OpenFile> {
        match self {
            Self::File(file) => Some(file),
            Self::Dir(_) => None,
        }
    }

    const fn dir(&mut self) -> Option<&mut Listed> {
        match self {
            Self::Dir(listed) => Some(listed),
            Self::File(_) => None,
        }
    }
}

/// An inode of the union; the lock order stands in [`crate::union`].
#[derive(Debug)]
pub struct Node {
    /// Its name to the outside.
    pub id: NodeId,
    /// Its type; never changes.
    pub kind: Kind,
    /// References: look-ups not yet forgotten, plus links of children. At 0 the node is dead and never comes back.
    refs: AtomicU64,
    /// Of a directory: shared by those who ask for names, exclusive for those who change them.
    pub children: RwLock<()>,
    /// Held by the one thread that copies the node up, or makes the first time durable what was copied.
    pub copy_up: Mutex<()>,
    /// Everything that changes.
    pub state: RwLock<State>,
    /// What its use leaves, if it was used.
    traces: Mutex<Option<Box<Traces>>>,
    /// Its flags, once they were asked for: 0 before, else [`FLAGS_KNOWN`] and what is set. And [`KNOWS_NAMES`].
    flags: AtomicU8,
    /// Of a file in the upper: fsync(2) was done since it has its name, or its data. fdatasync(2) alone need not make these durable.
    pub(super) synced: AtomicBool,
    /// Of a directory its default ACL, of anything else capabilities.
    pub(super) absence: Absence,
    /// Keys that lead to the node.
    pub(super) keys: Mutex<SmallVec<[Key; 1]>>,
}

impl Node {
    /// A node with one reference.
    #[must_use]
    pub fn new(id: NodeId, kind: Kind, state: State) -> Self {
        Self {
            id,
            kind,
            refs: AtomicU64::new(1),
            children: RwLock::new(()),
            copy_up: Mutex::new(()),
            state: RwLock::new(state),
            traces: Mutex::default(),
            flags: AtomicU8::new(0),
            synced: AtomicBool::new(false),
            absence: Absence::default(),
            keys: Mutex::new(SmallVec::new()),
        }
    }

    /// The open upper file; `None` for a directory.
    #[must_use]
    pub fn open_file(&self) -> Option<MappedMutexGuard<'_, OpenFile>> {
        MutexGuard::try_map(self.traces.lock(), |traces| self.traces_in(traces).file()).ok()
    }

    /// The descriptor of the upper file, where it is open.
    #[must_use]
    pub fn open_fd(&self) -> Option<Arc<OwnedFd>> {
        self.traces.lock().as_mut().and_then(|traces| traces.file()).and_then(|file| file.fd())
    }

    fn traces_in<'a>(&self, traces: &'a mut Option<Box<Traces>>) -> &'a mut Traces {
        traces.get_or_insert_with(|| Box::new(Traces::of(self.kind)))
    }

    /// True for a directory that was made here, of whose names [`super::names`] has been told.
    #[must_use]
    pub fn has_known_names(&self) -> bool {
        self.flags.load(Ordering::Acquire) & KNOWS_NAMES != 0
    }

    /// From now on [`super::names`] is told of each name of this directory, which has none yet.
    pub(super) fn know_names(&self) {
        let _before = self.flags.fetch_or(KNOWS_NAMES, Ordering::Release);
    }

    /// What readers of a directory were told; `None` for anything else.
    #[must_use]
    pub fn listed(&self) -> Option<MappedMutexGuard<'_, Listed>> {
        MutexGuard::try_map(self.traces.lock(), |traces| self.traces_in(traces).dir()).ok()
    }

    /// Flags as [`Node::remember_protection`] was told; they change only through the union.
    #[must_use]
    pub fn known_protection(&self) -> Option<Protection> {
        let flags = self.flags.load(Ordering::Relaxed);
        let protection = Protection { append: flags & FLAG_APPEND != 0, immutable: flags & FLAG_IMMUTABLE != 0 };
        (flags & FLAGS_KNOWN != 0).then_some(protection)
    }

    /// Keeps the flags for the node's life.
    pub fn remember_protection(&self, protection: Protection) {
        let append = if protection.append { FLAG_APPEND } else { 0 };
        let immutable = if protection.immutable { FLAG_IMMUTABLE } else { 0 };
        let with = |flags| Some(flags & KNOWS_NAMES | FLAGS_KNOWN | append | immutable);
        let _before = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, with);
    }

    /// Adds a reference unless the node is dead.
    #[must_use]
    pub fn hold(&self) -> bool {
        self.refs.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n > 0).then(|| n + 1)).is_ok()
    }

    /// As [`Node::hold`], for who wants one of this type.
    #[must_use]
    pub fn hold_as(&self, kind: Kind) -> bool {
        self.kind == kind && self.hold()
    }

    /// True where this key leads to it.
    #[must_use]
    pub fn is_known_as(&self, key: Key) -> bool {
        self.keys.lock().contains(&key)
    }

    /// True once nobody refers to it.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.refs.load(Ordering::Acquire) == 0
    }

    /// Drops references; true when they were the last.
    #[must_use]
    pub fn drop_refs(&self, n: u64) -> bool {
        let before = self.refs.fetch_update(Ordering::AcqRel, Ordering::Acquire, |have| Some(have.saturating_sub(n)));
        before.is_ok_and(|have| have > 0 && have <= n)
    }

    /// True where the upper has a part with a name.
    #[must_use]
    pub fn is_upper(&self) -> bool {
        matches!(self.state.read().place, Place::Upper | Place::Merged)
    }
}

impl State {
    /// A state without links.
    #[must_use]
    pub fn new(place: Place, lowers: SmallVec<[LowerAt; 1]>) -> Self {
        Self { place, lowers, links: SmallVec::new(), latent: 0, index: None, pinned: false }
    }

    /// Links that the upper has, where the node is in the upper.
    pub fn in_upper(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| !link.below)
    }

    /// True where this name is the only one that the upper has, as far as is known.
    #[must_use]
    pub fn is_last_in_upper(&self, parent: &Node, name: &OsStr) -> bool {
        let mut known = self.in_upper();
        known.next().is_some_and(|link| link.is(parent, name)) && known.next().is_none()
    }

    /// Makes a known name the last of them.
    pub fn put_last(&mut self, parent: &Node, name: &OsStr) {
        if let Some(at) = self.links.iter().position(|link| link.is(parent, name)) {
            let link = self.links.remove(at);
            self.links.push(link);
        }
    }

    /// Names that the union shows where the upper's file has so many links.
    #[must_use]
    pub fn count(&self, links: u32) -> u32 {
        links.saturating_add(self.latent).saturating_sub(u32::from(self.index.is_some()))
    }

    /// True where this name is known.
    #[must_use]
    pub fn has_link(&self, parent: &Node, name: &OsStr) -> bool {
        self.links.iter().any(|link| link.is(parent, name))
    }
}

/// The state of a node that there may be.
pub(super) type StateGuard<'a> = Option<RwLockWriteGuard<'a, State>>;

/// The states of two nodes that are not one, exclusively, by id: neither is on the way to the other.
pub(super) fn write_both<'a>(a: Option<&'a Arc<Node>>, b: Option<&'a Arc<Node>>) -> (StateGuard<'a>, StateGuard<'a>) {
    match (a, b) {
        (Some(a), Some(b)) if b.id < a.id => {
            let b = b.state.write();
            (Some(a.state.write()), Some(b))
        }
        (a, b) => {
            let a = a.map(|node| node.state.write());
            (a, b.map(|node| node.state.write()))
        }
    }
}
