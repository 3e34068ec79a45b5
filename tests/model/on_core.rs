//! The target that is a union in this process: the core without a mount. What the kernel's VFS does before it asks a file
//! system (walking paths, refusing impossible renames) is done here.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use haosfs::error::{Errno, Error};
use haosfs::sys::dir::Rename;
use haosfs::sys::spot::SetTime;
use haosfs::types::{Atime, Attr, Caller, Kind, Time};
use haosfs::union::create::New;
use haosfs::union::file::Writer;
use haosfs::union::{DirLower, NodeId, Options, Prefix, ROOT, SetAttr, Union, Upper};

use super::target::{Answer, Item, Replace, SLOTS, Target, View};

const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 0 };

/// A union of a directory below an upper in one home directory.
pub struct OnCore {
    home: PathBuf,
    union: Option<Union>,
    slots: [Option<NodeId>; SLOTS],
}

fn errno(e: Error) -> Errno {
    e.errno()
}

/// Opens the upper. A child that another test is just starting has our descriptors, and so the last union's lock, until its
/// exec: in use for an instant.
fn open_upper(home: &Path) -> Upper {
    let open = || Upper::open(&home.join("upper"), &home.join("work"), Prefix::Auto, Atime::Relative, |_| Ok(()));
    for _ in 0..50 {
        match open() {
            Err(Error::Refused(_)) => std::thread::sleep(std::time::Duration::from_millis(20)),
            answer => return answer.unwrap(),
        }
    }
    open().unwrap()
}

fn build(home: &Path) -> Union {
    let upper = open_upper(home);
    let lower = DirLower::open(&home.join("lower")).unwrap();
    Union::new(vec![Box::new(lower)], Some(upper), Options::default()).unwrap()
}

/// A look-up that is forgotten again.
struct Found<'a> {
    union: &'a Union,
    id: NodeId,
    attr: Attr,
}

impl Drop for Found<'_> {
    fn drop(&mut self) {
        if self.id != ROOT {
            self.union.forget(self.id, 1);
        }
    }
}

impl OnCore {
    /// The home holds `lower`, and gets `upper` and `work`.
    pub fn new(home: &Path) -> Self {
        std::fs::create_dir(home.join("upper")).unwrap();
        std::fs::create_dir(home.join("work")).unwrap();
        Self { home: home.to_owned(), union: Some(build(home)), slots: [None; SLOTS] }
    }

    fn union(&self) -> &Union {
        self.union.as_ref().unwrap()
    }

