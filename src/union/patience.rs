//! Space of removed files returns when the kernel has forgotten them, a moment after their removal was answered. Whoever then
//! finds the upper full waits that moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Errno, Error, Result};

/// A removal longer ago has given back what it will.
const RECENT: Duration = Duration::from_secs(1);
/// How often, and after which time, a full file system is asked again.
const TRIES: usize = 40;
/// The same for a second after that was in vain: then it is full for other reasons, and whoever goes on filling it is not held up.
const TRIES_WHEN_FULL: usize = 2;
const PAUSE: Duration = Duration::from_millis(5);

/// When a file last lost its last name, and when that was last waited for in vain.
#[derive(Debug)]
pub struct Removals {
    began: Instant,
    /// Milliseconds after `began`, plus one; 0 before the first.
    last: AtomicU64,
    /// The same of a wait in vain.
    in_vain: AtomicU64,
}

impl Default for Removals {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0), in_vain: AtomicU64::new(0) }
    }
}

impl Removals {
    /// Notes one that happens now.
    pub fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn is_recent(&self, event: &AtomicU64) -> bool {
        let at = event.load(Ordering::Relaxed);
        at > 0 && u128::from(self.now().saturating_sub(at)) < RECENT.as_millis()
    }

    /// Does what fails with `ENOSPC` or `EDQUOT` without leaving a trace; does it again for as long as space may return.
    ///
    /// # Errors
    /// What `act` answers last.
    pub fn outlast<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        let tries = if self.is_recent(&self.in_vain) { TRIES_WHEN_FULL } else { TRIES };
        for _ in 0..tries {
            match act() {
                Err(e) if is_full(&e) && self.is_recent(&self.last) => std::thread::sleep(PAUSE),
                answer => return answer,
            }
        }
        act().inspect_err(|e| {
            if is_full(e) {
                self.in_vain.store(self.now(), Ordering::Relaxed);
            }
        })
    }
}

fn is_full(error: &Error) -> bool {
    matches!(error.errno(), Errno::ENOSPC | Errno::EDQUOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_system_is_asked_again_only_after_a_removal() {
        let removals = Removals::default();
        let fails = |times: usize| {
            let mut calls = 0;
            let answer = removals.outlast(|| {
                calls += 1;
                if calls <= times { Err(Errno::ENOSPC.into()) } else { Ok(()) }
            });
            (answer.is_ok(), calls)
        };
        assert_eq!(fails(1), (false, 1));
        removals.note();
        assert_eq!(fails(3), (true, 4));
        assert_eq!(fails(TRIES + 1), (false, TRIES + 1));
        removals.note();
        assert_eq!(fails(TRIES), (false, TRIES_WHEN_FULL + 1), "the file system is full for other reasons");
        assert_eq!(fails(1), (true, 2));
    }
}
