//! Whoever watches a file of the image goes on watching it when it is copied up.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};

use super::NEEDS;
use super::mounted::ground::Ground;
use super::mounted::requirement::can_run;
use super::mounted::scratch::open_temp_dir;
use super::mounted::union::Driver;

const LIMIT: Duration = Duration::from_secs(10);

fn logged() -> Ground {
    Ground::image(&[], |tree| fs::write(tree.join("log"), "first\n").unwrap())
}

fn append(file: &Path, line: &str) {
    OpenOptions::new().append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "not so after {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that is ended with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn tail_follows_through_copy_up() {
    if !can_run("tail_follows_through_copy_up", NEEDS) {
        return;
    }
    let (ground, dir) = (logged(), open_temp_dir());
    let union = ground.mount(Driver::Haosfs, &[]);
    let (log, shown) = (union.path().join("log"), dir.path().join("shown"));
    let mut tail = Command::new("tail");
    tail.args(["-n", "+1", "-f"]).arg(&log).stdout(Stdio::from(File::create(&shown).unwrap()));
    let _tail = Running(tail.spawn().unwrap());
    let shows = |text: &str| fs::read_to_string(&shown).unwrap() == text;
    until("tail shows the image's line", || shows("first\n"));
    append(&log, "second\n");
    until("tail shows what copied the file up", || shows("first\nsecond\n"));
    append(&log, "third\n");
    until("tail shows what came then", || shows("first\nsecond\nthird\n"));
}

#[test]
fn watches_survive_copy_up() {
    if !can_run("watches_survive_copy_up", NEEDS) {
        return;
    }
    let ground = logged();
    let union = ground.mount(Driver::Haosfs, &[]);
    let log = union.path().join("log");
    let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    add_watch(&watch, &log, WatchFlags::MODIFY | WatchFlags::ATTRIB).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(&watch, &mut buffer);
    let mut happened = |flag: ReadFlags| {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            match reader.next() {
                Ok(event) if event.events().contains(flag) => return true,
                Ok(event) => assert!(!event.events().contains(ReadFlags::IGNORED), "the watch went"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        false
    };
    for round in 0..2 {
        append(&log, "more\n");
        assert!(happened(ReadFlags::MODIFY), "round {round}");
        rustix::fs::chmod(&log, rustix::fs::Mode::from_raw_mode(0o600 + round)).unwrap();
        assert!(happened(ReadFlags::ATTRIB), "round {round}");
    }
}
