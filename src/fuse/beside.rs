//! How nobody has to be woken on another processor, where there are two: the asker and the worker take turns on one of them.
//!
//! The kernel would move either to a processor that is free, so a thread keeps the other one busy in a burst, at the lowest priority: with
//! what will be wanted soon, as long as there is some, and with new pages of the heap. Nobody may depend on that thread, as it may be kept
//! from its processor, or hang where it decompresses ahead what the disk does not give.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys::descriptors;
use crate::sys::heap::Growth;
use crate::sys::processors::{self, Threads};

/// Does a piece of what will be wanted soon; false where there is nothing to be done.
///
/// # Errors
/// A defect of our own.
pub(super) type Work = Box<dyn Fn() -> Result<bool> + Send + Sync>;

/// No processor.
const NONE: usize = usize::MAX;
/// How long it stays before it looks again where the asker is.
const SPELL: Duration = Duration::from_millis(2);
/// So often it is looked whether requests still come.
const OFTEN: Duration = Duration::from_micros(500);
/// Who was kept from its processor for so long is in the way of somebody.
const KEPT_OFF: Duration = Duration::from_micros(100);
/// So long the workers believe that somebody keeps the other processor busy.
const BELIEVED: Duration = Duration::from_millis(3);
/// After so many times on end that nobody could tell where the asker is it is not asked again.
const VAIN: u32 = 100;

/// Where the workers are to be: on the processor of the one who asks.
pub(super) struct Beside {
    threads: Threads,
    work: Work,
    begun: Instant,
    at: AtomicUsize,
    /// Until when, in microseconds since it begun.
    until: AtomicU64,
    in_vain: AtomicU32,
    /// What workers put into the heap needs pages.
    heap: Growth,
    in_burst: AtomicBool,
    /// Its work has failed by a defect, and is not done any more.
    is_defective: AtomicBool,
    is_told: AtomicBool,
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Beside").field(&self.at).finish()
    }
}

/// What the thread has to know of the requests. It holds no descriptors, as whoever lets go of it last would close them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The thread that alone asks at present, if one worker is enough for it; else 0.
    pub(super) only_asker: AtomicU32,
    /// Something that is more with each request.
    pub(super) count: AtomicU64,
    /// No more will come.
    pub(super) over: AtomicBool,
}

