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
    /// How many have begun: the number of the next one.
    begun: AtomicU64,
    /// How many have ended. One that has not tells also what came to grief while it ran.
    ended: AtomicU64,
    failures: Mutex<Failures>,
    first_failure: OnceLock<Errno>,
}

/// Those that have failed, the last one first.
#[derive(Debug, Default)]
struct Failures {
    apart: VecDeque<(u64, Errno)>,
    /// The last one of those before.
    before: Option<(u64, Errno)>,
}

impl Syncs {
    pub(super) fn new(by: OwnedFd) -> Self {
        Self {
            by,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            failures: Mutex::default(),
            first_failure: OnceLock::new(),
        }
    }

    /// The number of the first one that makes durable what is written by now.
    pub(super) fn next(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// The number of the first one that may tell what comes to grief from now on.
    pub(super) fn telling(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Makes all durable.
    ///
    /// # Errors
    /// What could not be written since the last time, whoever wrote it.
    pub(super) fn run(&self) -> Result<(), Errno> {
        self.run_in(&mut self.failures.lock())
    }

    /// What has come of a file's writes; where that is not known, all is made durable.
    ///
    /// # Errors
    /// What could not be written meanwhile, of this file or of another.
    pub(super) fn outcome(&self, unheard: &Unheard) -> Result<(), Errno> {
        let mut failures = self.failures.lock();
        if self.telling() <= *unheard.0.end() {
            let _noted = self.run_in(&mut failures);
        }
        failures.that_concerns(unheard).map_or(Ok(()), Err)
    }

    /// What [`Syncs::run`] has answered once, and would not answer again.
    pub(super) fn first_failure(&self) -> Option<Errno> {
        self.first_failure.get().copied()
    }

    fn run_in(&self, failures: &mut Failures) -> Result<(), Errno> {
        let this = self.begun.fetch_add(1, Ordering::AcqRel);
        let done = data::sync_all(&self.by);
        if let Err(e) = done {
            failures.note(this, e);
            let _first_stays = self.first_failure.set(e);
        }
        self.ended.store(this.saturating_add(1), Ordering::Release);
        done
    }
}

impl Failures {
    fn note(&mut self, number: u64, errno: Errno) {
        self.apart.push_front((number, errno));
        if self.apart.len() > FAILED {
            self.before = self.apart.pop_back();
        }
    }

    fn that_concerns(&self, unheard: &Unheard) -> Option<Errno> {
        let among = self.apart.iter().find(|(number, _)| unheard.0.contains(number));
        among.or(self.before.as_ref().filter(|(last, _)| unheard.0.start() <= last)).map(|(_, errno)| *errno)
    }
}

/// The numbers of those by which one hears what has come of a file's writes: from the first that could tell of them to the first that has
/// made all of them durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unheard(RangeInclusive<u64>);

/// What was written to a file since it was last synchronised.
#[derive(Debug, Default)]
pub(super) struct Written {
    since: Option<u64>,
    closed: Option<u64>,
}

impl Written {
    /// Something was written; `telling` is what [`Syncs::telling`] was before.
    pub(super) fn add(&mut self, telling: u64) {
        self.since = Some(self.since.map_or(telling, |since| since.min(telling)));
    }

    /// By a descriptor that is closed; `next` is what [`Syncs::next`] is since.
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
        let first = written(syncs.telling(), syncs.next());
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

    /// What is written while one runs may be lost before that ends, which then tells; but it may not be what that makes durable.
    #[test]
    fn one_that_runs_tells_and_does_not_answer() {
        let syncs = syncs();
        syncs.begun.store(1, Ordering::Release);
        let meanwhile = written(syncs.telling(), syncs.next());
        assert_eq!(meanwhile, Unheard(0..=1));
        syncs.failures.lock().note(0, Errno::EIO);
        syncs.ended.store(1, Ordering::Release);
        assert_eq!(syncs.outcome(&meanwhile), Err(Errno::EIO));
        assert_eq!(syncs.next(), 2, "it was made durable all the same");
        assert_eq!(syncs.outcome(&written(syncs.telling(), syncs.next())), Ok(()));
    }

    fn failures(all: impl IntoIterator<Item = (u64, Errno)>) -> Failures {
        let mut failures = Failures::default();
        all.into_iter().for_each(|(number, errno)| failures.note(number, errno));
        failures
    }

    #[test]
    fn a_failure_is_that_of_all_who_wrote_before() {
        let failures = failures([(2, Errno::EIO), (5, Errno::ENOSPC)]);
        let told = |since, closed| failures.that_concerns(&written(since, closed));
        assert_eq!(told(0, 1), None);
        assert_eq!(told(0, 2), Some(Errno::EIO));
        assert_eq!(told(2, 4), Some(Errno::EIO), "it was told while the descriptor was open");
        assert_eq!(told(3, 4), None);
        assert_eq!(told(3, 8), Some(Errno::ENOSPC));
        assert_eq!(told(6, 8), None);
    }

    #[test]
    fn what_is_not_told_apart_has_failed() {
        let many = |count: usize| failures((0..count as u64).map(|n| (100 + 2 * n, Errno::EIO)));
        let told = |failures: &Failures, since, closed| failures.that_concerns(&written(since, closed));
        assert_eq!(told(&many(FAILED), 7, 8), None);
        let more = many(FAILED + 1);
        assert_eq!(told(&more, 7, 8), Some(Errno::EIO));
        assert_eq!(told(&more, 101, 101), None);
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
        for (telling, closed) in [(6, 6), (5, 7)] {
            file.add(telling);
            file.close(closed);
        }
        assert_eq!(file.synchronise(), Some(Unheard(5..=7)));
        assert_eq!(file.synchronise(), None);
    }
}
