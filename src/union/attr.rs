//! Attributes: what stat(2) shows of a node, and everything that changes them.

use std::sync::Arc;

use super::copy_up::Content;
use super::node::{Node, NodeId, Place, State};
use super::open::open_spot;
use super::{Backing, Union};
use crate::error::{Errno, Error, Result};
use crate::sys::cred::has_group;
use crate::sys::data;
use crate::sys::spot::{SetTime, Spot};
use crate::types::{Attr, Caller, Kind};

/// Set-user-id and set-group-id bits.
pub(super) const SET_ID: u32 = 0o6000;

/// What lets the owner of a file open it.
const OWNER_USES: u32 = 0o600;

/// What a `setattr` changes; everything not set stays.
#[derive(Clone, Copy, Debug)]
pub struct SetAttr {
    /// New permission bits.
    pub perm: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size in bytes.
    pub size: Option<u64>,
    /// New access time.
    pub atime: SetTime,
    /// New modification time.
    pub mtime: SetTime,
}

impl Default for SetAttr {
    fn default() -> Self {
        Self { perm: None, uid: None, gid: None, size: None, atime: SetTime::Keep, mtime: SetTime::Keep }
    }
}

impl SetAttr {
    fn sets_times(&self) -> bool {
        (self.atime, self.mtime) != (SetTime::Keep, SetTime::Keep)
    }

    /// chown(path, -1, -1) reaches us with nothing set: all it does is to take the set-id bits. So does, for a file that has
    /// capabilities, what precedes a write.
    fn only_kills_set_id(&self) -> bool {
        self.perm.is_none() && self.uid.is_none() && self.gid.is_none() && self.size.is_none() && !self.sets_times()
    }
}

/// Permission bits of a regular file after somebody without `CAP_FSETID` changed it: set-user-id goes, and set-group-id
/// where it means execution or the file's group is not one of his (fs/attr.c, `setattr_should_drop_suidgid`).
#[must_use]
pub const fn without_set_id(perm: u32, in_group: bool) -> u32 {
    let perm = perm & !libc::S_ISUID;
    if perm & libc::S_IXGRP != 0 || !in_group { perm & !libc::S_ISGID } else { perm }
}

/// Who may leave set-group-id on a file of this group (fs/inode.c, `in_group_or_capable`).
pub(super) fn may_set_group_id(caller: Caller, gid: u32) -> bool {
    caller.uid == 0 || has_group(caller, gid)
}

impl Union {
    /// stat(2).
    ///
    /// # Errors
    /// `ESTALE` for a forgotten node, and what the layer says.
    pub fn getattr(&self, id: NodeId) -> Result<Attr> {
        let node = self.table.get(id)?;
        self.attr_of(&node)
    }

    pub(super) fn attr_of(&self, node: &Arc<Node>) -> Result<Attr> {
        let _reader = self.readers.enter();
        let _tree = self.tree.read();
        let state = node.state.read();
        let raw = match self.backing(node, &state)? {
            Backing::Upper(spot) => {
                let spot = open_spot(node, spot);
                self.writable()?.stat(&spot).map_err(|e| Error::sys("stat", self.name_of(&state), e))?.attr
            }
            Backing::Lower(at) => self.lower(at)?.attr(at.id)?,
        };
        // Somebody changed the upper behind our back; the kernel must not be told that an inode changed its type.
        if raw.kind != node.kind {
            return Err(Errno::ESTALE.into());
        }
        Ok(self.shown(node, &state, raw))
    }

    /// A name for messages.
    pub(super) fn name_of(&self, state: &State) -> std::path::PathBuf {
        state.links.first().map_or_else(|| "/".into(), |link| std::path::PathBuf::from(&*link.name))
    }

    /// How many names of a node's lower inode were removed.
    pub(super) fn removed_names(&self, state: &State) -> u32 {
        state.lowers.first().and_then(|at| self.removed.get(at)).map_or(0, |n| *n)
    }

