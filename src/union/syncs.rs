//! Each time that all of the upper was made durable, and what came of it.
//!
//! fsync(2) tells a descriptor what could not be written, also where that was tried long before. One that had to be closed is told nothing
//! any more, and who opens the file again perhaps neither: the kernel forgets a file's errors with its inode, which nobody keeps from then
//! on. Those of a whole file system it does not forget (Documentation/core-api/errseq.rst; syncfs(2), since Linux 5.8). So what was written
//! by a descriptor that is closed is asked for by that: once for all files of which it was closed before.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::Errno;
use crate::sys::data;

/// So many that failed are told apart.
const FAILED: usize = 64;

/// They are numbered in their order, from 0.
#[derive(Debug)]
pub(super) struct Syncs {
    /// On the upper's file system. A descriptor is told of each error that came after it was opened, of earlier ones that nobody was told
    /// of yet only: so it is one from the beginning on, and asked here alone.
    by: OwnedFd,
    /// The number of the next one.
    next: AtomicU64,
    ended: Mutex<Ended>,
    first_failure: OnceLock<Errno>,
}

#[derive(Debug, Default)]
struct Ended {
    count: u64,
    failed: VecDeque<(u64, Errno)>,
}

impl Syncs {
    pub(super) const fn new(by: OwnedFd) -> Self {
        let ended = Mutex::new(Ended { count: 0, failed: VecDeque::new() });
        Self { by, next: AtomicU64::new(0), ended, first_failure: OnceLock::new() }
    }

    /// The number of the next one.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Makes all durable.
    ///
    /// # Errors
    /// What could not be written since the last time, whoever wrote it.
    pub(super) fn run(&self) -> Result<(), Errno> {
        self.run_in(&mut self.ended.lock())
    }

    /// What has come of a file's writes; where that is not known, all is made durable.
    ///
    /// # Errors
    /// What could not be written meanwhile, of this file or of another.
    pub(super) fn outcome(&self, unheard: &Unheard) -> Result<(), Errno> {
        let mut ended = self.ended.lock();
        if ended.count <= *unheard.0.end() {
            let _noted = self.run_in(&mut ended);
        }
        ended.failure(unheard).map_or(Ok(()), Err)
    }

    /// What [`Syncs::run`] has answered once, and would not answer again.
    pub(super) fn first_failure(&self) -> Option<Errno> {
        self.first_failure.get().copied()
    }

    fn run_in(&self, ended: &mut Ended) -> Result<(), Errno> {
        // What is closed from here on belongs to the next one.
        let this = self.next.fetch_add(1, Ordering::AcqRel);
        let done = data::sync_all(&self.by);
        ended.count = this.saturating_add(1);
        if let Err(e) = done {
            ended.failed.truncate(FAILED - 1);
            ended.failed.push_front((this, e));
            let _first_stays = self.first_failure.set(e);
        }
        done
    }
}

impl Ended {
    /// One that is not told apart any more has failed.
    fn failure(&self, unheard: &Unheard) -> Option<Errno> {
        let (from, to) = (*unheard.0.start(), *unheard.0.end());
        let among = |(at, _): &&(u64, Errno)| (from..=to).contains(at);
        let forgotten = || self.failed.back().filter(|(first, _)| self.failed.len() == FAILED && from < *first);
        self.failed.iter().find(among).or_else(forgotten).map(|(_, errno)| *errno)
    }
}

/// The numbers of those by which one hears what has come of a file's writes: of the first that its first write can be told by, and of
/// the one that its descriptor was closed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unheard(RangeInclusive<u64>);

/// What was written to a file since it was last synchronised.
#[derive(Debug, Default)]
pub(super) struct Written {
    since: Option<u64>,
    closed: Option<u64>,
}

impl Written {
    /// A write; `next` is the number of the next one.
    pub(super) const fn add(&mut self, next: u64) {
        if self.since.is_none() {
            self.since = Some(next);
        }
    }

    /// The descriptor is closed; `next` is the number of the next one.
    pub(super) const fn close(&mut self, next: u64) {
        if self.since.is_some() {
            self.closed = Some(next);
        }
    }

    /// The file is going to be synchronised by the descriptor that it has now. Answers what that one may not tell.
    pub(super) fn synchronise(&mut self) -> Option<Unheard> {
        let (since, closed) = (self.since.take(), self.closed.take());
        Some(Unheard(since?..=closed?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syncs() -> Syncs {
        Syncs::new(std::fs::File::open("/proc").unwrap().into())
    }

    fn written(since: u64, closed: u64) -> Unheard {
        let mut written = Written::default();
        written.add(since);
        written.close(closed);
        written.synchronise().unwrap()
    }

    #[test]
    fn one_answers_for_all_that_were_closed_before() {
        let syncs = syncs();
        let first = written(syncs.next(), syncs.next());
        assert_eq!(syncs.outcome(&first), Ok(()));
        assert_eq!(syncs.next(), 1);
        assert_eq!(syncs.outcome(&first), Ok(()));
        assert_eq!(syncs.next(), 1, "it is known");
        assert_eq!(syncs.outcome(&written(0, syncs.next())), Ok(()));
        assert_eq!(syncs.next(), 2, "one that was closed since was not asked for");
        syncs.run().unwrap();
        assert_eq!(syncs.outcome(&written(1, 2)), Ok(()));
        assert_eq!(syncs.next(), 3, "whoever has run it");
    }

    #[test]
    fn a_failure_is_that_of_all_who_wrote_before() {
        let failed = VecDeque::from([(5, Errno::ENOSPC), (2, Errno::EIO)]);
        let ended = Ended { count: 9, failed };
        let told = |since, closed| ended.failure(&written(since, closed));
        assert_eq!(told(0, 1), None);
        assert_eq!(told(0, 2), Some(Errno::EIO));
        assert_eq!(told(2, 4), Some(Errno::EIO), "it was told while the descriptor was open");
        assert_eq!(told(3, 4), None);
        assert_eq!(told(3, 8), Some(Errno::ENOSPC));
        assert_eq!(told(6, 8), None);
    }

    #[test]
    fn what_is_not_told_apart_has_failed() {
        let failed: VecDeque<_> = (0..FAILED as u64).rev().map(|n| (100 + 2 * n, Errno::EIO)).collect();
        let ended = Ended { count: 1000, failed };
        let told = |since, closed| ended.failure(&written(since, closed));
        assert_eq!(told(7, 8), Some(Errno::EIO));
        assert_eq!(told(101, 101), None);
    }

    #[test]
    fn what_is_open_or_was_synchronised_needs_none() {
        let mut file = Written::default();
        file.close(1);
        assert_eq!(file.synchronise(), None, "nothing was written");
        file.add(3);
        assert_eq!(file.synchronise(), None, "its descriptor tells");
        file.close(4);
        assert_eq!(file.synchronise(), None, "it was synchronised");
        for (next, closed) in [(5, 5), (6, 7)] {
            file.add(next);
            file.close(closed);
        }
        assert_eq!(file.synchronise(), Some(Unheard(5..=7)));
        assert_eq!(file.synchronise(), None);
    }
}
