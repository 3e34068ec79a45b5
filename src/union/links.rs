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
                let (names, is_whole) = linked_names(self.lower(at)?)?;
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

/// Reads a whole layer; a directory that a damaged image shows twice is read once. What the daemon may not read, or what is damaged, cannot
/// be shown either: there are no names in it. False where something was damaged, which may have been its disk's fault.
fn linked_names(lower: &dyn Lower) -> Result<(Names, bool)> {
    let (mut names, mut is_whole) = (Names::new(), true);
    let mut may_pass = |e: Error, way: &Path| {
        match e.errno() {
            Errno::EACCES | Errno::EPERM => {}
            Errno::EIO => is_whole = false,
            _ => return Err(e),
        }
        tracing::warn!("names of hard links are not looked for in {}: {e}", way.display());
        Ok(())
    };
    let mut seen: HashSet<LowerId> = HashSet::from([lower.root()]);
    let mut dirs = vec![(lower.root(), PathBuf::new())];
    while let Some((dir, way)) = dirs.pop() {
        let entries = match lower.entries(dir) {
            Ok(entries) => entries,
            Err(e) => {
                may_pass(e, &way)?;
                continue;
            }
        };
        for (name, entry) in entries {
            match linked(lower, dir, &name, &entry) {
                Ok(Some(id)) if entry.kind.is_dir() => {
                    if seen.insert(id) {
                        dirs.push((id, way.join(&name)));
                    }
                }
                Ok(Some(id)) => names.entry(id).or_default().push(way.join(&name)),
                Ok(None) => {}
                Err(e) => may_pass(e, &way.join(&name))?,
            }
        }
    }
    Ok((names, is_whole))
}

/// The inode of a directory, or of a file that has another name.
fn linked(lower: &dyn Lower, dir: LowerId, name: &OsStr, entry: &Listed) -> Result<Option<LowerId>> {
    let is_dir = entry.kind.is_dir();
    if !is_dir && !lower.may_be_linked(dir, name)? {
        return Ok(None);
    }
    let Some(id) = lower.listed(dir, name, entry)? else { return Ok(None) };
    Ok((is_dir || lower.attr(id)?.nlink > 1).then_some(id))
}

/// A name that a whiteout or another layer's object hides, or the way to it.
fn is_invisible(e: &Error) -> bool {
    matches!(e.errno(), Errno::ENOENT | Errno::ENOTDIR | Errno::EOPNOTSUPP)
}
