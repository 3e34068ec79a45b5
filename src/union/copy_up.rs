//! Copy-up: parents first, made whole in the work directory, durable by policy, visible in one step.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::attr::SET_ID;
use super::copy_data::copy_data;
use super::lend::OWNER_ALL;
use super::lower::Lower;
use super::node::{LowerAt, Node, Place};
use super::{Durability, Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::ovl::xattr::Namespace;
use crate::sys::dir;
use crate::sys::spot::{SetTime, Spot};
use crate::sys::{data, data::OFlags};
use crate::types::{Attr, Kind};

/// Whether a file's data comes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Kept,
    /// None: whoever asks truncates the file to nothing.
    Dropped,
    /// It stays where it is, if the union keeps attributes apart (`metacopy=on`); else all of it.
    Below,
}

/// Where a lower object is: a file's data may stand below its attributes.
#[derive(Clone, Copy)]
struct Source {
    attributes: LowerAt,
    data: LowerAt,
}

/// A finished copy in the work directory, removed unless it was moved into place.
pub(super) struct Draft<'a> {
    upper: &'a Upper,
    pub(super) temp: std::ffi::OsString,
    pub(super) placed: bool,
}

/// A draft with all that it takes to put it into its place.
pub(super) struct Finished<'a> {
    pub(super) draft: Draft<'a>,
    /// Attributes of what was copied.
    pub(super) attr: Attr,
    /// Permissions that it gets only there.
    pub(super) perm: Option<u32>,
    /// What was copied of its content.
    pub(super) content: Content,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.placed {
            self.upper.discard(&self.temp);
        }
    }
}

impl Union {
    /// Makes sure that a node is in the upper. The caller holds no lock.
    ///
    /// # Errors
    /// `EROFS` without an upper; `ENOSPC`, `EPERM` and the upper's other answers, `EIO` from a damaged lower. The node is then
    /// as it was.
    pub(super) fn copy_up(&self, node: &Arc<Node>, content: Content) -> Result<()> {
        self.copy_up_or_empty(node, content).map(drop)
    }

    /// As [`Union::copy_up`]; true where the content was left out, as asked, and the file is empty.
    pub(super) fn copy_up_or_empty(&self, node: &Arc<Node>, content: Content) -> Result<bool> {
        self.notice_change();
        if !Self::needs_copy(node) && (content == Content::Below || !Self::needs_data(node)) {
            self.raise_last(node);
            return Ok(false);
        }
        let upper = self.writable()?;
        self.find_names_again(node)?;
        self.copy_up_parents(node)?;
        let _only = node.copy_up.lock();
        let copied = self.removals.outlast(|| self.copy_up_one(upper, node, content))?;
        if content == Content::Below || !Self::needs_data(node) {
            return Ok(copied && content == Content::Dropped);
        }
        self.removals.outlast(|| self.complete(upper, node))?;
        Ok(false)
    }

    /// Copies up the directories of all known names of a node, or of the one that it gets at first with the index; without
    /// holding the node's state meanwhile.
    fn copy_up_parents(&self, node: &Node) -> Result<()> {
        let mut links = node.state.read().links.clone();
        if self.index.is_some() {
            links.drain(..links.len().saturating_sub(1));
        }
        links.iter().try_for_each(|link| self.copy_up_ancestors(&link.parent))
    }

    pub(super) fn needs_copy(node: &Node) -> bool {
        matches!(node.state.read().place, Place::Lower | Place::Gone)
    }

    /// True for a file that is in the upper by its attributes only.
    pub(super) fn needs_data(node: &Node) -> bool {
        let state = node.state.read();
        node.kind == Kind::File && !state.lowers.is_empty() && !matches!(state.place, Place::Lower | Place::Gone)
    }

    pub(super) fn copy_up_ancestors(&self, dir: &Arc<Node>) -> Result<()> {
        let upper = self.writable()?;
        let mut chain: SmallVec<[Arc<Node>; 8]> = SmallVec::new();
        let mut at = Arc::clone(dir);
        while Self::needs_copy(&at) {
            let parent = at.state.read().links.first().map(|link| Arc::clone(&link.parent));
            chain.push(Arc::clone(&at));
            match parent {
                Some(parent) => at = parent,
                None => return Err(Errno::ENOENT.into()),
            }
        }
        while let Some(dir) = chain.pop() {
            let _only = dir.copy_up.lock();
            self.copy_up_one(upper, &dir, Content::Kept)?;
        }
        Ok(())
    }

