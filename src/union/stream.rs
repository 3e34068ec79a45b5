//! Open directories: a listing taken once per pass, so that positions stay true while names come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::listing::Entry;
use super::{NodeId, Union};
use crate::error::{Errno, Result};
use crate::types::Kind;

/// Names an open directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u64);

type Snapshot = Arc<[Entry]>;

/// All open directories of a union.
#[derive(Debug, Default)]
pub struct Streams {
    open: DashMap<StreamId, Arc<Mutex<Option<Snapshot>>>>,
    next: AtomicU64,
}

impl Union {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn open_dir(&self, id: NodeId) -> Result<StreamId> {
        self.dir(id)?;
        let stream = StreamId(self.streams.next.fetch_add(1, Ordering::Relaxed));
        self.streams.open.insert(stream, Arc::default());
        Ok(stream)
    }

    /// Ends it.
    pub fn close_dir(&self, stream: StreamId) {
        self.streams.open.remove(&stream);
    }

    /// Gives the entries from `position` on to `take`, with the position that follows each, until it returns false. Position 0
    /// starts anew (rewinddir(3)): then, and only then, names made or removed since show.
    ///
    /// # Errors
    /// `EBADF` for a stream that is not open, and what the layers say.
    pub fn read_dir(&self, id: NodeId, stream: StreamId, position: u64, mut take: impl FnMut(&Entry, u64) -> bool) -> Result<()> {
        let slot = self.streams.open.get(&stream).map(|slot| Arc::clone(&slot)).ok_or(Errno::EBADF)?;
        let snapshot = {
            let mut slot = slot.lock();
            match &*slot {
                Some(snapshot) if position > 0 => Arc::clone(snapshot),
                _ => Arc::clone(slot.insert(self.snapshot(id)?)),
            }
        };
        let from = usize::try_from(position).unwrap_or(usize::MAX);
        for (next, entry) in (position + 1..).zip(snapshot.get(from..).unwrap_or_default()) {
            if !take(entry, next) {
                break;
            }
        }
        Ok(())
    }

    fn snapshot(&self, id: NodeId) -> Result<Snapshot> {
        let [this, parent] = self.dots(id)?;
        let dot = |name: &str, ino| Entry { name: name.into(), ino, kind: Kind::Dir };
        let mut all = vec![dot(".", this), dot("..", parent)];
        all.extend(self.entries(id)?);
        Ok(all.into())
    }
}
