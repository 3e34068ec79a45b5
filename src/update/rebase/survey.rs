//! The upper beside both images: what stays, and what both sides changed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Request;
use super::change::{is_copy, is_same, is_same_tree};
use super::report::{Change, Conflict, Outcome};
use crate::error::{Errno, Error, Result};
use crate::ovl::xattr::Private;
use crate::sys::dir;
use crate::sys::spot::{Spot, Stat, open_dir_at};
use crate::types::{Attr, Kind};
use crate::union::lower::{Lower, LowerId};

/// Whose attributes something gets that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// Its own.
    Own,
    /// Those of this directory of the new image: the user changed only what is in it.
    OfImage(LowerId),
}

/// What its `origin` becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It has none.
    None,
    /// The inode of the old image is nothing of the new one's.
    Gone,
    /// This one.
    Is(Vec<u8>),
}

/// One name in the upper.
#[derive(Debug)]
pub struct Node {
    /// The name.
    pub name: OsString,
    /// What stat(2) tells of it.
    pub stat: Stat,
    /// It is in the new upper.
    pub stays: bool,
    /// Attributes there.
    pub attributes: Attributes,
    /// Its origin there.
    pub origin: Origin,
    /// Of a directory.
    pub children: Vec<Node>,
    /// Of one that stays only where another name of it does: then this is one more conflict.
    pending: Option<Conflict>,
}

impl Node {
    /// Names that stay, and that do not, with its own.
    pub fn counted(&self) -> (u64, u64) {
        let own = if self.stays { (1, 0) } else { (0, 1) };
        self.children.iter().map(Self::counted).fold(own, |sum, more| (sum.0 + more.0, sum.1 + more.1))
    }

    /// The inode, where it has several names. Whiteouts share theirs for no other reason than that they are all alike.
    pub fn linked(&self) -> Option<(u64, u64)> {
        let shared = !self.stat.attr.kind.is_dir() && self.stat.attr.nlink > 1 && !self.stat.is_whiteout();
        shared.then_some((self.stat.dev, self.stat.attr.ino))
    }
}

/// A place: what each image has there.
#[derive(Clone, Copy, Default)]
struct Below {
    old: Option<LowerId>,
    new: Option<LowerId>,
}

/// What something in the upper hides of a directory at its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hides {
    /// Its attributes.
    Itself,
    /// With everything in it.
    All,
}

/// The walk.
pub struct Survey<'a> {
    request: &'a Request<'a>,
    conflicts: Vec<Conflict>,
    deepest: usize,
    too_deep: Option<PathBuf>,
}

/// How a walk has ended.
pub enum Surveyed {
    /// Everything was seen.
    All {
        /// The root of the upper.
        root: Box<Node>,
        /// What both sides changed.
        conflicts: Vec<Conflict>,
    },
    /// This is deeper than the walk goes.
    TooDeep(PathBuf),
}

impl<'a> Survey<'a> {
    /// Of nothing yet; so many directories inside each other are walked.
    pub const fn new(request: &'a Request<'a>, deepest: usize) -> Self {
        Self { request, conflicts: Vec::new(), deepest, too_deep: None }
    }

    /// Walks the upper whose root is open.
    ///
    /// # Errors
    /// What [`super::rebase`] answers.
    pub fn root(mut self, root: &Arc<OwnedFd>) -> Result<Surveyed> {
        let spot = Spot::Fd(Arc::clone(root));
        let stat = spot.stat().map_err(|e| Error::sys("stat", self.request.upper, e))?;
        let below = Below { old: self.request.old.map(Lower::root), new: Some(self.request.new.root()) };
        let children = self.directory(root, Path::new(""), below);
        if let Some(path) = self.too_deep.take() {
            return Ok(Surveyed::TooDeep(path));
        }
        let children = children?;
        let mut node = Node {
            name: OsString::new(),
            stat,
            stays: true,
            attributes: Attributes::Own,
            origin: self.origin(&spot, &stat, None)?,
            children,
            pending: None,
        };
        if self.is_unchanged(&spot, &stat, below.old)? {
            node.attributes = Attributes::OfImage(self.request.new.root());
        }
        let mut kept = HashSet::new();
        gather_links(&node, &mut kept);
        settle(&mut node, &kept, &mut self.conflicts);
        node.stays = true;
        Ok(Surveyed::All { root: Box::new(node), conflicts: self.conflicts })
    }

