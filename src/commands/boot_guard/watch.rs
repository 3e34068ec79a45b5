//! The time that is left, the watchdog that is kept quiet meanwhile, and the signal to end.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::watchdog::Watchdog;
use crate::error::{Error, Result};
use crate::sys::signals::Termination;

/// What is watched while one waits.
pub struct Watch {
    end: Option<Instant>,
    watchdog: Option<Watchdog>,
    /// Readable when this process shall end. A program that is started meanwhile must unblock that signal.
    signal: OwnedFd,
}

impl Watch {
    /// With so much time.
    ///
    /// # Errors
    /// Where signals cannot be waited for.
    pub fn new(left: Option<Duration>) -> Result<Self> {
        let signal = Termination::block().and_then(|termination| termination.descriptor());
        let signal = signal.map_err(|e| Error::sys("wait for", "the signal to end", e))?;
        let mut watch = Self { end: None, watchdog: None, signal };
        watch.set_limit(left);
        Ok(watch)
    }

    /// So much time is left from now on.
    pub fn set_limit(&mut self, left: Option<Duration>) {
        // What is too far away for the clock never comes.
        self.end = left.and_then(|left| Instant::now().checked_add(left));
    }

    /// Keeps a watchdog quiet that was taken.
    pub fn keep_quiet(&mut self, watchdog: Watchdog) {
        self.watchdog = Some(watchdog);
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Waits. Only here the watchdog is kept quiet: where anything hangs, it is not. False where this process shall end.
    pub fn pause(&mut self, time: Duration) -> bool {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed();
        }
        let limit = Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() };
        let mut signal = [PollFd::new(&self.signal, PollFlags::IN)];
        // Another signal only has it wake early.
        let woken = poll(&mut signal, Some(&limit));
        !(woken.is_ok() && signal.iter().any(|signal| !signal.revents().is_empty()))
    }

    /// All is well, or nobody may say otherwise: the watchdog is free for whoever takes it next.
    pub fn release(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
    }
}
