//! Open directories. A position belongs to a name for as long as anybody has the directory open, so that whoever goes on from
//! one misses nothing and meets nothing twice while names come and go (readdir(3), telldir(3)).
//!
//! The kernel may keep a listing beyond that, in which positions are those of its time. It forgets it when the directory
//! changes, and unchanged directories give the same positions again: names are counted in their order. Only where names
//! came or went while the directory was open is that not so; such a directory is from then on listed without the kernel's help.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::{DashMap, DashSet};
use parking_lot::Mutex;

use super::listing::Entry;
use super::{NodeId, Union};
use crate::error::{Errno, Result};
use crate::types::Kind;

/// Names an open directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u64);

/// An entry and the position behind it.
type Placed = (u64, Entry);

/// The names of a directory in order of their positions, which start at 1.
#[derive(Clone, Debug, Default)]
struct Order {
    entries: Arc<[Placed]>,
    /// The last position that was ever given.
    last: u64,
}

impl Order {
    fn new(entries: Vec<Entry>) -> Self {
        let entries: Arc<[Placed]> = (1..).zip(entries).collect();
        Self { last: entries.last().map_or(0, |(at, _)| *at), entries }
    }

    /// What stands there now: names that were there keep their positions, new ones come behind all others.
    fn renew(&self, entries: Vec<Entry>) -> Self {
        let mut known: HashMap<&OsString, u64> = self.entries.iter().map(|(at, entry)| (&entry.name, *at)).collect();
        let mut last = self.last;
        let mut place = |entry: Entry| {
            let at = known.remove(&entry.name).unwrap_or_else(|| {
                last += 1;
                last
            });
            (at, entry)
        };
        let mut entries: Vec<Placed> = entries.into_iter().map(&mut place).collect();
        entries.sort_by_key(|(at, _)| *at);
        Self { entries: entries.into(), last }
    }

    /// True where counting the names would give the same positions.
    fn is_counted(&self) -> bool {
        let counted = self.entries.iter().map(|(at, entry)| (*at, &entry.name)).zip(1..).all(|((at, _), n)| at == n);
        counted && self.entries.iter().skip(DOTS).is_sorted_by(|(_, a), (_, b)| a.name < b.name)
    }
}

/// `.` and `..` come first.
const DOTS: usize = 2;

/// A directory that is open.
#[derive(Debug)]
struct OpenDir {
    order: Arc<Mutex<Order>>,
    streams: usize,
}

/// All open directories of a union.
#[derive(Debug, Default)]
pub struct Streams {
    open: DashMap<StreamId, (NodeId, Arc<Mutex<Order>>)>,
    dirs: DashMap<NodeId, OpenDir>,
    /// Directories that were listed to the end: the kernel may have kept that.
    listed: DashSet<NodeId>,
    /// Directories whose positions counting does not give again.
    uncounted: DashSet<NodeId>,
    next: AtomicU64,
}

impl Streams {
    fn add(&self, id: NodeId, fresh: impl FnOnce() -> Result<Order>) -> Result<Arc<Mutex<Order>>> {
        if let Some(mut dir) = self.dirs.get_mut(&id) {
            dir.streams += 1;
            return Ok(Arc::clone(&dir.order));
        }
        let fresh = Arc::new(Mutex::new(fresh()?));
        let mut dir = self.dirs.entry(id).or_insert_with(|| OpenDir { order: fresh, streams: 0 });
        dir.streams += 1;
        Ok(Arc::clone(&dir.order))
    }

    fn remove(&self, id: NodeId) {
        let last = self.dirs.remove_if_mut(&id, |_, dir| {
            dir.streams = dir.streams.saturating_sub(1);
            dir.streams == 0
        });
        if last.is_some_and(|(_, dir)| !dir.order.lock().is_counted()) {
            self.uncounted.insert(id);
        }
    }

    /// A directory that the kernel has forgotten, and with it whatever it had kept of its listings.
    pub(super) fn forget(&self, id: NodeId) {
        self.listed.remove(&id);
        self.uncounted.remove(&id);
    }
}