    fn root(&self) -> Answer<Found<'_>> {
        let attr = self.union().getattr(ROOT).map_err(errno)?;
        Ok(Found { union: self.union(), id: ROOT, attr })
    }

    fn walk(&self, path: &Path) -> Answer<Found<'_>> {
        let mut at = self.root()?;
        for name in path {
            match at.attr.kind {
                Kind::Dir => {}
                Kind::Symlink => return Err(Errno::ENOENT),
                _ => return Err(Errno::ENOTDIR),
            }
            let (node, attr) = self.union().lookup(at.id, name).map_err(errno)?;
            at = Found { union: self.union(), id: node.id, attr };
        }
        Ok(at)
    }

    fn follow(&self, path: &Path) -> Answer<Found<'_>> {
        let found = self.walk(path)?;
        if found.attr.kind == Kind::Symlink { Err(Errno::ENOENT) } else { Ok(found) }
    }

    fn parent<'p>(&self, path: &'p Path) -> Answer<(Found<'_>, &'p OsStr)> {
        let dir = self.walk(path.parent().unwrap_or(Path::new("")))?;
        match dir.attr.kind {
            Kind::Dir => Ok((dir, path.file_name().unwrap())),
            Kind::Symlink => Err(Errno::ENOENT),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn make<'a>(&self, path: &'a Path, new: impl Fn(&'a OsStr) -> New<'a>, open: bool) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        let (node, _) = self.union().create(dir.id, &new(name), CALLER, open).map_err(errno)?;
        self.union().forget(node.id, 1);
        Ok(())
    }

    fn set(&self, found: &Found<'_>, set: &SetAttr) -> Answer<()> {
        self.union().setattr(found.id, set, CALLER).map(drop).map_err(errno)
    }

    fn content(&self, id: NodeId) -> Answer<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let got = self.union().read(id, all.len() as u64, 70_000, <[u8]>::to_vec).map_err(errno)?.0;
            if got.is_empty() {
                return Ok(all);
            }
            all.extend(got);
        }
    }

    fn user_xattrs(&self, id: NodeId) -> Answer<BTreeMap<String, Vec<u8>>> {
        let names = self.union().xattr_names(id, CALLER).map_err(errno)?;
        let user = names.into_iter().filter(|name| name.as_bytes().starts_with(b"user."));
        user.map(|name| Ok((name.to_string_lossy().into_owned(), self.union().xattr(id, &name).map_err(errno)?))).collect()
    }

    fn look(&self, dir: NodeId, at: &Path, view: &mut View) -> Answer<()> {
        for entry in self.union().entries(dir).map_err(errno)? {
            let path = at.join(&entry.name);
            let mut found = self.walk(&path)?;
            let mut again = self.union().getattr(found.id).map_err(errno)?;
            if again.blocks != found.attr.blocks {
                // ext4 began to write a file out in between: for a moment its blocks are counted nowhere.
                std::thread::sleep(std::time::Duration::from_millis(200));
                (found, again) = (self.walk(&path)?, self.union().getattr(found.id).map_err(errno)?);
            }
            let attr = found.attr;
            assert_eq!((entry.ino, entry.kind), (attr.ino, attr.kind), "listing and stat of {path:?}");
            assert_eq!(again, attr, "look-up and getattr of {path:?}");
            let content = match attr.kind {
                Kind::File => self.content(found.id)?,
                Kind::Symlink => self.union().readlink(found.id).map_err(errno)?.as_bytes().to_vec(),
                _ => Vec::new(),
            };
            let xattrs = if attr.kind == Kind::Symlink { BTreeMap::new() } else { self.user_xattrs(found.id)? };
            let nlink = if attr.kind.is_dir() { 0 } else { u64::from(attr.nlink) };
            let mtime = Some((attr.mtime.secs, attr.mtime.nanos));
            view.insert(path.clone(), Item { ino: attr.ino, mode: attr.mode(), content, nlink, xattrs, mtime });
            if attr.kind.is_dir() {
                self.look(found.id, &path, view)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, slot: usize) {
        if let Some(id) = self.slots[slot].take() {
            self.union().forget(id, 1);
        }
    }

    /// Nothing but the root stays in memory once all look-ups are forgotten and all links of copied-up hard links are known.
    pub fn nodes(&mut self) -> usize {
        (0..SLOTS).for_each(|slot| self.close(slot));
        self.union().nodes()
    }
}

/// What vfs_rename() and its callers check before the file system is asked (fs/namei.c).
fn check_rename(source: &Found<'_>, target: Option<&Found<'_>>, from: &Path, to: &Path, replace: Replace) -> Answer<bool> {
    match (replace, target) {
        (Replace::No, Some(_)) => return Err(Errno::EEXIST),
        (Replace::Exchange, None) => return Err(Errno::ENOENT),
        _ => {}
    }
    if to != from && to.starts_with(from) {
        return Err(Errno::EINVAL);
    }
    if to != from && from.starts_with(to) {
        return Err(if replace == Replace::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    let Some(target) = target else { return Ok(true) };
    if target.id == source.id {
        return Ok(false);
    }
    match (source.attr.kind.is_dir(), target.attr.kind.is_dir()) {
        (true, false) if replace != Replace::Exchange => Err(Errno::ENOTDIR),
        (false, true) if replace != Replace::Exchange => Err(Errno::EISDIR),
        _ => Ok(true),
    }
}

impl Target for OnCore {
    fn create(&mut self, path: &Path) -> Answer<()> {
        self.make(path, |name| New::of(name, Kind::File, 0o644, 0), true)
    }

    fn write(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> Answer<()> {
        let found = self.follow(path)?;
        let writer = Writer { caller: CALLER, kill_set_id: false, append: false, whole: false };
        assert_eq!(self.union().write(found.id, offset, bytes, writer).map_err(errno)?, bytes.len());
        Ok(())
    }

    fn truncate(&mut self, path: &Path, len: u64) -> Answer<()> {
        let found = self.follow(path)?;
        if found.attr.kind.is_dir() {
            return Err(Errno::EISDIR);
        }
        self.set(&found, &SetAttr { size: Some(len), ..SetAttr::default() })
    }

    fn mkdir(&mut self, path: &Path) -> Answer<()> {
        self.make(path, |name| New::of(name, Kind::Dir, 0o755, 0), false)
    }

    fn rmdir(&mut self, path: &Path) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        self.union().rmdir(dir.id, name).map_err(errno)
    }

    fn unlink(&mut self, path: &Path) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        self.union().unlink(dir.id, name).map_err(errno)
    }

    fn rename(&mut self, from: &Path, to: &Path, replace: Replace) -> Answer<()> {
        let ((from_dir, from_name), (to_dir, to_name)) = (self.parent(from)?, self.parent(to)?);
        let source = self.walk(from)?;
        let target = match self.walk(to) {
            Ok(target) => Some(target),
            Err(Errno::ENOENT) => None,
            Err(e) => return Err(e),
        };
        if !check_rename(&source, target.as_ref(), from, to, replace)? {
            return Ok(());
        }
        let how = match replace {
            Replace::Yes => Rename::Replace,
            Replace::No => Rename::NoReplace,
            Replace::Exchange => Rename::Exchange,
        };
        self.union().rename((from_dir.id, from_name), (to_dir.id, to_name), how).map_err(errno)
    }

    fn link(&mut self, from: &Path, to: &Path) -> Answer<()> {
        let source = self.walk(from)?;
        let (dir, name) = self.parent(to)?;
        if self.walk(to).is_ok() {
            return Err(Errno::EEXIST);
        }
        let (node, _) = self.union().link(source.id, dir.id, name).map_err(errno)?;
        self.union().forget(node.id, 1);
        Ok(())
    }

    fn symlink(&mut self, target: &str, path: &Path) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        let new = New { target: OsStr::new(target), ..New::of(name, Kind::Symlink, 0o777, 0) };
        let (node, _) = self.union().create(dir.id, &new, CALLER, false).map_err(errno)?;
        self.union().forget(node.id, 1);
        Ok(())
    }

    fn chmod(&mut self, path: &Path, mode: u32) -> Answer<()> {
        let found = self.follow(path)?;
        self.set(&found, &SetAttr { perm: Some(mode), ..SetAttr::default() })
    }

    fn set_mtime(&mut self, path: &Path, time: (i64, u32)) -> Answer<()> {
        let found = self.walk(path)?;
        let mtime = SetTime::At(Time { secs: time.0, nanos: time.1 });
        self.set(&found, &SetAttr { mtime, ..SetAttr::default() })
    }

    fn set_xattr(&mut self, path: &Path, name: &str, value: &[u8]) -> Answer<()> {
        let found = self.follow(path)?;
        self.union().set_xattr(found.id, OsStr::new(name), value, 0, CALLER).map_err(errno)
    }

    fn remove_xattr(&mut self, path: &Path, name: &str) -> Answer<()> {
        let found = self.follow(path)?;
        self.union().remove_xattr(found.id, OsStr::new(name), CALLER).map_err(errno)
    }

    fn open(&mut self, slot: usize, path: &Path) -> Answer<()> {
        let id = {
            let found = self.follow(path)?;
            if found.attr.kind.is_dir() {
                return Err(Errno::EISDIR);
            }
            self.union().open(found.id, false).map_err(errno)?;
            let (dir, name) = self.parent(path)?;
            let (node, _) = self.union().lookup(dir.id, name).map_err(errno)?;
            Arc::clone(&node).id
        };
        self.close(slot);
        self.slots[slot] = Some(id);
        Ok(())
    }

    fn read_open(&mut self, slot: usize) -> Answer<Vec<u8>> {
        self.content(self.slots[slot].ok_or(Errno::EBADF)?)
    }

    fn remount(&mut self) {
        (0..SLOTS).for_each(|slot| self.close(slot));
        self.union().close().unwrap();
        self.union = None;
        self.union = Some(build(&self.home));
    }

    fn view(&mut self) -> Answer<View> {
        let mut view = View::new();
        self.look(ROOT, Path::new(""), &mut view)?;
        Ok(view)
    }
}
