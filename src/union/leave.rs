//! What becomes of a node when a name leaves it: data stay readable for whoever has it open, and numbers that the file system
//! may give to others are forgotten.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Union;
use super::lookup::Found;
use super::node::{Link, LowerAt, Node, Place, Removed, State};
use crate::error::Result;
use crate::sys::data::OFlags;
use crate::sys::spot::{Spot, Stat};
use crate::types::Kind;

/// What a name that left has held: the link, whose parent may go, and perhaps the node's reference to itself.
pub(super) struct Left {
    link: Option<Link>,
    unpinned: bool,
}

impl Union {
    /// Runs what takes a name away on disk, and lets the node that had it know. The caller holds `tree` and the names.
    pub(super) fn leave_name(
        &self,
        parent: &Arc<Node>,
        name: &OsStr,
        found: &Found,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let Some(node) = self.table.find(found.key()?) else {
            act()?;
            self.forget_numbers(found);
            return Ok(());
        };
        let left = self.leave_locked(&node, &mut node.state.write(), (parent, name), found, act)?;
        self.after_leaving(&node, left);
        Ok(())
    }

    /// What must wait until the node's state is free again.
    pub(super) fn after_leaving(&self, node: &Arc<Node>, left: Left) {
        self.dirs.remove(&node.id);
        if left.unpinned {
            self.table.release(node, 1);
        }
        if let Some(link) = left.link {
            self.table.release(&link.parent, 1);
        }
    }

    /// As [`Union::leave_name`], for a caller who holds the node's state.
    pub(super) fn leave_locked(
        &self,
        node: &Arc<Node>,
        state: &mut State,
        (parent, name): (&Arc<Node>, &OsStr),
        found: &Found,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<Left> {
        let Some(stat) = &found.upper else {
            act()?;
            let link = self.table.take_link(state, parent, name);
            let unpinned = match &state.place {
                Place::Upper | Place::Parked(_) | Place::Orphan(_) if link.is_none() => self.lose_latent(node, state)?,
                Place::Lower => {
                    self.retire_lower(node, state);
                    false
                }
                _ => false,
            };
            return Ok(Left { link, unpinned });
        };
        let dir = self.dir_fd(parent)?;
        let last = state.links.len() == 1 && state.has_link(parent, name);
        let left = if last { Some(self.left_behind(node, state, &dir, name, stat)?) } else { None };
        if let Err(e) = act() {
            if let Some(Place::Parked(temp)) = &left {
                self.writable()?.discard(temp);
            }
            return Err(e);
        }
        let link = self.table.take_link(state, parent, name);
        let unpinned = left.is_some_and(|left| self.lose_last(node, state, left, stat));
        Ok(Left { link, unpinned })
    }

    /// Where a node will be once its last known name in the upper has gone.
    fn left_behind(&self, node: &Node, state: &State, dir: &Arc<OwnedFd>, name: &OsStr, stat: &Stat) -> Result<Place> {
        if let Some(parked) = self.park(self.writable()?, state, dir, name)? {
            return Ok(parked);
        }
        let pin = Spot::at(dir, name).pin()?;
        if !node.kind.is_dir() && stat.attr.nlink <= 1 && node.data.lock().opens == 0 {
            return Ok(Place::Removed(Box::new(Removed { attr: stat.attr, pin })));
        }
        Ok(Place::Orphan(pin))
    }

    /// Returns whether the node's reference to itself is to be given back.
    fn lose_last(&self, node: &Node, state: &mut State, left: Place, stat: &Stat) -> bool {
        if let Place::Removed(removed) = &left {
            free_space(removed);
        }
        let parked = matches!(left, Place::Parked(_));
        state.place = left;
        if parked {
            return false;
        }
        self.table.drop_lower_keys(node);
        if node.kind.is_dir() || stat.attr.nlink <= 1 {
            self.table.drop_keys(node);
            self.born.remove(&(stat.dev, stat.attr.ino));
        }
        std::mem::take(&mut state.pinned)
    }

    /// A name that only the lower has, of a file that was copied up, got a whiteout without being looked up.
    fn lose_latent(&self, node: &Node, state: &mut State) -> Result<bool> {
        let unpinned = self.count_latent(state);
        if let (true, Place::Parked(temp)) = (unpinned, &state.place) {
            let upper = self.writable()?;
            let pin = upper.in_work(temp).pin()?;
            upper.discard(temp);
            let stat = Spot::Fd(Arc::clone(&pin)).stat()?;
            self.born.remove(&(stat.dev, stat.attr.ino));
            state.place = Place::Orphan(pin);
            self.table.drop_keys(node);
        }
        Ok(unpinned)
    }

    pub(super) fn forget_numbers(&self, found: &Found) {
        if let (None, Some(at)) = (&found.upper, found.lowers.first()) {
            self.count_removed(*at, found.kind);
        }
        if let Some(stat) = found.upper.filter(|stat| stat.attr.nlink <= 1 || stat.attr.kind.is_dir()) {
            self.born.remove(&(stat.dev, stat.attr.ino));
        }
    }

    /// A name of a lower inode is gone; with the last one so is the node.
    fn retire_lower(&self, node: &Node, state: &mut State) {
        let Some(at) = state.lowers.first().copied() else { return };
        let last = self.count_removed(at, node.kind);
        if state.links.is_empty() && last {
            state.place = Place::Gone;
            self.table.drop_keys(node);
        }
    }

    /// Counts a removed name of a lower inode; true when it was the last.
    fn count_removed(&self, at: LowerAt, kind: Kind) -> bool {
        let names = self.lower(at).and_then(|lower| lower.attr(at.id)).map_or(1, |attr| attr.nlink);
        if names <= 1 || kind.is_dir() {
            return true;
        }
        let mut count = self.removed.entry(at).or_insert(0);
        *count = count.saturating_add(1);
        names <= *count
    }
}

/// Gives back the space of a file that has no name and that nobody can open; its inode lives on until the kernel forgets it.
fn free_space(removed: &Removed) {
    let spot = Spot::Fd(Arc::clone(&removed.pin));
    let is_gone = spot.stat().is_ok_and(|stat| stat.attr.nlink == 0);
    if is_gone && removed.attr.kind == Kind::File && removed.attr.blocks > 0 {
        // Where that is not allowed the space is free a little later.
        let _best_effort = spot.open(OFlags::WRONLY | OFlags::TRUNC);
    }
}
