//! Renames: plain, without replacing, and exchanging. A directory that lives in a lower stays where it is (`EXDEV`, as the
//! kernel's default), so that mv copies; with `redirect_dir=on` it moves, and its redirect says where the lowers have it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use smallvec::SmallVec;

use super::copy_up::Content;
use super::lend::OWNER_ALL;
use super::lookup::{Found, Resolution};
use super::node::{Key, Link, Node, NodeId, Place, ROOT, State, write_both};
use super::protect::Change;
use super::remove::{Removal, cannot_replace, lock_names};
use super::{RedirectDir, Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::ovl::redirect::{REDIRECT_MAX, Redirect};
use crate::ovl::xattr::Private;
use crate::sys::dir::{self, Rename};
use crate::sys::spot::{SetTime, Spot};
use crate::types::Attr;

/// One end of a rename.
#[derive(Clone, Copy)]
struct End<'a> {
    dir: &'a Arc<Node>,
    name: &'a OsStr,
}

/// What stands at both ends once nothing can change any more.
struct Plan {
    source: Found,
    target: Resolution,
    /// A lower shows through at the source once the name has gone.
    hide_source: bool,
}

impl Union {
    /// rename(2) and renameat2(2).
    ///
    /// # Errors
    /// `EXDEV` for a directory that lives in a lower, without `redirect_dir=on` or where the way to it is too long; `ENOTEMPTY` by the merged view, `EEXIST`, `EINVAL`, `EROFS`, and the
    /// upper's answers.
    pub fn rename(&self, from: (NodeId, &OsStr), to: (NodeId, &OsStr), how: Rename) -> Result<()> {
        let upper = self.writable()?;
        let (from_dir, to_dir) = (self.dir(from.0)?, self.dir(to.0)?);
        let (from, to) = (End { dir: &from_dir, name: from.1 }, End { dir: &to_dir, name: to.1 });
        let (source, _) = self.lookup_in(from.dir, from.name)?;
        let prepared = self.prepare(from, to, &source, how);
        let answer =
            prepared.and_then(|moves_dir| self.take_away(to.dir, to.name, || self.try_rename(upper, from, to, how, moves_dir)));
        self.forget(source.id, 1);
        answer
    }

    /// Moving a directory changes the way to everything below it; nobody may be on that way meanwhile.
    fn try_rename(&self, upper: &Upper, from: End<'_>, to: End<'_>, how: Rename, moves_dir: bool) -> Result<Removal> {
        if moves_dir {
            let _tree = self.tree.write();
            self.rename_locked(upper, from, to, how)
        } else {
            let _tree = self.tree.read();
            self.rename_locked(upper, from, to, how)
        }
    }

    /// Copies up what the rename will move and where to; true when a directory moves. What will be refused is found before
    /// anything is copied.
    fn prepare(&self, from: End<'_>, to: End<'_>, source: &Arc<Node>, how: Rename) -> Result<bool> {
        self.check_mover(source)?;
        self.check_names(from.dir, Change::Remove)?;
        if how != Rename::Exchange {
            self.check_target(to)?;
            self.copy_up_ends(from, to, source)?;
            return Ok(source.kind.is_dir());
        }
        let (target, _) = self.lookup_in(to.dir, to.name)?;
        let checked = self.check_mover(&target).and_then(|()| self.check_names(to.dir, Change::Remove));
        let ready = checked
            .and_then(|()| self.copy_up_ends(from, to, source))
            .and_then(|()| self.copy_up(&target, Content::Kept))
            .and_then(|()| self.raise_link(&target, to.dir, to.name));
        self.forget(target.id, 1);
        ready.map(|()| source.kind.is_dir() || target.kind.is_dir())
    }

    fn check_mover(&self, node: &Arc<Node>) -> Result<()> {
        self.check_unprotected(node)?;
        let stays = node.kind.is_dir() && !matches!(node.state.read().place, Place::Upper);
        if stays && self.options.redirect_dir != RedirectDir::On { Err(Errno::EXDEV.into()) } else { Ok(()) }
    }

    /// A directory that lives in a lower, too, must be empty by the merged view (dir.c, `ovl_rename`).
    fn check_target(&self, to: End<'_>) -> Result<()> {
        self.check_names(to.dir, Change::Add)?;
        let may_go = self.check_names(to.dir, Change::Remove);
        let _tree = self.tree.read();
        let _names = to.dir.children.read();
        let found = self.resolve(to.dir, to.name)?.found;
        if let Some(found) = &found {
            may_go?;
            self.check_found(to.dir, to.name, found)?;
        }
        match found {
            Some(found) if found.kind.is_dir() && !found.lowers.is_empty() && !self.is_empty_dir(to.dir, to.name, &found)? => {
                Err(Errno::ENOTEMPTY.into())
            }
            _ => Ok(()),
        }
    }

