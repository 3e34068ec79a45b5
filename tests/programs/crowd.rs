//! 100,000 names in a directory that merges.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::Dir;
use rustix::process::Pid;

use super::NEEDS;
use super::mounted::daemon::{daemon, drop_caches};
use super::mounted::ground::Ground;
use super::mounted::requirement::can_run;
use super::mounted::union::{Driver, Union};

const IN_THE_LOWER: usize = 95_000;
const IN_THE_UPPER: usize = 5_000;
/// Of the upper's, so many hide names of the lower.
const REMOVED: usize = 1_000;
/// A tenth of it, to compare with.
const SMALL: usize = 10_000;

fn fill(dir: &Path, names: std::ops::Range<usize>) {
    fs::create_dir_all(dir).unwrap();
    for n in names {
        File::create(dir.join(format!("name-of-some-length-{n:06}"))).unwrap();
    }
}

fn list(dir: &Path) -> Vec<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// The quickest of several: noise only ever adds.
fn time_to_list(union: &mut Union, name: &str) -> Duration {
    let once = |union: &mut Union| {
        union.remount();
        let began = Instant::now();
        list(&union.path().join(name));
        began.elapsed()
    };
    (0..3).map(|_| once(union)).min().unwrap()
}

/// Bytes of anonymous memory.
fn memory(daemon: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_hundred_thousand_names() {
    if !can_run("a_hundred_thousand_names", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        fill(&tree.join("large"), 0..IN_THE_LOWER);
        fill(&tree.join("small"), 0..SMALL);
    });
    let mut union = ground.mount(Driver::Haosfs, &[]);
    let large = union.path().join("large");
    fill(&large, IN_THE_LOWER..IN_THE_LOWER + IN_THE_UPPER);
    for n in 0..REMOVED {
        fs::remove_file(large.join(format!("name-of-some-length-{:06}", n * 90))).unwrap();
    }
    let present = IN_THE_LOWER + IN_THE_UPPER - REMOVED;
    let names = list(&large);
    assert_eq!((names.len(), names.iter().collect::<HashSet<_>>().len()), (present, present));
    positions_lead_back(&large);
    removing_while_listing_loses_nothing(&large, present);
    memory_returns(&union, &large);
    let (small, large) = (time_to_list(&mut union, "small"), time_to_list(&mut union, "large"));
    // Ten times the names, and at most twice that: a square would be a hundred times.
    assert!(large < small * 20, "{SMALL} names in {small:?}, ten times as many in {large:?}");
}

/// telldir(3) and seekdir(3), from the far end of the directory.
fn positions_lead_back(dir: &Path) {
    let fd = File::open(dir).unwrap();
    let mut entries = Dir::read_from(&fd).unwrap();
    let before: Vec<_> = entries.by_ref().take(60_000).map(Result::unwrap).collect();
    let place = before.last().unwrap().offset();
    let then: Vec<_> = entries.by_ref().take(100).map(|entry| entry.unwrap().file_name().to_owned()).collect();
    entries.seek(place).unwrap();
    let back: Vec<_> = entries.take(100).map(|entry| entry.unwrap().file_name().to_owned()).collect();
    assert_eq!(then, back);
}

/// Names that go while they are listed may show or not; all others show once.
fn removing_while_listing_loses_nothing(dir: &Path, present: usize) {
    let (mut seen, mut removed) = (0, 0);
    for (n, entry) in fs::read_dir(dir).unwrap().enumerate() {
        let entry = entry.unwrap();
        seen += 1;
        if n % 50 == 0 {
            fs::remove_file(entry.path()).unwrap();
            removed += 1;
        }
    }
    assert_eq!(seen, present);
    assert_eq!(list(dir).len(), present - removed);
}

/// What the kernel forgets the daemon forgets, too.
fn memory_returns(union: &Union, dir: &Path) {
    let daemon = daemon(union.path()).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        fs::symlink_metadata(entry.unwrap().path()).unwrap();
    }
    let full = memory(daemon);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        drop_caches();
        std::thread::sleep(Duration::from_millis(100));
        let now = memory(daemon);
        if now < full / 2 {
            return;
        }
        assert!(Instant::now() < end, "{full} bytes with all names known, {now} after they were forgotten");
    }
}
