//! Directory listings: the names of all parts of a directory merged, each once.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Union;
use super::descent::Descent;
use super::lookup::Found;
use super::lower::{Listed, Listing, LowerId};
use super::node::{LowerAt, Node, NodeId, Place};
use super::positions::DOTS;
use crate::error::{Errno, Error, Result};
use crate::ovl::xattr::Private;
use crate::sys::dir::RawEntry;
use crate::sys::spot::Spot;
use crate::types::Kind;

/// One visible name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// The union's inode number: what stat(2) will show.
    pub ino: u64,
    /// Type.
    pub kind: Kind,
    /// The inode behind it in the only lower that the directory has a part in, where that told it and the upper has no such name.
    pub lower: Option<LowerId>,
}

impl Union {
    /// All visible names of a directory, without `.` and `..`. A removed directory has none.
    ///
    /// # Errors
    /// `ENOTDIR`, and what the layers say.
    pub fn entries(&self, id: NodeId) -> Result<Vec<Entry>> {
        let node = self.dir(id)?;
        let _tree = self.tree.read();
        let _names = node.children.read();
        self.entries_of(&node)
    }

    /// As [`Union::entries`]. The caller holds `tree` and the names.
    pub(super) fn entries_of(&self, node: &Arc<Node>) -> Result<Vec<Entry>> {
        let (upper, lowers) = {
            let state = node.state.read();
            match state.place {
                Place::Gone | Place::Orphan(_) => return Ok(Vec::new()),
                Place::Lower => (false, state.lowers.clone()),
                Place::Upper | Place::Merged => (true, state.lowers.clone()),
            }
        };
        let fd = if upper { Some(self.dir_fd(node)?) } else { None };
        self.merged_entries(fd.as_ref(), &lowers)
    }

    /// `.` and `..` of a directory.
    pub(super) fn dots(&self, node: &Node) -> [u64; 2] {
        let own = self.table.number(node);
        let parent = node.state.read().links.first().map_or(own, |link| self.table.number(&link.parent));
        [own, parent]
    }

    fn merged_entries(&self, upper: Option<&Arc<OwnedFd>>, lowers: &[LowerAt]) -> Result<Vec<Entry>> {
        let raw = match upper {
            Some(fd) => self.writable()?.read_dir(fd).map_err(|e| Error::sys("read directory of the upper", "", e))?,
            None => Vec::new(),
        };
        if let (None, [only]) = (upper, lowers) {
            return self.lower_entries(*only, self.lower(*only)?.entries(only.id)?);
        }
        let listings: Vec<(LowerAt, Listing)> =
            lowers.iter().map(|at| Ok((*at, self.lower(*at)?.entries(at.id)?))).collect::<Result<_>>()?;
        let mut entries = Vec::with_capacity(raw.len() + listings.first().map_or(0, |(_, l)| l.len()) + DOTS);
        // What a layer decides about a name holds for all layers below it, but for directories, which only lend their number.
        let mut decided: HashSet<&OsStr> = HashSet::with_capacity(if listings.is_empty() { 0 } else { raw.len() });
        if let Some(fd) = upper {
            let impure = self.is_marked_impure(fd)?;
            for entry in &raw {
                if !listings.is_empty() {
                    decided.insert(&entry.name);
                }
                entries.extend(self.upper_entry(fd, entry, lowers, impure)?);
            }
        }
        for (i, (at, listing)) in listings.iter().enumerate() {
            let last = i + 1 == listings.len();
            let marked = self.may_hold_xattr_whiteouts(*at)?;
            for (name, entry) in listing {
                let shadowed = if last { decided.contains(&**name) } else { !decided.insert(name) };
                if !shadowed && !self.is_lower_whiteout(*at, name, entry, marked)? {
                    let ino = self.lower_number(at.layer, entry.ino);
                    entries.push(Entry {
                        name: name.clone(),
                        ino,
                        kind: entry.kind,
                        lower: entry.id.filter(|_| listings.len() == 1),
                    });
                }
            }
        }
        Ok(entries)
    }