    /// False where it was there. The caller holds the node's `copy_up`; the parents of its links are in the upper.
    fn copy_up_one(&self, upper: &Upper, node: &Arc<Node>, content: Content) -> Result<bool> {
        let (source, name) = {
            let state = node.state.read();
            match (&state.place, state.lowers.first(), state.lowers.last()) {
                (Place::Lower | Place::Gone, Some(top), Some(data)) => {
                    (Source { attributes: *top, data: *data }, self.name_of(&state))
                }
                _ => return Ok(false),
            }
        };
        let context = |e: Errno| Error::sys("copy up", &name, e);
        let lower = self.lower(source.attributes)?;
        let attr = lower.attr(source.attributes.id)?;
        let content = self.content_to_copy(content, &attr);
        let entry = self.entry_name(lower, source.attributes, &attr)?;
        let draft = Draft { upper, temp: upper.temp(), placed: false };
        let file = self.draft_content(upper, &draft.temp, lower, source, &attr, content)?;
        self.draft_origin(&upper.in_work(&draft.temp), lower, source.attributes, &attr)?;
        self.draft_protection(upper, &upper.in_work(&draft.temp), lower, source.attributes, attr.kind)?;
        let perm = self.draft_attributes(upper, &draft.temp, lower, source.attributes, &attr, content)?;
        if content == Content::Below {
            upper.mark_metacopy(&draft.temp).map_err(context)?;
        }
        self.make_durable(upper, &draft.temp, file.as_ref(), &attr).map_err(context)?;
        let mut draft = Finished { draft, attr, perm, content };
        loop {
            self.copy_up_parents(node)?;
            let placed = match &entry {
                Some(entry) => self.place_in_index(upper, node, &mut draft, entry)?,
                None => self.place(upper, node, &mut draft).map_err(context)?,
            };
            if placed {
                break;
            }
        }
        if let Some(file) = file {
            self.keep_open(node, Arc::new(file));
        }
        Ok(true)
    }

    /// Data stay below only where that is asked for and pays, and where one name tells the whole file: a further hard link
    /// would need a redirect of its own.
    fn content_to_copy(&self, asked: Content, attr: &Attr) -> Content {
        match asked {
            Content::Below if !self.options.metacopy || attr.kind != Kind::File || attr.size == 0 || attr.nlink > 1 => {
                Content::Kept
            }
            asked => asked,
        }
    }

    fn draft_content(
        &self,
        upper: &Upper,
        temp: &OsStr,
        lower: &dyn Lower,
        source: Source,
        attr: &Attr,
        content: Content,
    ) -> Result<Option<OwnedFd>> {
        let work = upper.work();
        let context = |e: Errno| Error::sys("create in the work directory", temp, e);
        match attr.kind {
            Kind::File => {
                let fd = dir::create(work, temp, 0o600).map_err(context)?;
                match content {
                    Content::Kept => copy_data(self.lower(source.data)?, source.data, attr.size, &fd, self.options.fsync)?,
                    // Now, for later it would take the capabilities.
                    Content::Below => data::truncate(&fd, attr.size).map_err(context)?,
                    Content::Dropped => {}
                }
                return Ok(Some(fd));
            }
            Kind::Dir => dir::mkdir(work, temp, 0o700).map_err(context)?,
            Kind::Symlink => dir::symlink(&lower.readlink(source.attributes.id)?, work, temp).map_err(context)?,
            kind => dir::mknod(work, temp, kind, 0o600, attr.rdev).map_err(context)?,
        }
        Ok(None)
    }

    /// Owner first, for a change of owner takes capabilities and set-id bits; times last. Returns permissions that the draft
    /// gets only once it is in its place.
    fn draft_attributes(
        &self,
        upper: &Upper,
        temp: &OsStr,
        lower: &dyn Lower,
        source: LowerAt,
        attr: &Attr,
        content: Content,
    ) -> Result<Option<u32>> {
        let spot = upper.in_work(temp);
        let perm = self.draft_owner(&spot, attr).map_err(|e| Error::sys("keep the owner in copy-up of", temp, e))?;
        for name in lower.xattr_names(source.id)? {
            let Some(value) = lower.xattr(source.id, &name)? else { continue };
            self.draft_xattr(&spot, &name, &value)?;
        }
        let held_back = attr.kind.is_dir() && upper.holds_back(perm);
        if attr.kind != Kind::Symlink {
            let now = if held_back { perm | OWNER_ALL } else { perm };
            spot.chmod(now).map_err(|e| Error::sys("keep the mode in copy-up of", temp, e))?;
        }
        // Leaving the content out is the change that the asker makes.
        let mtime = if content == Content::Dropped { SetTime::Now } else { SetTime::At(attr.mtime) };
        spot.set_times(SetTime::At(attr.atime), mtime).map_err(|e| Error::sys("keep the times in copy-up of", temp, e))?;
        Ok(held_back.then_some(perm))
    }

