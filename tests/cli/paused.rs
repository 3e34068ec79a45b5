//! Programs that are stopped for a while.

#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::support::Finished;

/// A program that was stopped in the middle of what it does.
pub struct Paused(Child);

impl Paused {
    pub fn where_it_copies(program: Command, part: &Path) -> Self {
        // It has the lock before it writes.
        let paused = Self::once(program, |_| fs::metadata(part).is_ok_and(|part| part.len() > 0));
        // It stops before it has copied all.
        assert!(part.exists(), "it was faster");
        paused
    }

    pub fn once(mut program: Command, is_so: impl Fn(u32) -> bool) -> Self {
        let child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !is_so(child.id()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does nothing");
        }
        let paused = Self(child);
        paused.signal(Signal::STOP);
        let stopped = waitpid(Some(Pid::from_child(&paused.0)), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.is_some_and(|(_, status)| status.stopped()), "it ended: {stopped:?}");
        paused
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    pub fn ends(self) -> Finished {
        self.signal(Signal::CONT);
        Finished::from(self.0.wait_with_output().unwrap())
    }

    pub fn goes_on(self) {
        self.ends().succeeded();
    }
}
