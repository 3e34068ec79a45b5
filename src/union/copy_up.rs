//! Copy-up: parents first, made whole in the work directory, durable by policy, visible in one step.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use parking_lot::RwLockWriteGuard;
use smallvec::SmallVec;

use super::attr::SET_ID;
use super::lend::OWNER_ALL;
use super::lower::{Lower, Seek};
use super::node::{Key, Link, LowerAt, Node, Place};
use super::{Durability, Union, Upper};
use crate::error::{Errno, Error, Result};
use crate::ovl::xattr::Namespace;
use crate::sys::dir::{self, Rename};
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

/// Bytes read from a lower at a time.
const CHUNK: usize = 1 << 20;

/// Where a lower object is: a file's data may stand below its attributes.
#[derive(Clone, Copy)]
struct Source {
    attributes: LowerAt,
    data: LowerAt,
}

/// A finished copy in the work directory, removed unless it was moved into place.
struct Draft<'a> {
    upper: &'a Upper,
    temp: std::ffi::OsString,
    placed: bool,
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
        if !Self::needs_copy(node) && (content == Content::Below || !Self::needs_data(node)) {
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

    /// Copies up the directories of all known names of a node; without holding the node's state meanwhile.
    fn copy_up_parents(&self, node: &Node) -> Result<()> {
        let links = node.state.read().links.clone();
        links.iter().try_for_each(|link| self.copy_up_ancestors(&link.parent))
    }

    fn needs_copy(node: &Node) -> bool {
        matches!(node.state.read().place, Place::Lower | Place::Gone)
    }

    /// True for a file that is in the upper by its attributes only.
    fn needs_data(node: &Node) -> bool {
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
        let mut draft = Draft { upper, temp: upper.temp(), placed: false };
        let file = self.draft_content(upper, &draft.temp, lower, source, &attr, content)?;
        self.draft_origin(&upper.in_work(&draft.temp), lower, source.attributes, &attr)?;
        let perm = self.draft_attributes(upper, &draft.temp, lower, source.attributes, &attr, content)?;
        if content == Content::Below {
            upper.mark_metacopy(&draft.temp).map_err(context)?;
        }
        self.make_durable(upper, &draft.temp, file.as_ref(), &attr).map_err(context)?;
        loop {
            self.copy_up_parents(node)?;
            if self.place(upper, node, &mut draft, &attr, perm, content).map_err(context)? {
                break;
            }
        }
        if let Some(file) = file {
            node.data.lock().keep(file);
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
                    Content::Kept => copy_data(self.lower(source.data)?, source.data, attr.size, &fd)?,
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
    /// the lower's is shown or kept, they go.
    fn draft_owner(&self, spot: &Spot, attr: &Attr) -> Result<u32, Errno> {
        let own = spot.stat()?.attr;
        let theirs = (attr.uid, attr.gid);
        let wanted = self.options.owner.unwrap_or(theirs);
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
        let bytes = name.as_bytes();
        let security = bytes.starts_with(b"security.") || bytes.starts_with(b"system.");
        match spot.set_xattr(name, value, 0) {
            Ok(()) => Ok(()),
            // As the kernel's: what the upper's file system cannot hold is left out, unless access depends on it.
            Err(Errno::EOPNOTSUPP) if !security => Ok(()),
            // An ordinary user cannot set these; nobody gains rights by their absence (SEMANTICS.md).
            Err(Errno::EPERM) if self.namespace == Namespace::User && !bytes.starts_with(b"user.") => Ok(()),
            Err(e) => Err(Error::sys("keep an extended attribute in copy-up:", name, e)),
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

    /// Moves a draft to all names of its node in the upper, where it gets the permissions that were held back; false where a
    /// name was found meanwhile whose directory must be copied up first.
    fn place(
        &self,
        upper: &Upper,
        node: &Arc<Node>,
        draft: &mut Draft<'_>,
        attr: &Attr,
        perm: Option<u32>,
        content: Content,
    ) -> Result<bool, Errno> {
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
        self.sync_parents(&parents)?;
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
            self.born.insert((stat.dev, stat.attr.ino), node.ino);
        }
        self.table.add_key(Key::Upper(stat.dev, stat.attr.ino), node);
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

    fn sync_parents(&self, parents: &[Arc<Node>]) -> Result<(), Errno> {
        if self.options.fsync != Durability::Strict {
            return Ok(());
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

/// Copies what is not a hole; the size is exact at the end.
pub(super) fn copy_data(lower: &dyn Lower, source: LowerAt, size: u64, to: impl AsFd) -> Result<()> {
    let mut at = 0;
    while at < size {
        let start = match lower.seek(source.id, at, Seek::Data) {
            Ok(start) => start,
            Err(e) if e.errno() == Errno::ENXIO => break,
            Err(e) => return Err(e),
        };
        let end = lower.seek(source.id, start, Seek::Hole)?.min(size);
        at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let bytes = lower.read(source.id, at, want)?;
            if bytes.is_empty() {
                return Err(Errno::EIO.into());
            }
            let written = data::write_at(&to, &bytes, at).map_err(|e| Error::sys("write copied data", "", e))?;
            if written < bytes.len() {
                return Err(Errno::ENOSPC.into());
            }
            if !lower.is_intact(&bytes) {
                return Err(Errno::EIO.into());
            }
            at += written as u64;
        }
    }
    Ok(data::truncate(&to, size)?)
}
