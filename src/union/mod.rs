//! Overlay semantics over lower layers and at most one upper; no FUSE types.
//!
//! Lock order: a [`node::Node`]'s `copy_up`; `Union::tree`; nodes' `children` (several: by id); `state` (a child's before its
//! parent's); what a node's use leaves. So operations copy up what they need before they take anything else. The table's own locks are never held
//! across any of these.

mod absence;
pub mod acl;
pub mod attr;
pub mod check;
mod complete;
mod copy_data;
pub mod copy_up;
pub mod create;
mod descent;
pub mod directory;
pub mod file;
mod identity;
mod index;
mod indexed;
pub mod ino;
mod latent;
mod leave;
mod lend;
pub mod links;
pub mod listing;
pub mod lookup;
mod lost;
pub mod lower;
pub mod merge;
mod moves;
mod names;
pub mod node;
pub mod open;
mod origin;
pub mod pair;
pub mod patience;
mod place;
pub mod positions;
mod protect;
mod read_only;
mod readers;
pub mod remove;
pub mod rename;
pub mod squashfs;
mod syncs;
pub mod table;
pub mod upper;
mod ways;
mod work;
mod write_out;
pub mod xattr;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};

use dashmap::DashMap;
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use smallvec::{SmallVec, smallvec};

use crate::error::{Errno, Error, Result};
use crate::ovl::xattr::{Namespace, Private};
use crate::sys::spot::Spot;
use crate::types::{Announced, BeforeWait, Kind};

pub use attr::SetAttr;
pub use directory::DirLower;
pub use identity::UuidMode;
pub use listing::Entry;
pub use lower::{Bytes, Lower};
pub use node::{NodeId, ROOT};
pub use squashfs::SquashfsLower;
pub use upper::{Prefix, Upper};

use node::{Key, LowerAt, Node, Place, State};
use table::Table;

/// When the upper is made durable (overlayfs.rst, "fsync").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Data copied up is durable before it becomes visible.
    #[default]
    Auto,
    /// Everything copied up is, with its directories.
    Strict,
    /// Nothing is, not even on fsync(2).
    Volatile,
}

/// Directories that live in a lower and are renamed (overlayfs.rst, "redirect_dir").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectDir {
    /// They are renamed, and followed.
    On,
    /// Renaming one is `EXDEV`; those renamed before are followed.
    #[default]
    Follow,
    /// Those renamed before are refused, too.
    NoFollow,
}

impl RedirectDir {
    const fn follows(self) -> bool {
        !matches!(self, Self::NoFollow)
    }
}

/// What a union does beyond its layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Shows every inode as owned by this user and group, for ordinary users on images of others' files.
    pub owner: Option<(u32, u32)>,
    /// When the upper is made durable.
    pub fsync: Durability,
    /// Renames of lower directories.
    pub redirect_dir: RedirectDir,
    /// Files whose attributes alone are changed are copied up without their data, and such files are read.
    pub metacopy: bool,
    /// Origins are followed on a lower without UUID, too, such as an image (`xino=on`).
    pub xino: bool,
    /// Hard links of a lower stay one file.
    pub index: IndexMode,
    /// The union's own UUID.
    pub uuid: UuidMode,
    /// Without an upper, which knows by itself: lowers are marked by `user.overlay.` (`userxattr`).
    pub userxattr: bool,
}

/// Hard links of a lower over copy-up and remounts (overlayfs.rst, "index").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexMode {
    /// They are separate files after a remount; an upper that has an index is refused.
    #[default]
    Unsaid,
    /// The same, and an index that is there is left alone.
    Off,
    /// They stay one file.
    On,
}

impl Options {
    /// What the kernel takes in uppers that are marked by `user.overlay.` (params.c, `ovl_fs_params_verify`).
    fn in_namespace(mut self, namespace: Namespace) -> Result<Self> {
        if namespace == Namespace::User {
            if self.metacopy || self.redirect_dir == RedirectDir::On {
                return Err(Error::Refused(
                    "redirect_dir=on and metacopy=on need an upper marked by trusted.overlay: mount as root, without userxattr"
                        .into(),
                ));
            }
            self.redirect_dir = RedirectDir::NoFollow;
        }
        Ok(self)
    }

