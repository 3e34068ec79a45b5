//! Hard links of the lower stay one file: in copy-ups that fail, race or end in removal.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's failure is a panic")]

#[allow(dead_code, reason = "shared with the POSIX suite")]
#[path = "posix/assertions.rs"]
mod assertions;
mod mounted;

use std::fs::{self, OpenOptions, hard_link};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use assertions::{lstat, pattern, refused};
use mounted::daemon::{daemon, deleted_files, drop_caches, within};
use mounted::ground::Ground;
use mounted::mount::run;
use mounted::requirement::{Requirement, can_run};
use mounted::scratch::{Fs, Scratch};
use mounted::union::Driver;
use rustix::fs::statvfs;
use rustix::io::Errno;

const NEEDS: &[Requirement] = &[Requirement::Root, Requirement::Tool("mksquashfs"), Requirement::Fuse];

/// Longest that a race may take before it counts as a hang.
const LIMIT: Duration = Duration::from_secs(30);
/// How often a race is run.
const ROUNDS: usize = 10;

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(bytes)
}

/// Files `a` and `b` that are one.
fn linked_pair(content: &[u8]) -> Ground {
    Ground::image(&["-noD"], |tree| {
        fs::write(tree.join("a"), content).unwrap();
        hard_link(tree.join("a"), tree.join("b")).unwrap();
    })
}

/// Runs `writer` once while `reader` runs over and over.
fn meanwhile(writer: impl FnOnce() + Send, reader: impl Fn(usize) + Send) {
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let is_over = AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| {
            let _end = End(&is_over);
            writer();
        });
        for round in 0.. {
            if is_over.load(Ordering::Acquire) {
                break;
            }
            reader(round);
        }
    });
}

#[test]
fn listing_and_copying_up_links_never_deadlock() {
    const DEPTH: usize = 40;
    if !can_run("listing_and_copying_up_links_never_deadlock", NEEDS) {
        return;
    }
    // A third name far down makes the copy-up of all parents long enough for a listing to come in between.
    let far = |round: usize| format!("q{round}{}", "/d".repeat(DEPTH));
    let ground = Ground::image(&[], |tree| {
        for round in 0..ROUNDS {
            fs::create_dir_all(tree.join(format!("p{round}/s"))).unwrap();
            fs::create_dir_all(tree.join(far(round))).unwrap();
            let a = tree.join(format!("p{round}/a"));
            fs::write(&a, b"a").unwrap();
            hard_link(&a, tree.join(format!("p{round}/s/b"))).unwrap();
            hard_link(&a, tree.join(far(round)).join("c")).unwrap();
        }
    });
    let union = ground.mount(Driver::Haosfs, &[]);
    for round in 0..ROUNDS {
        let dir = union.path().join(format!("p{round}"));
        within(LIMIT, union.path(), || {
            for name in [union.path().join(far(round)).join("c"), dir.join("s/b"), dir.join("a")] {
                lstat(name);
            }
            let list = |_| fs::read_dir(&dir).unwrap().for_each(|entry| assert!(entry.unwrap().metadata().is_ok()));
            meanwhile(|| append(&dir.join("a"), b"!").unwrap(), list);
            assert_eq!(fs::read(dir.join("s/b")).unwrap(), b"a!");
        });
    }
}

#[test]
fn names_found_during_a_copy_up_join_it() {
    const LINKS: usize = 50;
    if !can_run("names_found_during_a_copy_up_join_it", NEEDS) {
        return;
    }
    let ground = Ground::image(&["-noD"], |tree| {
        fs::write(tree.join("big"), pattern(60 << 20, 1)).unwrap();
        for i in 0..LINKS {
            fs::create_dir(tree.join(format!("d{i}"))).unwrap();
            hard_link(tree.join("big"), tree.join(format!("d{i}/big"))).unwrap();
        }
    });
    let union = ground.mount(Driver::Haosfs, &[]);
    let (big, link) = (union.path().join("big"), |i: usize| union.path().join(format!("d{}/big", i % LINKS)));
    within(LIMIT, union.path(), || {
        let find = |round| {
            lstat(link(round));
            sleep(Duration::from_millis(5));
        };
        meanwhile(|| append(&big, b"!").unwrap(), find);
        let ino = lstat(&big).ino();
        for i in 0..LINKS {
            assert_eq!((lstat(link(i)).ino(), lstat(link(i)).len()), (ino, (60 << 20) + 1), "{i}");
        }
    });
}

/// Sets how many inodes a tmpfs has left.
fn leave_inodes(scratch: &Scratch, left: u64) {
    let now = statvfs(scratch.path()).unwrap();
    let limit = format!("remount,nr_inodes={}", now.f_files - now.f_ffree + left);
    run(Command::new("mount").args(["-o", &limit]).arg(scratch.path()));
}

