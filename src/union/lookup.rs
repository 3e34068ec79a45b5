//! From a name to a node: what each layer has is merged, and the node that stands for it found or made.

use std::ffi::OsStr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::descent::{Descent, InUpper};
use super::indexed::Entry;
use super::lower::LowerId;
use super::merge::Seen;
use super::node::{Key, LowerAt, Node, Place, State};
use super::{Backing, Union, Upper, check_name, ino};
use crate::error::{Errno, Error, Result};
use crate::ovl::xattr::Private;
use crate::sys::spot::{Spot, Stat};
use crate::types::{Attr, Kind};

/// What is visible under a name.
pub(super) struct Found {
    pub(super) kind: Kind,
    /// The upper part.
    pub(super) upper: Option<Stat>,
    /// The lower parts, topmost first: for directories all that merge; else the one that is visible, which for a file with
    /// attributes only is followed by those below it down to its data.
    pub(super) lowers: SmallVec<[LowerAt; 1]>,
    /// `st_ino` of the topmost lower part in its layer.
    pub(super) lower_ino: u64,
    /// What is not a directory: the index entry of its inode.
    pub(super) entry: Option<Entry>,
}

impl Found {
    pub(super) fn key(&self) -> Result<Key> {
        let entry = self.entry.as_ref().map(|entry| entry.stat);
        match (self.upper.or(entry), self.lowers.first()) {
            (Some(stat), _) => Ok(Key::upper(stat.dev, stat.attr.ino)),
            (None, Some(at)) => Ok(Key::lower(*at)),
            (None, None) => Err(Errno::ENOENT.into()),
        }
    }

    fn place(&self) -> Place {
        match &self.upper {
            None => Place::Lower,
            Some(_) if self.kind.is_dir() && !self.lowers.is_empty() => Place::Merged,
            Some(_) => Place::Upper,
        }
    }
}

/// A name as the layers have it.
pub(super) struct Resolution {
    /// What programs see, if anything.
    pub(super) found: Option<Found>,
    /// The upper has a whiteout under the name.
    pub(super) whiteout: bool,
}

impl Union {
    /// Looks up a name; the node has one more reference, to be given back with [`Union::forget`].
    ///
    /// # Errors
    /// `ENOENT` where nothing is visible, `ENOTDIR`, `ENAMETOOLONG`, `EIO` from damaged layers.
    pub fn lookup(&self, parent: super::NodeId, name: &OsStr) -> Result<(Arc<Node>, Attr)> {
        let parent = self.dir(parent)?;
        self.lookup_in(&parent, name)
    }

    /// As [`Union::lookup`], of a name that [`Union::read_dir`] gave of `parent`.
    ///
    /// # Errors
    /// As for [`Union::lookup`].
    pub fn enter(&self, parent: &Arc<Node>, entry: &super::Entry) -> Result<(Arc<Node>, Attr)> {
        if let Some(id) = entry.lower
            && let Some(found) = self.enter_lower(parent, entry, id)?
        {
            return Ok(found);
        }
        self.lookup_in(parent, &entry.name)
    }

    /// A name that one lower alone still has, of an inode without marks: nothing of it needs to be looked up there. `None` for all
    /// else.
    fn enter_lower(&self, parent: &Arc<Node>, entry: &super::Entry, id: LowerId) -> Result<Option<(Arc<Node>, Attr)>> {
        let _tree = self.tree.read();
        let _names = parent.children.read();
        let Some(at) = self.sole_lower(parent, entry, id)? else { return Ok(None) };
        let (attr, has_xattrs) = self.lower(at)?.look(id)?;
        let number = self.lower_number(at.layer, attr.ino);
        if has_xattrs || attr.kind != entry.kind || attr.kind == Kind::Char || number != entry.ino {
            return Ok(None);
        }
        let Some(node) = self.node_of_sole(parent, entry, at, number)? else { return Ok(None) };
        let state = node.state.read();
        let shown = self.shown(&node, &state, attr);
        drop(state);
        Ok(Some((node, shown)))
    }

    /// What [`Union::enter`] would have to decompress for a directory, and [`Union::enter_unseen`] would not; others with the same answer
    /// have it in common.
    #[must_use]
    pub fn far(&self, entry: &super::Entry) -> Option<u64> {
        // With one lower alone no mark on a directory can lead to another one.
        let [lower] = &self.lowers[..] else { return None };
        entry.lower.filter(|_| entry.kind.is_dir()).and_then(|id| lower.far(id))
    }