    /// The names of a directory that one lower alone has, in the memory of its listing: both have entries of the same size.
    fn lower_entries(&self, dir: LowerAt, listing: Listing) -> Result<Vec<Entry>> {
        let marked = self.may_hold_xattr_whiteouts(dir)?;
        let entry = |(name, listed): (OsString, Listed)| match self.is_lower_whiteout(dir, &name, &listed, marked) {
            Ok(true) => None,
            Ok(false) => {
                let ino = self.lower_number(dir.layer, listed.ino);
                Some(Ok(Entry { name, ino, kind: listed.kind, lower: listed.id }))
            }
            Err(e) => Some(Err(e)),
        };
        listing.into_iter().filter_map(entry).collect()
    }

    /// Whether numbers of what is inside may be recorded by origins. Without an answer numbers would change, so there must be one.
    fn is_marked_impure(&self, fd: &Arc<OwnedFd>) -> Result<bool> {
        let mark = self.writable()?.private(&Spot::Fd(Arc::clone(fd)), Private::Impure);
        let mark = mark.map_err(|e| Error::sys("read the impure mark of a directory of the upper", "", e))?;
        Ok(mark.is_some_and(|value| value == b"y"))
    }

    fn upper_entry(&self, fd: &Arc<OwnedFd>, entry: &RawEntry, lowers: &[LowerAt], impure: bool) -> Result<Option<Entry>> {
        let spot = || Spot::at(fd, &entry.name);
        let (kind, number) = match entry.kind {
            // The type alone does not tell a whiteout from another device.
            None | Some(Kind::Char) => match spot().stat() {
                Ok(stat) if stat.is_whiteout() => return Ok(None),
                Ok(stat) => (stat.attr.kind, stat.attr.ino),
                Err(Errno::ENOENT) => return Ok(None),
                Err(e) => return Err(Error::sys("stat in the upper", &entry.name, e)),
            },
            Some(kind) => (kind, entry.ino),
        };
        let merged = if kind.is_dir() { self.lower_dir_under(&spot(), &entry.name, lowers)? } else { None };
        let dev = self.writable()?.dev();
        let ino = merged.unwrap_or_else(|| self.listed_number(&spot(), kind, (dev, number), impure));
        Ok(Some(Entry { name: entry.name.clone(), ino, kind, lower: None }))
    }

    /// The number of the topmost lower directory that an upper directory of this name merges with. A directory that cannot be
    /// looked up is listed all the same.
    fn lower_dir_under(&self, spot: &Spot, name: &OsStr, lowers: &[LowerAt]) -> Result<Option<u64>> {
        let stat = match self.writable()?.stat(spot) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(Error::sys("stat in the upper", name, e)),
        };
        let Ok(upper) = self.meaning_in_upper(spot, name, stat, lowers) else { return Ok(None) };
        let mut descent = Descent::new(name, Some(upper));
        self.descend(&mut descent, lowers)?;
        let found = descent.found()?;
        Ok(found.and_then(|found| found.lowers.first().map(|at| self.lower_number(at.layer, found.lower_ino))))
    }

    fn is_lower_whiteout(&self, dir: LowerAt, name: &OsStr, listed: &Listed, marked: bool) -> Result<bool> {
        if !(listed.kind == Kind::Char || (marked && listed.kind == Kind::File)) {
            return Ok(false);
        }
        let lower = self.lower(dir)?;
        let Some(id) = lower.listed(dir.id, name, listed)? else { return Ok(false) };
        if listed.kind == Kind::Char {
            return Ok(lower.attr(id)?.rdev == 0);
        }
        self.is_xattr_whiteout(LowerAt { layer: dir.layer, id })
    }

    /// A lower directory marked `x` may hide names by regular files (overlayfs.rst, "xattr whiteouts").
    fn may_hold_xattr_whiteouts(&self, dir: LowerAt) -> Result<bool> {
        Ok(self.lower(dir)?.xattr(dir.id, &self.private(Private::Opaque))?.is_some_and(|value| value == b"x"))
    }

    /// True where a directory shows no name. The caller holds `tree`.
    pub(super) fn is_empty_dir(&self, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<bool> {
        let fd = match found.upper {
            Some(_) => Some(crate::sys::spot::open_dir_at(self.dir_fd(parent)?, name)?),
            None => None,
        };
        Ok(self.merged_entries(fd.as_ref(), &found.lowers)?.is_empty())
    }
}
