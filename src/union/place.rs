//! The last step of a copy-up: a finished draft goes to the names of its node, or into the index.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::RwLockWriteGuard;
use smallvec::SmallVec;

use super::copy_up::{Content, Draft, Finished};
use super::node::{Indexed, Key, Link, Node, Place};
use super::readers::Moment;
use super::{Durability, Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::ovl::index::{Base, Nlink};
use crate::ovl::xattr::Private;
use crate::sys::data::{self, OFlags};
use crate::sys::dir::{self, Rename};
use crate::sys::spot::{SetTime, Spot};
use crate::types::Attr;

impl Union {
    /// Moves a draft to all names of its node in the upper, where it gets the permissions that were held back; false where a
    /// name was found meanwhile whose directory must be copied up first.
    pub(super) fn place(&self, upper: &Upper, node: &Arc<Node>, finished: &mut Finished<'_>) -> Result<bool, Errno> {
        let Finished { draft, attr, perm, content } = finished;
        let (perm, content) = (*perm, *content);
        let _tree = self.tree.read();
        let parents = distinct_parents(&node.state.read().links);
        let _names: SmallVec<[RwLockWriteGuard<'_, ()>; 1]> = parents.iter().map(|parent| parent.children.write()).collect();
        let mut state = node.state.write();
        let now = distinct_parents(&state.links);
        let same = now.iter().map(|n| n.id).eq(parents.iter().map(|p| p.id));
        if !same || parents.iter().any(|parent| Self::needs_copy(parent)) {
            return Ok(false);
        }
        let stat = upper.in_work(&draft.temp).stat()?;
        let named = u32::try_from(state.links.len()).unwrap_or(u32::MAX);
        let latent = match state.place {
            Place::Gone => 0,
            _ => attr.nlink.saturating_sub(self.removed_names(&state)).saturating_sub(named),
        };
        if state.links.is_empty() {
            state.place = Place::Orphan(upper.in_work(&draft.temp).pin()?);
            if content != Content::Below {
                state.lowers.clear();
            }
            drop(state);
            self.table.drop_keys(node);
            return Ok(true);
        }
        let times = self.times_of(&parents)?;
        let found_again = self.is_found_again(node, &upper.in_work(&draft.temp));
        let moment = self.readers.now();
        self.place_links(upper, draft, &state.links, &times, perm)?;
        state.place = if node.kind.is_dir() { Place::Merged } else { Place::Upper };
        if !node.kind.is_dir() {
            state.latent = latent;
            if content != Content::Below {
                state.lowers.clear();
            }
            // Other names in the lower must find this node for as long as there may be some.
            state.pinned = latent > 0 && node.hold();
        }
        drop(state);
        self.settle(node, &stat, &times, found_again);
        self.tell_seen(&parents, moment);
        self.sync_parents(&parents)?;
        Ok(true)
    }

    /// Moves the draft of a lower hard link into the index, whence it gets the one name in the upper by which it was found last, as
    /// in the kernel's (copy_up.c, `ovl_do_copy_up`, `ovl_link_up`). False as for [`Union::place`].
    pub(super) fn place_in_index(
        &self,
        upper: &Upper,
        node: &Arc<Node>,
        finished: &mut Finished<'_>,
        entry: &OsStr,
    ) -> Result<bool> {
        let Some(index) = &self.index else { return Err(Errno::ESTALE.into()) };
        let Finished { draft, attr, content, .. } = finished;
        let last = |links: &[Link]| links.last().map(|link| Arc::clone(&link.parent));
        let _tree = self.tree.read();
        let parent = last(&node.state.read().links);
        let _names = parent.as_ref().map(|parent| parent.children.write());
        let mut state = node.state.write();
        let same = last(&state.links).map(|now| now.id) == parent.as_ref().map(|parent| parent.id);
        if !same || parent.as_ref().is_some_and(|parent| Self::needs_copy(parent)) {
            return Ok(false);
        }
        let spot = upper.in_work(&draft.temp);
        let context = |e: Errno| Error::sys("copy up into the index", entry, e);
        upper.set_private(&spot, Private::Nlink, &Nlink::new(Base::Upper, attr.nlink, 1).encode()).map_err(context)?;
        let stat = spot.stat().map_err(context)?;
        dir::rename(upper.work(), &draft.temp, index.dir(), entry, Rename::NoReplace).map_err(context)?;
        draft.placed = true;
        state.place = Place::Upper;
        state.index = Some(Box::new(Indexed { name: entry.into(), names_below: attr.nlink }));
        state.latent = attr.nlink;
        if *content != Content::Below {
            state.lowers.clear();
        }
        state.links.iter_mut().for_each(|link| link.below = true);
        let link = state.links.last().cloned();
        let linked = link.map_or(Ok(false), |link| self.link_found(upper, &mut state, &link.parent, &link.name));
        drop(state);
        self.settle(node, &stat, &[], true);
        linked?;
        self.sync_parents(parent.as_slice())?;
        Ok(true)
    }

    /// The first name comes last: until then nothing but further hard links of the draft show, which go again where one fails.
    fn place_links(
        &self,
        upper: &Upper,
        draft: &mut Draft<'_>,
        links: &[Link],
        dirs: &[(Spot, Attr)],
        perm: Option<u32>,
    ) -> Result<(), Errno> {
        let mut targets: Vec<(Arc<OwnedFd>, &OsStr)> = Vec::with_capacity(links.len());
        for link in links {
            targets.push((self.dir_fd(&link.parent).map_err(|e| e.errno())?, &link.name));
        }
        let (first, more) = targets.split_first().ok_or(Errno::ESTALE)?;
        let dirs: Vec<Spot> = dirs.iter().map(|(spot, _)| spot.clone()).collect();
        upper.writing_into(&dirs, || {
            let mut made = 0;
            let mut place = || {
                dirs.iter().try_for_each(|dir| self.mark_impure(dir))?;
                for (to, name) in more {
                    dir::link(upper.work(), &draft.temp, to, name)?;
                    made += 1;
                }
                dir::rename(upper.work(), &draft.temp, &first.0, first.1, Rename::NoReplace)
            };
            let placed: Result<(), Errno> = place();
            if placed.is_err() {
                for (to, name) in more.iter().take(made) {
                    // What stays is a whole copy of the file; the name is then simply found in the upper.
                    let _best_effort = dir::unlink(to, name);
                }
                return placed;
            }
            draft.placed = true;
            if let Some(perm) = perm {
                upper.give_held_back(&Spot::at(&first.0, first.1), perm);
            }
            Ok(())
        })
    }

    fn settle(&self, node: &Arc<Node>, stat: &crate::sys::spot::Stat, times: &[(Spot, Attr)], found_again: bool) {
        if !found_again {
            self.born.insert((stat.dev, stat.attr.ino), self.table.number(node));
        }
        self.table.add_key(Key::upper(stat.dev, stat.attr.ino), node);
        for (spot, before) in times {
            // Copy-up is no change of the directory that a program could have made; where we may not set times, they stay new.
            let _best_effort = spot.set_times(SetTime::At(before.atime), SetTime::At(before.mtime));
        }
    }

    fn times_of(&self, parents: &[Arc<Node>]) -> Result<Vec<(Spot, Attr)>, Errno> {
        let mut times = Vec::with_capacity(parents.len());
        for parent in parents {
            let spot = Spot::Fd(self.dir_fd(parent).map_err(|e| e.errno())?);
            let attr = self.writable().map_err(|e| e.errno())?.stat(&spot)?.attr;
            times.push((spot, attr));
        }
        Ok(times)
    }

    /// Directories have their times again. Who has looked since that moment may have seen others; where nobody has, nobody need ask
    /// once more.
    pub(super) fn tell_seen(&self, dirs: &[Arc<Node>], since: Moment) {
        if self.readers.were_there_since(since) {
            dirs.iter().for_each(|dir| self.tell_changed(dir));
        }
    }

    fn sync_parents(&self, parents: &[Arc<Node>]) -> Result<(), Errno> {
        if self.options.fsync != Durability::Strict {
            return Ok(());
        }
        if let Some(index) = &self.index {
            data::sync(Spot::Fd(Arc::clone(index.dir())).open(OFlags::RDONLY | OFlags::DIRECTORY)?, false)?;
        }
        for parent in parents {
            let fd = self.dir_fd(parent).map_err(|e| e.errno())?;
            data::sync(Spot::Fd(fd).open(OFlags::RDONLY | OFlags::DIRECTORY)?, false)?;
        }
        Ok(())
    }
}

/// The directories of some links, each once, in lock order.
fn distinct_parents(links: &[Link]) -> SmallVec<[Arc<Node>; 1]> {
    let mut parents: SmallVec<[Arc<Node>; 1]> = links.iter().map(|link| Arc::clone(&link.parent)).collect();
    parents.sort_by_key(|parent| parent.id);
    parents.dedup_by_key(|parent| parent.id);
    parents
}
