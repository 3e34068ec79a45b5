//! Names that go: unlink and rmdir, with a whiteout where a lower would show through.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::RwLockWriteGuard;

use super::copy_up::Content;
use super::lookup::Found;
use super::node::{Node, NodeId};
use super::protect::Change;
use super::{Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::sys::dir::{self, Rename};
use crate::sys::spot::Spot;
use crate::types::Kind;

/// Exclusive locks on the names of two directories, which may be one.
pub(super) fn lock_names<'a>(a: &'a Arc<Node>, b: &'a Arc<Node>) -> (RwLockWriteGuard<'a, ()>, Option<RwLockWriteGuard<'a, ()>>) {
    match a.id.cmp(&b.id) {
        std::cmp::Ordering::Equal => (a.children.write(), None),
        std::cmp::Ordering::Less => {
            let first = a.children.write();
            (first, Some(b.children.write()))
        }
        std::cmp::Ordering::Greater => {
            let first = b.children.write();
            (first, Some(a.children.write()))
        }
    }
}

/// How far a removal or a replacement got.
pub(super) enum Removal {
    Done,
    /// Not yet: the other names of this node must be found before.
    After(Arc<Node>),
    /// Not yet: the name is not as it was made ready.
    Changed,
}

impl Union {
    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`, and the upper's answers.
    pub fn unlink(&self, parent: NodeId, name: &OsStr) -> Result<()> {
        let parent = self.dir(parent)?;
        self.check_names(&parent, Change::Remove)?;
        self.copy_up(&parent, Content::Kept)?;
        self.take_away(&parent, name, || self.try_unlink(&parent, name))
    }

    /// Makes a name ready to be removed or replaced, and tries that until nothing is in the way.
    pub(super) fn take_away(&self, parent: &Arc<Node>, name: &OsStr, attempt: impl Fn() -> Result<Removal>) -> Result<()> {
        loop {
            let raised = self.raise_name(parent, name)?;
            let answer = attempt();
            raised.into_iter().for_each(|id| self.forget(id, 1));
            match answer? {
                Removal::Done => return Ok(()),
                Removal::After(reluctant) => self.find_latent(&reluctant)?,
                Removal::Changed => {}
            }
        }
    }

    fn try_unlink(&self, parent: &Arc<Node>, name: &OsStr) -> Result<Removal> {
        let upper = self.writable()?;
        let _tree = self.tree.read();
        let _names = self.change_names(parent);
        let found = self.resolve(parent, name)?.found.ok_or(Error::Expected(Errno::ENOENT))?;
        if found.kind.is_dir() {
            return Err(Errno::EISDIR.into());
        }
        self.check_found(parent, name, &found)?;
        if let Some(reluctant) = self.reluctant(parent, name, &found)? {
            return Ok(Removal::After(reluctant));
        }
        if self.must_be_raised(&found)? {
            return Ok(Removal::Changed);
        }
        self.remove(upper, parent, name, &found)?;
        Ok(Removal::Done)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY` by the merged view, `EROFS`, and the upper's answers.
    pub fn rmdir(&self, parent: NodeId, name: &OsStr) -> Result<()> {
        let (victim, _) = self.lookup(parent, name)?;
        let answer = self.rmdir_node(parent, name, &victim);
        self.forget(victim.id, 1);
        answer
    }

    fn rmdir_node(&self, parent: NodeId, name: &OsStr, victim: &Arc<Node>) -> Result<()> {
        let parent = self.dir(parent)?;
        if !victim.kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let upper = self.writable()?;
        self.check_names(&parent, Change::Remove)?;
        self.check_unprotected(victim)?;
        {
            // Nothing is copied up for a directory that is not empty.
            let _tree = self.tree.read();
            let _names = lock_names(&parent, victim);
            self.find_empty_dir(&parent, name)?;
        }
        self.copy_up(&parent, Content::Kept)?;
        let _tree = self.tree.read();
        let _names = lock_names(&parent, victim);
        self.keep_order(&parent);
        let found = self.find_empty_dir(&parent, name)?;
        self.remove(upper, &parent, name, &found)
    }

    /// The caller holds `tree` and the names concerned.
    fn find_empty_dir(&self, parent: &Arc<Node>, name: &OsStr) -> Result<Found> {
        let found = self.resolve(parent, name)?.found.ok_or(Error::Expected(Errno::ENOENT))?;
        if !found.kind.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        if !self.is_empty_dir(parent, name, &found)? {
            return Err(Errno::ENOTEMPTY.into());
        }
        Ok(found)
    }

    /// The caller holds `tree` and the names concerned, and has checked the type.
    fn remove(&self, upper: &Upper, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<()> {
        let hide = self.shows_through(parent, name)?;
        let dir = self.dir_fd(parent)?;
        self.leave_name(parent, name, found, || {
            let removed = match (&found.upper, hide, found.kind) {
                (None, ..) => upper.whiteout(&dir, name),
                (Some(_), hide, Kind::Dir) => remove_dir(upper, &dir, name, hide),
                (Some(_), true, kind) => upper.replace_by_whiteout(&dir, name, kind),
                (Some(_), false, _) => dir::unlink(&dir, name),
            };
            removed.map_err(|e| Error::sys("remove", name, e))
        })
    }
}

/// Removes an upper directory that shows no name but may hold whiteouts: the name goes in one step, the rest after it. With
/// `hide` a whiteout takes its place.
fn remove_dir(upper: &Upper, dir: &Arc<OwnedFd>, name: &OsStr, hide: bool) -> Result<(), Errno> {
    if !hide {
        match dir::rmdir(dir, name) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            answer => return answer,
        }
    }
    if hide {
        return upper.moving(&Spot::at(dir, name), || upper.replace_by_whiteout(dir, name, Kind::Dir));
    }
    let temp = upper.temp();
    upper.moving(&Spot::at(dir, name), || dir::rename(dir, name, upper.work(), &temp, Rename::NoReplace))?;
    upper.discard(&temp);
    Ok(())
}

/// Kinds that a rename may not put in each other's place (rename(2)).
pub(super) const fn cannot_replace(new: Kind, old: Kind) -> Option<Errno> {
    match (new.is_dir(), old.is_dir()) {
        (true, false) => Some(Errno::ENOTDIR),
        (false, true) => Some(Errno::EISDIR),
        _ => None,
    }
}
