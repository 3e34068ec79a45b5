//! A POSIX tree in memory, with what an overlay does differently as a policy.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use haosfs::error::Errno;

use super::target::{Answer, Item, Replace, SLOTS, Target, View};

type Id = usize;

/// What becomes of hard links that come from a lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowerLinks {
    /// They stay one file.
    Whole,
    /// Every name is a file of its own, as in the kernel's overlayfs without an index; their link counts are not looked at.
    Broken,
}

#[derive(Clone, Debug)]
enum Body {
    File(Vec<u8>),
    Dir(BTreeMap<String, Id>),
    Symlink(String),
}

#[derive(Clone, Debug)]
struct Inode {
    body: Body,
    perm: u32,
    nlink: u64,
    xattrs: BTreeMap<String, Vec<u8>>,
    mtime: Option<(i64, u32)>,
    /// A directory that is in a lower: it does not move.
    in_lower: bool,
}

/// What operations look for in names.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// A directory.
    pub is_dir: bool,
    /// It has extended attributes.
    pub has_xattrs: bool,
}

/// The tree. Inodes are never reused, so their numbers name them for ever.
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    slots: [Option<Id>; SLOTS],
    /// Inodes whose link count is not known.
    uncounted: Vec<Id>,
}

const ROOT: Id = 0;

impl Tree {
    /// An empty root.
    pub fn new() -> Self {
        let mut tree = Self { inodes: Vec::new(), slots: [None; SLOTS], uncounted: Vec::new() };
        tree.add(Body::Dir(BTreeMap::new()), 0o755);
        tree
    }

    /// Everything so far becomes a lower: directories stay where they are, times are the given one.
    pub fn into_lower(mut self, links: LowerLinks, mtime: (i64, u32)) -> Self {
        self.slots = [None; SLOTS];
        for inode in self.inodes.iter_mut().skip(1) {
            inode.in_lower = matches!(inode.body, Body::Dir(_));
            inode.mtime = Some(mtime);
        }
        if links == LowerLinks::Broken {
            self.split_links();
        }
        self
    }