#[test]
fn links_are_one_file_after_a_copy_up_ran_out_of_inodes() {
    if !can_run("links_are_one_file_after_a_copy_up_ran_out_of_inodes", NEEDS) {
        return;
    }
    // Room for nothing, and for the copy without its second name.
    for left in [0, 1] {
        let (ground, scratch) = (linked_pair(b"old"), Scratch::with_size(Fs::Tmpfs, 8 << 20));
        let union = ground.mount_with(Driver::Haosfs, &scratch.dir("home"), &[]);
        let (a, b) = (union.path().join("a"), union.path().join("b"));
        assert_eq!(lstat(&a).ino(), lstat(&b).ino());
        leave_inodes(&scratch, left);
        refused(append(&a, b"!"), Errno::NOSPC);
        assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"old".to_vec(), b"old".to_vec()), "{left} left");
        leave_inodes(&scratch, 100);
        append(&a, b"+").unwrap();
        append(&b, b"-").unwrap();
        assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"old+-".to_vec(), b"old+-".to_vec()), "{left} left");
        assert_eq!((lstat(&a).ino(), lstat(&a).nlink()), (lstat(&b).ino(), 2), "{left} left");
        assert_eq!(lstat(union.upper().join("a")).ino(), lstat(union.upper().join("b")).ino(), "{left} left");
    }
}

#[test]
fn removing_every_link_frees_the_upper() {
    if !can_run("removing_every_link_frees_the_upper", NEEDS) {
        return;
    }
    let (ground, scratch) = (linked_pair(&pattern(20 << 20, 1)), Scratch::with_size(Fs::Tmpfs, 64 << 20));
    let union = ground.mount_with(Driver::Haosfs, &scratch.dir("home"), &[]);
    let daemon = daemon(union.path()).unwrap();
    let free = || statvfs(scratch.path()).unwrap().f_bfree;
    let before = free();
    append(&union.path().join("a"), b"!").unwrap();
    assert!(free() + (20 << 8) <= before, "nothing was copied up");
    ["a", "b"].iter().for_each(|name| fs::remove_file(union.path().join(name)).unwrap());
    let is_clean = || {
        drop_caches();
        sleep(Duration::from_millis(100));
        // The whiteouts take no more than a page or two.
        free() + 16 >= before && deleted_files(daemon).is_empty()
    };
    assert!((0..30).any(|_| is_clean()), "free {} of {before} blocks, open {:?}", free(), deleted_files(daemon));
}

#[test]
fn the_last_link_keeps_what_was_written_by_another() {
    if !can_run("the_last_link_keeps_what_was_written_by_another", NEEDS) {
        return;
    }
    for is_known_before in [true, false] {
        let ground = linked_pair(b"old");
        let union = ground.mount(Driver::Haosfs, &[]);
        let (a, b) = (union.path().join("a"), union.path().join("b"));
        if is_known_before {
            lstat(&b);
        }
        append(&a, b"+new").unwrap();
        fs::remove_file(&a).unwrap();
        for round in ["before", "after"] {
            let found = (String::from_utf8(fs::read(&b).unwrap()).unwrap(), lstat(&b).nlink());
            assert_eq!(found, ("old+new".to_owned(), 1), "{round} dropping caches, b known before: {is_known_before}");
            drop_caches();
            sleep(Duration::from_millis(200));
        }
    }
}

/// A rename changes the file's name and then the union's knowledge of it; nobody may ask in between.
#[test]
fn a_file_is_itself_while_it_is_renamed() {
    if !can_run("a_file_is_itself_while_it_is_renamed", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        fs::write(tree.join("f"), [1; 100]).unwrap();
        fs::write(tree.join("other"), [2; 7777]).unwrap();
    });
    let union = ground.mount(Driver::Haosfs, &[]);
    let path = |name: &str| union.path().join(name);
    let held = fs::OpenOptions::new().read(true).write(true).open(path("f")).unwrap();
    held.set_len(100).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(2);
    within(Duration::from_secs(60), union.path(), || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while std::time::Instant::now() < end {
                    fs::rename(path("f"), path("g")).unwrap();
                    exchange(&path("g"), &path("other"));
                    exchange(&path("g"), &path("other"));
                    fs::rename(path("g"), path("f")).unwrap();
                }
            });
            while std::time::Instant::now() < end {
                // Asks the daemon each time: a change makes the kernel forget what it knew.
                held.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
                assert_eq!(held.metadata().unwrap().len(), 100);
            }
        });
    });
    assert_eq!(fs::read(path("f")).unwrap(), [1; 100]);
}

fn exchange(a: &Path, b: &Path) {
    rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
}

/// A descriptor outlives the name it was opened by; what is written through it shows under the other name.
#[test]
fn what_a_removed_link_writes_shows_under_the_other() {
    if !can_run("what_a_removed_link_writes_shows_under_the_other", NEEDS) {
        return;
    }
    let ground = Ground::image(&[], |tree| {
        fs::write(tree.join("a"), b"one").unwrap();
        fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
    });
    let union = ground.mount(Driver::Haosfs, &[]);
    let file = fs::OpenOptions::new().write(true).open(union.path().join("a")).unwrap();
    fs::remove_file(union.path().join("a")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"TWO", 0).unwrap();
    assert_eq!(fs::read(union.path().join("b")).unwrap(), b"TWO");
    drop(file);
    drop_caches();
    assert_eq!(fs::read(union.path().join("b")).unwrap(), b"TWO");
    assert_eq!(lstat(union.path().join("b")).nlink(), 1);
}