    /// Whether the upper belongs to these very lowers, and to none that may take their place (`ovl_allow_offline_changes` of
    /// overlayfs.h). Then directories made where lowers merge are marked opaque although nothing lies below them (dir.c,
    /// `ovl_create_upper`), and origins are followed where no UUID tells the lower from another (super.c, `ovl_lower_uuid_ok`).
    const fn binds_to_lowers(self) -> bool {
        matches!(self.redirect_dir, RedirectDir::On) || self.metacopy || self.xino || matches!(self.index, IndexMode::On)
    }
}

/// Directory descriptors kept open for upper directories in use.
const OPEN_DIRS: usize = 256;

/// The descriptor of a directory's upper part. Another directory may get the id of one that was forgotten.
#[derive(Clone)]
struct OpenDir {
    node: Weak<Node>,
    fd: Arc<OwnedFd>,
}

/// A mounted union: the tree that programs see.
pub struct Union {
    lowers: Vec<Box<dyn Lower>>,
    upper: Option<Upper>,
    options: Options,
    namespace: Namespace,
    table: Table,
    /// Shared by every operation that walks names, exclusive for those that move or swap directories.
    tree: RwLock<()>,
    dirs: Cache<NodeId, OpenDir>,
    /// Inode numbers of copied-up files that their origin does not tell, by device and number of the upper file: they outlive
    /// the node, so that a number stays the same as long as the union lives.
    born: DashMap<(u64, u64), u64>,
    /// Names taken from lower hard links in the life of the union: they outlive the node too.
    removed: DashMap<LowerAt, u32>,
    positions: positions::Positions,
    open_files: open::OpenFiles,
    removals: patience::Removals,
    links: links::Links,
    outlet: write_out::Outlet,
    lost: lost::Lost,
    moves: moves::Moves,
    names: names::Names,
    origins: origin::Origins,
    index: Option<index::Index>,
    listener: OnceLock<Listener>,
    before_wait: Announced,
    read_only: AtomicBool,
    readers: readers::Readers,
}

/// Is told the nodes whose attributes changed by what did not ask for it: set-id bits that a write takes. Calls nothing of the union.
pub type Listener = Box<dyn Fn(NodeId) + Send + Sync>;

/// Where a node's present content can be reached.
enum Backing {
    Upper(Spot),
    Lower(LowerAt),
}

impl Union {
    /// Builds the union of `lowers` (topmost first) under `upper`. Without an upper it is read-only.
    ///
    /// # Errors
    /// [`Error::Refused`] without any layer; [`Error::Unsupported`] where the upper's root needs a feature we lack.
    pub fn new(lowers: Vec<Box<dyn Lower>>, upper: Option<Upper>, options: Options) -> Result<Self> {
        if lowers.is_empty() {
            return Err(Error::Refused("a union needs at least one lower layer: an image or a directory".into()));
        }
        let namespace = upper.as_ref().map_or_else(|| default_namespace(options), Upper::namespace);
        let options = options.in_namespace(namespace)?;
        let _for_later = copy_data::most_threads();
        Self::assemble(lowers, upper, options, namespace)
    }

    fn assemble(lowers: Vec<Box<dyn Lower>>, upper: Option<Upper>, options: Options, namespace: Namespace) -> Result<Self> {
        let mut parts: SmallVec<[LowerAt; 1]> = smallvec![];
        for (layer, lower) in lowers.iter().enumerate() {
            parts.push(LowerAt { layer, id: lower.root() });
        }
        let place = if upper.is_some() { Place::Merged } else { Place::Lower };
        let ino = match lowers.first() {
            Some(top) => ino::of_lower(0, top.attr(top.root())?.ino),
            None => ROOT.0,
        };
        let origins = origin::Origins::new(&lowers, upper.as_ref(), &options);
        if let Some(upper) = &upper {
            identity::give(upper, options.uuid);
        }
        let index = match &upper {
            Some(upper) => index::open(upper, &lowers, &origins, options.index)?,
            None => None,
        };
        let this = Self {
            moves: moves::Moves::of(upper.as_ref()),
            origins,
            index,
            lowers,
            upper,
            options,
            namespace,
            table: Table::new(ino, State::new(place, parts)),
            tree: RwLock::new(()),
            dirs: Cache::new(OPEN_DIRS),
            born: DashMap::new(),
            removed: DashMap::new(),
            positions: positions::Positions::default(),
            open_files: open::OpenFiles::default(),
            removals: patience::Removals::default(),
            links: links::Links::default(),
            outlet: write_out::Outlet::default(),
            lost: lost::Lost::default(),
            names: names::Names::default(),
            listener: OnceLock::new(),
            before_wait: Announced::default(),
            read_only: AtomicBool::new(false),
            readers: readers::Readers::default(),
        };
        if let Some(upper) = &this.upper
            && options.fsync == Durability::Volatile
        {
            upper.mark_volatile()?;
        }
        Ok(this)
    }