    fn copy_up_ends(&self, from: End<'_>, to: End<'_>, source: &Arc<Node>) -> Result<()> {
        self.copy_up(source, Content::Kept)?;
        self.raise_link(source, from.dir, from.name)?;
        self.copy_up(from.dir, Content::Kept)?;
        self.copy_up(to.dir, Content::Kept)
    }

    fn rename_locked(&self, upper: &Upper, from: End<'_>, to: End<'_>, how: Rename) -> Result<Removal> {
        let _names = lock_names(from.dir, to.dir);
        self.keep_order(from.dir);
        self.keep_order(to.dir);
        let source = self.resolve(from.dir, from.name)?.found.ok_or(Error::Expected(Errno::ENOENT))?;
        let target = self.resolve(to.dir, to.name)?;
        if source.upper.is_none() {
            // Replaced between look-up and lock; the caller's kernel asks again.
            return Err(Errno::ESTALE.into());
        }
        self.note_name(from.dir, from.name);
        self.note_name(to.dir, to.name);
        let mut plan = Plan { source, target, hide_source: self.shows_through(from.dir, from.name)? };
        match (how, &plan.target.found) {
            (Rename::Exchange, _) => self.exchange(upper, from, to, &plan)?,
            (Rename::NoReplace, Some(_)) => return Err(Errno::EEXIST.into()),
            (_, Some(target)) if !same_inode(&plan.source, target) && !target.kind.is_dir() => {
                if let Some(reluctant) = self.reluctant(to.dir, to.name, target)? {
                    return Ok(Removal::After(reluctant));
                }
                if self.must_be_raised(target)? {
                    return Ok(Removal::Changed);
                }
                self.replace(upper, from, to, &mut plan)?;
            }
            _ => self.replace(upper, from, to, &mut plan)?,
        }
        Ok(Removal::Done)
    }

    fn exchange(&self, upper: &Upper, from: End<'_>, to: End<'_>, plan: &Plan) -> Result<()> {
        let target = plan.target.found.as_ref().ok_or(Error::Expected(Errno::ENOENT))?;
        if target.upper.is_none() {
            return Err(Errno::ESTALE.into());
        }
        let (a, b) = (self.dir_fd(from.dir)?, self.dir_fd(to.dir)?);
        self.cover(upper, from, &plan.source, to)?;
        self.cover(upper, to, target, from)?;
        self.arrive((&a, from), (&b, to))?;
        self.arrive((&b, to), (&a, from))?;
        let (source, swapped) = (self.node_found(&plan.source)?, self.node_found(target)?);
        if is_same(source.as_ref(), swapped.as_ref()) {
            return Ok(());
        }
        let mut gone: SmallVec<[Link; 2]> = SmallVec::new();
        {
            // Whoever asks for either node by its name must not meet the other there.
            let (mut source, mut swapped) = write_both(source.as_ref(), swapped.as_ref());
            dir::rename(&a, from.name, &b, to.name, Rename::Exchange).map_err(|e| Error::sys("exchange", from.name, e))?;
            gone.extend(source.as_mut().and_then(|state| self.relink(state, from, to)));
            gone.extend(swapped.as_mut().and_then(|state| self.relink(state, to, from)));
        }
        gone.iter().for_each(|link| self.table.release(&link.parent, 1));
        self.moves.note(from.dir, to.dir);
        self.moves.note(to.dir, from.dir);
        Ok(())
    }

    /// Before a directory moves: one that merges says where the lowers have it; any other must not merge with what a lower has
    /// where it goes (dir.c, `ovl_rename`).
    fn cover(&self, upper: &Upper, from: End<'_>, found: &Found, goes: End<'_>) -> Result<()> {
        if !found.kind.is_dir() {
            return Ok(());
        }
        let spot = Spot::At { dir: self.dir_fd(from.dir)?, name: from.name.to_owned() };
        if !found.lowers.is_empty() {
            return self.set_redirect(upper, &spot, from, goes);
        }
        if goes.dir.state.read().lowers.is_empty() {
            return Ok(());
        }
        let marked = upper.writing_into(std::slice::from_ref(&spot), || upper.set_opaque(&spot));
        marked.map_err(|e| Error::sys("mark opaque", from.name, e))
    }