    /// A layer's attributes as the union shows them.
    pub(super) fn shown(&self, node: &Node, state: &State, raw: Attr) -> Attr {
        let mut attr = raw;
        attr.ino = self.table.number(node);
        if let Some(owner) = self.options.owner {
            // Set-id bits are their owner's word, not that of whom the file is shown to belong to.
            if owner != (raw.uid, raw.gid) {
                attr.perm &= !SET_ID;
            }
            (attr.uid, attr.gid) = owner;
        }
        attr.nlink = match (&state.place, node.kind) {
            // As the kernel's: a merged directory does not count its subdirectories (inode.c, `ovl_getattr`).
            (Place::Merged, Kind::Dir) => 1,
            (Place::Lower, Kind::Dir) if state.lowers.len() > 1 => 1,
            (Place::Gone, _) => 0,
            (_, Kind::Dir) => raw.nlink,
            // The only name of a file is not removed while it is shown.
            (Place::Lower, _) if raw.nlink > 1 => raw.nlink.saturating_sub(self.removed_names(state)),
            (Place::Lower, _) => raw.nlink,
            _ => state.count(raw.nlink),
        };
        if let Some(data) = self.data_below(node, state) {
            attr.blocks = data.blocks;
        }
        attr
    }

    /// Attributes of the lower file that has the data of one whose attributes stand above it: what it takes up.
    fn data_below(&self, node: &Node, state: &State) -> Option<Attr> {
        let above = usize::from(matches!(state.place, Place::Lower | Place::Gone));
        let at = state.lowers.last().filter(|_| node.kind == Kind::File && state.lowers.len() > above)?;
        self.lower(*at).and_then(|lower| lower.attr(at.id)).ok()
    }

    /// chmod, chown, truncate and utimensat in one.
    ///
    /// # Errors
    /// `EROFS` without an upper, `EPERM` where the daemon may not give files away and for device nodes that show another owner, and
    /// the upper's answers.
    pub fn setattr(&self, id: NodeId, set: &SetAttr, caller: Caller) -> Result<Attr> {
        let node = self.table.get(id)?;
        if set.only_kills_set_id() && caller.uid != 0 && caller.uid != self.attr_of(&node)?.uid {
            // The FUSE client lets anybody ask. A write by somebody else says so itself (`FUSE_WRITE_KILL_SUIDGID`).
            return self.attr_of(&node);
        }
        self.check_device(&node, caller)?;
        self.check_setting(&node, set)?;
        let content = match set.size {
            None => Content::Below,
            Some(0) => Content::Dropped,
            Some(_) => Content::Kept,
        };
        let emptied = self.copy_up_or_empty(&node, content)?;
        {
            let _alone = Self::keep_data_below(&node);
            let _tree = self.tree.read();
            let state = node.state.read();
            let spot = open_spot(&node, self.upper_spot(&node, &state)?);
            let answer = self.apply(&node, &spot, set, caller, emptied);
            answer.map_err(|e| Error::sys("set attributes of", self.name_of(&state), e))?;
        }
        self.attr_of(&node)
    }

    fn apply(&self, node: &Arc<Node>, spot: &Spot, set: &SetAttr, caller: Caller, emptied: bool) -> Result<(), Errno> {
        if let Some(size) = set.size.filter(|_| !emptied) {
            let fd = self.data_fd(node, spot, true)?;
            self.write_by(node, &fd, || data::truncate(&fd, size))?;
        }
        if let (Some(size), Some(mut file)) = (set.size, node.open_file()) {
            file.run().cut(size);
        }
        self.apply_owner(node, spot, set, caller)?;
        let truncates = set.size.is_some() && (caller.uid != 0 || self.is_shown_as_anothers(spot)?);
        let kills = set.only_kills_set_id() || truncates;
        match set.perm {
            Some(perm) if node.kind != Kind::Symlink => {
                let perm = self.granted(spot, perm)?;
                if perm & OWNER_USES != OWNER_USES && node.kind == Kind::File && !self.overrules_modes() {
                    // Whoever has it open may go on to use it. Where the mode was as narrow before, nobody has.
                    let _kept = self.data_fd(node, spot, false);
                }
                self.upper.as_ref().ok_or(Errno::EROFS)?.chmod(spot, perm)?;
            }
            Some(_) => return Err(Errno::EOPNOTSUPP),
            None if kills => self.kill_set_id(node, spot, caller)?,
            None => {}
        }
        if set.sets_times() {
            spot.set_times(set.atime, set.mtime)?;
        }
        Ok(())
    }

