//! One name on its way down the lower layers, by the redirects that it meets (namei.c, `ovl_lookup`).

use std::ffi::OsStr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Union;
use super::lookup::Found;
use super::lower::LowerEntry;
use super::merge::{Merge, Seen};
use super::node::{LowerAt, Node};
use crate::error::{Errno, Error, Result};
use crate::ovl::redirect::Redirect;
use crate::ovl::xattr::Private;
use crate::sys::spot::Stat;
use crate::types::Kind;

/// A visible part.
enum Part {
    Upper(Stat),
    Lower(LowerAt, LowerEntry),
}

/// What was found so far, and how the layers below have it.
pub(super) struct Descent {
    merge: Merge<Part>,
    way: Redirect,
    /// Something on the way hides it in all layers below the present one.
    hides_below: bool,
}

/// What the upper has under a name.
pub(super) struct InUpper {
    pub(super) stat: Stat,
    pub(super) seen: Seen,
    pub(super) redirect: Option<Redirect>,
}

impl Descent {
    /// Starts with a name, and with what the upper has under it.
    pub(super) fn new(name: &OsStr, upper: Option<InUpper>) -> Self {
        let mut this = Self { merge: Merge::default(), way: Redirect::from(name), hides_below: false };
        if let Some(InUpper { stat, seen, redirect }) = upper {
            this.merge.add(Part::Upper(stat), seen);
            if let Some(redirect) = redirect {
                this.turn(redirect, 0);
            }
        }
        this
    }

    /// Goes on by a redirect that stands on the component which `rest` more follow.
    fn turn(&mut self, redirect: Redirect, rest: usize) {
        if redirect.is_absolute() {
            self.merge.reopen();
            self.hides_below = false;
        }
        self.way = self.way.follow(redirect, rest);
    }

    /// True where the way counts from the root of the layers.
    pub(super) const fn starts_at_root(&self) -> bool {
        self.way.is_absolute()
    }

    /// What is visible.
    ///
    /// # Errors
    /// `EIO` for a file whose attributes stand in one layer and whose data in none.
    pub(super) fn found(self) -> Result<Option<Found>> {
        if self.merge.is_headless() {
            return Err(Error::sys("find below its attributes the data of", self.way.shown(), Errno::EIO));
        }
        Ok(found(self.merge))
    }
}

impl Union {
    /// Asks the lower layers, topmost first, until one of them decides. `parents` are the lower parts of the directory.
    pub(super) fn descend(&self, descent: &mut Descent, parents: &[LowerAt]) -> Result<()> {
        let mut dirs: SmallVec<[LowerAt; 2]> = SmallVec::from_slice(parents);
        let mut from_root = descent.way.is_absolute();
        if from_root {
            dirs = self.roots_from(0);
        }
        let mut next = 0;
        while let Some(dir) = dirs.get(next).copied().filter(|_| !descent.merge.is_closed()) {
            next += 1;
            self.walk(descent, dir)?;
            if descent.way.is_absolute() && !from_root {
                (dirs, next, from_root) = (self.roots_from(dir.layer + 1), 0, true);
            }
        }
        Ok(())
    }

    pub(super) fn roots_from(&self, layer: usize) -> SmallVec<[LowerAt; 2]> {
        let roots = self.lowers.iter().enumerate().skip(layer);
        roots.map(|(layer, lower)| LowerAt { layer, id: lower.root() }).collect()
    }

    /// The whole way in one layer; redirects that are met on it count for the layers below.
    fn walk(&self, descent: &mut Descent, from: LowerAt) -> Result<()> {
        let parts = match &descent.way {
            Redirect::Name(name) => return self.step(descent, from, &name.clone(), 0).map(drop),
            Redirect::Path(parts) => parts.clone(),
        };
        let mut dir = from;
        for (name, rest) in parts.iter().zip((0..parts.len()).rev()) {
            match self.step(descent, dir, name, rest)? {
                Some(inner) => dir = inner,
                None => break,
            }
        }
        if std::mem::take(&mut descent.hides_below) {
            descent.merge.close();
        }
        Ok(())
    }