impl Union {
    /// Opens a directory for listing. True where the kernel may keep the listing.
    ///
    /// # Errors
    /// `ENOTDIR`, and what the layers say.
    pub fn open_dir(&self, id: NodeId) -> Result<(StreamId, bool)> {
        self.dir(id)?;
        // Whoever is served from what the kernel has kept may come to us in the middle, after a change.
        let now = || if self.streams.listed.contains(&id) { Ok(Order::new(self.listing(id)?)) } else { Ok(Order::default()) };
        let order = self.streams.add(id, now)?;
        let stream = StreamId(self.streams.next.fetch_add(1, Ordering::Relaxed));
        self.streams.open.insert(stream, (id, order));
        Ok((stream, !self.streams.uncounted.contains(&id)))
    }

    /// Ends it.
    pub fn close_dir(&self, stream: StreamId) {
        if let Some((_, (id, _))) = self.streams.open.remove(&stream) {
            self.streams.remove(id);
        }
    }

    /// Gives the entries from `position` on to `take`, with the position that follows each, until it returns false. Position 0
    /// starts anew (rewinddir(3)): then, and only then, names made or removed since show.
    ///
    /// # Errors
    /// `EBADF` for a stream that is not open, and what the layers say.
    pub fn read_dir(&self, id: NodeId, stream: StreamId, position: u64, mut take: impl FnMut(&Entry, u64) -> bool) -> Result<()> {
        let order = self.streams.open.get(&stream).map(|open| Arc::clone(&open.1)).ok_or(Errno::EBADF)?;
        let entries = {
            let mut order = order.lock();
            if position == 0 || order.entries.is_empty() {
                *order = order.renew(self.listing(id)?);
            }
            Arc::clone(&order.entries)
        };
        let from = entries.partition_point(|(at, _)| *at <= position);
        for (at, entry) in entries.get(from..).unwrap_or_default() {
            if !take(entry, *at) {
                return Ok(());
            }
        }
        self.streams.listed.insert(id);
        Ok(())
    }

    /// `.`, `..`, and the visible names in their order.
    fn listing(&self, id: NodeId) -> Result<Vec<Entry>> {
        let [this, parent] = self.dots(id)?;
        let dot = |name: &str, ino| Entry { name: name.into(), ino, kind: Kind::Dir };
        let mut all = vec![dot(".", this), dot("..", parent)];
        all.extend(self.entries(id)?);
        if let Some(names) = all.get_mut(DOTS..) {
            names.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> Vec<Entry> {
        [".", ".."].iter().chain(names).map(|name| Entry { name: name.into(), ino: 1, kind: Kind::File }).collect()
    }

    fn places(order: &Order) -> Vec<(u64, &str)> {
        order.entries.iter().map(|(at, entry)| (*at, entry.name.to_str().unwrap())).skip(DOTS).collect()
    }

    #[test]
    fn names_keep_their_positions() {
        let order = Order::new(entries(&["a", "b", "c"]));
        assert_eq!(places(&order), [(3, "a"), (4, "b"), (5, "c")]);
        assert!(order.is_counted());
        let order = order.renew(entries(&["aa", "b", "c"]));
        assert_eq!(places(&order), [(4, "b"), (5, "c"), (6, "aa")]);
        assert!(!order.is_counted());
        let order = order.renew(entries(&["a", "b"]));
        assert_eq!(places(&order), [(4, "b"), (7, "a")], "a position is not given twice");
    }

    #[test]
    fn what_did_not_change_is_counted() {
        let order = Order::new(entries(&["a", "b"]));
        assert!(order.renew(entries(&["a", "b"])).is_counted());
        // The positions are those of counting, but not the names behind them.
        assert!(!Order::new(entries(&["b", "c"])).renew(entries(&["a", "b", "c"])).is_counted());
        assert!(!order.renew(entries(&["a"])).renew(entries(&["a", "b"])).is_counted());
    }
}
