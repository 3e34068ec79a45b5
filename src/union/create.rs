//! New names: files, directories, nodes, symbolic links, hard links.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::attr::may_set_group_id;
use super::copy_up::Content;
use super::lend::OWNER_ALL;
use super::node::{Key, Node, NodeId, Place, State};
use super::protect::Change;
use super::{Union, Upper, acl, check_name};
use crate::error::{Errno, Error, Result};
use crate::ovl::index::Base;
use crate::ovl::protect::Protection;
use crate::sys::cred::Acting;
use crate::sys::dir::{self, Rename};
use crate::sys::spot::Spot;
use crate::types::{Attr, Caller, Kind};

/// What is to be made.
#[derive(Clone, Debug)]
pub struct New<'a> {
    /// The new name.
    pub name: &'a OsStr,
    /// Type.
    pub kind: Kind,
    /// Permission bits as the program asked, before umask and default ACL.
    pub perm: u32,
    /// The program's umask.
    pub umask: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Target of a symbolic link.
    pub target: &'a OsStr,
}

impl<'a> New<'a> {
    /// Something of this kind, mode and umask.
    #[must_use]
    pub fn of(name: &'a OsStr, kind: Kind, perm: u32, umask: u32) -> Self {
        Self { name, kind, perm, umask, rdev: 0, target: OsStr::new("") }
    }
}

impl Union {
    /// Makes an inode; the node has one reference. With `open` a regular file is also open afterwards, as by
    /// [`Union::open`] for reading and writing.
    ///
    /// # Errors
    /// `EEXIST`, `EROFS`, `EPERM` for a character device 0:0 (it would be a whiteout), and the upper's answers.
    pub fn create(&self, parent: NodeId, new: &New<'_>, caller: Caller, open: bool) -> Result<(Arc<Node>, Attr)> {
        let upper = self.writable()?;
        if new.kind == Kind::Char && new.rdev == 0 {
            return Err(Errno::EPERM.into());
        }
        let parent = self.dir(parent)?;
        self.check_names(&parent, Change::Add)?;
        self.copy_up(&parent, Content::Kept)?;
        self.removals.outlast(|| self.create_in(upper, &parent, new, caller, open))
    }

    fn create_in(
        &self,
        upper: &Upper,
        parent: &Arc<Node>,
        new: &New<'_>,
        caller: Caller,
        open: bool,
    ) -> Result<(Arc<Node>, Attr)> {
        let _tree = self.tree.read();
        let _names = self.change_names(parent);
        // By the daemon's own rights, and before anything is made.
        let dir = self.dir_fd(parent)?;
        self.note_name(parent, new.name);
        let file = self.make_unless_there(upper, (parent, &dir), new, caller)?;
        if new.kind.is_dir() && self.options.binds_to_lowers() && !parent.state.read().lowers.is_empty() {
            let marked = upper.set_opaque(&Spot::at(&dir, new.name));
            marked.map_err(|e| {
                // As if it had not been made; what stays is an empty directory.
                let _best_effort = dir::rmdir(&dir, new.name);
                Error::sys("mark opaque", new.name, e)
            })?;
        }
        self.newborn(parent, &dir, new, file.filter(|_| open).map(Arc::new))
    }

    /// Makes what is not there yet in a directory with that descriptor; a file is then open.
    fn make_unless_there(
        &self,
        upper: &Upper,
        (parent, dir): (&Arc<Node>, &Arc<OwnedFd>),
        new: &New<'_>,
        caller: Caller,
    ) -> Result<Option<OwnedFd>> {
        check_name(new.name)?;
        // Where nothing lies below, the upper itself says whether the name is taken.
        let alone = {
            let state = parent.state.read();
            matches!(state.place, Place::Upper) && state.lowers.is_empty()
        };
        let perm = granted(dir, new, caller)?;
        let new = &New { perm, ..new.clone() };
        let make = |whiteout: bool| {
            let _acting = Acting::as_caller(caller, upper.privilege())?;
            if whiteout { make_over_whiteout(upper, dir, new) } else { make_in_place(parent, dir, new) }
        };
        let mut made = if alone { make(false) } else { Err(Errno::EEXIST) };
        if matches!(made, Err(Errno::EEXIST)) {
            let there = self.resolve(parent, new.name)?;
            if there.found.is_some() {
                return Err(Errno::EEXIST.into());
            }
            made = make(there.whiteout);
        }
        made.map_err(|e| Error::sys("create", new.name, e))
    }

