//! From a name to a node: what each layer has is merged, and the node that stands for it found or made.

use std::ffi::OsStr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::lower::LowerEntry;
use super::merge::{Merge, Seen};
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
    /// The lower parts, topmost first: for directories all that merge, else the one that is visible.
    pub(super) lowers: SmallVec<[LowerAt; 1]>,
    /// `st_ino` of the topmost lower part in its layer.
    lower_ino: u64,
}

impl Found {
    pub(super) fn key(&self) -> Result<Key> {
        match (&self.upper, self.lowers.first()) {
            (Some(stat), _) => Ok(Key::Upper(stat.dev, stat.attr.ino)),
            (None, Some(at)) => Ok(Key::Lower(*at)),
            (None, None) => Err(Errno::ENOENT.into()),
        }
    }

    fn place(&self) -> Place {
        match (&self.upper, self.lowers.is_empty()) {
            (None, _) => Place::Lower,
            (Some(_), true) => Place::Upper,
            (Some(_), false) => Place::Merged,
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

enum Part {
    Upper(Stat),
    Lower(LowerAt, LowerEntry),
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

    pub(super) fn lookup_in(&self, parent: &Arc<Node>, name: &OsStr) -> Result<(Arc<Node>, Attr)> {
        check_name(name)?;
        let (node, latent) = {
            let _tree = self.tree.read();
            let _names = parent.children.read();
            let found = self.resolve(parent, name)?.found.ok_or(Error::Expected(Errno::ENOENT))?;
            let (node, latent) = self.node_of(parent, name, &found)?;
            if !latent {
                let attr = self.attr_of_found(&node, &found);
                return self.give(node, attr);
            }
            (node, latent)
        };
        debug_assert!(latent);
        let attr = self.link_latent(&node, parent, name).and_then(|()| self.attr_of(&node));
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
                Place::Gone | Place::Removed(_) | Place::Orphan(_) | Place::Parked(_) => return Err(Errno::ENOENT.into()),
                Place::Lower => (false, state.lowers.clone()),
                Place::Upper | Place::Merged => (true, state.lowers.clone()),
            }
        };
        let mut merge = Merge::default();
        let mut whiteout = false;
        if in_upper && let Some((stat, seen)) = self.seen_in_upper(parent, name, !lowers.is_empty())? {
            whiteout = seen == Seen::Whiteout;
            merge.add(Part::Upper(stat), seen);
        }
        self.merge_lowers(&mut merge, &lowers, name)?;
        Ok(Resolution { found: found(merge), whiteout })
    }

    /// True where removing the upper's entry, if any, would let a lower's show.
    pub(super) fn shows_through(&self, parent: &Arc<Node>, name: &OsStr) -> Result<bool> {
        let lowers = parent.state.read().lowers.clone();
        let mut merge = Merge::default();
        self.merge_lowers(&mut merge, &lowers, name)?;
        Ok(!merge.parts().is_empty())
    }

    fn merge_lowers(&self, merge: &mut Merge<Part>, lowers: &[LowerAt], name: &OsStr) -> Result<()> {
        for (i, dir) in lowers.iter().enumerate() {
            if merge.is_closed() {
                break;
            }
            if let Some(entry) = self.lower(*dir)?.lookup(dir.id, name)? {
                let at = LowerAt { layer: dir.layer, id: entry.id };
                let seen = self.seen_in_lower(at, &entry, i + 1 == lowers.len())?;
                merge.add(Part::Lower(at, entry), seen);
            }
        }
        Ok(())
    }

    fn seen_in_upper(&self, parent: &Arc<Node>, name: &OsStr, merging: bool) -> Result<Option<(Stat, Seen)>> {
        let upper = self.writable()?;
        let spot = Spot::At { dir: self.dir_fd(parent)?, name: name.to_owned() };
        let stat = match upper.stat(&spot) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(Error::sys("look up in the upper", name, e)),
        };
        let seen = match stat.attr.kind {
            _ if stat.is_whiteout() => Seen::Whiteout,
            Kind::Dir => {
                self.refuse_feature(&spot, Private::Redirect, "redirect_dir")?;
                Seen::Dir { opaque: merging && self.is_opaque_upper(upper, &spot, name)? }
            }
            kind => {
                if kind == Kind::File {
                    self.refuse_feature(&spot, Private::Metacopy, "metacopy")?;
                }
                Seen::Other(kind)
            }
        };
        Ok(Some((stat, seen)))
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

    /// An upper that needs a feature we do not have yet must not be shown with wrong content.
    fn refuse_feature(&self, spot: &Spot, private: Private, feature: &str) -> Result<()> {
        let Ok(Some(_)) = spot.xattr(&self.private(private)) else { return Ok(()) };
        let name = if let Spot::At { name, .. } = spot { name.as_os_str() } else { OsStr::new("/") };
        Err(Error::Unsupported(format!(
            "{}: written by the kernel's overlayfs with {feature}=on, which this version cannot read; mount it with the kernel",
            name.display()
        )))
    }

    /// What a lower's entry means. Whether a directory of the last layer is opaque does not matter.
    pub(super) fn seen_in_lower(&self, at: LowerAt, entry: &LowerEntry, last: bool) -> Result<Seen> {
        let lower = self.lower(at)?;
        Ok(match entry.kind {
            Kind::Dir if last => Seen::Dir { opaque: false },
            Kind::Dir => {
                self.refuse_lower_feature(at, Private::Redirect, "redirect_dir")?;
                Seen::Dir { opaque: lower.xattr(at.id, &self.private(Private::Opaque))?.is_some_and(|v| v == b"y") }
            }
            Kind::Char if lower.attr(at.id)?.rdev == 0 => Seen::Whiteout,
            Kind::File if self.is_xattr_whiteout(at)? => Seen::Whiteout,
            kind => {
                if kind == Kind::File {
                    self.refuse_lower_feature(at, Private::Metacopy, "metacopy")?;
                }
                Seen::Other(kind)
            }
        })
    }

    /// A lower that was the upper of an overlay which used a feature that we do not have yet.
    fn refuse_lower_feature(&self, at: LowerAt, private: Private, feature: &str) -> Result<()> {
        match self.lower(at)?.xattr(at.id, &self.private(private))? {
            None => Ok(()),
            Some(_) => Err(Error::Unsupported(format!(
                "layer {}: written by an overlayfs with {feature}=on, which this version cannot read",
                at.layer
            ))),
        }
    }

    /// A zero-size regular file with the whiteout attribute (util.c, `ovl_path_check_xwhiteout_xattr`).
    pub(super) fn is_xattr_whiteout(&self, at: LowerAt) -> Result<bool> {
        let lower = self.lower(at)?;
        Ok(lower.attr(at.id)?.size == 0 && lower.xattr(at.id, &self.private(Private::Whiteout))?.is_some())
    }

    /// The node of what was found, with one more reference. True where the name is a further hard link of a lower file that
    /// has been copied up meanwhile and must join it in the upper.
    pub(super) fn node_of(&self, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<(Arc<Node>, bool)> {
        let fresh = || State::new(found.place(), found.lowers.clone());
        let node = self.table.intern(found.key()?, found.kind, || self.ino_of(found), fresh);
        let mut state = node.state.write();
        if state.has_link(parent, name) {
            drop(state);
            return Ok((node, false));
        }
        match (&state.place, &found.upper) {
            (Place::Upper | Place::Merged | Place::Orphan(_) | Place::Parked(_), None) => {
                drop(state);
                return Ok((node, true));
            }
            (_, _) if node.kind.is_dir() && !state.links.is_empty() => {
                // Only a damaged image gives a directory two names; with them the way to the root would have no end.
                drop(state);
                self.table.release(&node, 1);
                return Err(Error::sys("look up, as a directory has another name already,", name, Errno::EIO));
            }
            (Place::Orphan(_), Some(_)) => state.place = found.place(),
            _ => {}
        }
        self.table.add_link(&mut state, parent, name);
        drop(state);
        Ok((node, false))
    }

    fn ino_of(&self, found: &Found) -> u64 {
        if let Some(at) = found.lowers.first() {
            return ino::of_lower(at.layer, found.lower_ino);
        }
        found.upper.map_or(0, |stat| self.ino_of_upper(stat.dev, stat.attr.ino))
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

fn found(merge: Merge<Part>) -> Option<Found> {
    let mut parts = merge.parts().into_iter().peekable();
    let kind = match parts.peek()? {
        Part::Upper(stat) => stat.attr.kind,
        Part::Lower(_, entry) => entry.kind,
    };
    let mut found = Found { kind, upper: None, lowers: SmallVec::new(), lower_ino: 0 };
    for part in parts {
        match part {
            Part::Upper(stat) => found.upper = Some(stat),
            Part::Lower(at, entry) => {
                if found.lowers.is_empty() {
                    found.lower_ino = entry.ino;
                }
                found.lowers.push(at);
            }
        }
    }
    Some(found)
}
