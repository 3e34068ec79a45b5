//! Who of the workers listens for the next request.
//!
//! For each request the kernel wakes one of those that listen. In a burst one is enough most of the time: it looks for the next
//! request for a moment before it sleeps, and mostly finds it, so that nobody has to be woken. The others are parked meanwhile, as
//! they would be woken in its stead. While it answers nobody listens; so it calls another one before what may take long, and where
//! requests queue up. Whoever takes long without having said so is found out by the watch.
//!
//! Outside of bursts all listen.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::awake::Awake;
use super::beside::Known;
use super::workers::Workers;
use crate::sys::readiness::is_readable;

/// How long a worker looks for the next request: who asks for one thing after the other does something in between. As long as it takes
/// to wake a processor.
const LOOK: Duration = Duration::from_micros(30);
/// Not after an answer that took longer: beside it, it matters little that somebody has to be woken. Answers of a disk's file system, as
/// that a file was made, take up to that.
const SHORT: Duration = Duration::from_micros(120);
/// After so many times in vain on end it looks only once in as many requests.
const VAIN: u32 = 16;

/// The workers of a session.
#[derive(Debug)]
pub(super) struct Turns {
    device: OwnedFd,
    all: usize,
    /// So many may answer at a time where requests queue up, though none of them takes long: who asks needs processors, too.
    side_by_side: usize,
    workers: Mutex<Workers>,
    call: Condvar,
    /// The last time that a worker was alone when it was done, the next request was there already.
    queued: AtomicBool,
    /// How many times on end nothing was found.
    in_vain: AtomicU32,
    /// A second processor is there to ask.
    may_look: bool,
    awake: Arc<Awake>,
    known: Arc<Known>,
}

