//! When written bytes go to the disk while nobody asks for that: of long files at once, of short ones when the kernel likes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

mod mounted;
#[allow(dead_code)]
#[path = "posix/raw.rs"]
mod raw;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use mounted::ground::Ground;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::union::Driver;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];
const MIB: u64 = 1 << 20;
/// What the file system writes for itself is less.
const LITTLE: u64 = 2 * MIB;
/// The kernel leaves what is new alone for longer (vm.dirty_expire_centisecs).
const SOON: Duration = Duration::from_secs(10);

/// Bytes written so far to the disk that a file is on (Documentation/block/stat.rst).
fn on_disk(path: &Path) -> u64 {
    let device = fs::metadata(path).unwrap().dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let stat = fs::read_to_string(format!("/sys/dev/block/{number}/stat")).unwrap();
    stat.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap() * 512
}

/// Appends so much, in pieces.
fn append(path: &Path, mib: u64) -> File {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    for n in 0..mib * 4 {
        file.write_all(&[n as u8; MIB as usize / 4]).unwrap();
    }
    file
}

#[test]
fn what_is_written_over_is_left_to_the_kernel() {
    if !can_run("what_is_written_over_is_left_to_the_kernel", NEEDS) {
        return;
    }
    let (ground, scratch) = (Ground::image(&[], |tree| fs::write(tree.join("file"), b"below").unwrap()), Scratch::new(Fs::Ext4));
    let union = ground.mount_with(Driver::Haosfs, &scratch.dir("home"), &[]);
    let mut ring = append(&union.path().join("ring"), 24);
    ring.sync_all().unwrap();
    let before = on_disk(scratch.path());
    for _ in 0..8 {
        ring = OpenOptions::new().write(true).open(union.path().join("ring")).unwrap();
        (0..96).for_each(|_| ring.write_all(&[1; MIB as usize / 4]).unwrap());
    }
    sleep(Duration::from_secs(1));
    let written = on_disk(scratch.path()) - before;
    assert!(written < LITTLE, "{written} bytes that were written over went to the disk");
}

/// Bytes of a file that are in the page cache.
fn in_memory(path: &Path) -> u64 {
    let pages = raw::resident_pages(&raw::map_shared_ro(&File::open(path).unwrap()));
    (pages * rustix::param::page_size()) as u64
}

#[test]
fn what_is_on_the_disk_is_in_memory_once() {
    if !can_run("what_is_on_the_disk_is_in_memory_once", NEEDS) {
        return;
    }
    let (ground, scratch) = (Ground::image(&[], |tree| fs::write(tree.join("file"), b"below").unwrap()), Scratch::new(Fs::Ext4));
    let union = ground.mount_with(Driver::Haosfs, &scratch.dir("home"), &[]);
    append(&union.path().join("long"), 128).sync_all().unwrap();
    let upper = scratch.path().join("home/upper/long");
    let end = Instant::now() + SOON;
    while in_memory(&upper) > 64 * MIB && Instant::now() < end {
        sleep(Duration::from_millis(100));
    }
    let [below, above] = [&upper, &union.path().join("long")].map(|path| in_memory(path));
    assert!(below <= 64 * MIB, "{below} bytes of the upper's file are in memory");
    assert!(above >= 112 * MIB, "{above} bytes of the union's file are in memory: what was written is read from the disk");
}

#[test]
fn long_files_go_to_the_disk_while_they_are_written() {
    if !can_run("long_files_go_to_the_disk_while_they_are_written", NEEDS) {
        return;
    }
    let (ground, scratch) = (Ground::image(&[], |tree| fs::write(tree.join("file"), b"below").unwrap()), Scratch::new(Fs::Ext4));
    for (options, goes) in [(&[][..], true), (&["fsync=volatile"], false)] {
        let union = ground.mount_with(Driver::Haosfs, &scratch.dir(if goes { "durable" } else { "volatile" }), options);
        rustix::fs::syncfs(File::open(scratch.path()).unwrap()).unwrap();
        let before = on_disk(scratch.path());
        let short = append(&union.path().join("short"), 12);
        sleep(Duration::from_secs(1));
        assert!(on_disk(scratch.path()) - before < LITTLE, "a short file is written at once");
        let long = append(&union.path().join("long"), 40);
        let (written, end) = (|| on_disk(scratch.path()) - before, Instant::now() + if goes { SOON } else { SOON / 10 });
        while written() < 32 * MIB && Instant::now() < end {
            sleep(Duration::from_millis(10));
        }
        // The last 8 MiB are not long.
        let expected = if goes { 32 * MIB..40 * MIB } else { 0..LITTLE };
        assert!(expected.contains(&written()), "{} bytes of 52 MiB were written", written());
        long.sync_all().unwrap();
        drop((short, long));
        assert_eq!(fs::metadata(union.path().join("long")).unwrap().len(), 40 * MIB);
    }
}
