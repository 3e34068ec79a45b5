//! Hard links of a lower that are one file by the index: a name is one of an indexed file where the lower inode, or the `origin` of
//! the upper file, has an entry (namei.c, `ovl_lookup_index`). The names that the lower alone has show that file, and are linked
//! in the upper only before something is done to them (copy_up.c, `ovl_link_up`).

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::index::Index;
use super::lookup::Found;
use super::lower::Lower;
use super::node::{Indexed, LowerAt, Node, NodeId, Place, State};
use super::{Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::ovl::handle::{self, Decoded};
use crate::ovl::index::{Base, Nlink, name_of, name_of_value};
use crate::ovl::xattr::Private;
use crate::sys::dir;
use crate::sys::spot::{Spot, Stat};
use crate::types::Attr;

/// An index entry that a name leads to.
pub(super) struct Entry {
    name: OsString,
    pub(super) stat: Stat,
    names_below: u32,
}

impl Union {
    /// The entry of what was found under a name, if it has one.
    ///
    /// # Errors
    /// `EIO` for an entry that cannot be that of the inode.
    pub(super) fn entry_of(&self, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<Option<Entry>> {
        let Some(index) = self.index.as_ref().filter(|_| !found.kind.is_dir()) else { return Ok(None) };
        match (&found.upper, found.lowers.first()) {
            (Some(stat), _) if stat.attr.nlink > 1 => {
                let spot = Spot::at(&self.dir_fd(parent)?, name);
                let Some(value) =
                    spot.xattr(&self.private(Private::Origin)).map_err(|e| Error::sys("read xattrs of", name, e))?
                else {
                    return Ok(None);
                };
                self.entry_of_origin(index, &value, stat)
            }
            (None, Some(at)) => self.entry_of_lower(index, *at, name),
            _ => Ok(None),
        }
    }

    fn entry_of_origin(&self, index: &Index, value: &[u8], stat: &Stat) -> Result<Option<Entry>> {
        let Decoded::Handle(handle) = handle::decode(value) else { return Ok(None) };
        let Some(name) = name_of(&handle) else { return Ok(None) };
        let Some((_, below)) = self.origins.find(&self.lowers, &handle)? else { return Ok(None) };
        let entry = index.stat(&name)?.filter(|entry| (entry.dev, entry.attr.ino) == (stat.dev, stat.attr.ino));
        Ok(entry.map(|stat| Entry { name, stat, names_below: below.nlink }))
    }

    fn entry_of_lower(&self, index: &Index, at: LowerAt, shown: &OsStr) -> Result<Option<Entry>> {
        let lower = self.lower(at)?;
        let attr = lower.attr(at.id)?;
        let Some(name) = self.entry_name(lower, at, &attr)? else { return Ok(None) };
        let Some(stat) = index.stat(&name)? else { return Ok(None) };
        if stat.is_whiteout() || stat.attr.kind != attr.kind {
            return Err(Error::sys("follow the index entry, which is of another type, of", shown, Errno::EIO));
        }
        Ok(Some(Entry { name, stat, names_below: attr.nlink }))
    }

    /// The name that the index has or will have for a lower inode: `None` for those that need none.
    pub(super) fn entry_name(&self, lower: &dyn Lower, at: LowerAt, attr: &Attr) -> Result<Option<OsString>> {
        if self.index.is_none() || attr.kind.is_dir() || attr.nlink < 2 {
            return Ok(None);
        }
        let handle = lower.handle(at.id)?.ok_or_else(|| Error::sys("find by a handle", "an inode of a lower", Errno::EIO))?;
        Ok(name_of(&self.origins.sign(handle)))
    }

    /// True for an upper file that has an entry under this origin.
    pub(super) fn is_in_index(&self, spot: &Spot, origin: &[u8]) -> bool {
        let Some(index) = &self.index else { return false };
        let len = handle::length(origin).unwrap_or(0).min(origin.len());
        let name = name_of_value(origin.get(..len).unwrap_or_default());
        let (Ok(stat), Ok(Some(entry))) = (spot.stat(), index.stat(&name)) else { return false };
        (entry.dev, entry.attr.ino) == (stat.dev, stat.attr.ino)
    }

    /// The state of a node that is not known yet and has an entry. A file of attributes only has its data where this name leads.
    pub(super) fn state_by_entry(&self, found: &Found, entry: &Entry, index: &Index) -> Result<State> {
        let (upper, spot) = (self.writable()?, index.spot(&entry.name));
        let read = |private| upper.private(&spot, private).map_err(|e| Error::sys("read the index entry", &entry.name, e));
        let mut lowers = found.lowers.clone();
        if found.upper.is_none() {
            match read(Private::Metacopy)? {
                Some(value) => drop(self.metacopy(&value, &entry.name)?),
                None => lowers.clear(),
            }
        }
        let mut state = State::new(Place::Upper, lowers);
        let links = entry.stat.attr.nlink;
        let nlink = read(Private::Nlink)?.and_then(|value| Nlink::decode(&value));
        // Where nothing sensible is recorded the file's own links are what there is, as in the kernel's.
        let names = nlink.and_then(|nlink| nlink.count(links, entry.names_below)).unwrap_or(links);
        state.latent = names.saturating_add(1).saturating_sub(links);
        state.index = Some(Box::new(Indexed { name: entry.name.clone().into(), names_below: entry.names_below }));
        Ok(state)
    }

    /// Records how many names an indexed file has, counted from its `base`, before or after its links change.
    pub(super) fn record_names(&self, upper: &Upper, state: &State, base: Base) -> Result<(), Errno> {
        let (Some(index), Some(entry)) = (&self.index, &state.index) else { return Ok(()) };
        let spot = index.spot(&entry.name);
        let links = spot.stat()?.attr.nlink;
        let real = match base {
            Base::Upper => links,
            Base::Lower => entry.names_below,
        };
        upper.set_private(&spot, Private::Nlink, &Nlink::new(base, state.count(links), real).encode())
    }

    /// Before a name of a lower hard link is removed, replaced or moved: it is copied up and stands in the upper, so that its count
    /// falls with it (util.c, `ovl_nlink_start`). Hands back the node, to be forgotten once that is done. Where the name leads to
    /// nothing, or to what needs no index, nothing is done.
    pub(super) fn raise_name(&self, parent: &Arc<Node>, name: &OsStr) -> Result<Option<NodeId>> {
        if self.index.is_none() {
            return Ok(None);
        }
        let (node, _) = match self.lookup_in(parent, name) {
            Err(e) if e.errno() == Errno::ENOENT => return Ok(None),
            answer => answer?,
        };
        let raised = self.raise(&node, parent, name);
        match raised {
            Ok(()) => Ok(Some(node.id)),
            Err(e) => {
                self.forget(node.id, 1);
                Err(e)
            }
        }
    }

    fn raise(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &OsStr) -> Result<()> {
        let top = match node.state.read() {
            state if matches!(state.place, Place::Lower) => state.lowers.first().copied(),
            _ => None,
        };
        if let Some(at) = top {
            let lower = self.lower(at)?;
            if self.entry_name(lower, at, &lower.attr(at.id)?)?.is_none() {
                return Ok(());
            }
            self.copy_up(node, super::copy_up::Content::Kept)?;
        }
        self.raise_link(node, parent, name)
    }

    /// Before an indexed file is changed: the kernel's has the name in the upper by which that is done, which FUSE does not tell. So
    /// it is the one by which the file was found last. Whether it can be linked does not matter to the file.
    pub(super) fn raise_last(&self, node: &Arc<Node>) {
        if self.index.is_none() {
            return;
        }
        let last = node.state.read().links.last().filter(|link| link.below).cloned();
        if let Some(link) = last
            && let Err(e) = self.raise_link(node, &link.parent, &link.name)
        {
            tracing::debug!("{}: changed by its index entry alone: {e}", link.name.display());
        }
    }

    /// True where [`Union::raise_name`] is needed first: something has changed since.
    pub(super) fn must_be_raised(&self, found: &Found) -> Result<bool> {
        let (None, Some(at), Some(_)) = (&found.upper, found.lowers.first(), &self.index) else { return Ok(false) };
        let lower = self.lower(*at)?;
        Ok(self.entry_name(lower, *at, &lower.attr(at.id)?)?.is_some())
    }

    /// Removes the entry of a file that has lost its last name (util.c, `ovl_cleanup_index`). One that stays is swept by the next
    /// mount.
    pub(super) fn drop_entry(&self, state: &mut State) {
        let (Some(index), Some(entry)) = (&self.index, state.index.take()) else { return };
        if let Err(e) = dir::unlink(index.dir(), &entry.name) {
            tracing::warn!("index entry {} stays: {e}", entry.name.display());
        }
    }
}
