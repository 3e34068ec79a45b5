//! The time that is left, and the watchdog that is kept quiet meanwhile.

use std::time::{Duration, Instant};

use super::watchdog::Watchdog;

/// What is watched while one waits.
pub struct Watch {
    end: Option<Instant>,
    watchdog: Option<Watchdog>,
}

impl Watch {
    /// With so much time, and a watchdog that was taken.
    pub fn new(left: Option<Duration>, watchdog: Option<Watchdog>) -> Self {
        Self { end: left.map(|left| Instant::now() + left), watchdog }
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Waits. Only here the watchdog is kept quiet: where anything hangs, it is not.
    pub fn pause(&mut self, time: Duration) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed();
        }
        std::thread::sleep(time);
    }

    /// All is well: the watchdog is free for whoever takes it next.
    pub fn release(self) {
        if let Some(watchdog) = self.watchdog {
            watchdog.release();
        }
    }
}