    fn newborn(
        &self,
        parent: &Arc<Node>,
        dir: &Arc<OwnedFd>,
        new: &New<'_>,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(Arc<Node>, Attr)> {
        let spot = file.as_ref().map_or_else(|| Spot::at(dir, new.name), |file| Spot::Fd(Arc::clone(file)));
        let stat = spot.stat().map_err(|e| Error::sys("stat", new.name, e))?;
        let key = Key::upper(stat.dev, stat.attr.ino);
        let ino = || self.ino_of_upper(stat.dev, stat.attr.ino);
        let node = self.table.intern(key, stat.attr.kind, ino, || State::new(Place::Upper, smallvec::smallvec![]));
        if new.kind == Kind::File {
            // No file system lets files inherit these of their directory.
            node.remember_protection(Protection::default());
            node.absence.remember(node.absence.before());
        }
        if new.kind.is_dir() {
            self.begin_names(&node, parent, &spot, key);
        }
        let mut state = node.state.write();
        self.table.add_link(&mut state, parent, new.name);
        if let Some(file) = file {
            self.keep_open(&node, file);
        }
        let attr = self.shown(&node, &state, stat.attr);
        drop(state);
        Ok((node, attr))
    }

    /// Gives a node one more name; it has one more reference.
    ///
    /// # Errors
    /// `EEXIST`, `EMLINK`, `EROFS`, `EPERM` for directories, `ENOENT` for a file that was removed.
    pub fn link(&self, id: NodeId, parent: NodeId, name: &OsStr) -> Result<(Arc<Node>, Attr)> {
        let upper = self.writable()?;
        let (node, parent) = (self.table.get(id)?, self.dir(parent)?);
        if node.kind.is_dir() {
            return Err(Errno::EPERM.into());
        }
        self.check_unprotected(&node)?;
        self.check_names(&parent, Change::Add)?;
        self.copy_up(&node, Content::Kept)?;
        self.copy_up(&parent, Content::Kept)?;
        {
            let _tree = self.tree.read();
            let _names = self.change_names(&parent);
            let there = self.resolve(&parent, name)?;
            if there.found.is_some() {
                return Err(Errno::EEXIST.into());
            }
            self.note_name(&parent, name);
            let mut state = node.state.write();
            let Spot::At { dir: from, name: old } = self.upper_spot(&node, &state)? else { return Err(Errno::ENOENT.into()) };
            let dir = self.dir_fd(&parent)?;
            self.mark_arrival(&Spot::at(&from, &old), &dir).map_err(|e| Error::sys("mark the directory of", name, e))?;
            self.record_names(upper, &state, Base::Upper).map_err(|e| Error::sys("count the links of", name, e))?;
            let linked = if there.whiteout {
                let temp = upper.temp();
                dir::link(&from, &old, upper.work(), &temp).and_then(|()| put_over_whiteout(upper, &temp, &dir, name, Kind::File))
            } else {
                dir::link(&from, &old, &dir, name)
            };
            linked.map_err(|e| Error::sys("link", name, e))?;
            self.table.add_link(&mut state, &parent, name);
        }
        if !node.hold() {
            return Err(Errno::ESTALE.into());
        }
        match self.attr_of(&node) {
            Ok(attr) => Ok((node, attr)),
            Err(e) => {
                self.forget(node.id, 1);
                Err(e)
            }
        }
    }
}

/// Permission bits that a caller may give to something new.
fn granted(dir: &Arc<OwnedFd>, new: &New<'_>, caller: Caller) -> Result<u32> {
    if !runs_by_group(new.kind, new.perm) {
        return Ok(new.perm);
    }
    let around = Spot::Fd(Arc::clone(dir)).stat()?.attr;
    Ok(without_set_group_id(new.kind, new.perm, around.perm, may_set_group_id(caller, around.gid)))
}

/// Permission bits of something new in a directory that has these: where it gets the directory's group, set-group-id with which it
/// would run is for who may use that group (fs/inode.c, `mode_strip_sgid`). Before Linux 6.0 the upper's file system asks whoever
/// makes it, and `CAP_FSETID` is ours.
const fn without_set_group_id(kind: Kind, perm: u32, around: u32, may_use_group: bool) -> u32 {
    let is_anothers = around & libc::S_ISGID != 0 && !may_use_group;
    if is_anothers && runs_by_group(kind, perm) { perm & !libc::S_ISGID } else { perm }
}

const fn runs_by_group(kind: Kind, perm: u32) -> bool {
    const BOTH: u32 = libc::S_ISGID | libc::S_IXGRP;
    !kind.is_dir() && perm & BOTH == BOTH
}

