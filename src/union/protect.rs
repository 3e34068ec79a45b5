//! Immutable and append-only files and directories, as chattr(1) makes them: by the `protattr` of what is in the upper, by the flags
//! themselves of what a lower has, or the upper from before the mount (util.c, `ovl_check_protattr`; overlayfs.h, `ovl_copyflags`). The kernel's overlayfs leaves it to the VFS to keep them (fs/namei.c, `may_delete`; fs/attr.c,
//! `may_setattr`; fs/xattr.c, `xattr_permission`), which does not see them through FUSE: so they are kept here, for root too.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::attr::SetAttr;
use super::copy_up::Content;
use super::lookup::Found;
use super::lower::Lower;
use super::node::{LowerAt, Node, NodeId};
use super::{Backing, Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::ovl::protect::Protection;
use crate::ovl::xattr::Private;
use crate::sys::data;
use crate::sys::spot::{SetTime, Spot, Stat};
use crate::types::Kind;

/// What is to be done to a directory's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// One is added.
    Add,
    /// One goes, or leads to something else.
    Remove,
}

impl Union {
    /// The flags of a file or directory; nothing else has any.
    ///
    /// # Errors
    /// What the layer says.
    pub fn protection(&self, id: NodeId) -> Result<Protection> {
        self.protection_of(&self.table.get(id)?)
    }

    /// Sets the flags of a file or directory. Who may do that the kernel has decided.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for anything else, `EROFS`, and the upper's answers.
    pub fn protect(&self, id: NodeId, protection: Protection) -> Result<()> {
        let node = self.table.get(id)?;
        if !may_have_flags(node.kind) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let upper = self.writable()?;
        self.copy_up(&node, Content::Below)?;
        let _tree = self.tree.read();
        let state = node.state.write();
        let spot = self.upper_spot(&node, &state)?;
        match protection.encode() {
            Some(value) => upper.set_private(&spot, Private::Protattr, value)?,
            None => match spot.remove_xattr(&self.private(Private::Protattr)) {
                Ok(()) | Err(Errno::ENODATA) => {}
                Err(e) => return Err(e.into()),
            },
        }
        node.remember_protection(protection);
        Ok(())
    }

    fn protection_of(&self, node: &Arc<Node>) -> Result<Protection> {
        if !may_have_flags(node.kind) {
            return Ok(Protection::default());
        }
        if let Some(known) = node.known_protection() {
            return Ok(known);
        }
        let _tree = self.tree.read();
        let state = node.state.read();
        let found = match self.backing(node, &state)? {
            Backing::Upper(spot) => {
                let upper = self.writable()?;
                let stat = upper.stat(&spot).map_err(|e| Error::sys("stat", self.name_of(&state), e))?;
                self.protection_in_upper(upper, &spot, stat)?
            }
            Backing::Lower(at) => self.lower(at)?.protection(at.id)?,
        };
        node.remember_protection(found);
        Ok(found)
    }

    /// What is recorded counts before the inode's own flags, which the upper's file system keeps anyhow.
    fn protection_in_upper(&self, upper: &Upper, spot: &Spot, stat: Stat) -> Result<Protection> {
        let recorded = match upper.private(spot, Private::Protattr) {
            Ok(value) => value.map_or_else(Protection::default, |value| Protection::decode(&value)),
            // An ordinary user's daemon that may not read a file has recorded nothing there.
            Err(Errno::EACCES | Errno::EPERM) => Protection::default(),
            Err(e) => return Err(e.into()),
        };
        let own = Protection { append: stat.append, immutable: stat.immutable };
        Ok(if recorded.is_any() { recorded } else { own })
    }

    /// Records on a draft the flags of what it is copied from (copy_up.c, `ovl_copy_fileattr`).
    pub(super) fn draft_protection(
        &self,
        upper: &Upper,
        spot: &Spot,
        lower: &dyn Lower,
        source: LowerAt,
        kind: Kind,
    ) -> Result<()> {
        if !may_have_flags(kind) {
            return Ok(());
        }
        let Some(value) = lower.protection(source.id)?.encode() else { return Ok(()) };
        upper.set_private(spot, Private::Protattr, value).map_err(|e| Error::sys("keep the flags in copy-up", "", e))
    }

    /// Whether a lower may have files that cannot be opened for writing. Those that only the upper has refuse the writing itself.
    #[must_use]
    pub fn asks_before_opening(&self) -> bool {
        self.lowers.iter().any(|lower| lower.has_flags())
    }

    /// Before an opening for writing: by `append` alone where that is all that is allowed.
    pub(super) fn check_writing(&self, node: &Arc<Node>, append: bool) -> Result<()> {
        let protection = self.protection_of(node)?;
        refuse(protection.immutable || protection.append && !append)
    }

    /// Before a write by the descriptor of a file. One that the upper itself keeps append-only has a descriptor that appends, wherever
    /// the write belongs; so the write must belong at the end.
    pub(super) fn check_place(&self, node: &Node, fd: &OwnedFd, offset: u64) -> Result<()> {
        let append = node.known_protection().is_some_and(|known| known.append);
        refuse(append && !data::lands_at(fd, offset)?)
    }

    /// Before a change of attributes. The present time may be set wherever appending may.
    pub(super) fn check_setting(&self, node: &Arc<Node>, set: &SetAttr) -> Result<()> {
        let protection = self.protection_of(node)?;
        let at = |time| matches!(time, SetTime::At(_));
        let sets = set.perm.is_some() || set.uid.is_some() || set.gid.is_some() || set.size.is_some();
        let stamps = (set.atime, set.mtime) != (SetTime::Keep, SetTime::Keep);
        refuse(protection.is_any() && (sets || at(set.atime) || at(set.mtime)) || protection.immutable && stamps)
    }

    /// Before a change of extended attributes, or of the names that something has.
    pub(super) fn check_unprotected(&self, node: &Arc<Node>) -> Result<()> {
        refuse(self.protection_of(node)?.is_any())
    }

    /// As [`Union::check_unprotected`], for what was found under a name. The caller holds `tree` and the names.
    pub(super) fn check_found(&self, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<()> {
        if !may_have_flags(found.kind) {
            return Ok(());
        }
        let known = self.node_found(found)?.and_then(|node| node.known_protection());
        let protection = match (known, &found.upper, found.lowers.first()) {
            (Some(known), ..) => known,
            (None, Some(stat), _) => self.protection_in_upper(self.writable()?, &Spot::at(&self.dir_fd(parent)?, name), *stat)?,
            (None, None, Some(at)) => self.lower(*at)?.protection(at.id)?,
            (None, None, None) => return Ok(()),
        };
        refuse(protection.is_any())
    }

    /// Before a directory's names change.
    pub(super) fn check_names(&self, dir: &Arc<Node>, change: Change) -> Result<()> {
        let protection = self.protection_of(dir)?;
        refuse(protection.immutable || protection.append && change == Change::Remove)
    }
}

const fn may_have_flags(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Dir)
}

fn refuse(is_protected: bool) -> Result<()> {
    if is_protected { Err(Errno::EPERM.into()) } else { Ok(()) }
}