    /// As [`Union::enter`], of a directory whose inode nobody has looked at: without its attributes, and by the number that the
    /// listing tells. `None` where somebody may know it, and where [`Union::far`] is.
    ///
    /// # Errors
    /// As for [`Union::lookup`].
    pub fn enter_unseen(&self, parent: &Arc<Node>, entry: &super::Entry) -> Result<Option<Arc<Node>>> {
        let (Some(id), Some(_)) = (entry.lower, self.far(entry)) else { return Ok(None) };
        let _tree = self.tree.read();
        let _names = parent.children.read();
        let Some(at) = self.sole_lower(parent, entry, id)? else { return Ok(None) };
        if self.table.find_lower(at, entry.ino, entry.kind).is_some() {
            return Ok(None);
        }
        self.node_of_sole(parent, entry, at, entry.ino)
    }

    /// The inode of a listed name, where its directory has a part in one lower alone, and the upper has no such name still. The caller
    /// holds `tree` and the names.
    fn sole_lower(&self, parent: &Arc<Node>, entry: &super::Entry, id: LowerId) -> Result<Option<LowerAt>> {
        let (at, merged) = {
            let state = parent.state.read();
            match (&state.place, &state.lowers[..]) {
                (place @ (Place::Lower | Place::Merged), [only]) if self.index.is_none() => {
                    (LowerAt { layer: only.layer, id }, matches!(place, Place::Merged))
                }
                _ => return Ok(None),
            }
        };
        let is_in_upper =
            merged && !matches!(self.writable()?.stat(&Spot::at(&self.dir_fd(parent)?, &entry.name)), Err(Errno::ENOENT));
        Ok((!is_in_upper).then_some(at))
    }

    /// The node of what one lower alone has, by its number in the union; `None` where it is in the upper.
    fn node_of_sole(&self, parent: &Arc<Node>, entry: &super::Entry, at: LowerAt, number: u64) -> Result<Option<Arc<Node>>> {
        let node = self.intern_lower(at, entry.kind, number, &smallvec::smallvec![at])?;
        let (node, latent) = self.named(node, parent, &entry.name, None)?;
        if latent || !matches!(node.state.read().place, Place::Lower) {
            self.forget(node.id, 1);
            return Ok(None);
        }
        Ok(Some(node))
    }

    pub(super) fn lookup_in(&self, parent: &Arc<Node>, name: &OsStr) -> Result<(Arc<Node>, Attr)> {
        check_name(name)?;
        let (node, latent) = {
            let _reader = self.readers.enter();
            let _tree = self.tree.read();
            let _names = parent.children.read();
            if self.lacks(parent, name) {
                return Err(Error::Expected(Errno::ENOENT));
            }
            let found = self.resolve(parent, name)?.found.ok_or(Error::Expected(Errno::ENOENT))?;
            let (node, latent) = self.node_of(parent, name, &found)?;
            if !latent {
                let attr = self.attr_of_found(&node, &found);
                return self.give(node, attr);
            }
            (node, latent)
        };
        debug_assert!(latent);
        self.join_found(&node, parent, name);
        let attr = self.attr_of(&node);
        self.give(node, attr)
    }

    /// Hands out a node, or takes its reference back where something failed.
    fn give(&self, node: Arc<Node>, attr: Result<Attr>) -> Result<(Arc<Node>, Attr)> {
        match attr {
            Ok(attr) => Ok((node, attr)),
            Err(e) => {
                self.forget(node.id, 1);
                Err(e)
            }
        }
    }

    /// What the layers have under a name. The caller holds `tree` and the directory's `children`.
    pub(super) fn resolve(&self, parent: &Arc<Node>, name: &OsStr) -> Result<Resolution> {
        check_name(name)?;
        let (in_upper, lowers) = {
            let state = parent.state.read();
            match state.place {
                Place::Gone | Place::Orphan(_) => return Err(Errno::ENOENT.into()),
                Place::Lower => (false, state.lowers.clone()),
                Place::Upper | Place::Merged => (true, state.lowers.clone()),
            }
        };
        let upper = if in_upper { self.seen_in_upper(parent, name, &lowers)? } else { None };
        let whiteout = upper.as_ref().is_some_and(|upper| upper.seen == Seen::Whiteout);
        let mut descent = Descent::new(name, upper);
        self.descend(&mut descent, &lowers)?;
        let mut found = descent.found()?;
        if let Some(found) = &mut found {
            found.entry = self.entry_of(parent, name, found)?;
        }
        Ok(Resolution { found, whiteout })
    }

