//! The names that hard links of a lower have, all of them: looked for when the last known name of a changed file is about to go,
//! so that the file lives on under the others, and only under those that can be seen.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::lookup::Found;
use super::lower::{Listed, Lower, LowerId};
use super::node::{Link, LowerAt, Node, NodeId, Place, ROOT};
use super::{Union, node};
use crate::error::{Errno, Error, Result};

/// Ways from the root of a layer to every inode that has more than one name.
type Names = HashMap<LowerId, Vec<PathBuf>>;

/// What was found of each layer, once it was needed.
#[derive(Debug, Default)]
pub struct Links {
    layers: Mutex<HashMap<usize, Arc<Names>>>,
}

impl Union {
    /// The node whose other names must be found before this one may go: it is in the upper, and has names that nobody has seen
    /// yet. The caller holds the names.
    pub(super) fn reluctant(&self, parent: &Arc<Node>, name: &OsStr, found: &Found) -> Result<Option<Arc<Node>>> {
        let Some(node) = self.node_found(found)? else { return Ok(None) };
        let is_so = {
            let state = node.state.read();
            state.index.is_none() && state.latent > 0 && state.is_last_in_upper(parent, name)
        };
        Ok(is_so.then_some(node))
    }

    /// Looks up every name of the node's lower inode, by which they join it in the upper; those that cannot be seen are no
    /// names of it from now on. The caller holds no lock.
    ///
    /// # Errors
    /// The upper's answers where a name cannot join.
    pub(super) fn find_latent(&self, node: &Arc<Node>) -> Result<()> {
        let lower = node.keys.lock().iter().find_map(|key| key.as_lower());
        if let Some(at) = lower {
            for way in self.names_of(at)? {
                match self.visit(&way) {
                    Ok(()) => {}
                    Err(e) if is_invisible(&e) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        let below: Vec<Link> = node.state.read().links.iter().filter(|link| link.below).cloned().collect();
        for link in below {
            self.raise_link(node, &link.parent, &link.name)?;
        }
        let unpinned = {
            let mut state = node.state.write();
            state.latent = 0;
            std::mem::take(&mut state.pinned)
        };
        if unpinned {
            self.table.release(node, 1);
        }
        Ok(())
    }

    /// As [`Union::find_latent`], for a file that has lost all its known names but not those that nobody has seen.
    pub(super) fn find_names_again(&self, node: &Arc<Node>) -> Result<()> {
        let is_nameless = {
            let state = node.state.read();
            matches!(state.place, Place::Lower) && state.links.is_empty() && node.id != ROOT && !node.kind.is_dir()
        };
        if is_nameless { self.find_latent(node) } else { Ok(()) }
    }

    /// Looks a way up from the root, and lets go again of everything on it.
    fn visit(&self, way: &Path) -> Result<()> {
        let mut held: Vec<NodeId> = Vec::new();
        let mut at = node::ROOT;
        let mut answer = Ok(());
        for name in way {
            match self.lookup(at, name) {
                Ok((node, _)) => {
                    at = node.id;
                    held.push(at);
                }
                Err(e) => {
                    answer = Err(e);
                    break;
                }
            }
        }
        held.into_iter().rev().for_each(|id| self.forget(id, 1));
        answer
    }

    fn names_of(&self, at: LowerAt) -> Result<Vec<PathBuf>> {
        let known = self.links.layers.lock().get(&at.layer).cloned();
        let names = match known {
            Some(names) => names,
            None => {
                let lower = self.lower(at)?;
                let (names, is_whole) = linked_names(lower, Bounds::of(lower))?;
                let names = Arc::new(names);
                if is_whole {
                    self.links.layers.lock().insert(at.layer, Arc::clone(&names));
                }
                names
            }
        };
        Ok(names.get(&at.id).cloned().unwrap_or_default())
    }
}

/// What a layer may come to. One that was made to be endless, with directories that share a list, has as many names as it has
/// directories times names in the list.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Names of directories, and of files with one name.
    sole: u64,
    /// Bytes that ways take.
    ways: usize,
}

impl Bounds {
    /// As many ways as a million names of a usual length take.
    const WAYS: usize = 128 << 20;
    /// Names that are looked at in a few seconds.
    const SOLE: u64 = 1 << 24;

    fn of(lower: &dyn Lower) -> Self {
        Self { sole: lower.inodes().map_or(u64::MAX, |inodes| inodes.min(Self::SOLE)), ways: Self::WAYS }
    }

    /// `None` where that was one too many.
    fn take_sole(&mut self) -> Option<()> {
        self.sole = self.sole.checked_sub(1)?;
        Some(())
    }

    fn take_way(&mut self, way: &Path) -> Option<()> {
        self.ways = self.ways.checked_sub(room_of(way))?;
        Some(())
    }

    fn give_back(&mut self, way: &Path) {
        self.ways = self.ways.saturating_add(room_of(way));
    }
}

/// Bytes that a way takes with what keeps it.
fn room_of(way: &Path) -> usize {
    way.as_os_str().len().saturating_add(64)
}

/// A walk through a whole layer; a directory that a damaged image shows twice is read once.
struct Search<'a> {
    lower: &'a dyn Lower,
    bounds: Bounds,
    names: Names,
    seen: HashSet<LowerId>,
    /// Directories that are still to be read.
    dirs: Vec<(LowerId, PathBuf)>,
    /// Nothing was damaged.
    is_whole: bool,
}

impl<'a> Search<'a> {
    fn new(lower: &'a dyn Lower, bounds: Bounds) -> Self {
        let root = lower.root();
        let (seen, dirs) = (HashSet::from([root]), vec![(root, PathBuf::new())]);
        Self { lower, bounds, names: Names::new(), seen, dirs, is_whole: true }
    }

