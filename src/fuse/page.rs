//! A page of a listing with attributes: each of its names becomes known to the kernel as by a look-up.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use fuser::{INodeNo, ReplyDirectoryPlus};

use super::convert::{self, FOREVER, GENERATION, errno};
use super::reply::named;
use crate::error::{Errno, Error, Result};
use crate::types::Attr;
use crate::union::node::Node;
use crate::union::{Entry, Union};

/// Of the directories whose names are in one page so many are decoded before they are asked for, at most.
const PREPARED: usize = 4;
/// For so many directories of a page a block of metadata is decompressed, at most, but for those that the kernel knows already, and for
/// the second one on end in a block that was passed over. What is left mostly has a block to itself, with much that is in it: whoever goes
/// there has so much more to do that a look-up of its own does not matter. `ls` by itself does not go there.
const DECOMPRESSED: usize = 8;

/// What is answered to one request.
pub(super) struct Page {
    reply: ReplyDirectoryPlus,
    is_empty: bool,
    /// Directories of it that may be listed next.
    dirs: Vec<Arc<Node>>,
    /// What the kernel knows of the directory, once somebody had to look.
    known: Option<HashMap<OsString, Arc<Node>>>,
    /// Directories whose attributes had to be decompressed.
    far: usize,
    /// The last block that was passed over.
    passed: Option<u64>,
    /// The page ends before a name of which the kernel cannot be told.
    failed: Option<Error>,
}

impl Page {
    pub(super) fn new(reply: ReplyDirectoryPlus) -> Self {
        Self { reply, is_empty: true, dirs: Vec::new(), known: None, far: 0, passed: None, failed: None }
    }

    /// Adds one entry; false once the page is full. `.` and `..` are not looked up by the kernel.
    pub(super) fn add(&mut self, union: &Union, dir: &Arc<Node>, entry: &Entry, next: u64) -> bool {
        if entry.name == "." || entry.name == ".." {
            let dot = fuser::FileAttr { ino: INodeNo(entry.ino), kind: fuser::FileType::Directory, ..convert::absent() };
            return self.push(entry, next, &FOREVER, &dot);
        }
        if let Some(block) = union.far(entry) {
            if self.far >= DECOMPRESSED
                && self.passed.replace(block) != Some(block)
                && let Ok(Some(node)) = union.enter_unseen(dir, entry)
            {
                return self.push_unseen(union, entry, next, &node);
            }
            self.far = self.far.saturating_add(1);
        }
        match union.enter(dir, entry).or_else(|e| self.known(union, dir, entry, e)) {
            Ok((found, attr)) => self.push_found(union, entry, next, found, &attr),
            // A name that went since the listing was taken is left out; the kernel asks for the others by position.
            Err(Error::Expected(Errno::ENOENT)) => true,
            Err(_) if self.failed.is_some() => false,
            // A name that cannot be looked up stands there all the same. Whoever wants more asks again, and learns why not.
            Err(_) => self.push_bare(entry, next, union.made_up_number()),
        }
    }

    fn push_unseen(&mut self, union: &Union, entry: &Entry, next: u64, node: &Node) -> bool {
        let has_room = self.push_bare(entry, next, node.id.0);
        if !has_room {
            union.forget(node.id, 1);
        }
        has_room
    }

    /// What is said of a name holds for no time at all: name and attributes are asked for before either is used.
    fn push_bare(&mut self, entry: &Entry, next: u64, number: u64) -> bool {
        let bare = fuser::FileAttr { ino: INodeNo(number), kind: convert::kind(entry.kind), nlink: 1, ..convert::absent() };
        self.push(entry, next, &Duration::ZERO, &bare)
    }

    /// Of a name that cannot be looked up, but is known to the kernel all the same: were it told another number, it would take away
    /// whatever is mounted there (fs/fuse/readdir.c, `fuse_direntplus_link`).
    fn known(&mut self, union: &Union, dir: &Arc<Node>, entry: &Entry, e: Error) -> Result<(Arc<Node>, Attr)> {
        if e.errno() == Errno::ENOENT {
            return Err(e);
        }
        let known = self.known.get_or_insert_with(|| union.known_names(dir));
        let Some(node) = known.get(&entry.name).filter(|node| node.hold_as(entry.kind)) else { return Err(e) };
        match union.getattr(node.id) {
            Ok(attr) => Ok((Arc::clone(node), attr)),
            Err(_) => {
                union.forget(node.id, 1);
                self.failed = Some(e);
                Err(Errno::EIO.into())
            }
        }
    }

    fn push_found(&mut self, union: &Union, entry: &Entry, next: u64, found: Arc<Node>, attr: &Attr) -> bool {
        let has_room = self.push(entry, next, &FOREVER, &named(&found, attr));
        if !has_room {
            union.forget(found.id, 1);
        } else if found.kind.is_dir() && self.dirs.len() < PREPARED {
            self.dirs.push(found);
        }
        has_room
    }

    fn push(&mut self, entry: &Entry, next: u64, valid: &Duration, attr: &fuser::FileAttr) -> bool {
        let is_full = self.reply.add(attr.ino, next, &entry.name, valid, attr, GENERATION);
        self.is_empty &= is_full;
        !is_full
    }

    /// Answers; returns directories of it.
    pub(super) fn end(self, answer: Result<()>) -> Vec<Arc<Node>> {
        let failed = self.failed.filter(|_| self.is_empty);
        match answer.and_then(|()| failed.map_or(Ok(()), Err)) {
            Ok(()) => self.reply.ok(),
            Err(e) => self.reply.error(errno("readdirplus", &e)),
        }
        self.dirs
    }
}