    /// Ends the union's life in order: what is written is made durable, marks of an unclean end go. For after the last request.
    ///
    /// # Errors
    /// The kernel's answer where the upper cannot be synchronised.
    pub fn close(&self) -> Result<()> {
        let Some(upper) = &self.upper else { return Ok(()) };
        upper.announce_end();
        self.synchronise()?;
        if let Some(e) = upper.syncs().first_failure() {
            return Err(Error::sys("make durable what was written to", upper.path(), e));
        }
        if self.options.fsync == Durability::Volatile { upper.clear_volatile() } else { Ok(()) }
    }

    /// Makes durable all that was written to the upper.
    ///
    /// # Errors
    /// The kernel's answer where the upper cannot be synchronised.
    pub fn synchronise(&self) -> Result<()> {
        let Some(upper) = &self.upper else { return Ok(()) };
        upper.syncs().run().map_err(|e| Error::sys("synchronise", upper.path(), e))
    }

    /// Whether it can be written.
    #[must_use]
    pub const fn has_upper(&self) -> bool {
        self.upper.is_some()
    }

    /// Has `listener` make one for each lower and one for the upper, who are told before what may take long. The first ones stay.
    pub fn announce(&self, listener: impl Fn() -> BeforeWait) {
        self.lowers.iter().for_each(|lower| lower.announce(listener()));
        self.before_wait.announce(listener());
    }

    /// Gives pages to the lowers that have a use for them.
    pub fn give_pages(&self, get: &mut dyn FnMut() -> Option<Box<dyn lower::Pages>>) {
        self.lowers.iter().for_each(|lower| lower.take_pages(get));
    }

    /// How many blocks the lowers have decompressed, and found decompressed in their pages.
    #[must_use]
    pub fn blocks(&self) -> lower::Blocks {
        self.lowers.iter().map(|lower| lower.blocks()).fold(lower::Blocks::default(), |sum, blocks| lower::Blocks {
            decompressed: sum.decompressed.saturating_add(blocks.decompressed),
            found: sum.found.saturating_add(blocks.found),
        })
    }

    /// Names the one who is told of attributes that change unasked; the first stays.
    pub fn tell_changes(&self, listener: Listener) {
        let _first_stays = self.listener.set(listener);
    }

    /// An inode number that belongs to nothing, for names that must be listed but cannot be looked up.
    #[must_use]
    pub fn made_up_number(&self) -> u64 {
        self.table.made_up_number()
    }

    /// The nodes that were found by names of this directory, by these, without new references. Looks at every node.
    #[must_use]
    pub fn known_names(&self, dir: &Node) -> HashMap<OsString, Arc<Node>> {
        let mut known = HashMap::new();
        for node in self.table.all() {
            let state = node.state.read();
            let names = state.links.iter().filter(|link| std::ptr::eq(&raw const *link.parent, dir));
            known.extend(names.map(|link| (link.name.to_os_string(), Arc::clone(&node))));
        }
        known
    }