    /// False where the layer passes its bounds.
    fn run(&mut self) -> Result<bool> {
        while let Some((dir, way)) = self.dirs.pop() {
            self.bounds.give_back(&way);
            let entries = match self.lower.entries(dir) {
                Ok(entries) => entries,
                Err(e) => {
                    self.pass(e, &way)?;
                    continue;
                }
            };
            for (name, entry) in entries {
                let found = linked(self.lower, dir, &name, &entry);
                let taken = match found {
                    Ok(Some((id, _))) if entry.kind.is_dir() => self.take_directory(id, || way.join(&name)),
                    Ok(Some((id, links))) => self.take_name(id, links, way.join(&name)),
                    Ok(None) => self.bounds.take_sole(),
                    Err(e) => {
                        self.pass(e, &way.join(&name))?;
                        self.bounds.take_sole()
                    }
                };
                if taken.is_none() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn take_directory(&mut self, id: LowerId, way: impl FnOnce() -> PathBuf) -> Option<()> {
        self.bounds.take_sole()?;
        if self.seen.insert(id) {
            let way = way();
            self.bounds.take_way(&way)?;
            self.dirs.push((id, way));
        }
        Some(())
    }

    fn take_name(&mut self, id: LowerId, links: u32, way: PathBuf) -> Option<()> {
        self.bounds.take_way(&way)?;
        let ways = self.names.entry(id).or_default();
        ways.push(way);
        let is_counted = self.lower.inodes().is_none() || ways.len() <= links as usize;
        is_counted.then_some(())
    }

    /// What the daemon may not read, or what is damaged, cannot be shown either: there are no names in it.
    fn pass(&mut self, e: Error, way: &Path) -> Result<()> {
        match e.errno() {
            Errno::EACCES | Errno::EPERM => {}
            Errno::EIO => self.is_whole = false,
            _ => return Err(e),
        }
        tracing::warn!("names of hard links are not looked for in {}: {e}", way.display());
        Ok(())
    }
}

/// The names of a whole layer. False where something was damaged, which may have been its disk's fault.
fn linked_names(lower: &dyn Lower, bounds: Bounds) -> Result<(Names, bool)> {
    let mut search = Search::new(lower, bounds);
    if search.run()? {
        return Ok((search.names, search.is_whole));
    }
    tracing::warn!(
        "a layer has more names than inodes and link counts allow, or too many hard links to be kept in mind: of a file that is \
         changed and then removed, other names show what it was before; `haosfs image verify` tells whether an image is damaged"
    );
    Ok((Names::new(), true))
}

/// The inode of a directory, or of a file that has another name, and its link count.
fn linked(lower: &dyn Lower, dir: LowerId, name: &OsStr, entry: &Listed) -> Result<Option<(LowerId, u32)>> {
    let is_dir = entry.kind.is_dir();
    if !is_dir && !lower.may_be_linked(dir, name)? {
        return Ok(None);
    }
    let Some(id) = lower.listed(dir, name, entry)? else { return Ok(None) };
    if is_dir {
        return Ok(Some((id, 0)));
    }
    let links = lower.attr(id)?.nlink;
    Ok((links > 1).then_some((id, links)))
}

/// A name that a whiteout or another layer's object hides, or the way to it.
fn is_invisible(e: &Error) -> bool {
    matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR | Errno::EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::super::DirLower;
    use super::*;

    #[test]
    fn a_layer_beyond_its_bounds_has_no_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("dir")).unwrap();
        ["one", "dir/sole", "dir/other"].iter().for_each(|name| std::fs::write(at(name), "").unwrap());
        std::fs::hard_link(at("one"), at("dir/two")).unwrap();
        let lower = DirLower::open(dir.path()).unwrap();
        let found = |sole, ways| {
            let (names, is_whole) = linked_names(&lower, Bounds { sole, ways }).unwrap();
            assert!(is_whole);
            names.into_values().flatten().count()
        };
        let (sole, ways) = (3, room_of(Path::new("one")) + room_of(Path::new("dir/two")));
        assert_eq!(found(sole, ways), 2);
        assert_eq!(found(sole - 1, ways), 0);
        // The root's way was given back, and not taken.
        assert_eq!(found(sole, ways - room_of(Path::new("")) - 1), 0);
    }
}