impl Turns {
    /// For so many workers, all of which listen on `device` or one cloned from it.
    pub(super) fn new(device: OwnedFd, all: usize, awake: Arc<Awake>, known: Arc<Known>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            device,
            all,
            side_by_side: (processors / 2).max(1),
            workers: Mutex::new(Workers { listening: all, ..Workers::default() }),
            call: Condvar::new(),
            queued: AtomicBool::new(false),
            in_vain: AtomicU32::new(0),
            may_look: processors > 1,
            awake,
            known,
        }
    }

    /// This worker has a request of the thread `asker`, which is answered before what this returns is dropped. Then it waits until it is
    /// its turn to listen.
    pub(super) fn begin(&self, asker: u32) -> Turn<'_> {
        let is_called = {
            let mut workers = self.workers.lock();
            workers.listening = workers.listening.saturating_sub(1);
            workers.note(asker);
            self.tell(&workers);
            let answering = self.all.saturating_sub(workers.listening + workers.parked);
            let is_queued = self.queued.load(Ordering::Relaxed) && answering < self.side_by_side;
            (is_queued || workers.slow > 0 && workers.crowd > 0) && workers.call()
        };
        self.notify(is_called);
        Turn { turns: self, begun: Instant::now(), took: Cell::new(None), worked: Cell::new(false), is_part: false }
    }

    /// This worker has a message that may be one of many that have come at once: afterwards it neither waits nor looks for another.
    pub(super) fn begin_part(&self) -> Turn<'_> {
        {
            let mut workers = self.workers.lock();
            workers.listening = workers.listening.saturating_sub(1);
            workers.begun = workers.begun.wrapping_add(1);
        }
        self.hand_on_if_asked();
        Turn { turns: self, begun: Instant::now(), took: Cell::new(None), worked: Cell::new(false), is_part: true }
    }

    /// Has somebody listen, if nobody does: what follows takes long.
    pub(super) fn hand_on(&self) {
        let is_called = {
            let mut workers = self.workers.lock();
            let is_called = workers.call_for_long();
            self.tell(&workers);
            is_called
        };
        // Both may have much to do.
        if let Some(beside) = self.awake.beside() {
            beside.leave();
        }
        self.notify(is_called);
    }

    /// The same, if somebody else asks or is just waiting: what follows takes some time. An asker who is alone is waiting for the very
    /// answer, and perhaps reads ahead.
    pub(super) fn hand_on_if_asked(&self) {
        let (is_due, is_crowd) = {
            let workers = self.workers.lock();
            (workers.is_due(), workers.crowd > 0)
        };
        if is_due && (is_crowd || is_readable(&self.device)) {
            let is_called = self.workers.lock().call();
            self.notify(is_called);
        }
    }

    /// True while a worker that has answered would only look for the next request: no other one answers, and nobody asks.
    fn is_idle(&self) -> bool {
        let is_alone = self.workers.lock().is_alone(self.all);
        is_alone && self.may_look && !is_readable(&self.device)
    }

    /// True where asker and worker may have to take turns on one processor.
    pub(super) fn are_beside(&self) -> bool {
        self.awake.beside().is_some()
    }

    /// Who alone asks, for the thread that goes by it.
    fn tell(&self, workers: &Workers) {
        if self.awake.beside().is_some() {
            self.known.only_asker.store(if workers.are_in_turns() { workers.asker } else { 0 }, Ordering::Relaxed);
        }
    }

    /// From now on one listens.
    pub(super) fn begin_burst(&self) {
        self.workers.lock().in_burst = true;
    }

    /// From now on all listen.
    pub(super) fn end_burst(&self) {
        {
            let mut workers = self.workers.lock();
            workers.in_burst = false;
            workers.called = 0;
            self.tell(&workers);
        }
        self.call.notify_all();
    }

    /// Has somebody listen if nobody does, and has not since it was called last, which has returned `before`. To be called now and then in
    /// a burst.
    pub(super) fn watch(&self, before: u64) -> u64 {
        let (begun, is_called) = {
            let mut workers = self.workers.lock();
            let is_called = workers.begun == before && workers.call();
            (workers.begun, is_called)
        };
        self.notify(is_called);
        begun
    }

    fn notify(&self, is_called: bool) {
        if is_called {
            self.call.notify_one();
        }
    }

    /// `worked` after the answer, which nobody asked for meanwhile.
    fn end(&self, took: Duration, worked: bool) {
        // Before it listens, as it may take time to get there.
        let is_beside = self.awake.beside().is_some_and(|beside| beside.settle());
        let is_alone = {
            let mut workers = self.workers.lock();
            workers.note_end(took);
            // Where answers take longer than others would be looked for, it is better to be woken by the kernel than to be called.
            if workers.is_spare() && took <= LOOK {
                workers.parked += 1;
                while workers.in_burst && workers.called == 0 {
                    self.call.wait(&mut workers);
                }
                workers.parked -= 1;
                workers.called = workers.called.saturating_sub(1);
            }
            workers.listening += 1;
            workers.is_alone(self.all)
        };
        // To look for a request would keep who asks from asking.
        if is_beside {
            return;
        }
        // Those who still answer need the processors more, and of those who listen one would be woken all the same.
        if is_alone && self.may_look {
            self.look(took, worked);
        }
    }

    fn end_part(&self) {
        self.workers.lock().listening += 1;
    }

    /// Returns as soon as there is a request, or soon; at once after an answer that was not short. What has come while one `worked` did not
    /// queue up behind the answer.
    fn look(&self, took: Duration, worked: bool) {
        let is_queued = is_readable(&self.device);
        self.queued.store(is_queued && !worked, Ordering::Relaxed);
        if is_queued || took > SHORT {
            return;
        }
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        if in_vain >= VAIN && !in_vain.is_multiple_of(VAIN) {
            return self.in_vain.store(in_vain.wrapping_add(1), Ordering::Relaxed);
        }
        let begun = Instant::now();
        let is_found = loop {
            if is_readable(&self.device) {
                break true;
            }
            if begun.elapsed() > LOOK {
                break false;
            }
        };
        self.in_vain.store(if is_found { 0 } else { in_vain.wrapping_add(1) }, Ordering::Relaxed);
    }
}

/// A request that a worker has.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    begun: Instant,
    took: Cell<Option<Duration>>,
    worked: Cell<bool>,
    is_part: bool,
}