    /// Gives a draft its owner; returns the permissions that go with it. Set-id bits are its owner's word: where another than
    /// the lower's is shown or kept, they go. A device node keeps the lower's owner in any case: whoever owns it in the upper has
    /// the device.
    fn draft_owner(&self, spot: &Spot, attr: &Attr) -> Result<u32, Errno> {
        let own = spot.stat()?.attr;
        let theirs = (attr.uid, attr.gid);
        let wanted = self.options.owner.filter(|_| !attr.kind.is_device()).unwrap_or(theirs);
        if (own.uid, own.gid) != wanted {
            match spot.chown(Some(wanted.0), Some(wanted.1)) {
                Err(Errno::EPERM) if self.options.owner.is_some() => {}
                answer => answer?,
            }
        }
        Ok(if wanted == theirs { attr.perm } else { attr.perm & !SET_ID })
    }

    pub(super) fn draft_xattr(&self, spot: &Spot, name: &OsStr, value: &[u8]) -> Result<()> {
        if self.namespace.unescape(name).is_none() {
            return Ok(());
        }
        match spot.set_xattr(name, value, 0) {
            Err(e) if !may_be_left(name.as_bytes(), e, self.namespace) => {
                Err(Error::sys("keep an extended attribute in copy-up:", name, e))
            }
            _ => Ok(()),
        }
    }

    fn make_durable(&self, upper: &Upper, temp: &OsStr, file: Option<&OwnedFd>, attr: &Attr) -> Result<(), Errno> {
        match (self.options.fsync, file) {
            (Durability::Volatile, _) => Ok(()),
            // Without data there is nothing that could be lost half.
            (Durability::Auto, Some(fd)) if attr.size > 0 => data::sync(fd, false),
            (Durability::Strict, Some(fd)) => data::sync(fd, false),
            (Durability::Strict, None) if attr.kind.is_dir() => {
                data::sync(upper.in_work(temp).open(OFlags::RDONLY | OFlags::DIRECTORY)?, false)
            }
            _ => Ok(()),
        }
    }
}

/// By these security modules label what is made, each in its own way; the kernel's copy-up leaves that to them
/// (`security_inode_copy_up_xattr`).
const LABELS: [&[u8]; 3] = [b"security.selinux", b"security.SMACK64", b"security.evm"];

/// Whether a copy is whole without an attribute that could not be set.
fn may_be_left(name: &[u8], why: Errno, namespace: Namespace) -> bool {
    let is_in = |space: &[u8]| name.starts_with(space);
    match why {
        // As the kernel's: what the upper's file system cannot hold is left out, unless access depends on it.
        Errno::EOPNOTSUPP if !is_in(b"security.") && !is_in(b"system.") => true,
        // An ordinary user cannot set these; nobody gains rights by their absence (SEMANTICS.md).
        Errno::EPERM if namespace == Namespace::User && !is_in(b"user.") => true,
        Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES | Errno::EINVAL => LABELS.iter().any(|label| is_in(label)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_access_depends_on_is_never_left() {
        let left = |name: &str, why| may_be_left(name.as_bytes(), why, Namespace::Trusted);
        for name in ["security.selinux", "security.SMACK64EXEC", "security.evm"] {
            assert!(
                [Errno::EOPNOTSUPP, Errno::EPERM, Errno::EACCES, Errno::EINVAL].into_iter().all(|why| left(name, why)),
                "{name}"
            );
            assert!(!left(name, Errno::ENOSPC) && !left(name, Errno::EIO), "{name}");
        }
        for name in ["security.capability", "security.ima", "system.posix_acl_access"] {
            assert!(!left(name, Errno::EOPNOTSUPP) && !left(name, Errno::EPERM), "{name}");
        }
        assert!(left("user.a", Errno::EOPNOTSUPP) && !left("user.a", Errno::EPERM) && !left("user.a", Errno::ENOSPC));
        let as_user = |name: &str| may_be_left(name.as_bytes(), Errno::EPERM, Namespace::User);
        assert!(as_user("security.capability") && as_user("trusted.a") && !as_user("user.a"));
    }
}