/// Makes it right where it will be seen: one system call, so all or nothing. The file system itself applies what the directory
/// gives to its children.
fn make_in_place(parent: &Node, dir: &Arc<OwnedFd>, new: &New<'_>) -> Result<Option<OwnedFd>, Errno> {
    let perm = if has_default_acl(parent, dir)? { new.perm } else { new.perm & !new.umask };
    make(dir, new.name, new, perm)
}

fn has_default_acl(parent: &Node, dir: &Arc<OwnedFd>) -> Result<bool, Errno> {
    if parent.absence.is_known() {
        return Ok(false);
    }
    let before = parent.absence.before();
    let default = Spot::Fd(Arc::clone(dir)).xattr(OsStr::new(acl::DEFAULT))?;
    if default.is_none() {
        parent.absence.remember(before);
    }
    Ok(default.is_some())
}

fn make(dir: &OwnedFd, name: &OsStr, new: &New<'_>, perm: u32) -> Result<Option<OwnedFd>, Errno> {
    match new.kind {
        Kind::File => return dir::create(dir, name, perm).map(Some),
        Kind::Dir => dir::mkdir(dir, name, perm)?,
        Kind::Symlink => dir::symlink(new.target, dir, name)?,
        kind => dir::mknod(dir, name, kind, perm, new.rdev)?,
    }
    Ok(None)
}

/// Makes it in the work directory, as it would have been made in place, and puts it where the whiteout is.
fn make_over_whiteout(upper: &Upper, dir: &Arc<OwnedFd>, new: &New<'_>) -> Result<Option<OwnedFd>, Errno> {
    let parent = Spot::Fd(Arc::clone(dir));
    let parent_attr = parent.stat()?.attr;
    let default = parent.xattr(OsStr::new(acl::DEFAULT))?;
    let birth = acl::inherit(default.as_deref(), new.kind, new.perm, new.umask);
    let temp = upper.temp();
    let file = make(upper.work(), &temp, new, birth.perm)?;
    let finish = || {
        let spot = upper.in_work(&temp);
        let mut perm = birth.perm;
        if parent_attr.perm & libc::S_ISGID != 0 {
            // As inode_init_owner(): the group is the directory's, and directories pass the bit on.
            spot.chown(None, Some(parent_attr.gid))?;
            perm |= if new.kind.is_dir() { libc::S_ISGID } else { 0 };
        }
        let held_back = new.kind.is_dir() && upper.holds_back(perm);
        if new.kind != Kind::Symlink {
            spot.chmod(if held_back { perm | OWNER_ALL } else { perm })?;
        }
        for (name, value) in [(acl::ACCESS, &birth.access), (acl::DEFAULT, &birth.default)] {
            if let Some(value) = value {
                spot.set_xattr(OsStr::new(name), value, 0)?;
            }
        }
        if new.kind.is_dir() {
            upper.set_opaque(&spot)?;
        }
        Ok(held_back.then_some(perm))
    };
    let held_back = match finish() {
        Ok(held_back) => held_back,
        Err(e) => {
            upper.discard(&temp);
            return Err(e);
        }
    };
    put_over_whiteout(upper, &temp, dir, new.name, new.kind)?;
    if let Some(perm) = held_back {
        upper.give_held_back(&Spot::at(dir, new.name), perm);
    }
    Ok(file)
}

/// Moves a finished object from the work directory onto a whiteout, in one step.
fn put_over_whiteout(upper: &Upper, temp: &OsString, dir: &OwnedFd, name: &OsStr, kind: Kind) -> Result<(), Errno> {
    let how = if kind.is_dir() { Rename::Exchange } else { Rename::Replace };
    let moved = dir::rename(upper.work(), temp, dir, name, how);
    if moved.is_err() || kind.is_dir() {
        upper.discard(temp);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_group_id_of_another_group() {
        for (kind, perm, around, may_use_group, granted) in [
            (Kind::File, 0o2755, 0o2777, false, 0o755),
            (Kind::File, 0o6711, 0o3777, false, 0o4711),
            (Kind::Fifo, 0o2755, 0o2777, false, 0o755),
            (Kind::File, 0o2755, 0o2777, true, 0o2755),
            (Kind::File, 0o2755, 0o777, false, 0o2755),
            (Kind::File, 0o2745, 0o2777, false, 0o2745),
            (Kind::File, 0o755, 0o2777, false, 0o755),
            (Kind::Dir, 0o2755, 0o2777, false, 0o2755),
        ] {
            let found = without_set_group_id(kind, perm, around, may_use_group);
            assert_eq!(found, granted, "{kind:?} {perm:o} in {around:o}, {may_use_group}");
        }
    }
}
