//! Extended attributes as programs see them: the format's own hidden, a nested overlay's escaped.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::absence::Absence;
use super::attr::may_set_group_id;
use super::copy_up::Content;
use super::node::{Node, NodeId, Place};
use super::{Backing, Union, acl};
use crate::error::{Errno, Error, Result};
use crate::types::{Attr, Caller};

impl Union {
    /// Value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` where it is not set.
    pub fn xattr(&self, id: NodeId, name: &OsStr) -> Result<Vec<u8>> {
        let node = self.table.get(id)?;
        let stored = self.namespace.escape(name)?;
        if !is_known(name) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let absence = node.absence_of(name);
        if absence.is_some_and(Absence::is_known) {
            return Err(Error::Expected(Errno::ENODATA));
        }
        let before = absence.map(|absence| (absence, absence.before()));
        let _tree = self.tree.read();
        let state = node.state.read();
        let value = match self.backing(&node, &state)? {
            Backing::Upper(spot) => {
                let value = spot.xattr(&stored)?;
                // Of a file whose data are still below, writing them takes the capabilities for a moment (`complete`).
                let is_settled = node.kind.is_dir() || state.lowers.is_empty();
                if let (None, Some((absence, before)), true) = (&value, before, is_settled) {
                    absence.remember(before);
                }
                value
            }
            Backing::Lower(at) => self.lower(at)?.xattr(at.id, &stored)?,
        };
        value.ok_or(Error::Expected(Errno::ENODATA))
    }

    /// Names of all extended attributes that the caller may see: `trusted.` ones are root's (xattr(7)).
    ///
    /// # Errors
    /// What the layer says.
    pub fn xattr_names(&self, id: NodeId, caller: Caller) -> Result<Vec<OsString>> {
        let node = self.table.get(id)?;
        let _tree = self.tree.read();
        let state = node.state.read();
        let stored = match self.backing(&node, &state)? {
            Backing::Upper(spot) => spot.xattr_names()?,
            Backing::Lower(at) => self.lower(at)?.xattr_names(at.id)?,
        };
        let visible = |name: &OsString| caller.uid == 0 || !name.as_bytes().starts_with(b"trusted.");
        Ok(stored.iter().filter_map(|name| self.namespace.unescape(name)).filter(visible).collect())
    }

    /// Sets an extended attribute; `flags` are setxattr(2)'s. An access ACL set by somebody outside the file's group takes
    /// set-group-id.
    ///
    /// # Errors
    /// `EEXIST` and `ENODATA` by the flags, `EPERM` for device nodes that show another owner, `EROFS`, and the upper's answers.
    pub fn set_xattr(&self, id: NodeId, name: &OsStr, value: &[u8], flags: u32, caller: Caller) -> Result<()> {
        self.writable()?;
        let stored = self.namespace.escape(name)?;
        let node = self.table.get(id)?;
        self.check_device(&node, caller)?;
        self.check_unprotected(&node)?;
        self.copy_up(&node, Content::Below)?;
        if name == acl::ACCESS {
            self.take_set_group_id(&node, caller)?;
        }
        let _alone = Self::keep_data_below(&node);
        let _tree = self.tree.read();
        let state = node.state.read();
        let set = self.upper_spot(&node, &state)?.set_xattr(&stored, value, flags);
        if let Some(absence) = node.absence_of(name) {
            absence.forget();
        }
        self.tell_mode(&node, name);
        Ok(set?)
    }

    /// Removes an extended attribute. What is not set is not removed, and nothing is copied up for it. To ask for the removal of an
    /// access ACL takes set-group-id as setting one does.
    ///
    /// # Errors
    /// `ENODATA` where it is not set, except for ACLs in the upper: none is what was asked for (fs/posix_acl.c,
    /// `vfs_remove_acl`). `EPERM` for device nodes that show another owner, `EROFS`.
    pub fn remove_xattr(&self, id: NodeId, name: &OsStr, caller: Caller) -> Result<()> {
        self.writable()?;
        let node = self.table.get(id)?;
        self.check_device(&node, caller)?;
        self.check_unprotected(&node)?;
        if name == acl::ACCESS {
            self.take_set_group_id(&node, caller)?;
        }
        match self.xattr(id, name) {
            Err(Error::Expected(Errno::ENODATA)) if self.is_absent_acl_fine(id, name)? => return Ok(()),
            answer => answer?,
        };
        let stored = self.namespace.escape(name)?;
        self.copy_up(&node, Content::Below)?;
        let _alone = Self::keep_data_below(&node);
        let _tree = self.tree.read();
        let state = node.state.read();
        let removed = self.upper_spot(&node, &state)?.remove_xattr(&stored);
        self.tell_mode(&node, name);
        Ok(removed?)
    }
}

impl Union {
    /// An access ACL is a mode, too: the kernel takes a new one for no change of the mode that it may be told otherwise.
    fn tell_mode(&self, node: &Node, changed: &OsStr) {
        if changed == acl::ACCESS {
            self.tell_changed(node);
        }
    }

    /// Before somebody outside a file's group changes its access ACL, whether or not there is one (inode.c, `ovl_set_acl`).
    fn take_set_group_id(&self, node: &Arc<Node>, caller: Caller) -> Result<()> {
        let is_to_go = |attr: Attr| attr.perm & libc::S_ISGID != 0 && !may_set_group_id(caller, attr.gid);
        let attr = {
            let _tree = self.tree.read();
            let state = node.state.read();
            match self.backing(node, &state)? {
                Backing::Upper(spot) => spot.stat()?.attr,
                Backing::Lower(at) => self.lower(at)?.attr(at.id)?,
            }
        };
        if !is_to_go(attr) {
            return Ok(());
        }
        self.copy_up(node, Content::Below)?;
        let _tree = self.tree.read();
        let state = node.state.read();
        let spot = self.upper_spot(node, &state)?;
        let attr = spot.stat()?.attr;
        if is_to_go(attr) {
            self.writable()?.chmod(&spot, attr.perm & !libc::S_ISGID)?;
            self.tell_changed(node);
        }
        Ok(())
    }

    /// The kernel's hands the removal of an ACL on to the upper's file system, which takes none for success; of what only a lower
    /// has it looks for the ACL first (inode.c, `ovl_set_or_remove_acl`).
    fn is_absent_acl_fine(&self, id: NodeId, name: &OsStr) -> Result<bool> {
        let node = self.table.get(id)?;
        let below = matches!(node.state.read().place, Place::Lower | Place::Gone);
        Ok(!below && (name == acl::ACCESS || name == acl::DEFAULT))
    }
}

/// True for the name spaces of xattr(7); of `system.` there are only the ACLs.
fn is_known(name: &OsStr) -> bool {
    let known: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];
    known.iter().any(|prefix| name.as_bytes().starts_with(prefix))
}