    /// A redirect that stands there already stays true: one from the root anywhere, a mere name in the same directory.
    fn set_redirect(&self, upper: &Upper, spot: &Spot, from: End<'_>, goes: End<'_>) -> Result<()> {
        let stays = from.dir.id == goes.dir.id;
        let value = match self.redirect_of(upper, spot, from.name)? {
            Some(redirect) if stays || redirect.is_absolute() => return Ok(()),
            None if stays => Redirect::from(from.name),
            known => self.way_from_root(upper, from, known)?,
        };
        let value = value.encode();
        if value.len() > REDIRECT_MAX {
            return Err(Errno::EXDEV.into());
        }
        upper.set_private(spot, Private::Redirect, &value).map_err(|e| Error::sys("redirect", from.name, e))
    }

    fn redirect_of(&self, upper: &Upper, spot: &Spot, name: &OsStr) -> Result<Option<Redirect>> {
        let value = upper.private(spot, Private::Redirect).map_err(|e| Error::sys("read xattrs of", name, e))?;
        self.redirect(value, name)
    }

    /// Where the lowers have a directory, from their root: up to the first directory that knows it for itself.
    fn way_from_root(&self, upper: &Upper, end: End<'_>, known: Option<Redirect>) -> Result<Redirect> {
        let mut parts = vec![match known {
            Some(Redirect::Name(name)) => name,
            _ => end.name.to_owned(),
        }];
        let mut at = Arc::clone(end.dir);
        while at.id != ROOT {
            let link = at.state.read().links.first().cloned().ok_or(Error::Expected(Errno::ENOENT))?;
            let spot = Spot::Fd(self.dir_fd(&at)?);
            match self.redirect_of(upper, &spot, &link.name)? {
                Some(Redirect::Path(start)) => {
                    parts.extend(start.into_iter().rev());
                    break;
                }
                Some(Redirect::Name(name)) => parts.push(name),
                None => parts.push(link.name.to_os_string()),
            }
            at = link.parent;
        }
        parts.reverse();
        Ok(Redirect::Path(parts))
    }

    /// What moves takes its origin along, of which the directory that it comes into must tell.
    fn arrive(&self, (dir, from): (&Arc<OwnedFd>, End<'_>), (into, to): (&Arc<OwnedFd>, End<'_>)) -> Result<()> {
        if from.dir.id == to.dir.id {
            return Ok(());
        }
        self.mark_arrival(&Spot::at(dir, from.name), into).map_err(|e| Error::sys("mark the directory of", to.name, e))
    }

    fn replace(&self, upper: &Upper, from: End<'_>, to: End<'_>, plan: &mut Plan) -> Result<()> {
        let (a, b) = (self.dir_fd(from.dir)?, self.dir_fd(to.dir)?);
        if let Some(target) = &mut plan.target.found {
            if let Some(errno) = cannot_replace(plan.source.kind, target.kind) {
                return Err(errno.into());
            }
            if same_inode(&plan.source, target) {
                return Ok(());
            }
            if target.kind.is_dir() && !self.is_empty_dir(to.dir, to.name, target)? {
                return Err(Errno::ENOTEMPTY.into());
            }
        }
        self.cover(upper, from, &plan.source, to)?;
        self.arrive((&a, from), (&b, to))?;
        if let Some(target) = plan.target.found.as_mut().filter(|target| target.kind.is_dir()) {
            self.clear_for_replacement(upper, to, target)?;
        }
        let source = self.node_found(&plan.source)?;
        let victim = plan.target.found.as_ref().map_or(Ok(None), |target| self.node_found(target))?;
        if is_same(source.as_ref(), victim.as_ref()) {
            return Ok(());
        }
        let act = || move_onto(&a, from.name, &b, to.name, plan).map_err(|e| Error::sys("rename", from.name, e));
        let moved;
        let left;
        {
            // Whoever asks for the source by its name must find it under the old or the new one.
            let (mut source, mut victim_state) = write_both(source.as_ref(), victim.as_ref());
            left = match (&plan.target.found, &victim, &mut victim_state) {
                (Some(target), Some(node), Some(state)) => {
                    Some(self.leave_locked(node, state, (to.dir, to.name), target, act)?)
                }
                (Some(target), ..) => {
                    act()?;
                    self.forget_numbers(target);
                    None
                }
                (None, ..) => {
                    act()?;
                    None
                }
            };
            moved = source.as_mut().and_then(|state| self.relink(state, from, to));
        }
        self.moves.note(from.dir, to.dir);
        if let (Some(node), Some(left)) = (&victim, left) {
            self.after_leaving(node, left);
        }
        if let Some(link) = moved {
            self.table.release(&link.parent, 1);
        }
        Ok(())
    }