    fn seen_in_upper(&self, parent: &Arc<Node>, name: &OsStr, below: &[LowerAt]) -> Result<Option<InUpper>> {
        let spot = Spot::At { dir: self.dir_fd(parent)?, name: name.to_owned() };
        match self.writable()?.stat(&spot) {
            Ok(stat) => self.meaning_in_upper(&spot, name, stat, below).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => {
                self.notice_errno(e);
                Err(Error::sys("look up in the upper", name, e))
            }
        }
    }

    /// What an object of the upper says of the layers below. Where nothing lies below its directory only a redirect from the
    /// root matters.
    pub(super) fn meaning_in_upper(&self, spot: &Spot, name: &OsStr, stat: Stat, below: &[LowerAt]) -> Result<InUpper> {
        let upper = self.writable()?;
        let read = |private| upper.private(spot, private).map_err(|e| Error::sys("read xattrs of", name, e));
        let plain = |seen| Ok(InUpper { stat, seen, redirect: None });
        match stat.attr.kind {
            _ if stat.is_whiteout() => plain(Seen::Whiteout),
            Kind::Dir => {
                let value = read(Private::Redirect)?;
                if (!below.is_empty() || value.is_some()) && self.is_opaque_upper(upper, spot, name)? {
                    return plain(Seen::Dir { opaque: true });
                }
                Ok(InUpper { stat, seen: Seen::Dir { opaque: false }, redirect: self.redirect(value, name)? })
            }
            Kind::File => match read(Private::Metacopy)? {
                None => plain(Seen::Other(Kind::File)),
                Some(value) => {
                    let seen = self.metacopy(&value, name)?;
                    Ok(InUpper { stat, seen, redirect: self.redirect(read(Private::Redirect)?, name)? })
                }
            },
            kind => plain(Seen::Other(kind)),
        }
    }

    fn is_opaque_upper(&self, upper: &Upper, spot: &Spot, name: &OsStr) -> Result<bool> {
        let context = |e: Errno| Error::sys("read xattrs of", name, e);
        let opaque = upper.is_opaque(spot).map_err(context)?;
        if !opaque && upper.has_foreign_mark(spot).map_err(context)? {
            return Err(Error::Unsupported(format!(
                "{}: marked with user.overlay.opaque, which this mount would not obey: deleted names would come back; mount \
                 with -o userxattr",
                name.display()
            )));
        }
        Ok(opaque)
    }