impl Turn<'_> {
    /// What follows takes long.
    pub(super) fn hand_on(&self) {
        self.turns.hand_on();
    }

    /// The answer is given; what follows is no part of it.
    pub(super) fn answered(&self) {
        if self.took.get().is_none() {
            self.took.set(Some(self.begun.elapsed()));
        }
    }

    /// The answer is given, and nothing else is to be done at present.
    pub(super) fn is_idle(&self) -> bool {
        let is_idle = self.turns.is_idle();
        self.worked.set(self.worked.get() || is_idle);
        is_idle
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_part {
            self.turns.end_part();
        } else {
            self.turns.end(self.took.get().unwrap_or_else(|| self.begun.elapsed()), self.worked.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    /// Turns of so many workers in a burst, and the other end of their device.
    fn in_burst(all: usize) -> (Arc<Turns>, UnixStream) {
        let (device, asker) = UnixStream::pair().unwrap();
        let turns = Arc::new(Turns::new(device.into(), all, Arc::default(), Arc::default()));
        turns.begin_burst();
        (turns, asker)
    }

    /// Ends a turn in a thread; says when it is over.
    fn end(turns: &Arc<Turns>) -> Receiver<()> {
        let (turns, (over, is_over)) = (Arc::clone(turns), channel());
        thread::spawn(move || {
            drop(quick(turns.begin(1)));
            over.send(()).unwrap();
        });
        is_over
    }

    /// However long that takes a machine with much to do.
    fn quick(turn: Turn<'_>) -> Turn<'_> {
        turn.took.set(Some(Duration::ZERO));
        turn
    }

    fn wait_for(turns: &Turns, what: impl Fn(&Workers) -> bool) {
        let begun = Instant::now();
        while !what(&turns.workers.lock()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{turns:?}");
            thread::yield_now();
        }
    }

    fn is_over(end: &Receiver<()>) -> bool {
        end.recv_timeout(Duration::from_secs(20)).is_ok()
    }

    /// Two workers of which one is parked, the other has a request.
    fn one_answers(turns: &Arc<Turns>) -> (Turn<'_>, Receiver<()>) {
        let parked = end(turns);
        wait_for(turns, |workers| workers.parked == 1);
        (quick(turns.begin(1)), parked)
    }

    #[test]
    fn all_listen_outside_of_bursts() {
        let (turns, _asker) = in_burst(3);
        turns.end_burst();
        (0..5).for_each(|_| drop(turns.begin(1)));
        let _busy = turns.begin(1);
        turns.hand_on();
        assert_eq!(turns.watch(6), 6);
        let workers = turns.workers.lock();
        assert_eq!((workers.listening, workers.parked, workers.called, workers.begun), (2, 0, 0, 6));
    }

    #[test]
    fn one_listens_in_a_burst_and_all_after_it() {
        let (turns, _asker) = in_burst(3);
        let parked = [end(&turns), end(&turns)];
        wait_for(&turns, |workers| workers.parked == 2 && workers.listening == 1);
        // The last one goes on.
        drop(turns.begin(1));
        assert_eq!(turns.workers.lock().listening, 1);
        turns.end_burst();
        assert!(parked.iter().all(is_over));
        assert_eq!(turns.workers.lock().listening, 3);
    }

    #[test]
    fn another_is_called_before_what_takes_long() {
        let (turns, _asker) = in_burst(2);
        let (busy, parked) = one_answers(&turns);
        assert_eq!(turns.workers.lock().listening, 0);
        busy.hand_on();
        assert!(is_over(&parked));
        // Once is enough.
        busy.hand_on();
        let workers = turns.workers.lock();
        assert_eq!((workers.listening, workers.called, workers.parked), (1, 0, 0));
        drop(workers);
        // Who comes back is not needed until the other one is busy.
        thread::scope(|scope| {
            scope.spawn(move || drop(busy));
            wait_for(&turns, |workers| workers.parked == 1);
            let busy = turns.begin(1);
            busy.hand_on();
            wait_for(&turns, |workers| workers.listening == 1);
            // But not after a long answer.
            busy.took.set(Some(LOOK * 2));
            drop(busy);
            let workers = turns.workers.lock();
            assert_eq!((workers.listening, workers.parked), (2, 0));
        });
    }

    #[test]
    fn an_asker_who_is_alone_may_send_several() {
        let (turns, mut asker) = in_burst(2);
        let (_busy, parked) = one_answers(&turns);
        turns.workers.lock().crowd = 0;
        turns.hand_on_if_asked();
        assert_eq!(turns.workers.lock().called, 0, "nobody asks");
        asker.write_all(&[0]).unwrap();
        turns.hand_on_if_asked();
        assert!(is_over(&parked));
        turns.end_burst();
    }

    #[test]
    fn of_several_askers_each_may_ask_at_any_time() {
        let (turns, _asker) = in_burst(2);
        let (busy, parked) = one_answers(&turns);
        turns.hand_on_if_asked();
        assert!(is_over(&parked), "somebody has asked before the first one");
        turns.end_burst();
        drop(busy);
    }

    #[test]
    fn where_answers_are_slow_several_answer() {
        let (turns, _asker) = in_burst(2);
        let (busy, parked) = one_answers(&turns);
        turns.workers.lock().note_end(Duration::from_secs(1));
        drop(busy);
        let busy = turns.begin(2);
        assert!(is_over(&parked));
        turns.end_burst();
        drop(busy);
    }

    #[test]
    fn of_many_messages_none_waits() {
        let (turns, mut asker) = in_burst(2);
        let (busy, parked) = one_answers(&turns);
        turns.workers.lock().crowd = 0;
        drop(busy);
        drop(turns.begin_part());
        assert_eq!(turns.workers.lock().listening, 1);
        // Who asks meanwhile finds somebody.
        asker.write_all(&[0]).unwrap();
        let part = turns.begin_part();
        assert!(is_over(&parked));
        drop(part);
        assert_eq!(turns.workers.lock().listening, 2);
    }

    #[test]
    fn who_takes_too_long_is_found_out() {
        let (turns, _asker) = in_burst(2);
        let (_busy, parked) = one_answers(&turns);
        let before = turns.watch(0);
        assert_eq!((before, turns.workers.lock().called), (2, 0), "it has only begun");
        turns.watch(before);
        assert!(is_over(&parked));
        turns.end_burst();
    }

    #[test]
    fn a_worker_is_idle_while_nobody_asks() {
        let (turns, mut asker) = in_burst(2);
        let (busy, parked) = one_answers(&turns);
        assert_eq!(busy.is_idle(), turns.may_look);
        asker.write_all(&[0]).unwrap();
        assert!(!busy.is_idle(), "somebody asks");
        turns.end_burst();
        assert!(is_over(&parked));
        let (turns, _asker) = in_burst(2);
        let (busy, parked) = one_answers(&turns);
        busy.hand_on();
        assert!(is_over(&parked) && !busy.is_idle(), "another one listens");
        turns.end_burst();
    }

    #[test]
    fn the_next_request_is_waited_for_shortly() {
        let (turns, mut asker) = in_burst(1);
        for _ in 0..VAIN {
            let begun = Instant::now();
            turns.look(Duration::ZERO, false);
            assert!(begun.elapsed() >= LOOK);
        }
        assert_eq!(turns.in_vain.load(Ordering::Relaxed), VAIN);
        // It looks once more, and then not for a while.
        let looks = || {
            let begun = Instant::now();
            turns.look(Duration::ZERO, false);
            begun.elapsed() >= LOOK
        };
        assert!(looks());
        assert!((0..100).filter(|_| looks()).count() < 50, "{turns:?}");
        asker.write_all(&[0]).unwrap();
        turns.look(Duration::ZERO, true);
        assert!(!turns.queued.load(Ordering::Relaxed));
        turns.look(Duration::ZERO, false);
        assert!(turns.queued.load(Ordering::Relaxed));
    }

    #[test]
    fn it_is_waited_for_after_short_answers_only() {
        let (turns, _asker) = in_burst(1);
        for (took, waits) in [(SHORT, true), (SHORT + Duration::from_micros(1), false)] {
            turns.in_vain.store(0, Ordering::Relaxed);
            turns.look(took, false);
            assert_eq!(turns.in_vain.load(Ordering::Relaxed), u32::from(waits));
        }
    }
}