    /// Empties a target directory of the whiteouts it may hold: swapped in one step with an empty opaque one, so that the name
    /// stays an empty directory whatever happens (dir.c, `ovl_clear_empty`). The node goes over to the new one.
    fn clear_for_replacement(&self, upper: &Upper, to: End<'_>, target: &mut Found) -> Result<()> {
        let Some(stat) = &target.upper else { return Ok(()) };
        let dir = self.dir_fd(to.dir)?;
        if upper.read_dir(&crate::sys::spot::open_dir_at(&dir, to.name)?)?.is_empty() {
            return Ok(());
        }
        let context = |e: Errno| Error::sys("clear", to.name, e);
        let temp = upper.temp();
        let swapped = self.swap_with_empty(upper, &temp, &Spot::at(&dir, to.name), &stat.attr);
        upper.discard(&temp);
        swapped.map_err(|e| Error::sys("clear", to.name, e.errno()))?;
        let fresh = Spot::at(&dir, to.name).stat().map_err(context)?;
        if let Some(node) = self.table.find(Key::upper(stat.dev, stat.attr.ino)) {
            self.dirs.remove(&node.id);
            self.table.drop_keys(&node);
            self.table.add_key(Key::upper(fresh.dev, fresh.attr.ino), &node);
            let mut state = node.state.write();
            state.place = Place::Upper;
            state.lowers.clear();
            drop(state);
            self.born.insert((fresh.dev, fresh.attr.ino), self.table.number(&node));
        }
        self.born.remove(&(stat.dev, stat.attr.ino));
        target.upper = Some(fresh);
        target.lowers.clear();
        Ok(())
    }

    /// Puts an empty opaque directory with the same attributes in the place of one.
    fn swap_with_empty(&self, upper: &Upper, temp: &OsStr, old: &Spot, attr: &Attr) -> Result<()> {
        dir::mkdir(upper.work(), temp, 0o700)?;
        let spot = upper.in_work(temp);
        let own = spot.stat()?.attr;
        if (attr.uid, attr.gid) != (own.uid, own.gid) {
            spot.chown(Some(attr.uid), Some(attr.gid))?;
        }
        for xattr in upper.readable(old, || old.xattr_names())? {
            if let Some(value) = upper.readable(old, || old.xattr(&xattr))? {
                self.draft_xattr(&spot, &xattr, &value)?;
            }
        }
        upper.set_opaque(&spot)?;
        let held_back = upper.holds_back(attr.perm);
        spot.chmod(if held_back { attr.perm | OWNER_ALL } else { attr.perm })?;
        spot.set_times(SetTime::At(attr.atime), SetTime::At(attr.mtime))?;
        let Spot::At { dir, name } = old else { return Err(Errno::ESTALE.into()) };
        upper.moving(old, || dir::rename(upper.work(), temp, dir, name, Rename::Exchange))?;
        if held_back {
            upper.give_held_back(old, attr.perm);
        }
        Ok(())
    }

    /// Gives a node its new name for its old one, which is handed back.
    fn relink(&self, state: &mut State, old: End<'_>, new: End<'_>) -> Option<Link> {
        let link = self.table.take_link(state, old.dir, old.name);
        self.table.add_link(state, new.dir, new.name);
        link
    }
}

fn is_same(a: Option<&Arc<Node>>, b: Option<&Arc<Node>>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
}

fn same_inode(a: &Found, b: &Found) -> bool {
    matches!((&a.upper, &b.upper), (Some(a), Some(b)) if (a.dev, a.attr.ino) == (b.dev, b.attr.ino))
}

/// The one step that moves the source. A whiteout that must stay behind comes with it, so that a lower never shows in between.
fn move_onto(a: &OwnedFd, from: &OsStr, b: &OwnedFd, to: &OsStr, plan: &Plan) -> Result<(), Errno> {
    let dir_onto_whiteout = plan.source.kind.is_dir() && plan.target.whiteout;
    match (plan.hide_source, plan.target.whiteout) {
        // The target's whiteout changes places with the source: where it is needed, or where it does no harm until removed.
        (true, true) => dir::rename(a, from, b, to, Rename::Exchange),
        (false, true) if dir_onto_whiteout => {
            dir::rename(a, from, b, to, Rename::Exchange)?;
            // Nothing lies below: it hides nothing, and the next change of the name replaces it.
            if let Err(e) = dir::unlink(a, from) {
                tracing::warn!("a whiteout stays where {} was: {e}", from.display());
            }
            Ok(())
        }
        (true, false) => dir::rename(a, from, b, to, Rename::Whiteout),
        (false, _) => dir::rename(a, from, b, to, Rename::Replace),
    }
}
