//! Bursts of requests, for whose time processors stay awake and one worker listens for all (`turns`).
//!
//! A request is answered by a thread that was asleep, and its asker sleeps until then. Where each of the two wakes a processor that
//! was halted, that takes longer than all the rest. Nothing is claimed while few requests come, and nobody wakes to find that out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::awake::Awake;
use super::beside::Known;
use super::turns::Turns;
use crate::error::{Error, Result};

/// So many requests, or bytes that weigh as much, ...
const MANY: u64 = 64;
/// ... in so little time are a burst. It has ended when fewer than half as many came in the same time.
const SOON: Duration = Duration::from_millis(10);

/// How often it is looked meanwhile whether somebody listens.
const OFTEN: Duration = Duration::from_millis(2);
/// Bytes that take about as long as a request does.
const LIKE_ONE: usize = 32 << 10;

/// Watches how fast requests come.
#[derive(Debug)]
pub(super) struct Bursts {
    awake: Arc<Awake>,
    turns: Arc<Turns>,
    begun: Instant,
    known: Arc<Known>,
    /// When the last of each `MANY` came, in microseconds since it begun.
    at: AtomicU64,
    held: AtomicBool,
    watcher: OnceLock<Thread>,
    /// Who keeps a processor busy.
    beside: OnceLock<Thread>,
}

impl Bursts {
    /// Watches for when processors are to be awake, and one worker to listen for all.
    pub(super) fn new(awake: Arc<Awake>, turns: Arc<Turns>, known: Arc<Known>) -> Arc<Self> {
        let (at, held) = (AtomicU64::new(0), AtomicBool::new(false));
        let (begun, watcher, beside) = (Instant::now(), OnceLock::new(), OnceLock::new());
        Arc::new(Self { awake, turns, begun, known, at, held, watcher, beside })
    }

    /// A request to read so many bytes has come. They weigh where somebody can decompress ahead meanwhile.
    pub(super) fn notice_read(&self, bytes: usize) {
        self.notice(if self.awake.beside().is_some() { bytes } else { 0 });
    }

    /// A request has come, for so many bytes of data.
    pub(super) fn notice(&self, bytes: usize) {
        let weight = 1 + (bytes / LIKE_ONE) as u64;
        let before = self.known.count.fetch_add(weight, Ordering::Relaxed);
        if before / MANY == before.wrapping_add(weight) / MANY {
            return;
        }
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.at.swap(now, Ordering::Relaxed);
        if u128::from(now.saturating_sub(before)) > SOON.as_micros() {
            return;
        }
        // The watcher alone claims and lets go, so that no claim comes after its end.
        if let Some(watcher) = self.watcher.get()
            && !self.held.swap(true, Ordering::AcqRel)
        {
            watcher.unpark();
        }
    }

    /// Starts the thread that claims for the time of a burst, and watches who listens; it sleeps while there is none.
    ///
    /// # Errors
    /// [`Error::Sys`] where no thread can be started.
    pub(super) fn watch(self: &Arc<Self>) -> Result<Watch> {
        let bursts = Arc::clone(self);
        let thread = thread::Builder::new().name("bursts".to_owned()).spawn(move || bursts.stand_by());
        let thread = thread.map_err(|e| Error::sys("start", "a thread", e))?;
        let _first = self.watcher.set(thread.thread().clone());
        if let Some(beside) = self.awake.beside() {
            match beside.start(Arc::clone(&self.known)) {
                Ok(thread) => drop(self.beside.set(thread)),
                Err(e) => tracing::debug!("workers stay where they are: {e}"),
            }
        }
        Ok(Watch { bursts: Arc::clone(self), thread: Some(thread) })
    }

    fn stand_by(&self) {
        while !self.known.over.load(Ordering::Acquire) {
            if !self.held.load(Ordering::Acquire) {
                thread::park();
                continue;
            }
            self.awake.begin();
            self.turns.begin_burst();
            if let Some(beside) = self.beside.get() {
                beside.unpark();
            }
            self.outlast();
            self.turns.end_burst();
            self.awake.end();
            if self.awake.beside().is_some_and(|beside| beside.take_defect()) {
                tracing::error!("nothing is decompressed ahead any more, as that met a defect of haosfs");
            }
            self.held.store(false, Ordering::Release);
        }
    }

    fn outlast(&self) {
        let (mut before, mut begun) = (self.known.count.load(Ordering::Relaxed), 0);
        while !self.known.over.load(Ordering::Acquire) {
            for _ in 0..SOON.as_micros() / OFTEN.as_micros() {
                thread::sleep(OFTEN);
                begun = self.turns.watch(begun);
            }
            let now = self.known.count.load(Ordering::Relaxed);
            if now.wrapping_sub(before) < MANY / 2 {
                return;
            }
            before = now;
        }
    }
}

/// The thread, which ends with this.
#[derive(Debug)]
pub(super) struct Watch {
    bursts: Arc<Bursts>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bursts.known.over.store(true, Ordering::Release);
        if let Some(beside) = self.bursts.beside.get() {
            beside.unpark();
        }
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and has nothing to tell.
            let _ended = thread.join();
        }
    }
}