    /// Number of nodes in memory.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.table.len()
    }

    fn writable(&self) -> Result<&Upper> {
        self.upper.as_ref().ok_or(Error::Expected(Errno::EROFS))
    }

    fn lower(&self, at: LowerAt) -> Result<&dyn Lower> {
        self.lowers.get(at.layer).map(|lower| &**lower).ok_or(Error::Expected(Errno::ESTALE))
    }

    fn private(&self, private: Private) -> std::ffi::OsString {
        self.namespace.name(private)
    }

    /// The descriptor of a directory's upper part. The caller holds `tree`, and no state but descendants' of `node`.
    fn dir_fd(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>> {
        let upper = self.writable()?;
        let mut climb: SmallVec<[(Arc<Node>, Box<OsStr>); 8]> = smallvec![];
        let mut at = Arc::clone(node);
        let mut fd = loop {
            if at.id == ROOT {
                break Arc::clone(upper.root());
            }
            if let Some(open) = self.dirs.get(&at.id).filter(|open| std::ptr::eq(open.node.as_ptr(), &raw const *at)) {
                break open.fd;
            }
            let next = {
                let state = at.state.read();
                match (&state.place, state.links.first()) {
                    (Place::Orphan(fd), _) => break Arc::clone(fd),
                    (Place::Upper | Place::Merged, Some(link)) => (Arc::clone(&link.parent), link.name.clone()),
                    _ => return Err(Errno::ENOENT.into()),
                }
            };
            climb.push((std::mem::replace(&mut at, next.0), next.1));
        };
        while let Some((node, name)) = climb.pop() {
            fd = crate::sys::spot::open_dir_at(&fd, &name).map_err(|e| Error::sys("open upper directory", &*name, e))?;
            self.dirs.insert(node.id, OpenDir { node: Arc::downgrade(&node), fd: Arc::clone(&fd) });
        }
        Ok(fd)
    }

    /// Where a node's content is now. The caller holds `tree` and the node's `state`.
    fn backing(&self, node: &Arc<Node>, state: &State) -> Result<Backing> {
        match &state.place {
            Place::Orphan(fd) => return Ok(Backing::Upper(Spot::Fd(Arc::clone(fd)))),
            Place::Lower | Place::Gone => {
                return state.lowers.first().map(|at| Backing::Lower(*at)).ok_or(Error::Expected(Errno::ESTALE));
            }
            Place::Upper | Place::Merged => {}
        }
        if node.id == ROOT {
            return Ok(Backing::Upper(Spot::Fd(Arc::clone(self.writable()?.root()))));
        }
        if let (Some(index), Some(entry)) = (&self.index, &state.index) {
            return Ok(Backing::Upper(index.spot(&entry.name)));
        }
        let link = state.in_upper().next().ok_or(Error::Expected(Errno::ESTALE))?;
        Ok(Backing::Upper(Spot::At { dir: self.dir_fd(&link.parent)?, name: link.name.to_os_string() }))
    }

    /// Where a node's data are now: below the attributes of a file that has nothing else in the upper. The caller holds `tree`
    /// and the node's `state`.
    fn content(&self, node: &Arc<Node>, state: &State) -> Result<Backing> {
        match state.lowers.last() {
            Some(at) if node.kind == Kind::File => Ok(Backing::Lower(*at)),
            _ => self.backing(node, state),
        }
    }

    /// The spot of a node that is in the upper. The caller holds `tree` and the node's `state`.
    fn upper_spot(&self, node: &Arc<Node>, state: &State) -> Result<Spot> {
        match self.backing(node, state)? {
            Backing::Upper(spot) => Ok(spot),
            Backing::Lower(_) => Err(Errno::ESTALE.into()),
        }
    }

    /// The directory that a request names.
    fn dir(&self, id: NodeId) -> Result<Arc<Node>> {
        let node = self.table.get(id)?;
        if node.kind.is_dir() { Ok(node) } else { Err(Errno::ENOTDIR.into()) }
    }

    /// Drops look-ups of a node (`FUSE_FORGET`).
    pub fn forget(&self, id: NodeId, n: u64) {
        if id != ROOT
            && let Ok(node) = self.table.get(id)
        {
            self.table.release(&node, n);
            if node.kind.is_dir() && self.table.get(id).is_err() {
                self.dirs.remove(&id);
            }
        }
    }
}

/// Without an upper there is nothing to probe: root's layers carry `trusted.` marks, others could not read them.
fn default_namespace(options: Options) -> Namespace {
    let trusted = crate::sys::cred::privilege().uid == 0 && !options.userxattr;
    if trusted { Namespace::Trusted } else { Namespace::User }
}

/// Refuses what cannot be a directory entry.
fn check_name(name: &OsStr) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = name.as_bytes();
    match bytes {
        [] => Err(Errno::ENOENT.into()),
        b"." | b".." => Err(Errno::EINVAL.into()),
        _ if bytes.len() > 255 => Err(Errno::ENAMETOOLONG.into()),
        _ if bytes.contains(&b'/') => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}