    /// One component in one layer; the directory it leads to, if it does.
    fn step(&self, descent: &mut Descent, dir: LowerAt, name: &OsStr, rest: usize) -> Result<Option<LowerAt>> {
        let Some(entry) = self.lower(dir)?.lookup(dir.id, name)? else { return Ok(None) };
        let at = LowerAt { layer: dir.layer, id: entry.id };
        let last = at.layer + 1 == self.lowers.len();
        let seen = self.seen_in_lower(at, &entry, last)?;
        match seen {
            _ if rest == 0 => descent.merge.add(Part::Lower(at, entry), seen),
            Seen::Dir { opaque: false } => {}
            // Only what lies below is hidden by it: not what it holds itself, and a redirect further on leads around it.
            _ => descent.hides_below = true,
        }
        if !last && matches!(seen, Seen::Dir { opaque: false } | Seen::Metacopy) {
            let value = self.lower(at)?.xattr(at.id, &self.private(Private::Redirect))?;
            if let Some(redirect) = self.redirect(value, name)? {
                descent.turn(redirect, rest);
            }
        }
        Ok(matches!(seen, Seen::Dir { .. }).then_some(at))
    }

    /// True where removing the upper's entry, if any, would let a lower's show.
    pub(super) fn shows_through(&self, parent: &Arc<Node>, name: &OsStr) -> Result<bool> {
        let lowers = parent.state.read().lowers.clone();
        let mut descent = Descent::new(name, None);
        self.descend(&mut descent, &lowers)?;
        Ok(!descent.merge.parts().is_empty())
    }

    /// What a lower's entry means. Whether a directory of the last layer is opaque does not matter.
    pub(super) fn seen_in_lower(&self, at: LowerAt, entry: &LowerEntry, last: bool) -> Result<Seen> {
        let lower = self.lower(at)?;
        Ok(match entry.kind {
            Kind::Dir if last => Seen::Dir { opaque: false },
            Kind::Dir => {
                let value = lower.xattr(at.id, &self.private(Private::Opaque))?;
                Seen::Dir { opaque: value.is_some_and(|v| v == b"y") }
            }
            Kind::Char if lower.attr(at.id)?.rdev == 0 => Seen::Whiteout,
            Kind::File if self.is_xattr_whiteout(at)? => Seen::Whiteout,
            Kind::File => match lower.xattr(at.id, &self.private(Private::Metacopy))? {
                Some(value) => self.metacopy(&value, OsStr::new("a file of a lower"))?,
                None => Seen::Other(Kind::File),
            },
            kind => Seen::Other(kind),
        })
    }

    /// A zero-size regular file with the whiteout attribute (util.c, `ovl_path_check_xwhiteout_xattr`).
    pub(super) fn is_xattr_whiteout(&self, at: LowerAt) -> Result<bool> {
        let lower = self.lower(at)?;
        Ok(lower.attr(at.id)?.size == 0 && lower.xattr(at.id, &self.private(Private::Whiteout))?.is_some())
    }

    /// What the redirect attribute says; refused where it may not be followed, for content would be missing without it.
    pub(super) fn redirect(&self, value: Option<Vec<u8>>, name: &OsStr) -> Result<Option<Redirect>> {
        let Some(value) = value else { return Ok(None) };
        if !self.options.redirect_dir.follows() {
            return Err(Error::Unsupported(format!(
                "{}: renamed by an overlayfs with redirect_dir=on, which redirect_dir=nofollow and userxattr do not follow",
                name.display()
            )));
        }
        match Redirect::parse(&value) {
            Some(redirect) => Ok(Some(redirect)),
            None => Err(Error::sys("follow the redirect attribute, which is damaged, of", name, Errno::EIO)),
        }
    }

    /// A regular file with the metacopy attribute.
    pub(super) fn metacopy(&self, value: &[u8], name: &OsStr) -> Result<Seen> {
        if !self.options.metacopy {
            return Err(Error::Unsupported(format!(
                "{}: copied up by an overlayfs with metacopy=on, so its data are in a lower; mount with -o metacopy=on",
                name.display()
            )));
        }
        if crate::ovl::metacopy::is_valid(value) {
            Ok(Seen::Metacopy)
        } else {
            Err(Error::sys("read the metacopy attribute, which is damaged, of", name, Errno::EIO))
        }
    }
}

fn found(merge: Merge<Part>) -> Option<Found> {
    let mut parts = merge.parts().into_iter().peekable();
    let kind = match parts.peek()? {
        Part::Upper(stat) => stat.attr.kind,
        Part::Lower(_, entry) => entry.kind,
    };
    let mut found = Found { kind, upper: None, lowers: SmallVec::new(), lower_ino: 0, entry: None };
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
