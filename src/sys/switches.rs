//! What it takes a processor to go from one thread to another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// Times that one batch goes there and back.
const TURNS: u32 = 16;
/// Batches; the fastest one was disturbed by nobody.
const BATCHES: usize = 6;

/// How long it takes to wake another thread on the same processor, sleep until that has woken this one, and go on: two switches.
///
/// It takes half a millisecond, on a processor that has nothing else to do.
///
/// # Errors
/// What sched_setaffinity(2) and starting threads answer.
pub fn there_and_back() -> io::Result<Duration> {
    let starter = thread::Builder::new().name("switches".to_owned());
    starter.spawn(measure)?.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// In a thread of its own, which stays where it is, and so does the one that it starts.
fn measure() -> io::Result<Duration> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here)?;
    let (turn, starter) = (Arc::new(AtomicU32::new(0)), thread::current());
    let theirs = Arc::clone(&turn);
    let all = TURNS * BATCHES as u32;
    let other = thread::Builder::new().spawn(move || {
        for n in 0..all {
            await_turn(&theirs, 2 * n + 1);
            theirs.store(2 * n + 2, Ordering::Release);
            starter.unpark();
        }
    })?;
    let batch = |first: u32| {
        let begun = Instant::now();
        for n in first..first + TURNS {
            turn.store(2 * n + 1, Ordering::Release);
            other.thread().unpark();
            await_turn(&turn, 2 * n + 2);
        }
        begun.elapsed() / TURNS
    };
    let fastest = (0..all).step_by(TURNS as usize).map(batch).min();
    // It has ended.
    let _joined = other.join();
    fastest.ok_or_else(|| io::ErrorKind::Other.into())
}

fn await_turn(turn: &AtomicU32, number: u32) {
    while turn.load(Ordering::Acquire) != number {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_take_no_longer_than_they_can() {
        let found = there_and_back().unwrap();
        assert!((Duration::from_nanos(100)..Duration::from_millis(1)).contains(&found), "{found:?}");
    }
}