    /// The node of what was found, with one more reference. True where the name is a further hard link of a lower file that
    /// has been copied up meanwhile and should join it in the upper.
    pub(super) fn node_of(&self, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<(Arc<Node>, bool)> {
        let node = self.intern_found(parent, name, found)?;
        self.named(node, parent, name, found.upper.as_ref().map(|stat| (found.place(), stat)))
    }

    /// Gives a node the name under which it was found, in the upper at this place or in lowers alone; gives its reference back where
    /// it cannot have that. True as for [`Union::node_of`].
    fn named(
        &self,
        node: Arc<Node>,
        parent: &Arc<Node>,
        name: &OsStr,
        in_upper: Option<(Place, &Stat)>,
    ) -> Result<(Arc<Node>, bool)> {
        let mut state = node.state.write();
        if state.has_link(parent, name) {
            if self.index.is_some() {
                state.put_last(parent, name);
            }
            drop(state);
            return Ok((node, false));
        }
        if let Some((_, stat)) = in_upper
            && let Some(other) = self.other_spelling(&state, parent, stat)
        {
            drop(state);
            self.table.release(&node, 1);
            return Err(two_spellings(name, &other));
        }
        match (&state.place, in_upper) {
            (Place::Upper | Place::Merged | Place::Orphan(_), None) => {
                self.table.add_link_below(&mut state, parent, name);
                let latent = state.index.is_none();
                drop(state);
                return Ok((node, latent));
            }
            (_, _) if node.kind.is_dir() && !state.links.is_empty() => {
                // Only a damaged image gives a directory two names; with them the way to the root would have no end.
                drop(state);
                self.table.release(&node, 1);
                return Err(Error::sys("look up, as a directory has another name already,", name, Errno::EIO));
            }
            (Place::Orphan(_) | Place::Gone, Some((place, _))) => state.place = place,
            _ => {}
        }
        self.table.add_link(&mut state, parent, name);
        drop(state);
        Ok((node, false))
    }

    /// A name that the inode of a new one has in the same directory, although it has too few links for both: they are spellings of
    /// one, and who removes one would take the file from under the other. The caller holds the directory's names.
    fn other_spelling(&self, state: &State, parent: &Arc<Node>, stat: &Stat) -> Option<Box<OsStr>> {
        let known = || state.links.iter().filter(|link| !link.below && link.parent.id == parent.id);
        if stat.attr.kind.is_dir() || known().count() < stat.attr.nlink as usize {
            return None;
        }
        let dir = self.dir_fd(parent).ok()?;
        // One that somebody has renamed in the upper leads nowhere.
        let leads_there = |found: Stat| (found.dev, found.attr.ino) == (stat.dev, stat.attr.ino);
        known().find(|link| Spot::at(&dir, &link.name).stat().is_ok_and(leads_there)).map(|link| link.name.clone())
    }

    fn intern_found(&self, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<Arc<Node>> {
        let key = found.key()?;
        if let (None, Some(at)) = (&found.upper, found.lowers.first()) {
            let number = self.lower_number(at.layer, found.lower_ino);
            if found.entry.is_none() {
                return self.intern_lower(*at, found.kind, number, &found.lowers);
            }
            // A file that is just being copied up has its entry before it has its key.
            if let Some(node) = self.table.find_lower(*at, number, found.kind).filter(|node| node.hold()) {
                return Ok(node);
            }
        }
        if let Some(node) = self.table.find(key).filter(|node| node.hold_as(found.kind)) {
            return Ok(node);
        }
        let state = match (&found.entry, &self.index) {
            (Some(entry), Some(index)) => self.state_by_entry(found, entry, index)?,
            _ => State::new(found.place(), found.lowers.clone()),
        };
        // Asked for beforehand: no other name may have to wait for the upper.
        let number = self.first_number(parent, name, found)?;
        Ok(self.table.intern(key, found.kind, || number, || state))
    }

    /// The node of what is in lowers alone. Nothing is asked of the upper for these, so that nobody waits for it.
    fn intern_lower(&self, at: LowerAt, kind: Kind, number: u64, lowers: &SmallVec<[LowerAt; 1]>) -> Result<Arc<Node>> {
        let state = || State::new(Place::Lower, lowers.clone());
        Ok(if self.lower(at)?.has_lasting_numbers() {
            self.table.intern_lower(at, kind, number, state)
        } else {
            self.table.intern(Key::lower(at), kind, || number, state)
        })
    }

    /// The live node of what was found, without a new reference.
    pub(super) fn node_found(&self, found: &Found) -> Result<Option<Arc<Node>>> {
        let key = found.key()?;
        Ok(match key.as_lower() {
            Some(at) => self.table.find_lower(at, self.lower_number(at.layer, found.lower_ino), found.kind),
            None => self.table.find(key),
        })
    }

    pub(super) fn ino_of(&self, found: &Found) -> u64 {
        if let Some(at) = found.lowers.first().filter(|at| !self.is_parted(found, **at)) {
            return self.lower_number(at.layer, found.lower_ino);
        }
        found.upper.map_or(0, |stat| self.ino_of_upper(stat.dev, stat.attr.ino))
    }

    /// True for a file with its attributes alone in the upper that was, in the lower, one with names that may show another now.
    fn is_parted(&self, found: &Found, at: LowerAt) -> bool {
        let is_file = found.upper.is_some() && found.entry.is_none() && !found.kind.is_dir();
        is_file && self.lower(at).and_then(|lower| lower.attr(at.id)).is_ok_and(|attr| attr.nlink > 1)
    }

    /// The union's number of an upper inode without lower parts.
    pub(super) fn ino_of_upper(&self, dev: u64, number: u64) -> u64 {
        self.born.get(&(dev, number)).map_or_else(|| ino::of_upper(number), |born| *born)
    }

    /// Attributes of a node just looked up, without asking the upper again.
    fn attr_of_found(&self, node: &Arc<Node>, found: &Found) -> Result<Attr> {
        let state = node.state.read();
        let raw = match (&found.upper, found.lowers.first()) {
            (Some(stat), _) => stat.attr,
            (None, Some(at)) => match self.backing(node, &state)? {
                Backing::Lower(_) => self.lower(*at)?.attr(at.id)?,
                Backing::Upper(spot) => spot.stat().map_err(|e| Error::sys("stat", "", e))?.attr,
            },
            (None, None) => return Err(Errno::ENOENT.into()),
        };
        Ok(self.shown(node, &state, raw))
    }
}

fn two_spellings(name: &OsStr, other: &OsStr) -> Error {
    Error::Unsupported(format!(
        "{} is {} in another spelling: their directory in the upper takes upper and lower case for one (chattr +F), which a union \
         cannot; move its files into a directory without that",
        name.display(),
        other.display()
    ))
}
