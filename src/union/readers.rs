//! Who is just reading attributes of the upper, for those who change a directory's times for a moment: only a reader who was there
//! meanwhile can have seen them.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many have begun to read, and how many have ended.
#[derive(Debug, Default)]
pub(super) struct Readers {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// One who reads until this is dropped.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a Readers);

/// A moment: so many had ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

impl Readers {
    /// Before one reads.
    pub(super) fn enter(&self) -> Reader<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Reader(self)
    }

    /// Before what nobody is to see.
    pub(super) fn now(&self) -> Moment {
        Moment(self.ended.load(Ordering::SeqCst))
    }

    /// After it: whether somebody may have.
    pub(super) fn were_there_since(&self, Moment(ended): Moment) -> bool {
        self.begun.load(Ordering::SeqCst) != ended
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_counts_who_began_before_the_end_and_did_not_end_before_the_beginning() {
        let readers = Readers::default();
        drop(readers.enter());
        let moment = readers.now();
        assert!(!readers.were_there_since(moment), "before it");
        let reader = readers.enter();
        assert!(readers.were_there_since(moment), "still there");
        let within = readers.now();
        drop(reader);
        assert!([moment, within].into_iter().all(|moment| readers.were_there_since(moment)), "gone meanwhile");
        assert!(!readers.were_there_since(readers.now()));
    }
}
