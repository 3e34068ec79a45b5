//! What becomes of a node when a name leaves it: data stay readable for whoever has it open, and numbers that the file system
//! may give to others are forgotten.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Union;
use super::lookup::Found;
use super::node::{Link, LowerAt, Node, Place, State};
use crate::error::{Errno, Result};
use crate::ovl::index::Base;
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
        let Some(node) = self.node_found(found)? else {
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
                Place::Upper if link.as_ref().is_none_or(|link| link.below) => self.count_latent(state),
                Place::Lower => {
                    self.retire_lower(node, state);
                    false
                }
                _ => false,
            };
            return Ok(Left { link, unpinned });
        };
        let dir = self.dir_fd(parent)?;
        let last = match &state.index {
            // Its entry and this name.
            Some(_) => stat.attr.nlink <= 2 && state.latent == 0,
            None => state.is_last_in_upper(parent, name),
        };
        let left = if last { Some(Self::left_behind(node, &dir, name)?) } else { None };
        if let Some(upper) = self.upper.as_ref().filter(|_| state.index.is_some()) {
            self.record_names(upper, state, Base::Upper)?;
        }
        act()?;
        let mut links = stat.attr.nlink;
        if last && state.index.is_some() {
            self.drop_entry(state);
            links = links.saturating_sub(1);
        }
        let link = self.table.take_link(state, parent, name);
        let unpinned = left.is_some_and(|left| self.lose_last(node, state, left, stat, links));
        Ok(Left { link, unpinned })
    }

    /// Where a node will be once its last known name in the upper has gone: held until the kernel forgets it, for whoever has
    /// it open or holds it by an `O_PATH` descriptor. Where no descriptor is left, and none was kept of it, it is removed all the same.
    fn left_behind(node: &Node, dir: &Arc<OwnedFd>, name: &OsStr) -> Result<Place> {
        let is_out = |e: &Errno| matches!(*e, Errno::EMFILE | Errno::ENFILE);
        let pinned = match Spot::at(dir, name).pin() {
            Err(e) if is_out(&e) => node.open_fd().ok_or(e),
            pinned => pinned,
        };
        match pinned {
            Ok(pin) => Ok(Place::Orphan(pin)),
            Err(e) if is_out(&e) => {
                tracing::warn!("{}: removed, and lost for those who have it open: no descriptor is left", name.display());
                Ok(Place::Gone)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// `links` are those that the upper's file had. Returns whether the node's reference to itself is to be given back. Names of the lower that nobody has seen yet are
    /// from now on a file of their own, as all are in the kernel's.
    fn lose_last(&self, node: &Node, state: &mut State, left: Place, stat: &Stat, links: u32) -> bool {
        if matches!(left, Place::Gone) {
            state.lowers.clear();
        }
        state.place = left;
        self.removals.note();
        self.table.drop_lower_keys(node);
        if node.kind.is_dir() || links <= 1 {
            self.table.drop_keys(node);
            self.born.remove(&(stat.dev, stat.attr.ino));
        }
        state.latent = 0;
        std::mem::take(&mut state.pinned)
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