    fn directory(&mut self, directory: &Arc<OwnedFd>, path: &Path, below: Below) -> Result<Vec<Node>> {
        let failed = |e| Error::sys("list in the upper", path, e);
        if path.components().count() > self.deepest {
            self.too_deep = Some(path.to_owned());
            return Err(Errno::ELOOP.into());
        }
        let mut entries = dir::read(directory).map_err(failed)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut nodes = Vec::with_capacity(entries.len());
        for entry in entries {
            let below = Below {
                old: lookup(self.request.old, below.old, &entry.name)?,
                new: lookup(Some(self.request.new), below.new, &entry.name)?,
            };
            let path = path.join(&entry.name);
            let node = self.node(directory, &path, entry.name, below).map_err(|e| in_upper(e, &path))?;
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn node(&mut self, directory: &Arc<OwnedFd>, path: &Path, name: OsString, below: Below) -> Result<Node> {
        let spot = Spot::at(directory, &name);
        let stat = spot.stat()?;
        self.refuse_bound(&spot, &stat, path)?;
        let origin = self.origin(&spot, &stat, below.new)?;
        let mut node = Node { name, stat, stays: true, attributes: Attributes::Own, origin, children: Vec::new(), pending: None };
        if stat.is_whiteout() {
            node.stays = self.whiteout(path, below)?;
        } else if stat.attr.kind.is_dir() {
            self.subdirectory(&spot, &mut node, directory, path, below)?;
        } else {
            node.stays = !self.is_unchanged(&spot, &stat, below.old)?;
            let conflict = if node.stays || node.linked().is_some() {
                self.both_changed(path, below, Outcome::Mine, Hides::All)?
            } else {
                None
            };
            if node.stays {
                self.conflicts.extend(conflict);
            } else {
                node.pending = conflict;
            }
        }
        Ok(node)
    }

    /// A whiteout of what the new image lacks hides nothing. In a directory that hides the image altogether it never did.
    fn whiteout(&mut self, path: &Path, below: Below) -> Result<bool> {
        if below.new.is_none() {
            return Ok(false);
        }
        if let Some(image) = self.image_change(below, Hides::All)? {
            self.conflicts.push(Conflict { path: path.to_owned(), user: Change::Removed, image, outcome: Outcome::Mine });
        }
        Ok(true)
    }

    fn subdirectory(&mut self, spot: &Spot, node: &mut Node, directory: &Arc<OwnedFd>, path: &Path, below: Below) -> Result<()> {
        let inside = open_dir_at(directory, &node.name)?;
        if self.mark(spot, Private::Opaque)?.is_some_and(|value| value == b"y") {
            let conflict = self.both_changed(path, below, Outcome::Mine, Hides::All)?;
            self.conflicts.extend(conflict);
            node.children = self.directory(&inside, path, Below::default())?;
            keep_all(node);
            return Ok(());
        }
        let old = dir_of(self.request.old, below.old)?;
        let new = dir_of(Some(self.request.new), below.new)?;
        let unchanged = self.is_unchanged(spot, &node.stat, old)?;
        node.children = self.directory(&inside, path, Below { old, new })?;
        if unchanged {
            // It stays for what is in it alone.
            node.stays = false;
            match new {
                Some(new) => node.attributes = Attributes::OfImage(new),
                // Something else stands there in the new image, and is hidden.
                None if below.new.is_some() && node.children.iter().any(|child| child.stays) => {
                    let conflict = self.both_changed(path, below, Outcome::Mine, Hides::All)?;
                    self.conflicts.extend(conflict);
                }
                None => {}
            }
            return Ok(());
        }
        let outcome = if old.is_none() && new.is_some() { Outcome::Merged } else { Outcome::Mine };
        let conflict = self.both_changed(path, below, outcome, Hides::Itself)?;
        self.conflicts.extend(conflict);
        Ok(())
    }

    /// What is to be told where the user changed what is here: something, if the new image has changed it, too.
    fn both_changed(&self, path: &Path, below: Below, outcome: Outcome, hides: Hides) -> Result<Option<Conflict>> {
        let user = if below.old.is_some() { Change::Changed } else { Change::Added };
        Ok(self.image_change(below, hides)?.map(|image| Conflict { path: path.to_owned(), user, image, outcome }))
    }

    /// What the new image has made of the old one's, in so far as the upper hides it.
    fn image_change(&self, below: Below, hides: Hides) -> Result<Option<Change>> {
        match (self.request.old.zip(below.old), below.new) {
            (None, None) => Ok(None),
            (None, Some(_)) => Ok(Some(Change::Added)),
            (Some(_), None) => Ok(Some(Change::Removed)),
            (Some(old), Some(new)) => {
                let compare = if hides == Hides::All { is_same_tree } else { is_same };
                let same = compare(old, (self.request.new, new), self.request.namespace);
                let same = same.or_else(|e| match e {
                    // Only a report depends on it.
                    Error::Damage(_) => Ok(false),
                    other => Err(other),
                })?;
                Ok((!same).then_some(Change::Changed))
            }
        }
    }

    fn is_unchanged(&self, spot: &Spot, stat: &Stat, old: Option<LowerId>) -> Result<bool> {
        let Some((lower, id)) = self.request.old.zip(old) else { return Ok(false) };
        // Flags of chattr(1) are nothing that an image could have.
        if self.mark(spot, Private::Protattr)?.is_some() {
            return Ok(false);
        }
        is_copy(spot, stat, lower, id, self.request.namespace)
    }

    /// Marks by which content depends on the image below; mounts by haos.ini make none.
    fn refuse_bound(&self, spot: &Spot, stat: &Stat, path: &Path) -> Result<()> {
        if !matches!(stat.attr.kind, Kind::File | Kind::Dir) {
            return Ok(());
        }
        for (private, what) in [(Private::Redirect, "redirect"), (Private::Metacopy, "metacopy")] {
            if self.mark(spot, private)?.is_some() {
                let shown = path.display();
                return Err(Error::Unsupported(format!(
                    "{shown} in the upper has a {what} attribute, by which it depends on its image: it cannot be given another"
                )));
            }
        }
        Ok(())
    }

    fn mark(&self, spot: &Spot, private: Private) -> Result<Option<Vec<u8>>> {
        Ok(spot.xattr(&self.request.namespace.name(private))?)
    }

    /// As if it had been copied up from the new image: hard links of an image become files of their own. A file with several names
    /// in the upper is at none of them more than at the others.
    fn origin(&self, spot: &Spot, stat: &Stat, new: Option<LowerId>) -> Result<Origin> {
        if self.mark(spot, Private::Origin)?.is_none() {
            return Ok(Origin::None);
        }
        let Some(new) = new else { return Ok(Origin::Gone) };
        let theirs = self.request.new.attr(new)?;
        let linked = |attr: &Attr| !attr.kind.is_dir() && attr.nlink > 1;
        if theirs.kind != stat.attr.kind || linked(&theirs) || linked(&stat.attr) {
            return Ok(Origin::Gone);
        }
        let handle = self.request.new.handle(new)?;
        Ok(handle.and_then(|handle| handle.encode()).map_or(Origin::Gone, Origin::Is))
    }
}

fn in_upper(e: Error, path: &Path) -> Error {
    match e {
        Error::Expected(errno) => Error::sys("read in the upper", path, errno),
        other => other,
    }
}

fn lookup(lower: Option<&dyn Lower>, directory: Option<LowerId>, name: &OsStr) -> Result<Option<LowerId>> {
    let Some((lower, directory)) = lower.zip(directory) else { return Ok(None) };
    Ok(lower.lookup(directory, name)?.map(|entry| entry.id))
}

fn dir_of(lower: Option<&dyn Lower>, id: Option<LowerId>) -> Result<Option<LowerId>> {
    let Some((lower, id)) = lower.zip(id) else { return Ok(None) };
    Ok(lower.attr(id)?.kind.is_dir().then_some(id))
}

fn keep_all(node: &mut Node) {
    node.stays = true;
    node.children.iter_mut().for_each(keep_all);
}

/// Inodes of which a name stays.
fn gather_links(node: &Node, kept: &mut HashSet<(u64, u64)>) {
    if node.stays {
        kept.extend(node.linked());
    }
    node.children.iter().for_each(|child| gather_links(child, kept));
}

/// A file stays whole, with all its names; a directory stays for what is in it.
fn settle(node: &mut Node, kept: &HashSet<(u64, u64)>, conflicts: &mut Vec<Conflict>) {
    node.children.iter_mut().for_each(|child| settle(child, kept, conflicts));
    if node.linked().is_some_and(|inode| kept.contains(&inode)) {
        node.stays = true;
        conflicts.extend(node.pending.take());
    }
    node.stays |= node.children.iter().any(|child| child.stays);
}
