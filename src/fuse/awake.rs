//! How a request need not wait for a processor that was halted: in a burst either none halts, or the workers answer where is asked.
//!
//! The first needs a claim that only root may make. Without it the second does as well where there are two processors: nobody has to
//! be woken on another one if the asker and the worker take turns on the same. The kernel would move either to a processor that is
//! free, so the thread that watches the burst keeps the other one busy, at the lowest priority, instead of sleeping.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::sys::cpu_latency::{self, CpuLatency};
use crate::sys::processors::{self, Threads};
use crate::types::Latency;

/// What is done in a burst.
#[derive(Debug)]
pub(super) enum Awake {
    /// Processors may halt.
    Not,
    /// No processor may take longer than so many microseconds to wake.
    Claim(CpuLatency, u32),
    /// The workers go to who asks.
    Beside(Beside),
}

impl Awake {
    /// As this user may.
    pub(super) fn new(latency: Latency) -> Self {
        let micros = match latency {
            Latency::Auto if cpu_latency::is_halting_virtual() => 0,
            Latency::Auto | Latency::Any => return Self::Not,
            Latency::Micros(micros) => micros,
        };
        let refused = match CpuLatency::open() {
            Ok(claim) => return Self::Claim(claim, micros),
            Err(refused) => refused,
        };
        if micros == 0
            && let Some(beside) = Beside::new()
        {
            return Self::Beside(beside);
        }
        if latency == Latency::Auto {
            tracing::debug!("processors halt between requests: /dev/cpu_dma_latency: {refused}");
        } else {
            tracing::warn!("option cpu_latency={micros} has no effect: /dev/cpu_dma_latency: {refused}");
        }
        Self::Not
    }

    /// A burst begins.
    pub(super) fn begin(&self) {
        if let Self::Claim(claim, micros) = self
            && let Err(e) = claim.limit(*micros)
        {
            // The burst takes longer, and that is all.
            tracing::debug!("processors halt between requests: /dev/cpu_dma_latency: {e}");
        }
    }

    /// It has ended.
    pub(super) fn end(&self) {
        match self {
            Self::Not => {}
            Self::Claim(claim, _) => {
                if let Err(e) = claim.lift() {
                    tracing::warn!("processors stay awake: /dev/cpu_dma_latency: {e}");
                }
            }
            Self::Beside(beside) => beside.leave(),
        }
    }

    /// The workers' part in it, if they have one.
    pub(super) const fn beside(&self) -> Option<&Beside> {
        match self {
            Self::Beside(beside) => Some(beside),
            Self::Not | Self::Claim(..) => None,
        }
    }
}

/// No processor.
const NONE: usize = usize::MAX;
/// So often it is looked whether requests still come.
const OFTEN: Duration = Duration::from_micros(500);
/// Who was kept from its processor for so long is in the way of somebody.
const KEPT_OFF: Duration = Duration::from_micros(100);

/// Where the workers are to be: on the processor of the one who asks.
#[derive(Debug)]
pub(super) struct Beside {
    threads: Threads,
    at: AtomicUsize,
}

impl Beside {
    /// `None` where there are not two processors, or nobody could tell who is where.
    fn new() -> Option<Self> {
        if !processors::are_two() {
            return None;
        }
        let threads = Threads::open().inspect_err(|e| tracing::debug!("workers stay where they are: /proc: {e}")).ok()?;
        Some(Self { threads, at: AtomicUsize::new(NONE) })
    }

    /// The workers are to be beside somebody.
    pub(super) fn is_taken(&self) -> bool {
        self.at.load(Ordering::Relaxed) != NONE
    }

    /// From now on they are wherever the kernel wants.
    pub(super) fn leave(&self) {
        if self.is_taken() {
            self.at.store(NONE, Ordering::Relaxed);
        }
    }

    /// This worker goes there, if it is elsewhere.
    pub(super) fn settle(&self) {
        let at = self.at.load(Ordering::Relaxed);
        // Elsewhere it works as well.
        if at != NONE && processors::go_to(at).is_err() {
            self.leave();
        }
    }

    /// Has the workers go to the thread `asker`, and keeps the other processor busy for `time`, as long as they are there and `count`
    /// changes.
    pub(super) fn keep(&self, asker: u32, time: Duration, count: impl Fn() -> u64) {
        let Ok(at) = self.threads.processor_of(asker) else { return self.leave() };
        self.at.store(at, Ordering::Relaxed);
        if processors::go_to(processors::other(at)).is_err() {
            return self.leave();
        }
        let begun = Instant::now();
        let mut before = count();
        while self.is_taken() && begun.elapsed() < time {
            if !self.stay(OFTEN) {
                return self.leave();
            }
            let now = count();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// False if this thread was in somebody's way.
    fn stay(&self, time: Duration) -> bool {
        let begun = Instant::now();
        let mut last = begun;
        while self.is_taken() && last.duration_since(begun) < time {
            std::hint::spin_loop();
            let now = Instant::now();
            if now.duration_since(last) > KEPT_OFF {
                return false;
            }
            last = now;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn beside() -> Beside {
        Beside { threads: Threads::open().unwrap(), at: AtomicUsize::new(NONE) }
    }

    fn me() -> u32 {
        rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
    }

    #[test]
    fn nothing_is_said_where_nothing_is_asked_for() {
        assert!(matches!(Awake::new(Latency::Any), Awake::Not));
    }

    #[test]
    fn the_other_processor_is_kept_busy_while_requests_come() {
        let (beside, asker, requests) = (beside(), me(), AtomicU64::new(0));
        let begun = Instant::now();
        beside.keep(asker, LONG, || requests.load(Ordering::Relaxed));
        assert!(begun.elapsed() < LONG / 2, "no request has come");
        if [0, 1].map(processors::go_to).iter().any(Result::is_err) {
            beside.keep(asker, LONG, || requests.fetch_add(1, Ordering::Relaxed));
            assert!(!beside.is_taken(), "there is no other one");
            return;
        }
        // Where the machine has much to do it may give way at once; then once more.
        let long_enough = || {
            let begun = Instant::now();
            beside.keep(asker, Duration::from_millis(5), || requests.fetch_add(1, Ordering::Relaxed));
            begun.elapsed() >= Duration::from_millis(5) && beside.is_taken()
        };
        let begun = Instant::now();
        while !long_enough() {
            assert!(begun.elapsed() < LONG, "it never stays");
        }
        // It may be taken away before it can be asked.
        let is_beside = || {
            beside.settle();
            beside.threads.processor_of(me()).unwrap() == beside.at.load(Ordering::Relaxed)
        };
        assert!((0..1000).any(|_| is_beside()), "{beside:?}");
    }

    #[test]
    fn it_ends_when_the_workers_leave() {
        let (beside, asker, requests) = (beside(), me(), AtomicU64::new(0));
        thread::scope(|scope| {
            let kept = scope.spawn(|| beside.keep(asker, LONG, || requests.fetch_add(1, Ordering::Relaxed)));
            let begun = Instant::now();
            while !kept.is_finished() {
                assert!(begun.elapsed() < LONG / 2, "{beside:?}");
                thread::sleep(Duration::from_millis(1));
                beside.leave();
            }
        });
        assert!(!beside.is_taken());
    }

    #[test]
    fn nobody_follows_who_is_gone_or_where_it_may_not_go() {
        let beside = beside();
        beside.at.store(0, Ordering::Relaxed);
        beside.keep(u32::MAX, LONG, || 0);
        assert!(!beside.is_taken());
        beside.at.store(1 << 20, Ordering::Relaxed);
        beside.settle();
        assert!(!beside.is_taken());
    }
}