    /// Paths of all names, in order, whose shape is wanted; the root is none of them.
    pub fn paths(&self, wanted: fn(Shape) -> bool) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        self.list(ROOT, &PathBuf::new(), wanted, &mut paths);
        paths
    }

    fn list(&self, dir: Id, at: &Path, wanted: fn(Shape) -> bool, paths: &mut Vec<PathBuf>) {
        let Ok(entries) = self.entries(dir) else { return };
        for (name, &id) in entries {
            let path = at.join(name);
            if wanted(Shape { is_dir: self.is_dir(id), has_xattrs: !self.inodes[id].xattrs.is_empty() }) {
                paths.push(path.clone());
            }
            self.list(id, &path, wanted, paths);
        }
    }

    fn split_links(&mut self) {
        let linked: Vec<(Id, String, Id)> = (0..self.inodes.len())
            .filter_map(|dir| self.entries(dir).ok().map(|entries| (dir, entries.clone())))
            .flat_map(|(dir, entries)| entries.into_iter().map(move |(name, id)| (dir, name, id)))
            .filter(|&(_, _, id)| !self.is_dir(id) && self.inodes[id].nlink > 1)
            .collect();
        for (dir, name, id) in linked {
            let own = self.inodes.len();
            self.inodes.push(Inode { nlink: 1, ..self.inodes[id].clone() });
            self.uncounted.push(own);
            self.put(dir, &name, own);
        }
    }

    fn add(&mut self, body: Body, perm: u32) -> Id {
        self.inodes.push(Inode { body, perm, nlink: 1, xattrs: BTreeMap::new(), mtime: None, in_lower: false });
        self.inodes.len() - 1
    }

    fn entries(&self, id: Id) -> Answer<&BTreeMap<String, Id>> {
        match &self.inodes[id].body {
            Body::Dir(entries) => Ok(entries),
            Body::File(_) => Err(Errno::ENOTDIR),
            Body::Symlink(_) => Err(Errno::ENOENT),
        }
    }

    fn is_dir(&self, id: Id) -> bool {
        matches!(self.inodes[id].body, Body::Dir(_))
    }

    /// Puts an entry into a directory, which thereby changes.
    fn put(&mut self, dir: Id, name: &str, id: Id) {
        if let Body::Dir(entries) = &mut self.inodes[dir].body {
            entries.insert(name.to_owned(), id);
        }
    }

    fn enter(&mut self, dir: Id, name: &str, id: Id) {
        self.put(dir, name, id);
        self.inodes[dir].mtime = None;
    }

    fn leave(&mut self, dir: Id, name: &str) {
        if let Body::Dir(entries) = &mut self.inodes[dir].body {
            entries.remove(name);
        }
        self.inodes[dir].mtime = None;
    }

    /// The directory of a path's last name, and the name.
    fn parent(&self, path: &Path) -> Answer<(Id, String)> {
        let mut names = names(path);
        let last = names.pop().unwrap_or_default();
        let dir = names.iter().try_fold(ROOT, |dir, name| self.entries(dir)?.get(name).copied().ok_or(Errno::ENOENT))?;
        self.entries(dir)?;
        Ok((dir, last))
    }

    /// What a path names, itself.
    fn find(&self, path: &Path) -> Answer<Id> {
        let (dir, name) = self.parent(path)?;
        self.entries(dir)?.get(&name).copied().ok_or(Errno::ENOENT)
    }

    /// What a path names, followed: links lead nowhere.
    fn follow(&self, path: &Path) -> Answer<Id> {
        let id = self.find(path)?;
        if matches!(self.inodes[id].body, Body::Symlink(_)) { Err(Errno::ENOENT) } else { Ok(id) }
    }

    /// Where a new name goes.
    fn vacancy(&self, path: &Path) -> Answer<(Id, String)> {
        let (dir, name) = self.parent(path)?;
        if self.entries(dir)?.contains_key(&name) { Err(Errno::EEXIST) } else { Ok((dir, name)) }
    }

    fn file(&mut self, path: &Path) -> Answer<&mut Vec<u8>> {
        let id = self.follow(path)?;
        let inode = &mut self.inodes[id];
        match &mut inode.body {
            Body::File(bytes) => {
                inode.mtime = None;
                Ok(bytes)
            }
            Body::Dir(_) | Body::Symlink(_) => Err(Errno::EISDIR),
        }
    }

    fn is_below(&self, path: &Path, ancestor: &Path) -> bool {
        path != ancestor && path.starts_with(ancestor)
    }

    /// What rename(2) asks before anything moves: the inodes of both names.
    fn check_rename(&self, from: &Path, to: &Path, replace: Replace) -> Answer<(Id, Option<Id>)> {
        let ((from_dir, from_name), (to_dir, to_name)) = (self.parent(from)?, self.parent(to)?);
        let source = self.entries(from_dir)?.get(&from_name).copied().ok_or(Errno::ENOENT)?;
        let target = self.entries(to_dir)?.get(&to_name).copied();
        match (replace, target) {
            (Replace::No, Some(_)) => return Err(Errno::EEXIST),
            (Replace::Exchange, None) => return Err(Errno::ENOENT),
            _ => {}
        }
        if self.is_below(to, from) {
            return Err(Errno::EINVAL);
        }
        if self.is_below(from, to) {
            return Err(if replace == Replace::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        Ok((source, target))
    }

    /// What must hold of types and layers, once both names are known.
    fn check_move(&self, source: Id, target: Option<Id>, replace: Replace) -> Answer<()> {
        let overwrites = replace != Replace::Exchange;
        if let Some(target) = target.filter(|_| overwrites) {
            match (self.is_dir(source), self.is_dir(target)) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ => {}
            }
        }
        if self.inodes[source].in_lower || target.is_some_and(|target| !overwrites && self.inodes[target].in_lower) {
            return Err(Errno::EXDEV);
        }
        match target {
            Some(target) if overwrites && self.is_dir(target) && !self.entries(target)?.is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    fn show(&self, dir: Id, at: &Path, view: &mut View) {
        let Ok(entries) = self.entries(dir) else { return };
        for (name, &id) in entries {
            let (path, inode) = (at.join(name), &self.inodes[id]);
            let (kind, content, nlink) = match &inode.body {
                Body::File(bytes) => (libc::S_IFREG, bytes.clone(), inode.nlink),
                Body::Symlink(target) => (libc::S_IFLNK, target.clone().into_bytes(), inode.nlink),
                Body::Dir(_) => (libc::S_IFDIR, Vec::new(), 0),
            };
            let nlink = if self.uncounted.contains(&id) { 0 } else { nlink };
            let (mode, xattrs, mtime) = (kind | inode.perm, inode.xattrs.clone(), inode.mtime);
            view.insert(path.clone(), Item { ino: id as u64, mode, content, nlink, xattrs, mtime });
            self.show(id, &path, view);
        }
    }
}

fn names(path: &Path) -> Vec<String> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    names.collect()
}

impl Target for Tree {
    fn create(&mut self, path: &Path) -> Answer<()> {
        let (dir, name) = self.vacancy(path)?;
        let id = self.add(Body::File(Vec::new()), 0o644);
        self.enter(dir, &name, id);
        Ok(())
    }

    fn write(&mut self, path: &Path, offset: u64, bytes: &[u8]) -> Answer<()> {
        let (file, from) = (self.file(path)?, offset as usize);
        if file.len() < from + bytes.len() {
            file.resize(from + bytes.len(), 0);
        }
        file[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, path: &Path, len: u64) -> Answer<()> {
        self.file(path)?.resize(len as usize, 0);
        Ok(())
    }

    fn mkdir(&mut self, path: &Path) -> Answer<()> {
        let (dir, name) = self.vacancy(path)?;
        // inode(7): a set-group-ID directory passes the bit on to its subdirectories.
        let id = self.add(Body::Dir(BTreeMap::new()), 0o755 | (self.inodes[dir].perm & 0o2000));
        self.enter(dir, &name, id);
        Ok(())
    }

    fn rmdir(&mut self, path: &Path) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        let id = self.find(path)?;
        match &self.inodes[id].body {
            Body::Dir(entries) if entries.is_empty() => {
                self.leave(dir, &name);
                Ok(())
            }
            Body::Dir(_) => Err(Errno::ENOTEMPTY),
            Body::File(_) | Body::Symlink(_) => Err(Errno::ENOTDIR),
        }
    }

    fn unlink(&mut self, path: &Path) -> Answer<()> {
        let (dir, name) = self.parent(path)?;
        let id = self.find(path)?;
        if self.is_dir(id) {
            return Err(Errno::EISDIR);
        }
        self.inodes[id].nlink -= 1;
        self.leave(dir, &name);
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path, replace: Replace) -> Answer<()> {
        let (source, target) = self.check_rename(from, to, replace)?;
        if target == Some(source) {
            return Ok(());
        }
        self.check_move(source, target, replace)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (self.parent(from)?, self.parent(to)?);
        match target {
            Some(target) if replace == Replace::Exchange => self.enter(from_dir, &from_name, target),
            Some(target) => {
                self.inodes[target].nlink -= 1;
                self.leave(from_dir, &from_name);
            }
            None => self.leave(from_dir, &from_name),
        }
        self.enter(to_dir, &to_name, source);
        // A directory that moves between directories may change by its "..".
        for moved in [Some(source), target].into_iter().flatten().filter(|_| from_dir != to_dir) {
            if self.is_dir(moved) {
                self.inodes[moved].mtime = None;
            }
        }
        Ok(())
    }

    fn link(&mut self, from: &Path, to: &Path) -> Answer<()> {
        let id = self.find(from)?;
        let (dir, name) = self.vacancy(to)?;
        if self.is_dir(id) {
            return Err(Errno::EPERM);
        }
        self.inodes[id].nlink += 1;
        self.enter(dir, &name, id);
        Ok(())
    }

    fn symlink(&mut self, target: &str, path: &Path) -> Answer<()> {
        let (dir, name) = self.vacancy(path)?;
        let id = self.add(Body::Symlink(target.to_owned()), 0o777);
        self.enter(dir, &name, id);
        Ok(())
    }

    fn chmod(&mut self, path: &Path, mode: u32) -> Answer<()> {
        let id = self.follow(path)?;
        self.inodes[id].perm = mode;
        Ok(())
    }

    fn set_mtime(&mut self, path: &Path, time: (i64, u32)) -> Answer<()> {
        let id = self.find(path)?;
        self.inodes[id].mtime = Some(time);
        Ok(())
    }

    fn set_xattr(&mut self, path: &Path, name: &str, value: &[u8]) -> Answer<()> {
        let id = self.follow(path)?;
        self.inodes[id].xattrs.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn remove_xattr(&mut self, path: &Path, name: &str) -> Answer<()> {
        let id = self.follow(path)?;
        self.inodes[id].xattrs.remove(name).map(drop).ok_or(Errno::ENODATA)
    }

    fn open(&mut self, slot: usize, path: &Path) -> Answer<()> {
        let id = self.follow(path)?;
        if self.is_dir(id) {
            return Err(Errno::EISDIR);
        }
        self.slots[slot] = Some(id);
        Ok(())
    }

    fn read_open(&mut self, slot: usize) -> Answer<Vec<u8>> {
        match self.slots[slot].map(|id| &self.inodes[id].body) {
            Some(Body::File(bytes)) => Ok(bytes.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    fn remount(&mut self) {
        self.slots = [None; SLOTS];
    }

    fn view(&mut self) -> Answer<View> {
        let mut view = View::new();
        self.show(ROOT, &PathBuf::new(), &mut view);
        Ok(view)
    }
}