impl Known {
    fn only_asker(&self) -> Option<u32> {
        Some(self.only_asker.load(Ordering::Relaxed)).filter(|&asker| asker != 0)
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Beside {
    /// `None` where there are not two processors, or nobody could tell who is where.
    pub(super) fn new(work: Work) -> Option<Self> {
        if !processors::are_two() {
            return None;
        }
        let threads = Threads::open().inspect_err(|e| tracing::debug!("workers stay where they are: /proc: {e}")).ok()?;
        Some(Self::with(threads, work))
    }

    fn with(threads: Threads, work: Work) -> Self {
        let in_vain = AtomicU32::new(0);
        let [in_burst, is_defective, is_told] = [false; 3].map(AtomicBool::new);
        let (at, until, begun) = (AtomicUsize::new(NONE), AtomicU64::new(0), Instant::now());
        Self { threads, work, begun, at, until, in_vain, heap: Growth::default(), in_burst, is_defective, is_told }
    }

    /// Starts the thread, which is to be woken when a burst begins. It ends soon after the requests, and nobody waits for that.
    ///
    /// # Errors
    /// [`Error::Sys`] where no thread can be started.
    pub(super) fn start(self: &Arc<Self>, requests: Arc<Known>) -> Result<Thread> {
        let beside = Arc::clone(self);
        let thread = thread::Builder::new().name("beside".to_owned()).spawn(move || match beside.settle_down() {
            Ok(()) => beside.attend(&requests),
            Err(e) => tracing::debug!("workers stay where they are: {e}"),
        });
        Ok(thread.map_err(|e| Error::sys("start", "a thread", e))?.thread().clone())
    }

    /// Whoever looks where a thread is may be the last one who uses its memory, and has to write back then what it has mapped, by our own
    /// daemon or by another one that hangs. Should this process be killed meanwhile, /dev/fuse must be closed all the same.
    fn settle_down(&self) -> std::io::Result<()> {
        processors::give_way()?;
        descriptors::keep_alone(&[self.threads.as_fd()])
    }

    fn attend(&self, requests: &Known) {
        while !requests.over.load(Ordering::Acquire) && self.in_vain.load(Ordering::Relaxed) < VAIN {
            if self.in_burst.load(Ordering::Acquire) {
                let begun = Instant::now();
                self.attend_once(requests);
                thread::sleep(SPELL.saturating_sub(begun.elapsed()));
            } else {
                thread::park();
            }
        }
        self.leave();
    }

    fn attend_once(&self, requests: &Known) {
        let Some(asker) = requests.only_asker() else { return self.leave() };
        let Ok(at) = self.threads.processor_of(asker) else {
            self.in_vain.fetch_add(1, Ordering::Relaxed);
            return self.leave();
        };
        self.in_vain.store(0, Ordering::Relaxed);
        if processors::go_to(processors::other(at)).is_err() {
            return self.leave();
        }
        self.believe();
        self.at.store(at, Ordering::Relaxed);
        // A worker may have said meanwhile that it has much to do.
        if requests.only_asker() != Some(asker) {
            return self.leave();
        }
        self.keep_busy(requests);
    }

    fn keep_busy(&self, requests: &Known) {
        let (begun, mut before) = (Instant::now(), requests.count());
        while self.at.load(Ordering::Relaxed) != NONE && begun.elapsed() < SPELL {
            if !self.stay(OFTEN) {
                return self.leave();
            }
            let now = requests.count();
            if now == before {
                return;
            }
            before = now;
            self.believe();
        }
    }

    /// False if this thread was in somebody's way.
    fn stay(&self, time: Duration) -> bool {
        let begun = Instant::now();
        let mut last = begun;
        while self.at.load(Ordering::Relaxed) != NONE && last.duration_since(begun) < time {
            if self.heap.follow() || self.work() {
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

    fn work(&self) -> bool {
        if self.is_defective.load(Ordering::Relaxed) {
            return false;
        }
        (self.work)().unwrap_or_else(|_| {
            self.is_defective.store(true, Ordering::Relaxed);
            false
        })
    }

    /// True once after a defect: the thread has no descriptor by which it could tell.
    pub(super) fn take_defect(&self) -> bool {
        self.is_defective.load(Ordering::Relaxed) && !self.is_told.swap(true, Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn believe(&self) {
        self.until.store(self.now() + BELIEVED.as_micros() as u64, Ordering::Relaxed);
    }

    /// A burst begins, or ends.
    pub(super) fn set_burst(&self, is_one: bool) {
        self.in_burst.store(is_one, Ordering::Release);
        if !is_one {
            self.leave();
        }
    }

    /// From now on the workers are wherever the kernel wants.
    pub(super) fn leave(&self) {
        if self.at.load(Ordering::Relaxed) != NONE {
            self.at.store(NONE, Ordering::Relaxed);
        }
    }

    /// This worker goes where it is to be. False where that is anywhere.
    pub(super) fn settle(&self) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        if at == NONE || self.now() > self.until.load(Ordering::Relaxed) {
            return false;
        }
        // Elsewhere it works as well.
        if processors::go_to(at).is_err() {
            self.leave();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn beside(work: Work) -> Arc<Beside> {
        Arc::new(Beside::with(Threads::open().unwrap(), work))
    }

    fn me() -> u32 {
        rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Requests of one thread.
    fn of(asker: u32) -> Arc<Known> {
        Arc::new(Known { only_asker: asker.into(), ..Known::default() })
    }

    /// Work that is never there, but lets a request come whenever it is looked for.
    fn coming(requests: &Arc<Known>) -> Work {
        let requests = Arc::clone(requests);
        Box::new(move || {
            requests.count.fetch_add(1, Ordering::Relaxed);
            Ok(false)
        })
    }

    fn is_taken(beside: &Beside) -> bool {
        beside.at.load(Ordering::Relaxed) != NONE
    }

    fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < LONG, "{what}");
        }
    }

    /// Where this thread may use the two first processors, and no other.
    fn may_go() -> bool {
        [0, 1].map(processors::go_to).iter().all(Result::is_ok)
    }

    #[test]
    fn the_other_processor_is_kept_busy_while_requests_come() {
        let requests = of(me());
        let beside = beside(coming(&requests));
        if !may_go() {
            beside.attend_once(&requests);
            assert!(!is_taken(&beside), "there is no other one");
            return;
        }
        // Where the machine has much to do it may give way at once; then once more.
        wait_for("it never stays", || {
            let begun = Instant::now();
            beside.attend_once(&requests);
            begun.elapsed() >= OFTEN && is_taken(&beside)
        });
        // It may be taken away before it can be asked.
        wait_for("a worker is elsewhere", || {
            beside.believe();
            beside.settle() && beside.threads.processor_of(me()).unwrap() == beside.at.load(Ordering::Relaxed)
        });
        thread::sleep(BELIEVED * 2);
        assert!(!beside.settle(), "nobody has seen to it for long");
    }

    #[test]
    fn who_keeps_it_busy_works() {
        let done = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&done);
        let beside = beside(Box::new(move || Ok(counts.fetch_add(1, Ordering::Relaxed) < 1000)));
        beside.at.store(0, Ordering::Relaxed);
        wait_for("it does not", || {
            beside.stay(OFTEN);
            done.load(Ordering::Relaxed) > 1000
        });
    }

    #[test]
    fn nobody_follows_who_is_gone_or_where_it_may_not_go() {
        let beside = beside(Box::new(|| Ok(false)));
        beside.at.store(0, Ordering::Relaxed);
        for _ in 0..VAIN {
            beside.attend_once(&of(u32::MAX));
            assert!(!is_taken(&beside));
        }
        // Then it ends by itself.
        beside.set_burst(true);
        beside.attend(&of(u32::MAX));
        beside.at.store(1 << 20, Ordering::Relaxed);
        beside.believe();
        beside.settle();
        assert!(!is_taken(&beside));
        beside.attend_once(&of(0));
        assert!(!is_taken(&beside), "several ask");
    }

    #[test]
    fn a_defect_is_told_once() {
        let beside = beside(Box::new(|| Err(crate::error::Errno::EIO.into())));
        assert!(!beside.take_defect());
        assert!(!beside.work() && !beside.work());
        assert!(beside.take_defect() && !beside.take_defect());
    }

    #[test]
    fn the_thread_attends_and_ends_with_the_requests() {
        let requests = of(me());
        let beside = beside(coming(&requests));
        let thread = beside.start(Arc::clone(&requests)).unwrap();
        beside.set_burst(true);
        thread.unpark();
        if may_go() {
            wait_for("nobody attends", || requests.count() > 0);
        }
        requests.over.store(true, Ordering::Relaxed);
        thread.unpark();
        wait_for("it goes on", || Arc::strong_count(&beside) == 1);
        assert!(!is_taken(&beside));
    }
}
