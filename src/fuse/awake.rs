//! How a request need not wait for a processor that was halted: in a burst none halts, which only root may claim, or the workers answer
//! where is asked, or both.
//!
//! Where there are two processors nobody has to be woken on another one if the asker and the worker take turns on the same. The kernel
//! would move either to a processor that is free, so the thread that watches the burst keeps the other one busy, at the lowest priority,
//! instead of sleeping: with work that will be wanted soon, as long as there is some.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::sys::cpu_latency::{self, CpuLatency};
use crate::sys::processors::{self, Threads};
use crate::types::Latency;

/// What is done in a burst.
#[derive(Debug, Default)]
pub(super) struct Awake {
    claim: Option<Claim>,
    beside: Option<Beside>,
}

/// That no processor may take longer than so many microseconds to wake.
#[derive(Debug)]
struct Claim {
    latency: CpuLatency,
    micros: u32,
}

/// Does a piece of what will be wanted soon; false where there is nothing to be done.
pub(super) type Work = Box<dyn Fn() -> bool + Send + Sync>;

impl Awake {
    /// As this user may. `work` is done by who keeps a processor busy.
    pub(super) fn new(latency: Latency, work: Work) -> Self {
        let micros = match latency {
            Latency::Auto if cpu_latency::is_halting_virtual() => 0,
            Latency::Auto | Latency::Any => return Self::default(),
            Latency::Micros(micros) => micros,
        };
        let beside = (micros == 0).then(|| Beside::new(work)).flatten();
        let claim = match CpuLatency::open() {
            Ok(latency) => Some(Claim { latency, micros }),
            Err(refused) => {
                warn_of(latency, micros, beside.is_some(), &refused);
                None
            }
        };
        Self { claim, beside }
    }

    /// A burst begins.
    pub(super) fn begin(&self) {
        if let Some(claim) = &self.claim
            && let Err(e) = claim.latency.limit(claim.micros)
        {
            // The burst takes longer, and that is all.
            tracing::debug!("processors halt between requests: /dev/cpu_dma_latency: {e}");
        }
    }

    /// It has ended.
    pub(super) fn end(&self) {
        if let Some(beside) = &self.beside {
            beside.leave();
        }
        if let Some(claim) = &self.claim
            && let Err(e) = claim.latency.lift()
        {
            tracing::warn!("processors stay awake: /dev/cpu_dma_latency: {e}");
        }
    }

    /// Lets up to `time` go by, as long as `count` changes, if there is a use for that: keeps the other processor busy while the workers
    /// answer beside `asker`, who alone asks.
    pub(super) fn attend(&self, asker: Option<u32>, time: Duration, count: impl Fn() -> u64) {
        let Some(beside) = &self.beside else { return };
        // Where no processor halts it is as fast to answer on the other one, but for what can be done meanwhile.
        match asker.filter(|_| self.claim.is_none() || beside.has_work()) {
            Some(asker) => beside.keep(asker, time, count),
            None => beside.leave(),
        }
    }

    /// Where the workers are, if that matters.
    pub(super) const fn beside(&self) -> Option<&Beside> {
        self.beside.as_ref()
    }
}

fn warn_of(latency: Latency, micros: u32, is_beside: bool, refused: &io::Error) {
    if latency == Latency::Auto || is_beside {
        tracing::debug!("processors may halt between requests: /dev/cpu_dma_latency: {refused}");
    } else {
        tracing::warn!("option cpu_latency={micros} has no effect: /dev/cpu_dma_latency: {refused}");
    }
}

/// No processor.
const NONE: usize = usize::MAX;
/// So often it is looked whether requests still come.
const OFTEN: Duration = Duration::from_micros(500);
/// After so many times without work it is not looked for again in between.
const HOPE: u32 = 10;
/// Who was kept from its processor for so long is in the way of somebody.
const KEPT_OFF: Duration = Duration::from_micros(100);

/// Where the workers are to be: on the processor of the one who asks.
pub(super) struct Beside {
    threads: Threads,
    at: AtomicUsize,
    work: Work,
    /// So many times there may be no work before it is given up.
    hope: AtomicU32,
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Beside").field(&self.at).finish()
    }
}

impl Beside {
    /// `None` where there are not two processors, or nobody could tell who is where.
    fn new(work: Work) -> Option<Self> {
        if !processors::are_two() {
            return None;
        }
        let threads = Threads::open().inspect_err(|e| tracing::debug!("workers stay where they are: /proc: {e}")).ok()?;
        Some(Self { threads, at: AtomicUsize::new(NONE), work, hope: AtomicU32::new(0) })
    }

    /// There is something to be done meanwhile, or was not long ago.
    fn has_work(&self) -> bool {
        if (self.work)() {
            self.hope.store(HOPE, Ordering::Relaxed);
            return true;
        }
        let hope = self.hope.load(Ordering::Relaxed);
        self.hope.store(hope.saturating_sub(1), Ordering::Relaxed);
        hope > 0
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
    fn keep(&self, asker: u32, time: Duration, count: impl Fn() -> u64) {
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
            if (self.work)() {
                last = Instant::now();
                continue;
            }
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
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn beside() -> Beside {
        working(Box::new(|| false))
    }

    fn working(work: Work) -> Beside {
        Beside { threads: Threads::open().unwrap(), at: AtomicUsize::new(NONE), work, hope: AtomicU32::new(0) }
    }

    fn me() -> u32 {
        rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
    }

    #[test]
    fn nothing_is_said_where_nothing_is_asked_for() {
        let awake = Awake::new(Latency::Any, Box::new(|| false));
        assert!(awake.claim.is_none() && awake.beside().is_none());
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
    fn who_keeps_it_busy_works() {
        let done = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&done);
        let beside = working(Box::new(move || counts.fetch_add(1, Ordering::Relaxed) < 1000));
        beside.at.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        while done.load(Ordering::Relaxed) <= 1000 {
            assert!(begun.elapsed() < LONG);
            beside.stay(OFTEN);
        }
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
