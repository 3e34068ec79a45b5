//! What the workers of a session do, and who asks them.

use std::time::Duration;

/// Whoever has asked within so many requests may ask again at any time.
const MEMORY: u32 = 64;
/// An answer that took as long is slow: a disk is asked, mostly, and others can be answered meanwhile.
const SLOW: Duration = Duration::from_micros(300);
/// So many requests after a slow one may be slow as well.
const SLOW_ONES: u32 = 16;

/// Workers by what they do; all others have a request.
#[derive(Debug, Default)]
pub(super) struct Workers {
    pub(super) listening: usize,
    pub(super) parked: usize,
    /// So many of those that are parked are to listen.
    pub(super) called: usize,
    pub(super) in_burst: bool,
    /// Requests that have come so far.
    pub(super) begun: u64,
    /// The thread that has asked last, and for how many requests it is not the only one.
    pub(super) asker: u32,
    pub(super) crowd: u32,
    /// For how many requests answers are taken for slow.
    pub(super) slow: u32,
    /// For how many requests it counts that a worker had much to do beside another one.
    pub(super) busy: u32,
}

impl Workers {
    /// Nobody listens, though there is somebody who could.
    pub(super) const fn is_due(&self) -> bool {
        self.in_burst && self.listening + self.called == 0 && self.parked > 0
    }

    /// Calls one of those that are parked, if nobody listens.
    pub(super) fn call(&mut self) -> bool {
        let is_due = self.is_due();
        self.called += usize::from(is_due);
        is_due
    }

    /// The same, for what takes long.
    pub(super) fn call_for_long(&mut self) -> bool {
        self.busy = MEMORY;
        self.call()
    }

    /// The worker that is done listens no more, as others do.
    pub(super) const fn is_spare(&self) -> bool {
        self.in_burst && self.listening + self.called > 0
    }

    /// Whoever is neither parked nor about to be called is this worker.
    pub(super) const fn is_alone(&self, all: usize) -> bool {
        self.in_burst && self.called == 0 && self.parked + 1 == all
    }

    /// A request has come. The kernel gives no number where the asker is in another namespace; then it may be anybody.
    pub(super) fn note(&mut self, asker: u32) {
        self.begun = self.begun.wrapping_add(1);
        self.busy = self.busy.saturating_sub(1);
        self.crowd = if asker == self.asker && asker != 0 { self.crowd.saturating_sub(1) } else { MEMORY };
        self.asker = asker;
    }

    /// One asks and one answers, in turns, and so it was for some time.
    pub(super) const fn are_in_turns(&self) -> bool {
        self.in_burst && self.crowd == 0 && self.busy == 0
    }

    /// An answer was given, or what follows it is done.
    pub(super) fn note_end(&mut self, took: Duration) {
        self.slow = if took > SLOW { SLOW_ONES } else { self.slow.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_burst() -> Workers {
        Workers { in_burst: true, ..Workers::default() }
    }

    fn ask(workers: &mut Workers, asker: u32, times: u32) {
        (0..times).for_each(|_| workers.note(asker));
    }

    #[test]
    fn askers_are_remembered_for_a_while() {
        let mut workers = in_burst();
        ask(&mut workers, 1, MEMORY);
        assert_eq!(workers.crowd, 1);
        ask(&mut workers, 1, 1);
        assert_eq!((workers.crowd, workers.begun), (0, u64::from(MEMORY) + 1));
        ask(&mut workers, 2, 1);
        assert_eq!(workers.crowd, MEMORY);
        ask(&mut workers, 2, MEMORY);
        assert_eq!(workers.crowd, 0);
        ask(&mut workers, 0, 2);
        assert_eq!(workers.crowd, MEMORY, "nobody knows who that was");
    }

    #[test]
    fn slow_answers_are_remembered_for_a_while() {
        let mut workers = in_burst();
        workers.note_end(SLOW);
        assert_eq!(workers.slow, 0);
        workers.note_end(SLOW * 2);
        (0..SLOW_ONES).for_each(|_| {
            assert!(workers.slow > 0);
            workers.note_end(Duration::ZERO);
        });
        assert_eq!(workers.slow, 0);
    }

    #[test]
    fn one_asks_and_one_answers() {
        let mut workers = Workers { parked: 1, ..in_burst() };
        ask(&mut workers, 1, MEMORY);
        assert!(!workers.are_in_turns(), "others may ask");
        ask(&mut workers, 1, 1);
        assert!(workers.are_in_turns());
        assert!(workers.call());
        assert!(workers.are_in_turns(), "requests may have queued up");
        workers.called = 0;
        assert!(workers.call_for_long());
        assert!(!workers.are_in_turns(), "one has something else to do");
        ask(&mut workers, 1, MEMORY);
        assert!(workers.are_in_turns());
        workers.in_burst = false;
        assert!(!workers.are_in_turns());
    }
}