    fn apply_owner(&self, node: &Node, spot: &Spot, set: &SetAttr, caller: Caller) -> Result<(), Errno> {
        if set.uid.is_none() && set.gid.is_none() {
            return Ok(());
        }
        match self.options.owner {
            // Every inode is shown as this owner's; only "to whom it already belongs" can be granted.
            Some((uid, gid)) => {
                let same = set.uid.is_none_or(|u| u == uid) && set.gid.is_none_or(|g| g == gid);
                if same { self.kill_set_id(node, spot, caller) } else { Err(Errno::EPERM) }
            }
            None => {
                // The kernel asks by the group that the file has before.
                if caller.uid != 0 {
                    self.kill_set_id(node, spot, caller)?;
                }
                spot.chown(set.uid, set.gid)
            }
        }
    }

    /// Permissions that may be set: where the file on disk is not of the owner that is shown, nobody can give it set-id bits.
    fn granted(&self, spot: &Spot, perm: u32) -> Result<u32, Errno> {
        let Some(owner) = self.options.owner.filter(|_| perm & SET_ID != 0) else { return Ok(perm) };
        let attr = spot.stat()?.attr;
        Ok(if owner == (attr.uid, attr.gid) { perm } else { perm & !SET_ID })
    }

    /// True where `uid=` shows a file as belonging to somebody who does not own it: what he writes must not run by the right of
    /// its owner, whichever way the write comes.
    pub(super) fn is_shown_as_anothers(&self, spot: &Spot) -> Result<bool, Errno> {
        let Some(owner) = self.options.owner else { return Ok(false) };
        let attr = spot.stat()?.attr;
        Ok(owner != (attr.uid, attr.gid))
    }

    /// Where `uid=` shows another owner, only root changes what access to a device depends on: the node in the upper is a real
    /// one, and leads past the union to whoever may open it.
    pub(super) fn check_device(&self, node: &Node, caller: Caller) -> Result<()> {
        let is_owners_alone = self.options.owner.is_some() && node.kind.is_device() && caller.uid != 0;
        if is_owners_alone { Err(Errno::EPERM.into()) } else { Ok(()) }
    }

    /// Takes the set-id bits from an upper file that somebody without privilege changed.
    pub(super) fn kill_set_id(&self, node: &Node, spot: &Spot, caller: Caller) -> Result<(), Errno> {
        let attr = spot.stat()?.attr;
        // Of directories they mean something else (fs/open.c, `chown_common`), and links have none.
        if attr.perm & SET_ID == 0 || matches!(attr.kind, Kind::Dir | Kind::Symlink) {
            return Ok(());
        }
        let perm = without_set_id(attr.perm, may_set_group_id(caller, attr.gid));
        if perm != attr.perm {
            spot.chmod(perm)?;
            // Whoever keeps the mode asked for a write, say, and would not ask for the mode again.
            self.tell_changed(node);
        }
        Ok(())
    }

    /// Attributes have changed by what does not return them. An answer that was found before must not count if it comes later, as the
    /// kernel would keep it for good. To be called after the change. Locks may be held: the kernel looks for the inode, for which it
    /// waits for no answer.
    pub(super) fn tell_changed(&self, node: &Node) {
        if let Some(tell) = self.listener.get() {
            tell(node.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::without_set_id;

    #[test]
    fn set_id_bits_that_go() {
        for (before, in_group, after) in [
            (0o4755, true, 0o755),
            (0o6755, true, 0o755),
            (0o2755, true, 0o755),
            (0o2644, true, 0o2644),
            (0o2644, false, 0o644),
            (0o6666, false, 0o666),
            (0o644, false, 0o644),
            (0o7777, true, 0o1777),
        ] {
            assert_eq!(without_set_id(before, in_group), after, "{before:o}");
        }
    }
}
