//! Space of removed files returns when the kernel has forgotten them, a moment after their removal was answered. Whoever then
//! finds the upper full waits that moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Errno, Result};

/// A removal longer ago has given back what it will.
const RECENT: Duration = Duration::from_secs(1);
/// How often, and after which time, a full file system is asked again.
const TRIES: usize = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// When a file last lost its last name.
#[derive(Debug)]
pub struct Removals {
    began: Instant,
    /// Milliseconds after `began`, plus one; 0 before the first.
    last: AtomicU64,
}

impl Default for Removals {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
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

    fn is_recent(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && u128::from(self.now().saturating_sub(last)) < RECENT.as_millis()
    }

    /// Does what fails with `ENOSPC` or `EDQUOT` without leaving a trace; does it again for as long as space may return.
    ///
    /// # Errors
    /// What `act` answers last.
    pub fn outlast<T>(&self, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        for _ in 0..TRIES {
            match act() {
                Err(e) if matches!(e.errno(), Errno::ENOSPC | Errno::EDQUOT) && self.is_recent() => std::thread::sleep(PAUSE),
                answer => return answer,
            }
        }
        act()
    }
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
    }
}
