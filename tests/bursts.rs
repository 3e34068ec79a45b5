//! Bursts of requests, in which one worker answers while the others wait: nobody has to wait for what hangs, and what was to end ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use mounted::daemon::{daemon, within};
use mounted::ground::Ground;
use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::union::{Driver, Lower, Union};
use rustix::process::{Pid, Signal, kill_process};

/// A file system that takes no changes until this is dropped: whoever makes one hangs.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Self {
        run(Command::new("fsfreeze").arg("-f").arg(at));
        Self(at)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run(Command::new("fsfreeze").arg("-u").arg(self.0));
    }
}

fn ground() -> Ground {
    Ground::image(&[], |tree| {
        fs::create_dir(tree.join("dir")).unwrap();
        fs::write(tree.join("file"), "x").unwrap();
    })
}

/// Asks for names that are not there, each a request.
fn ask(dir: &Path, name: &str, answers: &AtomicUsize, goes_on: impl Fn(usize) -> bool) {
    for n in (0..).take_while(|&n| goes_on(n)) {
        fs::symlink_metadata(dir.join(format!("{name}-{n}"))).unwrap_err();
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_request_that_hangs_stops_nobody() {
    let needs = [Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Tool("fsfreeze"), Requirement::Fuse];
    if !can_run("a_request_that_hangs_stops_nobody", &needs) {
        return;
    }
    let (ground, scratch) = (ground(), Scratch::new(Fs::Ext4));
    let union = ground.mount_with(Driver::Haosfs, &scratch.dir("home"), &[]);
    let (answers, is_over, is_made) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let dir = union.path().join("dir");
    within(Duration::from_secs(60), union.path(), || {
        thread::scope(|scope| {
            scope.spawn(|| ask(&dir, "absent", &answers, |_| !is_over.load(Ordering::Relaxed)));
            sleep(Duration::from_millis(100));
            let frozen = Frozen::new(scratch.path());
            scope.spawn(|| {
                File::create(union.path().join("new")).unwrap();
                is_made.store(true, Ordering::Relaxed);
            });
            // It takes some milliseconds until it is seen that somebody hangs.
            sleep(Duration::from_millis(500));
            let (before, begun) = (answers.load(Ordering::Relaxed), Instant::now());
            sleep(Duration::from_millis(500));
            let (more, took) = (answers.load(Ordering::Relaxed) - before, begun.elapsed());
            let hung = !is_made.load(Ordering::Relaxed);
            drop(frozen);
            is_over.store(true, Ordering::Relaxed);
            assert!(hung, "nothing was frozen");
            assert!(more > 500, "{more} answers in {took:?}");
        });
    });
    assert!(union.path().join("new").exists());
}

/// A daemon that answers nothing until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).unwrap();
        let stopped = Self(pid);
        // One thread is told, and stops the others when it runs: until then they may answer.
        let begun = Instant::now();
        while !stopped.has_come_to_rest() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it goes on");
            sleep(Duration::from_millis(1));
        }
        stopped
    }

    fn has_come_to_rest(&self) -> bool {
        let mut tasks = fs::read_dir(format!("/proc/{}/task", self.0.as_raw_nonzero())).unwrap();
        tasks.all(|task| fs::read_to_string(task.unwrap().path().join("status")).is_ok_and(|status| status.contains("State:\tT")))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).unwrap();
    }
}

/// Whoever moves a directory must not wait for a lower that hangs, and have all others wait for him.
#[test]
fn a_lower_that_hangs_stops_nobody() {
    let needs = [Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
    if !can_run("a_lower_that_hangs_stops_nobody", &needs) {
        return;
    }
    let (ground, scratch) = (ground(), Scratch::new(Fs::Ext4));
    let inner = ground.mount_with(Driver::Haosfs, &scratch.dir("inner"), &[]);
    let union = Union::new(Driver::Haosfs, &[Lower::Dir(inner.path().to_owned())], &scratch.dir("home"));
    let made = union.path().join("made");
    fs::create_dir_all(made.join("a")).unwrap();
    fs::metadata(union.path().join("file")).unwrap();
    let (is_read, is_moved, answers) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    within(Duration::from_secs(60), union.path(), || {
        thread::scope(|scope| {
            let stopped = Stopped::new(daemon(inner.path()).unwrap());
            scope.spawn(|| {
                assert_eq!(fs::read(union.path().join("file")).unwrap(), b"x");
                is_read.store(true, Ordering::Relaxed);
            });
            sleep(Duration::from_millis(200));
            scope.spawn(|| {
                fs::rename(made.join("a"), made.join("b")).unwrap();
                is_moved.store(true, Ordering::Relaxed);
            });
            sleep(Duration::from_millis(200));
            let begun = Instant::now();
            scope.spawn(|| ask(&made.join("b"), "absent", &answers, |n| n < 10));
            while begun.elapsed() < Duration::from_secs(5) && answers.load(Ordering::Relaxed) < 10 {
                sleep(Duration::from_millis(10));
            }
            let (read, moved) = (is_read.load(Ordering::Relaxed), is_moved.load(Ordering::Relaxed));
            drop(stopped);
            assert!(!read, "nothing hung");
            assert!(moved && answers.load(Ordering::Relaxed) == 10, "moved: {moved}, {answers:?} answers");
        });
    });
}

#[test]
fn a_mount_ends_in_the_middle_of_a_burst() {
    let needs = [Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
    if !can_run("a_mount_ends_in_the_middle_of_a_burst", &needs) {
        return;
    }
    let ground = ground();
    for round in 0..10 {
        let mut union = ground.mount_with(Driver::Haosfs, &ground.home(), &[]);
        let (answers, is_over, at) = (AtomicUsize::new(0), AtomicBool::new(false), union.path().to_owned());
        within(Duration::from_secs(60), &at, || {
            thread::scope(|scope| {
                for asker in 0..4 {
                    let (dir, answers, is_over) = (at.join("dir"), &answers, &is_over);
                    scope.spawn(move || ask(&dir, &asker.to_string(), answers, |_| !is_over.load(Ordering::Relaxed)));
                }
                while answers.load(Ordering::Relaxed) < 2000 {
                    sleep(Duration::from_millis(1));
                }
                // From now on they ask whatever lies below, and find nothing there either.
                run(Command::new("umount").arg("-l").arg(&at));
                let begun = Instant::now();
                while daemon(&at).is_some() && begun.elapsed() < Duration::from_secs(10) {
                    sleep(Duration::from_millis(1));
                }
                is_over.store(true, Ordering::Relaxed);
            });
        });
        assert!(daemon(&at).is_none(), "round {round}: the daemon goes on");
        union.abandon();
    }
}
